// The source of a chat template, rendered with a fixed conversation.
#include "fuzz.h"

#include "../../data/template/template.h"

static const char conversation[] =
    "{'messages': [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': ' Hi \\u00e9 <b>'},"
    " {'role': 'assistant', 'content': 'Yo', 'tool_calls': [{'function': {'name': 'f', 'arguments': {'x': 1}}}]}],"
    " 'bos_token': '<s>', 'eos_token': '</s>', 'add_generation_prompt': true, 'tools': null,"
    " 'n': 3, 'f': -1.5, 'l': [3, 1, 2, 'a'], 'd': {'b': 1, 'a': [null, true]}, 's': 'Hello World'}";

void fuzz_jinja_source(const char *data, size_t size);
void fuzz_jinja_source(const char *data, size_t size)
{
    Err e;
    Template *t = template_parse(data, size, "fuzz", &e);
    if (!t) return;
    cJSON *vars = json_parse(quoted(conversation), strlen(conversation), "conversation", 0, &e);
    Buf out = {0};
    Spans spans = {0};
    if (template_render(t, vars, &out, &spans, &e))
        for (size_t i = 0; i < spans.n; i++)
            if (spans.spans[i].begin > spans.spans[i].end || spans.spans[i].end > out.len) abort();
    if (out.len && utf8_valid(out.data, out.len) != out.len) abort();
    spans_free(&spans);
    buf_free(&out);
    cJSON_Delete(vars);
    template_free(t);
}

HARNESS(fuzz_jinja_source)

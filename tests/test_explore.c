// inspect: the reason of each token's label; what other trainers learn of the same tokens, as their own code says it
// (tests/oracle/labels.py); and the page of --html.
#include "program.h"

#include "../data/report/explore.h"

#include <sys/stat.h>

// ---- other trainers -----------------------------------------------------------------------------------------------

// model/tiny's tokenizer with a case's added tokens and EOS, in the folder "tokenizer". NULL is a failed test.
static Tokenizer *case_tokenizer(const cJSON *c)
{
    Err e;
    cJSON *json = json_load("model/tiny/tokenizer.json", &e),
          *config = json_load("model/tiny/tokenizer_config.json", &e);
    const cJSON *added = json_get(json, "added_tokens"), *eos = json_get(c, "eos_token"), *v;
    int id = 1024;
    cJSON_ArrayForEach(v, json_get(c, "added")) {
        cJSON *token = cJSON_Duplicate(added->child->next, true);
        cJSON_ReplaceItemInObject(token, "id", cJSON_CreateNumber(id++));
        cJSON_ReplaceItemInObject(token, "content", cJSON_CreateString(v->valuestring));
        cJSON_AddItemToArray((cJSON *)added, token);
    }
    if (cJSON_IsString(eos)) cJSON_ReplaceItemInObject(config, "eos_token", cJSON_CreateString(eos->valuestring));
    mkdir(temp_path("tokenizer"), 0777);
    CHECK(json_save(json, temp_path("tokenizer/tokenizer.json"), &e));
    CHECK(json_save(config, temp_path("tokenizer/tokenizer_config.json"), &e));
    cJSON_Delete(json);
    cJSON_Delete(config);
    Tokenizer *t = tokenizer_load(temp_path("tokenizer"), &e);
    CHECK_MSG(t, "%s", e.text);
    return t;
}

static Template *load_template(const char *path)
{
    File f;
    Err e;
    if (!CHECK_MSG(file_map(&f, path, &e), "%s", e.text)) exit(1);
    Template *t = template_parse((const char *)f.data, f.size, path, &e);
    CHECK_MSG(t, "%s", e.text);
    file_unmap(&f);
    return t;
}

static Recipe recipe_of(const Tokenizer *t, const Template *template)
{
    return (Recipe){.tokenizer = t, .template = template, .text_field = "text", .assistant_only_loss = -1,
                    .completion_only_loss = -1};
}

// The row becomes a data set of its own. False is a failed test.
static bool explain(Explained *x, Dataset *d, const cJSON *row, const Recipe *r)
{
    char *text = cJSON_PrintUnformatted(row);
    Err e;
    temp_text("row.jsonl", text);
    cJSON_free(text);
    return CHECK_MSG(dataset_open(d, temp_path("row.jsonl"), &e) && explain_row(x, d, 0, r, &e), "%s", e.text);
}

static bool same_labels(const bool *learned, size_t n, const cJSON *positions)
{
    const cJSON *p = positions->child;
    for (size_t i = 0; i < n; i++) {
        bool want = p && p->valuedouble == (double)i;
        if (want) p = p->next;
        if (learned[i] != want) return false;
    }
    return !p;
}

static void check_case(const cJSON *c, size_t line, size_t *n_right)
{
    char path[64] = "model/tiny/chat_template.jinja";
    const char *name = json_string(c, "template");
    if (name) snprintf(path, sizeof path, "configs/templates/%s.jinja", name);
    Tokenizer *t = case_tokenizer(c);
    Template *template = load_template(path);
    Recipe r = recipe_of(t, template);
    Explained x;
    Dataset d;
    cJSON *row = cJSON_CreateObject();
    cJSON_AddItemReferenceToObject(row, "messages", (cJSON *)json_get(c, "messages"));
    if (explain(&x, &d, row, &r)) {
        const cJSON *ids = json_get(c, "input_ids"), *id = ids->child;
        size_t n = explained_tokens(&x);
        bool *learned = mem_alloc(n, sizeof *learned), same = n == (size_t)cJSON_GetArraySize(ids);
        for (size_t i = 0; same && i < n; i++, id = id->next) same = x.ex.ids[i] == id->valueint;
        CHECK_MSG(same, "line %zu: other tokens", line);
        for (size_t i = 0; same && i < N_TOOLS; i++) {
            const cJSON *want = json_get(json_get(c, "learned"), tools[i].name);
            Err e = {""};
            CHECK_MSG((want != NULL) == (tools[i].checked != NULL), "%s: checked?", tools[i].name);
            if (!want) continue;
            bool ok = tool_labels(learned, &tools[i], &x, &e);
            ok = CHECK_MSG(ok && same_labels(learned, n, want), "line %zu: %s: %s", line, tools[i].name, e.text);
            *n_right += ok;
        }
        free(learned);
    }
    explained_free(&x);
    dataset_free(&d);
    cJSON_Delete(row);
    template_free(template);
    tokenizer_free(t);
}

static void test_tools(void)
{
    Dataset cases;
    Err e;
    size_t n_right = 0;
    if (!CHECK_MSG(dataset_open(&cases, "tests/fixtures/labels.jsonl", &e), "%s", e.text)) return;
    for (size_t i = 0; i < cases.n; i++) {
        cJSON *c = dataset_row(&cases, i, &e);
        check_case(c, i + 1, &n_right);
        cJSON_Delete(c);
    }
    CHECK_MSG(cases.n == 11 && n_right == 66, "%zu rows, %zu sets of labels", cases.n, n_right);
    dataset_free(&cases);
}

// What a rule cannot say, it refuses with the reason.
static void test_tools_refuse(void)
{
    static const char source[] = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    static const struct { size_t tool; const char *row, *why; } cases[] = {
        {0, "{'messages': [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}]}",
         "the template has no generation blocks"},
        {3, "{'messages': [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}]}",
         "a template of this kind"},
        {2, "{'messages': [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b', 'tool_calls':"
            " [{'function': {'name': 'f', 'arguments': {}}}]}]}", "without tool calls"},
        {4, "{'messages': [{'role': 'user', 'content': 'a'}, {'role': 'user', 'content': 'b'},"
            " {'role': 'assistant', 'content': 'b'}]}", "questions and answers in turn"},
        {6, "{'messages': [{'role': 'assistant', 'content': 'b'}]}", "questions and answers in turn"},
        {1, "{'text': 'plain'}", "the row has no messages"},
    };
    Err e;
    Tokenizer *t = tokenizer_load("model/tiny", &e);
    Template *template = template_parse(source, strlen(source), "test", &e);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Recipe r = recipe_of(t, template);
        bool learned[64];
        Explained x;
        Dataset d;
        cJSON *row = cJSON_Parse(quoted(cases[i].row));
        if (explain(&x, &d, row, &r)) CHECK_FAILS(tool_labels(learned, &tools[cases[i].tool], &x, &e), e, cases[i].why);
        explained_free(&x);
        dataset_free(&d);
        cJSON_Delete(row);
    }
    template_free(template);
    tokenizer_free(t);
}

// ---- reasons ------------------------------------------------------------------------------------------------------

// The reasons of a row, each as often as it stands there, "2 the user's words; 1 ...", in the order of the tokens.
static const char *reasons(const char *text, Recipe r)
{
    static char out[2048];
    Buf all = {0}, last = {0};
    Explained x;
    Dataset d;
    cJSON *row = cJSON_Parse(quoted(text));
    size_t times = 0, n = 0;
    if (explain(&x, &d, row, &r)) n = explained_tokens(&x);
    for (size_t i = 0; i <= n; i++) {
        Buf why = {0};
        if (i < n) explain_token(&why, &x, i);
        if (i == n || (i && strcmp(why.data, last.data) != 0)) {
            buf_addf(&all, "%s%zu %s", all.len ? "; " : "", times, last.data);
            times = 0;
        }
        times++;
        buf_free(&last);
        last = why;
    }
    snprintf(out, sizeof out, "%s", all.data);
    buf_free(&all);
    explained_free(&x);
    dataset_free(&d);
    cJSON_Delete(row);
    return out;
}

#define SYSTEM "{'role': 'system', 'content': 'be'}"
#define ASK "{'role': 'user', 'content': 'abc'}"
#define TELL "{'role': 'assistant', 'content': 'yo'}"

static void test_reasons(void)
{
    Err e;
    temp_byte_tokenizer();
    Tokenizer *bytes = tokenizer_load(temp_path("tokenizer.bin"), &e);
    // A token for each byte, <s> and </s>, and one for the space that llama2.c puts before a text and behind those two.
    static const char source[] = "{{ bos_token }}{% for m in messages %}[{{ m.role[0] }}]"
                                 "{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}"
                                 "{% endgeneration %}"
                                 "{% else %}{{ m.content }}{% endif %}{% endfor %}"
                                 "{% if add_generation_prompt %}[a]{% endif %}";
    Template *marked = template_parse(source, strlen(source), "test", &e);
    Recipe r = recipe_of(bytes, marked);
    CHECK_STR(reasons("{'messages': [" SYSTEM "," ASK "," TELL "," ASK "," TELL "]}", r),
              "5 template, before the system message; 2 the system message; 3 template, between system and user; "
              "3 the user's words; 3 generation prompt: given, not learned; 2 the assistant's turn 1; "
              "1 the end of the assistant's turn 1; 4 template, between assistant and user; 3 the user's words; "
              "3 generation prompt: given, not learned; 2 the assistant's turn 2; 1 the end of the assistant's turn 2");
    CHECK_STR(reasons("{'messages': [" ASK ", {'role': 'assistant', 'content': 'yo', 'weight': 0}]}", r),
              "5 template, before the user's words; 3 the user's words; 3 generation prompt: given, not learned; "
              "3 the assistant's turn 1, but weight 0");
    CHECK_STR(reasons("{'messages': [" ASK ", {'role': 'tool', 'content': 'x'}," TELL "," ASK "]}", r),
              "5 template, before the user's words; 3 the user's words; 3 template, between user and tool; "
              "1 a tool's answer; 3 generation prompt: given, not learned; 2 the assistant's turn 1; "
              "1 the end of the assistant's turn 1; 4 template, between assistant and user; 3 the user's words");
    r.max_length = 12;
    CHECK_STR(reasons("{'messages': [" ASK "," TELL "," ASK "]}", r),
              "5 template, before the user's words; 3 the user's words; 3 generation prompt: given, not learned; "
              "1 the assistant's turn 1; 9 cut by max_length");
    r = recipe_of(bytes, marked);
    r.assistant_only_loss = 0;
    CHECK_STR(reasons("{'messages': [" ASK "," TELL "]}", r),
              "5 no mask: template, before the user's words; 3 no mask: the user's words; "
              "3 no mask: generation prompt; 2 no mask: the assistant's turn 1; "
              "1 no mask: the end of the assistant's turn 1");
    r = recipe_of(bytes, marked);
    r.prompt_loss_weight = 0.25f;
    CHECK_STR(reasons("{'messages': [" ASK "," TELL "]}", r),
              "5 weight 0.25: template, before the user's words; 3 weight 0.25: the user's words; "
              "3 weight 0.25: generation prompt; 2 the assistant's turn 1; 1 the end of the assistant's turn 1");
    r = recipe_of(bytes, marked);
    CHECK_STR(reasons("{'prompt': [" ASK "], 'completion': [" TELL "]}", r),
              "5 the prompt: template, before the user's words; 3 the prompt: the user's words; "
              "3 generation prompt: given, not learned; 2 the completion: the assistant's turn 1; "
              "1 the completion: the end of the assistant's turn 1");
    CHECK_STR(reasons("{'prompt': 'abc', 'completion': 'yo'}", r), 
              "1 added by the tokenizer; 4 the prompt; 3 the completion");
    CHECK_STR(reasons("{'text': 'yo'}", r), "1 no mask: added by the tokenizer; 4 no mask: plain text");
    CHECK_STR(reasons("{'input_ids': [4, 5, 6], 'labels': [-100, 5, 6]}", r),
              "1 the row's labels: not learned; 2 the row's labels: learned");
    template_free(marked);
    // The same without blocks, and with the system message in a block.
    static const char plain[] = "{{ bos_token }}{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}"
                                "{% if add_generation_prompt %}[a]{% endif %}";
    static const char wrong[] = "{% for m in messages %}{% generation %}[{{ m.content }}]{% endgeneration %}"
                                "{% endfor %}";
    Template *unmarked = template_parse(plain, strlen(plain), "test", &e),
             *all = template_parse(wrong, strlen(wrong), "test", &e);
    CHECK_STR(reasons("{'messages': [" ASK "," TELL "]}", recipe_of(bytes, unmarked)),
              "5 template, before the user's words; 3 the user's words; 3 generation prompt: given, not learned; "
              "2 the assistant's turn 1");
    CHECK_STR(reasons("{'messages': [" SYSTEM "," TELL "]}", recipe_of(bytes, all)),
              "2 the template's, in a generation block; 2 the system message, in a generation block; "
              "1 the template's, in a generation block; 3 the assistant's turn 1; 1 the end of the assistant's turn 1");
    template_free(unmarked);
    template_free(all);
    tokenizer_free(bytes);
}

// ---- the page -----------------------------------------------------------------------------------------------------

static Buf page;

static size_t count(const char *text)
{
    size_t n = 0;
    for (const char *p = page.data; (p = strstr(p, text)); p++) n++;
    return n;
}

static bool read_page(const char *path)
{
    File f;
    Err e;
    buf_clear(&page);
    if (!CHECK_MSG(file_map(&f, path, &e), "%s", e.text)) return false;
    buf_add(&page, f.data, f.size);
    file_unmap(&f);
    return true;
}

static void test_page(void)
{
    static const char rows[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"<b>&\\u202e\\u00a0</b> \\ta\"},"
        " {\"role\": \"assistant\", \"content\": \"\xE6\x97\xA5\\n\"}]}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"y\"}]}\n"
        "{\"input_ids\": [0, 233, 5, 4], \"labels\": [-100, 233, -100, 4]}\n";
    temp_text("rows<b>.jsonl", rows);
    const char *inspect = "inspect configs/lesson_many.json '--dataset_name=%s' --html=%s %s";
    CHECK_MSG(run(inspect, temp_path("rows<b>.jsonl"), temp_path("a.html"), "") == 0, "%s", output);
    CHECK(strstr(output, "\nrows 0 to 2 are in ") && !strstr(output, "<|user|>"));
    if (!read_page(temp_path("a.html"))) return;
    // Nothing of the rows or of the file's name is markup, nothing is loaded, no script runs.
    CHECK(!strstr(page.data, "<b>&[") && !strstr(page.data, "]</b>") && !strstr(page.data, "rows<b>"));
    CHECK(strstr(page.data, "rows&lt;b&gt;.jsonl</title>"));
    CHECK(!strstr(page.data, "<script") && !strstr(page.data, "src=") && !strstr(page.data, "href=") &&
          !strstr(page.data, "url(") && strstr(page.data, "default-src 'none'; style-src 'unsafe-inline'"));
    CHECK(utf8_valid(page.data, page.len) == page.len && !strstr(page.data, "\u202E") && !strstr(page.data, "\u00A0"));
    // The text of row 0, with a sign for each blank; then its tokens, some of which are a part of a character.
    CHECK(strstr(page.data, "&lt;b&gt;&amp;[U+202E][U+00A0]&lt;/b&gt;<i>·</i><i>→</i>a&lt;|end|&gt;&lt;|assistant|&gt;"
                            "日<i>↵</i>&lt;|end|&gt;</p>"));
    static const char *const parts[] = {"&lt;", "<i>\\xE2</i>", "<i>\\x80</i>", "<i>\\xAE</i>", "<i>\\xC2</i>",
                                        "<i>\\xA0</i>", "<i>\\xE6</i>", "<i>\\x97</i>", "<i>\\xA5</i>", "<i>↵</i>",
                                        "<i>→</i>", "<i>\\x00</i>"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char token[32];
        snprintf(token, sizeof token, "<b>%s</b>", parts[i]);
        CHECK_MSG(strstr(page.data, token), "%s", token);
    }
    CHECK(count("Row 0 (line 1)") == 1 && strstr(page.data, "<h2>Row 0") < strstr(page.data, "<h2>Row 1"));
    // Each run of tokens has its reason above it, each token position, id and label below it.
    CHECK(strstr(page.data,
                 "</div></div><div class=\"run\"><p>generation prompt: given, not learned</p><div class=\"tokens\">\n"
                 "<span class=\"t template mask\" title=\"position 19, role template\"><b>&lt;|assistant|&gt;</b>"
                 "<small>19</small><small>3</small><small>-100</small></span>\n"
                 "</div></div><div class=\"run\"><p>the assistant's turn 1</p><div class=\"tokens\">\n"
                 "<span class=\"t assistant learn\""));
    CHECK(count("<p>the end of the assistant's turn 1</p>") == 2);
    // Row 2 has no messages: two tables of trainers, with all of them. axolotl does not know <|end|> as EOS.
    for (size_t i = 0; i < N_TOOLS; i++) {
        char cell[80];
        snprintf(cell, sizeof cell, "<tr><td>%s</td>", tools[i].name);
        CHECK_MSG(count(cell) == 2, "%s", cell);
    }
    CHECK(count("; checked against TRL 1.16</td>") == 4 && count("; by its source</td>") == 2);
    CHECK(count("<del class=\"t assistant fewer\"") == 2 && count("<td>1 (1 fewer)</td>") == 1);
    // The padded batch: what stands behind row 2 is padding.
    CHECK(strstr(page.data, "\n  [0 233 5 4 0 0 ") && strstr(page.data, "\n  [1 1 1 1 0 0 ") &&
          strstr(page.data, "\n  [-100 233 -100 4 -100 -100 ") && strstr(page.data, "\nattention_mask (3, "));
}

// Which rows; beside --json; and a file that cannot be written leaves what was there.
static void test_page_options(void)
{
    const char *inspect = "inspect configs/lesson_many.json --html=%s %s";
    CHECK(run(inspect, temp_path("b.html"), "") == 0 && read_page(temp_path("b.html")));
    CHECK(count("<h2>Row ") == 8 && count("<h2>Row 0 ") == 1 && count("\nlabels (4, ") == 1);
    CHECK(run(inspect, temp_path("b.html"), "--row=41") == 0 && read_page(temp_path("b.html")));
    CHECK(count("<h2>Row ") == 1 && count("<h2>Row 41 (line 42): 24 tokens, 3 of them learned</h2>") == 1);
    CHECK(run(inspect, temp_path("b.html"), "--rows=2 --json | grep -c input_ids") == 0 && *output == '2');
    CHECK(read_page(temp_path("b.html")) && count("<h2>Row ") == 2);
    CHECK(run(inspect, temp_path("none/b.html"), "") == 1 && strstr(output, "none/b.html"));
}

int main(void)
{
    temp_begin();
    RUN(test_tools);
    RUN(test_tools_refuse);
    RUN(test_reasons);
    RUN(test_page);
    RUN(test_page_options);
    buf_free(&page);
    temp_end();
    return check_report();
}

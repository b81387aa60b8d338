// generate: see generate.h.
#include "generate.h"

#include "../../model/sample.h"
#include "../rows/turn.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ENDS = 16 };

// A text while it is written: the tokens so far, and how much of them was printed.
typedef struct {
    const Run *run;
    Sampler sampler;
    Rng rng;
    int *ids;
    size_t n, cap, first;                                  // first: where printing begins
    int ends[MAX_ENDS];                                    // tokens that end the text
    size_t n_ends, n_printed;
    Buf text;
} Stream;

static void add_end(Stream *s, int id)
{
    if (id >= 0 && s->n_ends < MAX_ENDS) s->ends[s->n_ends++] = id;
}

// eos_token_id of config.json or generation_config.json: a number or a list. A file that is not there says nothing.
static bool add_ends_of(Stream *s, const char *folder, const char *name, Err *e)
{
    Path path = path_in(folder, name);
    if (!file_exists(path.text)) return true;
    cJSON *json = json_load(path.text, e);
    if (!json) return false;
    const cJSON *ids = json_get(json, "eos_token_id"), *v;
    if (cJSON_IsNumber(ids)) add_end(s, ids->valueint);                // a number has no elements
    cJSON_ArrayForEach(v, ids)
        if (cJSON_IsNumber(v)) add_end(s, v->valueint);
    cJSON_Delete(json);
    return true;
}

// Opens the model, and begins an empty text.
static bool stream_init(Stream *s, Run *r, const char *model, Err *e)
{
    const Options *o = &r->options;
    Config c;
    *s = (Stream){.run = r, .rng = rng_seed((uint64_t)o->seed)};
    if (!run_find_model(r, model, e) || !checkpoint_config(&c, r->base_path, e) ||
        !run_open_tokenizer(r, model, e) || !run_open_template(r, e) ||
        !run_check_vocabulary(r, &c, e) || !run_load_model(r, &r->model, r->peft ? model : NULL, e))
        return false;
    const char *folder = file_exists(path_in(model, "generation_config.json").text) ? model : r->base_path;
    const Tokenizer *t = r->tokenizer;
    r->recipe = (Recipe){.tokenizer = t, .template = r->template, .template_kwargs = o->chat_template_kwargs,
                         .vocab_size = c.vocab_size};
    add_end(s, tokenizer_eos(t));
    add_end(s, tokenizer_eot(t));
    add_end(s, tokenizer_bos(t));                          // llama2.c's stories end where another one would begin
    return add_ends_of(s, folder, "config.json", e) && add_ends_of(s, folder, "generation_config.json", e) &&
           sampler_init(&s->sampler, &r->model, 1, e);
}

static void stream_free(Stream *s)
{
    sampler_free(&s->sampler);
    free(s->ids);
    buf_free(&s->text);
}

static bool is_end(const Stream *s, int id)
{
    for (size_t i = 0; i < s->n_ends; i++)
        if (s->ends[i] == id) return true;
    return false;
}

// Prints what is new since the last time; before the end, not a character that is still incomplete.
static void stream_print(Stream *s, bool is_end)
{
    buf_clear(&s->text);
    tokenizer_decode(s->run->tokenizer, s->ids + s->first, s->n - s->first, true, &s->text);
    size_t end = s->text.len;
    if (!is_end && end >= 3 && memcmp(s->text.data + end - 3, "\uFFFD", 3) == 0) return;
    if (end > s->n_printed) s->n_printed += fwrite(s->text.data + s->n_printed, 1, end - s->n_printed, stdout);
    fflush(stdout);
}

static void stream_add(Stream *s, int id)
{
    ARRAY_ROOM(s->ids, s->n, s->cap);
    s->ids[s->n++] = id;
}

// Feeds the tokens that the sampler has not seen, then adds up to max_new_tokens of its own, printing as they come.
static bool stream_run(Stream *s, Err *e)
{
    const Options *o = &s->run->options;
    size_t limit = (size_t)s->run->model.config.seq_len, more = (size_t)o->max_new_tokens;
    if (s->n > limit) return fail(e, "the text so far has %zu tokens, and the model takes %zu", s->n, limit);
    if (s->n == 0) return fail(e, "nothing to begin with: there is no prompt, and the tokenizer has no BOS");
    if (!sampler_reserve(&s->sampler, s->n, e)) return false;
    sampler_feed(&s->sampler, s->ids + s->sampler.n_cached, s->n - s->sampler.n_cached);
    for (size_t i = 0; i < more; i++) {
        int id = sampler_choose(&s->sampler, (float)o->temperature, (float)o->top_p, &s->rng);
        if (is_end(s, id)) break;
        stream_add(s, id);
        stream_print(s, false);
        if (s->n == limit) break;
        if (!sampler_reserve(&s->sampler, s->n, e)) return false;
        sampler_feed(&s->sampler, &id, 1);
    }
    stream_print(s, true);
    printf("\n");
    fflush(stdout);
    if (s->n == limit) fprintf(stderr, "train: the text ends here: the model takes %zu tokens\n", limit);
    return true;
}

static bool stream_encode(Stream *s, const char *text, bool add_special_tokens, Err *e)
{
    Encoding tokens = {0};
    bool ok = recipe_encode(&s->run->recipe, text, strlen(text), add_special_tokens, &tokens, e);
    for (size_t i = 0; ok && i < tokens.n; i++) stream_add(s, tokens.ids[i]);
    encoding_free(&tokens);
    return ok;
}

bool generate_sample(Run *r, char **model, Err *e)
{
    Stream s;
    const char *prompt = r->options.prompt ? r->options.prompt : "";
    bool ok = stream_init(&s, r, model[0], e) && stream_encode(&s, prompt, true, e);
    // An empty prompt may encode to nothing at all.
    if (ok && s.n == 0 && tokenizer_bos(r->tokenizer) >= 0) stream_add(&s, tokenizer_bos(r->tokenizer));
    if (ok) stream_print(&s, false);
    ok = ok && stream_run(&s, e);
    stream_free(&s);
    return ok;
}

// One turn: what the user said, and the model's answer to it. The conversation is rendered with a generation prompt and
// tokenized anew; the sampler goes on from where the tokens still agree with what it has seen.
static bool answer(Stream *s, cJSON *messages, const char *said, Err *e)
{
    const Recipe *r = &s->run->recipe;
    Buf text = {0};
    int *old = s->ids;
    size_t n_old = s->n, same = 0;
    s->ids = NULL;
    s->n = s->cap = 0;
    message_add(messages, "user", said);
    bool ok =
        conversation_text(&text, r, NULL, messages, true, e) && stream_encode(s, text.len ? text.data : "", false, e);
    while (same < n_old && same < s->n && same < s->sampler.n_cached && old[same] == s->ids[same]) same++;
    s->sampler.n_cached = same < s->n || !same ? same : same - 1;      // the last token is fed again for its logits
    s->first = s->n;
    s->n_printed = 0;
    ok = ok && stream_run(s, e);
    if (ok) message_add(messages, "assistant", s->text.data ? s->text.data : "");
    buf_clear(&s->text);
    free(old);
    buf_free(&text);
    return ok;
}

bool generate_chat(Run *r, char **model, Err *e)
{
    const char *system = r->options.system, *prompt = r->options.prompt;
    Stream s;
    bool ok = stream_init(&s, r, model[0], e), terminal = isatty(STDIN_FILENO);
    if (ok && !r->template)
        ok = fail(e, "chat needs a chat template and the tokenizer has none: give chat_template_path, for example "
                     "configs/templates/plain.jinja");
    if (ok) add_end(&s, turn_end(&r->recipe));
    cJSON *messages = cJSON_CreateArray();
    char *line = NULL;
    size_t cap = 0;
    if (system) message_add(messages, "system", system);
    if (ok && prompt) ok = answer(&s, messages, prompt, e);
    while (ok && !prompt) {
        if (terminal) fprintf(stderr, "> ");
        ssize_t n = getline(&line, &cap, stdin);
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        if (n > 0) ok = answer(&s, messages, line, e);
    }
    free(line);
    cJSON_Delete(messages);
    stream_free(&s);
    return ok;
}

// example: see example.h. The steps of a row: kind -> messages -> rendered text and byte spans -> tokens -> labels.
#include "example.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// A row while it becomes an example. Byte roles and spans are about `text`; is_assistant, off and mask about tokens.
typedef struct {
    const Recipe *recipe;
    const cJSON *row;
    Buf text;
    unsigned char *byte_roles;                             // (text.len)
    Spans assistant;                                       // what the assistant said, in order
    bool *span_off;                                        // (assistant.n): its message has weight 0
    Encoding tokens;
    bool *is_assistant, *off;                              // (tokens.n): in a span; in one whose message has weight 0
    unsigned char *mask;                                   // (tokens.n): Mask
    size_t n_prompt;                                       // tokens of the prompt (prompt + completion rows)
    bool spans_by_rendering, prefix_mismatch;
} Draft;

static void draft_free(Draft *d)
{
    buf_free(&d->text);
    free(d->byte_roles);
    spans_free(&d->assistant);
    free(d->span_off);
    encoding_free(&d->tokens);
    free(d->is_assistant);
    free(d->off);
    free(d->mask);
}

void example_free(Example *ex)
{
    free(ex->ids);                                         // the one block behind all four arrays
    *ex = (Example){0};
}

// ---- rendering ----------------------------------------------------------------------------------------------------

static void add_members(cJSON *to, const cJSON *from)
{
    for (const cJSON *v = from ? from->child : NULL; v; v = v->next) {
        cJSON_DeleteItemFromObjectCaseSensitive(to, v->string);
        cJSON_AddItemReferenceToObject(to, v->string, (cJSON *)v);
    }
}

cJSON *template_variables(const Recipe *r, const cJSON *row, const cJSON *messages, bool add_generation_prompt)
{
    cJSON *vars = cJSON_CreateObject();
    const cJSON *tools = json_get(row, "tools"), *documents = json_get(row, "documents");
    cJSON_AddNullToObject(vars, "tools");
    cJSON_AddNullToObject(vars, "documents");
    if (r->tokenizer) add_members(vars, tokenizer_special_tokens(r->tokenizer));
    add_members(vars, r->template_kwargs);
    add_members(vars, json_get(row, "chat_template_kwargs"));
    if (cJSON_IsString(tools)) {                           // some data sets keep the list as JSON text
        cJSON *list = cJSON_Parse(tools->valuestring);
        if (list) cJSON_ReplaceItemInObjectCaseSensitive(vars, "tools", list);
    } else if (tools) {
        cJSON_DeleteItemFromObjectCaseSensitive(vars, "tools");
        cJSON_AddItemReferenceToObject(vars, "tools", (cJSON *)tools);
    }
    if (documents) {
        cJSON_DeleteItemFromObjectCaseSensitive(vars, "documents");
        cJSON_AddItemReferenceToObject(vars, "documents", (cJSON *)documents);
    }
    cJSON_AddItemReferenceToObject(vars, "messages", (cJSON *)messages);
    cJSON_AddBoolToObject(vars, "add_generation_prompt", add_generation_prompt);
    return vars;
}

static bool render(const Recipe *r, const cJSON *row, const cJSON *messages, bool add_generation_prompt, Buf *out,
                   Spans *spans, Err *e)
{
    if (!r->template)
        return fail(e, "messages need a chat template and the tokenizer has none: give chat_template_path, for example "
                       "configs/templates/plain.jinja");
    cJSON *vars = template_variables(r, row, messages, add_generation_prompt);
    buf_clear(out);
    buf_add(out, "", 0);
    bool ok = template_render(r->template, vars, out, spans, e);
    cJSON_Delete(vars);
    return ok;
}

// The first n messages, borrowed from the whole list. The caller deletes it.
static cJSON *first_messages(const cJSON *messages, size_t n)
{
    cJSON *list = cJSON_CreateArray();
    for (const cJSON *m = messages->child; m && n > 0; m = m->next, n--)
        cJSON_AddItemReferenceToArray(list, (cJSON *)m);
    return list;
}

// "expected ...X, found ...Y" from shortly before the first difference of two texts.
static bool fail_difference(Err *e, const char *what, const Buf *a, const Buf *b)
{
    size_t at = 0;
    while (at < a->len && at < b->len && a->data[at] == b->data[at]) at++;
    size_t from = at > 20 ? at - 20 : 0;
    while (from > 0 && ((unsigned char)a->data[from] & 0xC0) == 0x80) from--;
    return fail(e, "%s: \"...%.*s\" became \"...%.*s\"", what, (int)(a->len - from < 60 ? a->len - from : 60),
                a->data + from, (int)(b->len - from < 60 ? b->len - from : 60), b->data + from);
}

static bool is_prefix(const Buf *a, const Buf *b) { return a->len <= b->len && memcmp(a->data, b->data, a->len) == 0; }

// One assistant message by rendering: what messages[:i+1] has more than messages[:i] with a generation prompt.
static bool span_by_rendering(Draft *d, const cJSON *messages, size_t i, Buf *before, Buf *after, Err *e)
{
    cJSON *head = first_messages(messages, i), *with = first_messages(messages, i + 1);
    bool ok = render(d->recipe, d->row, head, true, before, NULL, e) &&
              render(d->recipe, d->row, with, false, after, NULL, e);
    cJSON_Delete(head);
    cJSON_Delete(with);
    if (!ok) return false;
    if (!is_prefix(before, after))
        return fail_difference(e, "the template's generation prompt is not how the assistant's message begins", before,
                               after);
    if (!is_prefix(after, &d->text))
        return fail_difference(e, "the template rewrites it when more messages follow", after, &d->text);
    ARRAY_ROOM(d->assistant.spans, d->assistant.n, d->assistant.cap);
    d->assistant.spans[d->assistant.n++] = (Span){before->len, after->len};
    return true;
}

// For a template without generation blocks (every stock template). Spans are never found by searching for tokens. The
// work grows with the square of the number of messages.
enum { MAX_RENDERED = 1000 };

static bool spans_by_rendering(Draft *d, const cJSON *messages, Err *e)
{
    Buf before = {0}, after = {0};
    size_t i = 0;
    bool ok = true;
    d->spans_by_rendering = true;
    for (const cJSON *m = messages->child; m && ok; m = m->next, i++)
        if (i >= MAX_RENDERED && message_is_assistant(m))
            ok = fail(e, "messages[%zu]: expected at most %d messages for a template without {%% generation %%} blocks",
                      i, MAX_RENDERED);
        else if (message_is_assistant(m) && !span_by_rendering(d, messages, i, &before, &after, e))
            ok = fail_prefix(e, "messages[%zu]: the assistant's span cannot be found: ", i);
    buf_free(&before);
    buf_free(&after);
    return ok;
}

// The text of all messages and the assistant's spans in it. need_spans: without them the row cannot be used.
static bool render_messages(Draft *d, const cJSON *messages, bool need_spans, Err *e)
{
    if (!render(d->recipe, d->row, messages, false, &d->text, &d->assistant, e)) return false;
    Err why;
    if (!template_has_generation(d->recipe->template) && !spans_by_rendering(d, messages, &why)) {
        d->assistant.n = 0;
        if (need_spans) return *e = why, false;
    }
    d->span_off = mem_alloc(d->assistant.n, sizeof(bool));
    size_t n = 0, n_off = 0;
    for (const cJSON *m = messages->child; m; m = m->next) {
        if (!message_is_assistant(m)) continue;
        const cJSON *weight = json_get(m, "weight");
        bool off = weight && weight->valuedouble == 0;
        n_off += off;
        if (n < d->assistant.n) d->span_off[n] = off;
        n++;
    }
    if (n_off && n != d->assistant.n)
        return fail(e, "a message has weight 0, but the template gives %zu spans for %zu assistant messages",
                    d->assistant.n, n);
    return true;
}

// ---- roles of bytes -----------------------------------------------------------------------------------------------

static void mark(Draft *d, size_t begin, size_t end, Role role)
{
    memset(d->byte_roles + begin, role, end - begin);
}

static const char *message_text(const cJSON *m) { return json_string(m, "content"); }

// The length of a content without the blanks at its ends; *content moves to its first other character.
static size_t trimmed(const char **content)
{
    size_t n = strlen(*content);
    while (n && strchr(" \t\r\n", **content)) ++*content, n--;
    while (n && strchr(" \t\r\n", (*content)[n - 1])) n--;
    return n;
}

// Does the text go on with this content at `at`, as it is or trimmed? Bytes matched, 0 if not.
static size_t content_at(const Buf *text, size_t at, const char *content)
{
    size_t n = strlen(content), left = text->len - at;
    if (n <= left && memcmp(text->data + at, content, n) == 0) return n;
    n = trimmed(&content);
    return n <= left && memcmp(text->data + at, content, n) == 0 ? n : 0;
}

// Is this the marker of a message that has a text? Its length and the number in it, 0 if not: the text may have such
// characters of its own.
static size_t marker_at(const char *p, size_t n_messages, size_t *number)
{
    size_t n = 3;
    *number = 0;
    if (strncmp(p, "\uE000", 3) != 0) return 0;
    for (; p[n] >= '0' && p[n] <= '9' && *number < n_messages; n++) *number = 10 * *number + (size_t)(p[n] - '0');
    return n > 3 && *number < n_messages && strncmp(p + n, "\uE001", 3) == 0 ? n + 3 : 0;
}

// Where does each message's content stand in the text? The conversation is rendered once more with a marker in place of
// each content; what stands between the markers must be the template's own, and so tells where contents begin.
// Returns false where that does not work out (a template that looks into the content).
static bool mark_contents(Draft *d, const cJSON *messages)
{
    cJSON *marked = cJSON_CreateArray();
    Buf out = {0}, marker = {0};
    size_t i = 0, n_messages = (size_t)cJSON_GetArraySize(messages);
    const cJSON **list = mem_alloc(n_messages, sizeof *list);
    for (const cJSON *m = messages->child; m; m = m->next, i++) {
        cJSON *copy = cJSON_Duplicate(m, true);
        list[i] = m;
        buf_clear(&marker);
        buf_addf(&marker, "\uE000%zu\uE001", i);           // two characters for private use
        if (message_text(m)) cJSON_ReplaceItemInObjectCaseSensitive(copy, "content", cJSON_CreateString(marker.data));
        cJSON_AddItemToArray(marked, copy);
    }
    Err ignored;
    bool ok = render(d->recipe, d->row, marked, false, &out, NULL, &ignored);
    size_t at = 0;
    const char *p = out.data;
    while (ok && *p) {
        size_t skip = marker_at(p, n_messages, &i);
        if (!skip || !message_text(list[i])) {
            ok = at < d->text.len && d->text.data[at] == *p;
            at++, p++;
            continue;
        }
        size_t n = content_at(&d->text, at, message_text(list[i]));
        mark(d, at, at + n, message_role_of(json_string(list[i], "role")));
        p += skip;
        at += n;
    }
    cJSON_Delete(marked);
    free(list);
    buf_free(&out);
    buf_free(&marker);
    return ok && at == d->text.len;
}

// The second best way: each content where it is next found.
static void search_contents(Draft *d, const cJSON *messages)
{
    size_t at = 0;
    memset(d->byte_roles, ROLE_TEMPLATE, d->text.len);
    for (const cJSON *m = messages->child; m; m = m->next) {
        const char *whole = message_text(m), *bare = whole;
        size_t n = bare ? trimmed(&bare) : 0;
        const char *found = n ? memmem(d->text.data + at, d->text.len - at, bare, n) : NULL;
        if (!found) continue;
        size_t here = (size_t)(found - d->text.data), blanks = (size_t)(bare - whole);
        if (here >= at + blanks) here -= blanks;           // with its blanks, if they are there
        n = content_at(&d->text, here, whole);
        if (!n) here = (size_t)(found - d->text.data), n = content_at(&d->text, here, whole);
        at = here;
        mark(d, at, at + n, message_role_of(json_string(m, "role")));
        at += n;
    }
}

static void mark_message_roles(Draft *d, const cJSON *messages)
{
    d->byte_roles = mem_alloc(d->text.len, 1);
    memset(d->byte_roles, ROLE_TEMPLATE, d->text.len);
    bool sure = mark_contents(d, messages);
    if (!sure) search_contents(d, messages);
    // What others said stays theirs, even inside a generation block: the report then says that it is learned.
    for (size_t i = 0; i < d->assistant.n; i++)
        for (size_t b = d->assistant.spans[i].begin; b < d->assistant.spans[i].end; b++)
            if (!sure || d->byte_roles[b] == ROLE_TEMPLATE) d->byte_roles[b] = ROLE_ASSISTANT;
}

// ---- spans of tokens ----------------------------------------------------------------------------------------------

static bool encode(Draft *d, const Buf *text, bool add_special_tokens, Encoding *out, Err *e)
{
    if (!d->recipe->tokenizer) return fail(e, "a row of text needs a tokenizer: give tokenizer_name_or_path");
    const Recipe *r = d->recipe;
    unsigned flags = PARSE_SPECIAL | (add_special_tokens ? ADD_SPECIAL_TOKENS : 0);
    if (!tokenizer_encode(r->tokenizer, text->data, text->len, flags, out, e)) return false;
    for (size_t i = 0; i < out->n && r->vocab_size; i++)
        if (out->ids[i] >= r->vocab_size)
            return fail(e, "token \"%s\" has id %d, and the model's vocabulary ends at %d",
                        tokenizer_piece(r->tokenizer, out->ids[i]), out->ids[i], r->vocab_size - 1);
    return true;
}

// The first token, from `from` on, that covers byte `at`; n if there is none.
static size_t token_at(const Encoding *t, size_t from, size_t at)
{
    while (from < t->n && !(t->begin[from] <= at && at < t->end[from])) from++;
    return from;
}

// transformers' rule: from the first token that covers the span's first byte to the first one that covers its last
// character, both included. A token that straddles the edge is in.
static void mark_assistant_tokens(Draft *d)
{
    const Encoding *t = &d->tokens;
    d->is_assistant = mem_alloc(t->n, sizeof(bool));
    d->off = mem_alloc(t->n, sizeof(bool));
    for (size_t i = 0, from = 0; i < d->assistant.n; i++) {
        Span s = d->assistant.spans[i];
        if (s.begin == s.end) continue;
        size_t last = s.end - 1;
        while (last > s.begin && ((unsigned char)d->text.data[last] & 0xC0) == 0x80) last--;
        if (i && s.begin < d->assistant.spans[i - 1].begin) from = 0;      // nested blocks come inner first
        size_t first_token = token_at(t, from, s.begin), last_token = token_at(t, first_token, last);
        for (size_t k = first_token; k <= last_token && k < t->n; k++) {
            d->is_assistant[k] = true;
            if (d->span_off && d->span_off[i]) d->off[k] = true;
        }
        from = first_token;
    }
}

static Role token_role(const Draft *d, size_t i)
{
    const Encoding *t = &d->tokens;
    bool assistant = d->is_assistant && d->is_assistant[i];
    if (t->begin[i] == t->end[i] || !d->byte_roles) return assistant ? ROLE_ASSISTANT : ROLE_TEMPLATE;
    Role role = (Role)d->byte_roles[t->begin[i]];
    if (assistant) return role == ROLE_TEMPLATE ? ROLE_ASSISTANT : role;
    // A token that begins in a span but is not of it belongs to what surrounds it.
    return role == ROLE_ASSISTANT && d->assistant.n ? ROLE_TEMPLATE : role;
}

// ---- from tokens to labels ----------------------------------------------------------------------------------------

static void example_alloc(Example *ex, size_t n)
{
    int *block = mem_alloc(n, 2 * sizeof(int) + sizeof(float) + 1);
    ex->n = n;
    ex->ids = block;
    ex->labels = block + n;
    ex->weights = (float *)(block + 2 * n);
    ex->roles = (unsigned char *)(block + 3 * n);
}

static const char *mask_name(bool by_assistant, bool by_completion)
{
    if (by_assistant) return by_completion ? "both" : "assistant";
    return by_completion ? "completion" : "none";
}

// What the loss mask says of a token: it is learned; it is left out, unless prompt_loss_weight brings it back; or it is
// never learned, whatever the weight: its message has weight 0, or the row itself gives -100.
typedef enum { LEARNED, LEFT_OUT, NEVER } Mask;

// THE place where a label becomes -100: the loss is taken where the label is not -100. A weight only scales it.
static void label_tokens(Example *ex, const unsigned char *mask, float prompt_loss_weight)
{
    for (size_t i = 0; i < ex->n; i++) {
        bool left_out = mask[i] == LEFT_OUT, learn = mask[i] == LEARNED || (left_out && prompt_loss_weight > 0);
        ex->labels[i] = learn ? ex->ids[i] : IGNORE;
        ex->weights[i] = ex->labels[i] == IGNORE ? 0 : learn && left_out ? prompt_loss_weight : 1;
    }
}

static void fill_example(Draft *d, Example *ex, bool by_assistant, bool by_completion)
{
    size_t n = d->tokens.n;
    example_alloc(ex, n);
    d->mask = mem_alloc(n, 1);
    ex->mask = mask_name(by_assistant, by_completion);
    for (size_t i = 0; i < n; i++) {
        bool learned = (!by_assistant || d->is_assistant[i]) && (!by_completion || i >= d->n_prompt);
        d->mask[i] = d->off && d->off[i] ? NEVER : learned ? LEARNED : LEFT_OUT;
        ex->ids[i] = d->tokens.ids[i];
        ex->roles[i] = (unsigned char)token_role(d, i);
    }
    label_tokens(ex, d->mask, d->recipe->prompt_loss_weight);
}

static bool need_assistant_token(const Draft *d, Err *e)
{
    for (size_t i = 0; i < d->tokens.n; i++)
        if (d->is_assistant[i]) return true;
    return fail(e, "assistant_only_loss: expected an assistant message, found no assistant token (with "
                   "assistant_only_loss=false every token is learned)");
}

// ---- the kinds of rows --------------------------------------------------------------------------------------------

static bool build_messages(Draft *d, Example *ex, const cJSON *messages, const char *key, Err *e)
{
    const Recipe *r = d->recipe;
    bool masked = r->assistant_only_loss != 0;             // the default is true: this is a masked-SFT trainer
    if (r->completion_only_loss == 1)
        return fail(e, "completion_only_loss: expected prompt and completion, found %s: use assistant_only_loss", key);
    if (!messages_check(messages, key, e) || !render_messages(d, messages, masked, e)) return false;
    mark_message_roles(d, messages);
    if (!encode(d, &d->text, false, &d->tokens, e)) return false;
    mark_assistant_tokens(d);
    fill_example(d, ex, masked, false);
    return !masked || need_assistant_token(d, e);
}

static bool build_conversations(Draft *d, Example *ex, const cJSON *conversations, Err *e)
{
    cJSON *messages = cJSON_Duplicate(conversations, true);
    for (cJSON *m = messages->child; m; m = m->next) message_rename_sharegpt(m);
    bool ok = build_messages(d, ex, messages, "conversations", e);
    cJSON_Delete(messages);
    return ok;
}

static bool build_alpaca(Draft *d, Example *ex, Err *e)
{
    cJSON *messages = messages_from_alpaca(d->row, e);
    bool ok = messages && build_messages(d, ex, messages, "messages", e);
    cJSON_Delete(messages);
    return ok;
}

// Counts the prompt's tokens and checks that they are how the whole begins: a merge over the boundary, or a template
// that writes a prompt otherwise once an answer follows, would put the mask in the wrong place.
static bool count_prompt(Draft *d, const Buf *prompt, bool add_special_tokens, Err *e)
{
    Encoding p = {0};
    bool ok = encode(d, prompt, add_special_tokens, &p, e);
    size_t same = 0;
    while (ok && same < p.n && same < d->tokens.n && p.ids[same] == d->tokens.ids[same]) same++;
    d->n_prompt = p.n;
    d->prefix_mismatch = ok && same < p.n;
    if (d->prefix_mismatch && !d->recipe->warn_on_prefix_mismatch) {
        const Tokenizer *t = d->recipe->tokenizer;
        bool ended = same >= d->tokens.n;
        ok = fail(e, "the prompt's tokens are not how prompt + completion begins: token %zu is \"%s\" (%d) in the "
                  "prompt alone and \"%s\" (%d) in the whole; on_prefix_mismatch=warn masks the first %zu tokens all "
                  "the same, as TRL does",
                  same, tokenizer_piece(t, p.ids[same]), p.ids[same],
                  ended ? "" : tokenizer_piece(t, d->tokens.ids[same]), ended ? -1 : d->tokens.ids[same], p.n);
    }
    encoding_free(&p);
    return ok;
}

static bool build_prompt_messages(Draft *d, Example *ex, const cJSON *prompt, const cJSON *completion, Err *e)
{
    const Recipe *r = d->recipe;
    bool by_assistant = r->assistant_only_loss == 1, by_completion = r->completion_only_loss != 0;
    if (!messages_check(prompt, "prompt", e) || !messages_check(completion, "completion", e)) return false;
    cJSON *all = first_messages(prompt, SIZE_MAX);
    for (const cJSON *m = completion->child; m; m = m->next) cJSON_AddItemReferenceToArray(all, (cJSON *)m);
    Buf head = {0};
    bool ok = render_messages(d, all, by_assistant, e) && render(r, d->row, prompt, true, &head, NULL, e);
    if (ok) mark_message_roles(d, all);
    ok = ok && encode(d, &d->text, false, &d->tokens, e) && count_prompt(d, &head, false, e);
    if (ok) {
        mark_assistant_tokens(d);
        fill_example(d, ex, by_assistant, by_completion);
        ok = !by_assistant || need_assistant_token(d, e);
    }
    buf_free(&head);
    cJSON_Delete(all);
    return ok;
}

// EOS as text, so that the model learns to stop; not twice.
static void add_eos(Draft *d)
{
    const Tokenizer *t = d->recipe->tokenizer;
    const char *eos = t ? json_string(tokenizer_special_tokens(t), "eos_token") : NULL;
    size_t n = eos ? strlen(eos) : 0;
    if (n && !(d->text.len >= n && memcmp(d->text.data + d->text.len - n, eos, n) == 0)) buf_adds(&d->text, eos);
}

static bool not_conversational(const Recipe *r, const char *kind, Err *e)
{
    return r->assistant_only_loss != 1 || fail(e, "assistant_only_loss: expected messages, found %s", kind);
}

static bool build_prompt_text(Draft *d, Example *ex, const char *prompt, const char *completion, Err *e)
{
    Buf head = {0};
    if (!not_conversational(d->recipe, "prompt and completion as strings", e)) return false;
    buf_adds(&head, prompt);
    buf_addf(&d->text, "%s%s", prompt, completion);
    add_eos(d);
    d->byte_roles = mem_alloc(d->text.len, 1);
    mark(d, 0, head.len, ROLE_USER);
    mark(d, head.len, d->text.len, ROLE_ASSISTANT);
    bool ok = encode(d, &d->text, true, &d->tokens, e) && count_prompt(d, &head, true, e);
    if (ok) fill_example(d, ex, false, d->recipe->completion_only_loss != 0);
    buf_free(&head);
    return ok;
}

static bool build_prompt(Draft *d, Example *ex, const cJSON *prompt, Err *e)
{
    const cJSON *completion = json_get(d->row, "completion");
    if (!completion) return fail(e, "completion: expected one beside the prompt, found nothing");
    if (cJSON_IsString(prompt) && cJSON_IsString(completion))
        return build_prompt_text(d, ex, prompt->valuestring, completion->valuestring, e);
    if (cJSON_IsArray(prompt) && cJSON_IsArray(completion)) return build_prompt_messages(d, ex, prompt, completion, e);
    return fail(e, "prompt and completion: expected two strings or two lists of messages, found %s and %s",
                json_kind(prompt), json_kind(completion));
}

static bool build_text(Draft *d, Example *ex, const char *text, Err *e)
{
    if (!not_conversational(d->recipe, "plain text", e)) return false;
    if (d->recipe->completion_only_loss == 1)
        return fail(e, "completion_only_loss: expected prompt and completion, found plain text");
    buf_adds(&d->text, text);
    add_eos(d);
    d->byte_roles = mem_alloc(d->text.len, 1);
    mark(d, 0, d->text.len, ROLE_TEXT);
    if (!encode(d, &d->text, true, &d->tokens, e)) return false;
    fill_example(d, ex, false, false);
    return true;
}

// A list of n whole numbers of a row, each in [0, max] or `other`; nothing if the key is absent.
static bool get_ints(const cJSON *row, const char *key, int max, int other, size_t n, int **out, Err *e)
{
    const cJSON *list = json_get(row, key), *v;
    *out = NULL;
    if (!list || cJSON_IsNull(list)) return true;
    if (!cJSON_IsArray(list)) return fail(e, "%s: expected a list, found %s", key, json_kind(list));
    size_t i = 0, found = (size_t)cJSON_GetArraySize(list);
    if (found != n) return fail(e, "%s: expected %zu numbers, as many as input_ids, found %zu", key, n, found);
    *out = mem_alloc(n, sizeof **out);
    cJSON_ArrayForEach(v, list) {
        if (!json_is_int(v, 0, max) && !json_is_int(v, other, other))
            return fail(e, "%s[%zu]: expected a whole number from 0 to %d", key, i, max);
        (*out)[i++] = (int)v->valuedouble;
    }
    return true;
}

static bool build_tokens(Draft *d, Example *ex, const cJSON *input_ids, Err *e)
{
    const Recipe *r = d->recipe;
    int *ids = NULL, *labels = NULL, *assistant = NULL, *completion = NULL,
        max_id = r->vocab_size ? r->vocab_size - 1 : INT32_MAX;
    size_t n = cJSON_IsArray(input_ids) ? (size_t)cJSON_GetArraySize(input_ids) : 0;
    if (n == 0 && cJSON_IsArray(input_ids)) return fail(e, "input_ids: expected at least one token, found none");
    bool ok = get_ints(d->row, "input_ids", max_id, 0, n, &ids, e) &&
              get_ints(d->row, "labels", max_id, IGNORE, n, &labels, e) &&
              get_ints(d->row, "assistant_masks", 1, 0, n, &assistant, e) &&
              get_ints(d->row, "completion_mask", 1, 0, n, &completion, e);
    if (ok && !labels && !assistant && r->assistant_only_loss == 1)
        ok = fail(e, "assistant_only_loss: expected labels or assistant_masks beside input_ids, found neither");
    if (ok && !labels && !completion && r->completion_only_loss == 1)
        ok = fail(e, "completion_only_loss: expected labels or completion_mask beside input_ids, found neither");
    if (ok) {
        bool by_completion = completion && r->completion_only_loss != 0;
        assert(ids);                                       // the row has input_ids
        example_alloc(ex, n);
        ex->mask = labels ? "given" : mask_name(assistant, by_completion);
        d->mask = mem_alloc(n, 1);
        for (size_t i = 0; i < n; i++) {
            bool learned = (!assistant || assistant[i]) && (!by_completion || completion[i]);
            ex->ids[i] = ids[i];
            ex->roles[i] = assistant && assistant[i] ? ROLE_ASSISTANT : ROLE_TEXT;
            d->mask[i] = labels ? labels[i] == IGNORE ? NEVER : LEARNED : learned ? LEARNED : LEFT_OUT;
        }
        label_tokens(ex, d->mask, r->prompt_loss_weight);
        for (size_t i = 0; labels && i < n; i++) // a row may ask for another token than the one that stands there
            if (ex->labels[i] != IGNORE && labels[i] != IGNORE) ex->labels[i] = labels[i];
    }
    free(ids);
    free(labels);
    free(assistant);
    free(completion);
    return ok;
}

static bool build(Draft *d, Example *ex, Err *e)
{
    const cJSON *row = d->row, *value;
    if (!cJSON_IsObject(row)) return fail(e, "expected an object, found %s", json_kind(row));
    if ((value = json_get(row, "input_ids"))) return build_tokens(d, ex, value, e);
    if ((value = json_get(row, "prompt"))) return build_prompt(d, ex, value, e);
    if ((value = json_get(row, "messages"))) return build_messages(d, ex, value, "messages", e);
    if ((value = json_get(row, "conversations"))) return build_conversations(d, ex, value, e);
    if (json_get(row, "instruction")) return build_alpaca(d, ex, e);
    value = json_get(row, d->recipe->text_field);
    if (cJSON_IsString(value)) return build_text(d, ex, value->valuestring, e);
    return fail(e,
                "expected messages, prompt and completion, instruction and output, input_ids or \"%s\", found %s%s%s",
                d->recipe->text_field, row->child ? "\"" : "none of them", row->child ? row->child->string : "",
                row->child ? "\"" : "");
}

// Cuts the row, and counts what the mask says of the rest. Which rows take part is up to the mask, not to
// prompt_loss_weight, so that runs that differ in that weight see the same rows.
static void truncate_example(Example *ex, const unsigned char *mask, size_t max_length)
{
    ex->truncated = max_length && ex->n > max_length;
    if (ex->truncated) ex->n = max_length;
    for (size_t i = 1; i < ex->n; i++) {                   // the first token is never predicted
        ex->n_learned += mask[i] == LEARNED;
        ex->n_left_out += mask[i] == LEFT_OUT;
    }
    ex->dropped = ex->n_learned == 0 && !(ex->n > 0 && mask[0] == LEARNED);
}

bool example_build(Example *ex, Buf *text, const cJSON *row, const Recipe *recipe, Err *e)
{
    Draft d = {.recipe = recipe, .row = row};
    *ex = (Example){0};
    bool ok = build(&d, ex, e);
    if (ok) truncate_example(ex, d.mask, recipe->max_length);
    else example_free(ex);
    ex->spans_by_rendering = d.spans_by_rendering;
    ex->prefix_mismatch = d.prefix_mismatch;
    if (text) {
        buf_clear(text);
        buf_add(text, d.text.data, d.text.len);
    }
    draft_free(&d);
    return ok;
}

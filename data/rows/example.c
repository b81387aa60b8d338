// example: see example.h. The steps of a row: kind -> messages -> text and byte spans -> tokens -> labels.
#include "example.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// A row while it becomes an example.
typedef struct {
    const Recipe *recipe;
    const cJSON *row;
    Example *ex;
    Origin origin;
    bool *off;                                             // (tokens.n): in a span whose message has weight 0
    unsigned char *mask;                                   // (tokens.n): Mask
} Draft;

void origin_free(Origin *t)
{
    conversation_free(&t->chat);
    cJSON_Delete(t->messages);
    encoding_free(&t->tokens);
    free(t->is_assistant);
    *t = (Origin){0};
}

void example_free(Example *ex)
{
    free(ex->ids);                                         // the one block behind all four arrays
    *ex = (Example){0};
}

// ---- tokens -------------------------------------------------------------------------------------------------------

bool recipe_encode(const Recipe *r, const char *text, size_t n, bool add_special_tokens, Encoding *out, Err *e)
{
    unsigned flags = PARSE_SPECIAL | (add_special_tokens ? ADD_SPECIAL_TOKENS : 0);
    if (!r->tokenizer) return fail(e, "a row of text needs a tokenizer: give tokenizer_name_or_path");
    if (!tokenizer_encode(r->tokenizer, text, n, flags, out, e)) return false;
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
// character, both included. A token that crosses the span's edge is included.
static void mark_assistant_tokens(Draft *d)
{
    const Encoding *t = &d->origin.tokens;
    const Conversation *c = &d->origin.chat;
    d->origin.is_assistant = mem_alloc(t->n, sizeof(bool));
    d->off = mem_alloc(t->n, sizeof(bool));
    for (size_t i = 0, from = 0; i < c->assistant.n; i++) {
        Span s = c->assistant.spans[i];
        if (s.begin == s.end) continue;
        size_t last = s.end - 1;
        while (last > s.begin && ((unsigned char)c->text.data[last] & 0xC0) == 0x80) last--;
        if (i && s.begin < c->assistant.spans[i - 1].begin) from = 0;      // nested blocks come inner first
        size_t first_token = token_at(t, from, s.begin), last_token = token_at(t, first_token, last);
        for (size_t k = first_token; k <= last_token && k < t->n; k++) {
            d->origin.is_assistant[k] = true;
            if (c->off && c->off[i]) d->off[k] = true;
        }
        from = first_token;
    }
}

static Role token_role(const Draft *d, size_t i)
{
    const Encoding *t = &d->origin.tokens;
    bool assistant = d->origin.is_assistant && d->origin.is_assistant[i];
    if (t->begin[i] == t->end[i] || !d->origin.chat.roles) return assistant ? ROLE_ASSISTANT : ROLE_TEMPLATE;
    Role role = (Role)d->origin.chat.roles[t->begin[i]];
    // A token that begins inside a span, but does not belong to it, is the template's.
    return !assistant && role == ROLE_ASSISTANT && d->origin.chat.assistant.n ? ROLE_TEMPLATE : role;
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
// never learned, with any weight: its message has weight 0, or the row itself gives -100.
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

static void fill_example(Draft *d, bool by_assistant, bool by_completion)
{
    Example *ex = d->ex;
    size_t n = d->origin.tokens.n;
    example_alloc(ex, n);
    d->mask = mem_alloc(n, 1);
    ex->mask_name = mask_name(by_assistant, by_completion);
    for (size_t i = 0; i < n; i++) {
        bool learned = (!by_assistant || d->origin.is_assistant[i]) && (!by_completion || i >= d->origin.n_prompt);
        d->mask[i] = d->off && d->off[i] ? NEVER : learned ? LEARNED : LEFT_OUT;
        ex->ids[i] = d->origin.tokens.ids[i];
        ex->roles[i] = (unsigned char)token_role(d, i);
    }
    label_tokens(ex, d->mask, d->recipe->prompt_loss_weight);
}

// ---- the kinds of rows --------------------------------------------------------------------------------------------

static bool fill_from_messages(Draft *d, bool by_assistant, bool by_completion, Err *e)
{
    mark_assistant_tokens(d);
    fill_example(d, by_assistant, by_completion);
    for (size_t i = 0; i < d->origin.tokens.n; i++)
        if (d->origin.is_assistant[i]) return true;
    return !by_assistant ||
           fail(e, "assistant_only_loss: expected an assistant message, found no assistant token (with "
                   "assistant_only_loss=false every token is learned)");
}

// The messages of a list; a `system` column beside it becomes the first, unless it begins with a system message. Owned
// by the caller; NULL on failure.
static cJSON *read_conversation(Draft *d, const cJSON *list, const char *key, Err *e)
{
    cJSON *messages = messages_read(list, key, e);
    const char *system = cJSON_GetStringValue(row_get(d->row, "system"));
    if (!messages || !system || !system[strspn(system, " \t\r\n")]) return messages;
    if (message_role_of(json_string(messages->child, "role")) == ROLE_SYSTEM) {
        const char *own = json_string(messages->child, "content");
        if (!own || strcmp(own, system) != 0) d->ex->unused_column = "system";
        return messages;
    }
    cJSON *first = cJSON_CreateArray();
    message_add(first, "system", system);
    cJSON_InsertItemInArray(messages, 0, cJSON_DetachItemFromArray(first, 0));
    cJSON_Delete(first);
    return messages;
}

// Takes the messages over; NULL is an error already.
static bool build_messages(Draft *d, cJSON *messages, const char *key, Err *e)
{
    const Recipe *r = d->recipe;
    bool masked = r->assistant_only_loss != 0, ok = messages;          // the default: this is a masked-SFT trainer
    if (ok && r->completion_only_loss == 1)
        ok = fail(e, "completion_only_loss: expected prompt and completion, found %s: use assistant_only_loss", key);
    ok = ok && conversation_render(&d->origin.chat, r, d->row, messages, masked, e) &&
         recipe_encode(r, d->origin.chat.text.data, d->origin.chat.text.len, false, &d->origin.tokens, e);
    d->origin.messages = messages;
    return ok && fill_from_messages(d, masked, false, e);
}

// Tokenizes the prompt alone and the whole row. The completion begins at the first token that differs, as in TRL. If
// that is before the prompt's end, then a merge crosses the boundary, or the template writes the prompt in another way
// when an answer follows.
static bool count_prompt(Draft *d, const Buf *prompt, bool add_special_tokens, Err *e)
{
    Encoding p = {0};
    bool ok = recipe_encode(d->recipe, prompt->data, prompt->len, add_special_tokens, &p, e);
    size_t same = 0;
    while (ok && same < p.n && same < d->origin.tokens.n && p.ids[same] == d->origin.tokens.ids[same]) same++;
    d->origin.n_prompt = same;
    if (ok && same < p.n) d->ex->notes |= NOTE_PREFIX_MISMATCH;
    if (ok && same < p.n && !d->recipe->warn_on_prefix_mismatch) {
        const Tokenizer *t = d->recipe->tokenizer;
        bool ended = same >= d->origin.tokens.n;
        ok = fail(e,
                  "the row does not begin with the tokens of its prompt: token %zu is \"%s\" (%d) in the prompt alone "
                  "and \"%s\" (%d) in the whole row; on_prefix_mismatch=warn lets the completion begin at that token, "
                  "as TRL does",
                  same, tokenizer_piece(t, p.ids[same]), p.ids[same],
                  ended ? "" : tokenizer_piece(t, d->origin.tokens.ids[same]), ended ? -1 : d->origin.tokens.ids[same]);
    }
    encoding_free(&p);
    return ok;
}

static bool build_prompt_messages(Draft *d, const cJSON *prompt, const cJSON *completion, Err *e)
{
    Recipe whole = *d->recipe, *r = &whole;
    bool by_assistant = r->assistant_only_loss == 1, by_completion = r->completion_only_loss != 0;
    Buf head = {0};
    whole.split_turns = false;                             // the completion is what is learned
    cJSON *asked = read_conversation(d, prompt, "prompt", e),
          *answer = asked ? messages_read(completion, "completion", e) : NULL;
    cJSON *all = cJSON_Duplicate(asked, true);
    for (const cJSON *m = answer ? answer->child : NULL; m; m = m->next)
        cJSON_AddItemToArray(all, cJSON_Duplicate(m, true));
    bool ok = answer && conversation_render(&d->origin.chat, r, d->row, all, by_assistant, e) &&
              conversation_text(&head, r, d->row, asked, true, e) &&
              recipe_encode(r, d->origin.chat.text.data, d->origin.chat.text.len, false, &d->origin.tokens, e) &&
              count_prompt(d, &head, false, e);
    ok = ok && fill_from_messages(d, by_assistant, by_completion, e);
    buf_free(&head);
    cJSON_Delete(asked);
    cJSON_Delete(answer);
    d->origin.messages = all;
    return ok;
}

static bool not_conversational(const Recipe *r, const char *kind, Err *e)
{
    return r->assistant_only_loss != 1 || fail(e, "assistant_only_loss: expected messages, found %s", kind);
}

// Encodes the text so far. Its first n_prompt bytes have one role, the others another. EOS is added as text, if it is
// not there already: then the model learns to stop.
static bool encode_text(Draft *d, size_t n_prompt, Role first, Role rest, Err *e)
{
    Buf *text = &d->origin.chat.text;
    const Tokenizer *t = d->recipe->tokenizer;
    const char *eos = t ? json_string(tokenizer_special_tokens(t), "eos_token") : NULL;
    if (d->recipe->eos_token) eos = d->recipe->eos_token;
    size_t n = eos ? strlen(eos) : 0;
    if (n && !(text->len >= n && memcmp(text->data + text->len - n, eos, n) == 0)) buf_adds(text, eos);
    d->origin.chat.roles = mem_alloc(text->len, 1);
    memset(d->origin.chat.roles, first, n_prompt);
    memset(d->origin.chat.roles + n_prompt, rest, text->len - n_prompt);
    return recipe_encode(d->recipe, text->data, text->len, true, &d->origin.tokens, e);
}

static bool build_prompt_text(Draft *d, const char *prompt, const char *completion, Err *e)
{
    Buf head = {0};
    if (!not_conversational(d->recipe, "prompt and completion as strings", e)) return false;
    buf_adds(&head, prompt);
    buf_addf(&d->origin.chat.text, "%s%s", prompt, completion);
    bool ok = encode_text(d, head.len, ROLE_USER, ROLE_ASSISTANT, e) && count_prompt(d, &head, true, e);
    if (ok) fill_example(d, false, d->recipe->completion_only_loss != 0);
    buf_free(&head);
    return ok;
}

static bool build_prompt(Draft *d, const cJSON *prompt, const cJSON *completion, Err *e)
{
    if (cJSON_IsString(prompt) && cJSON_IsString(completion))
        return build_prompt_text(d, prompt->valuestring, completion->valuestring, e);
    if (cJSON_IsArray(prompt) && cJSON_IsArray(completion)) return build_prompt_messages(d, prompt, completion, e);
    return fail(e, "prompt and completion: expected two strings or two lists of messages, found %s and %s",
                json_kind(prompt), json_kind(completion));
}

static bool build_text(Draft *d, const char *text, Err *e)
{
    if (!not_conversational(d->recipe, "plain text", e)) return false;
    if (d->recipe->completion_only_loss == 1)
        return fail(e, "completion_only_loss: expected prompt and completion, found plain text");
    buf_adds(&d->origin.chat.text, text);
    if (!encode_text(d, 0, ROLE_TEXT, ROLE_TEXT, e)) return false;
    fill_example(d, false, false);
    return true;
}

// Reads a row's list of n whole numbers, each in [0, max] or `other`. *out is NULL if the key is absent.
static bool get_ints(const cJSON *row, const char *key, int max, int other, size_t n, int **out, Err *e)
{
    const cJSON *list = row_get(row, key), *v;
    *out = NULL;
    if (!list) return true;
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

static bool build_tokens(Draft *d, const cJSON *input_ids, Err *e)
{
    const Recipe *r = d->recipe;
    Example *ex = d->ex;
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
        ex->mask_name = labels ? "given" : mask_name(assistant, by_completion);
        d->mask = mem_alloc(n, 1);
        for (size_t i = 0; i < n; i++) {
            bool learned = (!assistant || assistant[i]) && (!by_completion || completion[i]);
            ex->ids[i] = ids[i];
            ex->roles[i] = assistant && assistant[i] ? ROLE_ASSISTANT : ROLE_TEXT;
            d->mask[i] = labels ? labels[i] == IGNORE ? NEVER : LEARNED : learned ? LEARNED : LEFT_OUT;
        }
        label_tokens(ex, d->mask, r->prompt_loss_weight);
        for (size_t i = 0; labels && i < n; i++) // a row's label may be another token than its id
            if (ex->labels[i] != IGNORE && labels[i] != IGNORE) ex->labels[i] = labels[i];
    }
    free(ids);
    free(labels);
    free(assistant);
    free(completion);
    return ok;
}

// Columns that hold something to learn from, and the kinds of rows that use them. A row that has such a column and does
// not use it is warned of. Names that are not in this table (id, source, ...) may hold anything.
enum { IDS = 1, MESSAGES = 2, STRINGS = 4, ALPACA = 8, TEXT = 16 };
static const struct { const char *name; unsigned used_by; } columns[] = {
    {"labels", IDS}, {"assistant_masks", IDS}, {"completion_mask", IDS}, {"messages", 0}, {"conversations", 0},
    {"prompt", STRINGS}, {"completion", STRINGS}, {"instruction", ALPACA}, {"input", ALPACA}, {"output", ALPACA},
    {"history", ALPACA}, {"text", TEXT}, {"system", MESSAGES | ALPACA}, {"tools", MESSAGES | ALPACA},
    {"documents", MESSAGES | ALPACA}, {"chat_template_kwargs", MESSAGES | ALPACA}, {"context", 0}, {"question", 0},
    {"answer", 0}, {"query", 0}, {"response", 0}, {"chosen", 0}, {"rejected", 0}, {"image", 0}, {"images", 0},
    {"audio", 0}, {"videos", 0}, {"thinking", 0}, {"reasoning", 0}, {"reasoning_content", 0},
};

// Is this text one of the messages already, as a prompt beside messages is?
static bool is_said(const cJSON *messages, const char *text)
{
    for (const cJSON *m = messages ? messages->child : NULL; m; m = m->next) {
        const char *content = json_string(m, json_get(m, "content") ? "content" : "value");
        if (content && text && strcmp(content, text) == 0) return true;
    }
    return false;
}

static void find_unused_column(Draft *d, unsigned kind, const cJSON *read)
{
    for (size_t i = 0; i < sizeof columns / sizeof *columns && !d->ex->unused_column; i++) {
        const cJSON *v = row_get(d->row, columns[i].name);
        const char *text = cJSON_GetStringValue(v);
        bool empty =
            !v || (text ? !text[strspn(text, " \t\r\n")] : (cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child);
        bool used = (columns[i].used_by & kind) || v == read || strcmp(columns[i].name, d->recipe->text_field) == 0;
        if (!empty && !(used && !(kind == MESSAGES && columns[i].used_by == STRINGS)) && !is_said(read, text))
            d->ex->unused_column = columns[i].name;
    }
}

static bool build(Draft *d, Err *e)
{
    const cJSON *row = d->row, *prompt = row_get(row, "prompt"), *completion = row_get(row, "completion");
    if (!cJSON_IsObject(row))
        return fail(e, "expected an object, such as {\"messages\": [...]}, found %s", json_kind(row));
    const char *first = row->child ? row->child->string : NULL, *text_field = d->recipe->text_field;
    const char *key = row_get(row, "messages") ? "messages" : "conversations";
    const cJSON *ids = row_get(row, "input_ids"), *list = row_get(row, key), *text = row_get(row, text_field);
    unsigned kind = ids                    ? IDS
                  : prompt && completion   ? cJSON_IsString(prompt) ? STRINGS : STRINGS | MESSAGES
                  : list                   ? MESSAGES
                  : row_get(row, "instruction") ? ALPACA
                                           : TEXT;
    find_unused_column(d, kind, kind == IDS ? ids : kind == MESSAGES ? list : kind == TEXT ? text : NULL);
    if (kind == IDS) return build_tokens(d, ids, e);
    if (kind & STRINGS) return build_prompt(d, prompt, completion, e);
    if (kind == MESSAGES) return build_messages(d, read_conversation(d, list, key, e), key, e);
    if (kind == ALPACA && d->recipe->split_turns && row_get(row, "history"))
        return fail(e, "split_turns: expected messages, found a history");
    if (kind == ALPACA) return build_messages(d, messages_from_alpaca(row, e), "instruction", e);
    if (cJSON_IsString(text)) return build_text(d, text->valuestring, e);
    if (prompt) return fail(e, "completion: expected one beside the prompt, found nothing");
    bool message = json_get(row, "role") || json_get(row, "from");
    return fail(e,
                "expected messages, prompt and completion, instruction and output, input_ids or \"%s\", found %s%s%s%s",
                text_field, first ? "\"" : "none of them", first ? first : "", first ? "\"" : "",
                message ? ": a message is no row; a row is {\"messages\": [...]}" : "");
}

// Cuts the row, and counts what the mask says of the rest. The mask alone decides whether a row is dropped. Runs that
// differ only in prompt_loss_weight therefore see the same rows.
static void truncate_example(Example *ex, const unsigned char *mask, size_t max_length)
{
    ex->truncated = max_length && ex->n > max_length;
    if (ex->truncated) ex->n = max_length;
    for (size_t i = 0; i < ex->n; i++) ex->n_supervised += ex->labels[i] != IGNORE;
    for (size_t i = 1; i < ex->n; i++) {                   // the first token is never predicted
        ex->n_learned += mask[i] == LEARNED;
        ex->n_left_out += mask[i] == LEFT_OUT;
    }
    ex->dropped = ex->n_learned == 0 && !(ex->n > 0 && mask[0] == LEARNED);
}

bool example_build(Example *ex, Origin *origin, const cJSON *row, const Recipe *recipe, Err *e)
{
    Draft d = {.recipe = recipe, .row = row, .ex = ex};
    *ex = (Example){0};
    bool ok = build(&d, e);
    if (ok) truncate_example(ex, d.mask, recipe->max_length);
    else example_free(ex);
    ex->notes |= d.origin.chat.notes;
    if (ex->unused_column) ex->notes |= NOTE_UNUSED_COLUMN;
    ex->spans_by_rendering = d.origin.chat.by_rendering;
    memcpy(ex->unknown_role, d.origin.chat.unknown_role, sizeof ex->unknown_role);
    if (origin) *origin = d.origin;
    else origin_free(&d.origin);
    free(d.off);
    free(d.mask);
    return ok;
}

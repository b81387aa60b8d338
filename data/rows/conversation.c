// conversation: see conversation.h.
#include "conversation.h"

#include <stdlib.h>
#include <string.h>

// A template and its variables, of which messages and add_generation_prompt change from one rendering to the next.
typedef struct {
    const Template *template;
    cJSON *vars;
} Renderer;

// ---- variables ----------------------------------------------------------------------------------------------------

static void set_all(cJSON *vars, const cJSON *from)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, from) json_set(vars, v->string, cJSON_Duplicate(v, true));
}

// A list of objects of the row, or (is_list false) an object. NULL if the key is absent.
static bool row_value(cJSON **out, const cJSON *row, const char *key, bool is_list, Err *e)
{
    if (!row_json(out, row, key, e)) return false;
    if (!*out) return true;
    bool ok = is_list ? cJSON_IsArray(*out) : cJSON_IsObject(*out);
    if (!ok) fail(e, "%s: expected %s, found %s", key, is_list ? "a list of objects" : "an object", json_kind(*out));
    size_t i = 0;
    for (const cJSON *v = ok && is_list ? (*out)->child : NULL; v && ok; v = v->next, i++)
        ok = cJSON_IsObject(v) || fail(e, "%s[%zu]: expected an object, found %s", key, i, json_kind(v));
    if (!ok) cJSON_Delete(*out), *out = NULL;
    return ok;
}

static void renderer_free(Renderer *r) { cJSON_Delete(r->vars); }

static bool renderer_init(Renderer *r, const Recipe *recipe, const cJSON *row, Err *e)
{
    cJSON *tools = NULL, *documents = NULL, *kwargs = NULL;
    *r = (Renderer){recipe->template, cJSON_CreateObject()};
    if (!r->template)
        return fail(e, "messages need a chat template and the tokenizer has none: give chat_template_path, for example "
                       "configs/templates/plain.jinja");
    bool ok = row_value(&tools, row, "tools", true, e);
    ok = ok && row_value(&documents, row, "documents", true, e);
    ok = ok && row_value(&kwargs, row, "chat_template_kwargs", false, e);
    if (tools && recipe->tool_template) r->template = recipe->tool_template;
    if (recipe->tokenizer) set_all(r->vars, tokenizer_special_tokens(recipe->tokenizer));
    if (recipe->eos_token) json_set(r->vars, "eos_token", cJSON_CreateString(recipe->eos_token));
    json_set(r->vars, "tools", cJSON_CreateNull());
    json_set(r->vars, "documents", cJSON_CreateNull());
    set_all(r->vars, recipe->template_kwargs);
    set_all(r->vars, kwargs);
    if (tools) json_set(r->vars, "tools", tools);
    if (documents) json_set(r->vars, "documents", documents);
    cJSON_Delete(kwargs);
    return ok;
}

// Replaces what `out` holds.
static bool render(Renderer *r, const cJSON *messages, bool add_generation_prompt, Buf *out, Spans *spans, Err *e)
{
    cJSON_DeleteItemFromObjectCaseSensitive(r->vars, "messages");
    cJSON_AddItemReferenceToObject(r->vars, "messages", (cJSON *)messages);
    json_set(r->vars, "add_generation_prompt", cJSON_CreateBool(add_generation_prompt));
    buf_clear(out);
    buf_add(out, "", 0);
    return template_render(r->template, r->vars, out, spans, e);
}

// The first n messages, borrowed from the whole list. The caller deletes it.
static cJSON *first_messages(const cJSON *messages, size_t n)
{
    cJSON *list = cJSON_CreateArray();
    for (const cJSON *m = messages->child; m && n > 0; m = m->next, n--)
        cJSON_AddItemReferenceToArray(list, (cJSON *)m);
    return list;
}

bool conversation_text(Buf *out, const Recipe *recipe, const cJSON *row, const cJSON *messages,
                       bool add_generation_prompt, Err *e)
{
    Renderer r;
    bool ok = renderer_init(&r, recipe, row, e) && render(&r, messages, add_generation_prompt, out, NULL, e);
    renderer_free(&r);
    return ok;
}

// What a generation prompt prints after a user's message; empty if nothing.
static void header_elsewhere(Buf *header, Renderer *r)
{
    cJSON *messages = cJSON_CreateArray();
    Buf without = {0}, with = {0};
    Err ignored;
    size_t at = 0;
    message_add(messages, "user", "x");
    buf_clear(header);
    if (render(r, messages, false, &without, NULL, &ignored) && render(r, messages, true, &with, NULL, &ignored)) {
        while (at < without.len && at < with.len && without.data[at] == with.data[at]) at++;
        buf_add(header, with.data + at, with.len - at);    // a tail may stand in place of the prompt, and share a "<|"
    }
    cJSON_Delete(messages);
    buf_free(&without);
    buf_free(&with);
}

void conversation_header(Buf *out, const Recipe *recipe, const cJSON *row)
{
    Renderer r;
    Err ignored;
    buf_clear(out);
    if (renderer_init(&r, recipe, row, &ignored)) header_elsewhere(out, &r);
    renderer_free(&r);
}

// ---- where messages stand -----------------------------------------------------------------------------------------

// Notes one text of a message, and puts a marker in its place: two characters for private use, and its number.
static void replace_by_marker(Sayings *s, cJSON *object, const char *key, const char *text, Saying saying)
{
    if (!text) return;
    Buf marker = {0};
    buf_addf(&marker, "\uE000%zu\uE001", s->n);
    ARRAY_ROOM(s->items, s->n, s->cap);
    saying.text = text;
    s->items[s->n++] = saying;
    cJSON_ReplaceItemInObjectCaseSensitive(object, key, cJSON_CreateString(marker.data));
    buf_free(&marker);
}

// A copy of the messages with markers in place of what they say; what that is, into *s.
static cJSON *with_markers(Sayings *s, const cJSON *messages)
{
    cJSON *copy = cJSON_Duplicate(messages, true);
    const cJSON *from = messages->child;
    size_t i = 0;
    for (cJSON *m = copy->child; m; m = m->next, from = from->next, i++) {
        Saying saying = {.message = i, .role = message_role_of(json_string(m, "role"))};
        const cJSON *content = json_get(from, "content"), *calls = json_get(from, "tool_calls");
        replace_by_marker(s, m, "content", cJSON_GetStringValue(content), saying);
        cJSON *part = cJSON_IsArray(content) ? json_get(m, "content")->child : NULL;
        for (const cJSON *p = part ? content->child : NULL; p; p = p->next, part = part->next)
            replace_by_marker(s, part, "text", json_string(p, "text"), saying);
        cJSON *call = cJSON_IsArray(calls) ? json_get(m, "tool_calls")->child : NULL;
        saying.call = true;
        for (const cJSON *p = call ? calls->child : NULL; p; p = p->next, call = call->next) {
            const cJSON *function = json_get(p, "function");
            cJSON *place = function ? (cJSON *)json_get(call, "function") : call;
            replace_by_marker(s, place, "name", json_string(function ? function : p, "name"), saying);
        }
    }
    return copy;
}

// The length of a content without the blanks at its ends; *content moves to its first other character.
static size_t trimmed(const char **content)
{
    size_t n = strlen(*content);
    while (n && strchr(" \t\r\n", **content)) ++*content, n--;
    while (n && strchr(" \t\r\n", (*content)[n - 1])) n--;
    return n;
}

// Does the text have this content at `at`, as it is or trimmed? Bytes matched, 0 if not.
static size_t content_at(const Buf *text, size_t at, const char *content)
{
    size_t n = strlen(content), left = text->len - at;
    if (n <= left && memcmp(text->data + at, content, n) == 0) return n;
    n = trimmed(&content);
    return n <= left && memcmp(text->data + at, content, n) == 0 ? n : 0;
}

// The text whose marker stands at p, and the marker's length; NULL if none does: a template may have such characters.
static Saying *marker_at(const Sayings *s, const char *p, size_t *length)
{
    size_t n = 3, number = 0;
    if (strncmp(p, "\uE000", 3) != 0) return NULL;
    for (; p[n] >= '0' && p[n] <= '9' && number < s->n; n++) number = 10 * number + (size_t)(p[n] - '0');
    *length = n + 3;
    return n > 3 && number < s->n && strncmp(p + n, "\uE001", 3) == 0 ? &s->items[number] : NULL;
}

// The conversation is rendered once more, with markers. What stands between the markers must be the template's own, and
// so tells where each text stands. False where that does not work out (a template that looks into the content).
static bool find_by_markers(Sayings *s, Renderer *r, const cJSON *marked, const Buf *text)
{
    Buf out = {0};
    Err ignored;
    bool ok = render(r, marked, false, &out, NULL, &ignored);
    size_t at = 0, skip;
    for (const char *p = out.data; ok && *p;) {
        Saying *saying = marker_at(s, p, &skip);
        if (!saying) {
            ok = at < text->len && text->data[at] == *p;
            at++, p++;
            continue;
        }
        saying->begin = at;
        saying->end = at += content_at(text, at, saying->text);
        saying->seen = true;
        p += skip;
    }
    buf_free(&out);
    return ok && at == text->len;
}

// The second best way: each text where it is next found.
static void find_by_search(Sayings *s, const Buf *text)
{
    size_t at = 0;
    for (size_t i = 0; i < s->n; i++) {
        Saying *saying = &s->items[i];
        const char *whole = saying->text, *bare = whole;
        size_t n = trimmed(&bare), from = saying->call ? 0 : at;
        const char *found = n ? mem_find(text->data + from, text->len - from, bare, n) : NULL;
        saying->seen = found != NULL;
        if (!found) continue;
        size_t here = (size_t)(found - text->data), blanks = (size_t)(bare - whole);
        saying->begin = here >= from + blanks && content_at(text, here - blanks, whole) ? here - blanks : here;
        saying->end = saying->begin + content_at(text, saying->begin, whole);
        if (!saying->call) at = saying->end;
    }
}

bool conversation_find(const Conversation *c, size_t i, size_t *begin, size_t *end)
{
    bool seen = false;
    for (size_t k = 0; k < c->said.n; k++) {
        const Saying *saying = &c->said.items[k];
        if (saying->message != i || !saying->seen || saying->begin == saying->end) continue;
        if (!seen || saying->begin < *begin) *begin = saying->begin;
        if (!seen || saying->end > *end) *end = saying->end;
        seen = true;
    }
    return seen;
}

// ---- spans by rendering -------------------------------------------------------------------------------------------

// "...X became ...Y", from shortly before the first difference of two texts.
static bool fail_difference(Err *e, const char *what, const Buf *a, const Buf *b)
{
    size_t at = 0;
    while (at < a->len && at < b->len && a->data[at] == b->data[at]) at++;
    size_t from = at > 20 ? at - 20 : 0;
    while (from > 0 && ((unsigned char)a->data[from] & 0xC0) == 0x80) from--;
    return fail(e, "%s: \"...%.*s\" became \"...%.*s\"; a template with {%% generation %%} blocks "
                   "(chat_template_path) says which words are the assistant's", what,
                (int)(a->len - from < 60 ? a->len - from : 60), a->data + from,
                (int)(b->len - from < 60 ? b->len - from : 60), b->data + from);
}

static bool is_prefix(const Buf *a, const Buf *b) { return a->len <= b->len && memcmp(a->data, b->data, a->len) == 0; }

static bool same(const Buf *a, const Buf *b) { return a->len == b->len && is_prefix(a, b); }

typedef struct {
    Renderer *renderer;
    const Recipe *recipe;
    const cJSON *messages;
    Buf before, after, header;
} Search;

// Where the answer of message i begins in `after`. The generation prompt may print nothing there, or something else
// than elsewhere, and a template may refuse an empty conversation: then the answer begins behind the header that the
// prompt prints elsewhere, or where its content does.
static bool span_begin(Search *s, Conversation *c, size_t i, size_t *begin, Err *e)
{
    cJSON *head = first_messages(s->messages, i);
    Err why;
    bool rendered = render(s->renderer, head, true, &s->before, NULL, &why), nothing = false;
    bool prefix = rendered && is_prefix(&s->before, &s->after);
    *begin = prefix ? s->before.len : 0;
    if (prefix) {
        Buf without = {0};
        nothing = render(s->renderer, head, false, &without, NULL, &why) ? same(&without, &s->before) : i == 0;
        buf_free(&without);
    }
    cJSON_Delete(head);
    if (prefix && !nothing) return true;
    header_elsewhere(&s->header, s->renderer);
    size_t content = 0, end = 0, n = s->header.len;
    bool there = conversation_find(c, i, &content, &end) && content <= s->after.len &&
                 memcmp(s->after.data, c->text.data, content) == 0;
    for (size_t at = content; there && n && at >= *begin + n; at--)
        if (memcmp(s->after.data + at - n, s->header.data, n) == 0) {
            c->notes |= NOTE_SPANS_GUESSED;
            *begin = at;
            return true;
        }
    if (there && content == *begin && prefix) return true;
    c->notes |= NOTE_SPANS_GUESSED;
    if (there && content >= *begin && (prefix || i == 0)) return *begin = content, true;
    if (prefix) return true;
    if (!rendered) return *e = why, false;
    return fail_difference(e, "the template's generation prompt is not how the assistant's message begins", &s->before,
                           &s->after);
}

// Where it ends. A template may print a tail behind the last message only: then the whole text agrees with `after` up
// to that tail, token by token, and ends in it too.
static bool span_end(Search *s, Conversation *c, size_t i, size_t *end, Err *e)
{
    *end = s->after.len;
    if (is_prefix(&s->after, &c->text)) return true;
    Encoding a = {0}, b = {0};
    size_t n = 0, content = 0, content_end = 0;
    const Tokenizer *t = s->recipe->tokenizer;
    bool ok = t && tokenizer_encode(t, s->after.data, s->after.len, PARSE_SPECIAL, &a, e) &&
              tokenizer_encode(t, c->text.data, c->text.len, PARSE_SPECIAL, &b, e);
    while (ok && n < a.n && n < b.n && a.ids[n] == b.ids[n] && a.end[n] == b.end[n]) n++;
    *end = n ? a.end[n - 1] : 0;
    size_t tail = s->after.len - *end;
    ok = ok && conversation_find(c, i, &content, &content_end) && content_end <= *end && tail <= c->text.len &&
         memcmp(s->after.data + *end, c->text.data + c->text.len - tail, tail) == 0;
    encoding_free(&a);
    encoding_free(&b);
    c->notes |= NOTE_SPANS_GUESSED;
    return ok || fail_difference(e, "the template rewrites it when more messages follow (split_turns=true makes a "
                                    "row of each turn, rendered as it is before they follow)", &s->after, &c->text);
}

enum { MAX_RENDERED = 1000 };                              // the work grows with the square of it

static bool spans_by_rendering(Conversation *c, Search *s, Err *e)
{
    size_t i = 0;
    c->by_rendering = true;
    for (const cJSON *m = s->messages->child; m; m = m->next, i++) {
        if (!message_is_assistant(m) || i < c->first) continue;
        if (i >= MAX_RENDERED)
            return fail(e, "messages[%zu]: expected at most %d messages for a template without generation blocks",
                        i, MAX_RENDERED);
        cJSON *with = first_messages(s->messages, i + 1);
        Span span;
        bool ok = render(s->renderer, with, false, &s->after, NULL, e) && span_begin(s, c, i, &span.begin, e) &&
                  span_end(s, c, i, &span.end, e);
        cJSON_Delete(with);
        if (!ok || span.begin > span.end)
            return fail_prefix(e, "messages[%zu]: the assistant's span cannot be found: ", i);
        ARRAY_ROOM(c->assistant.spans, c->assistant.n, c->assistant.cap);
        c->assistant.spans[c->assistant.n++] = span;
    }
    return true;
}

// ---- roles of bytes -----------------------------------------------------------------------------------------------

// Whose is byte b of the span, which the template printed: that of the words before it in the span, or else after it.
static bool is_of_assistant(const Sayings *s, Span span, size_t b)
{
    const Saying *before = NULL, *behind = NULL;
    for (size_t i = 0; i < s->n; i++) {
        const Saying *saying = &s->items[i];
        if (!saying->seen || saying->begin < span.begin || saying->begin >= span.end) continue;
        if (saying->begin <= b && (!before || saying->begin >= before->begin)) before = saying;
        if (saying->begin > b && (!behind || saying->begin < behind->begin)) behind = saying;
    }
    const Saying *owner = before ? before : behind;
    return !owner || owner->role == ROLE_ASSISTANT || owner->role == ROLE_UNKNOWN;
}

// What others said stays theirs, even inside of a generation block: the report then says that it is learned. A role
// that is not known is the assistant's there, and the user's elsewhere.
static void mark_roles(Conversation *c, const cJSON *messages, bool sure)
{
    const Sayings *s = &c->said;
    c->roles = mem_alloc(c->text.len, 1);
    memset(c->roles, ROLE_TEMPLATE, c->text.len);
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i].seen && !s->items[i].call)
            memset(c->roles + s->items[i].begin, s->items[i].role, s->items[i].end - s->items[i].begin);
    for (size_t i = 0; i < c->assistant.n; i++)
        for (size_t b = c->assistant.spans[i].begin; b < c->assistant.spans[i].end; b++)
            if (!sure || c->roles[b] == ROLE_UNKNOWN ||
                (c->roles[b] == ROLE_TEMPLATE && is_of_assistant(s, c->assistant.spans[i], b)))
                c->roles[b] = ROLE_ASSISTANT;
    for (size_t i = 0; i < s->n; i++) {
        const Saying *saying = &s->items[i];
        if (!saying->seen || saying->begin == saying->end || c->roles[saying->begin] != ROLE_UNKNOWN) continue;
        memset(c->roles + saying->begin, ROLE_USER, saying->end - saying->begin);
        const char *role = json_string(cJSON_GetArrayItem(messages, (int)saying->message), "role");
        if (*role) c->notes |= NOTE_UNKNOWN_ROLE;
        if (!c->unknown_role[0]) snprintf(c->unknown_role, sizeof c->unknown_role, "%s", role);
    }
}

static bool has_weight_0(const cJSON *m) { return json_get(m, "weight") && json_get(m, "weight")->valuedouble == 0; }
// With split_turns the last message alone is learned. Of the spans of generation blocks its own stays.
static bool keep_last(Conversation *c, const Recipe *r, const cJSON *messages, bool has_blocks, Err *e)
{
    size_t n = 0, i = 0;
    for (const cJSON *m = messages->child; m; m = m->next, i++) {
        n += message_is_assistant(m);
        if (r->prompt_loss_weight > 0 && m->next && has_weight_0(m))
            return fail(e, "messages[%zu]: weight 0: with split_turns and prompt_loss_weight, rows of later turns "
                           "would learn it", i);
    }
    if (i > MAX_RENDERED) return fail(e, "split_turns: expected at most %d messages, found %zu", MAX_RENDERED, i);
    c->first = i - 1;
    if (has_blocks && n != c->assistant.n)
        return fail(e, "split_turns: the template gives %zu spans for %zu assistant messages", c->assistant.n, n);
    if (has_blocks && n) c->assistant.spans[0] = c->assistant.spans[n - 1], c->assistant.n = 1;
    return true;
}

static bool mark_off(Conversation *c, const cJSON *messages, Err *e)
{
    size_t n = 0, n_off = 0, i = 0;
    c->off = mem_alloc(c->assistant.n, sizeof(bool));
    for (const cJSON *m = messages->child; m; m = m->next) {
        if (i++ < c->first || !message_is_assistant(m)) continue;
        if (n < c->assistant.n) c->off[n] = has_weight_0(m);
        n++, n_off += has_weight_0(m);
    }
    return !n_off || n == c->assistant.n ||
           fail(e, "a message has weight 0, but the template gives %zu spans for %zu assistant messages",
                c->assistant.n, n);
}

// ---- the whole ----------------------------------------------------------------------------------------------------

void conversation_free(Conversation *c)
{
    buf_free(&c->text);
    free(c->roles);
    free(c->said.items);
    spans_free(&c->assistant);
    free(c->off);
    *c = (Conversation){0};
}

bool conversation_render(Conversation *c, const Recipe *recipe, const cJSON *row, const cJSON *messages,
                         bool need_spans, Err *e)
{
    Renderer r;
    *c = (Conversation){0};
    bool ok = renderer_init(&r, recipe, row, e) && render(&r, messages, false, &c->text, &c->assistant, e);
    bool has_blocks = ok && template_has_generation(r.template);
    ok = ok && (!recipe->split_turns || keep_last(c, recipe, messages, has_blocks, e));
    if (ok) {
        cJSON *marked = with_markers(&c->said, messages);
        bool sure = find_by_markers(&c->said, &r, marked, &c->text);
        cJSON_Delete(marked);
        if (!sure) find_by_search(&c->said, &c->text);
        for (size_t i = 0; i < c->said.n; i++)
            if (c->said.items[i].call && !c->said.items[i].seen) c->notes |= NOTE_CALLS_LOST;
        if (!has_blocks) {
            Search s = {.renderer = &r, .recipe = recipe, .messages = messages};
            Err why;
            if (!spans_by_rendering(c, &s, &why)) {
                c->assistant.n = 0;
                if (need_spans) ok = false, *e = why;
            }
            buf_free(&s.before);
            buf_free(&s.after);
            buf_free(&s.header);
        }
        mark_roles(c, messages, sure);
        ok = ok && mark_off(c, messages, e);
    }
    renderer_free(&r);
    return ok;
}

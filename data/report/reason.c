// reason: why a token has its label, in words: see explore.h.
#include "explore.h"

#include <string.h>

void explained_free(Explained *x)
{
    cJSON_Delete(x->row);
    example_free(&x->ex);
    origin_free(&x->origin);
    buf_free(&x->header);
}

bool explain_row(Explained *x, const Dataset *data, size_t i, const Recipe *r, Err *e)
{
    *x = (Explained){.recipe = r};
    x->row = dataset_example(&x->ex, &x->origin, data, i, r, e);
    if (x->row && x->origin.messages) conversation_header(&x->header, r, x->row);
    return x->row != NULL;
}

size_t explained_tokens(const Explained *x) { return x->origin.tokens.n ? x->origin.tokens.n : x->ex.n; }

// The last text that is said from before byte `at` on; with `next` the first one behind it. NULL if there is none.
static const Saying *said_near(const Conversation *c, size_t at, bool next)
{
    const Saying *found = NULL;
    for (const Saying *s = c->said.items; s < c->said.items + c->said.n; s++) {
        if (!s->seen || s->call || s->begin == s->end || (s->begin > at) != next) continue;
        if (!found || (next ? s->begin < found->begin : s->begin > found->begin)) found = s;
    }
    return found;
}

// Does byte `at` stand in the header before span s? A generation block may begin within the header, or behind it.
static bool in_header(const Explained *x, Span s, size_t at)
{
    const Buf *text = &x->origin.chat.text, *h = &x->header;
    const Saying *before = s.begin ? said_near(&x->origin.chat, s.begin - 1, false) : NULL;
    for (size_t from = s.begin + 1; h->len && from-- > (before ? before->end : 0);)
        if (from + h->len <= text->len && memcmp(text->data + from, h->data, h->len) == 0)
            return from <= at && at < s.begin && at < from + h->len;
    return false;
}

static const char *const words_of[] = {"the system message", "the user's words", "the assistant's words",
                                       "a tool's answer", "the template's", "text", "the user's words"};
static const char *name_of(const Saying *s) { return role_names[s->role < N_ROLES ? s->role : ROLE_USER]; }

// Of a token in span k: bytes [at, end).
static void explain_assistant(Buf *out, const Origin *t, size_t k, size_t at, size_t end)
{
    const Conversation *c = &t->chat;
    Span s = c->assistant.spans[k];
    const Saying *said = said_near(c, s.end - 1, false);
    bool off = c->off && c->off[k];
    Role role = (Role)c->roles[at < s.begin ? s.begin : at];
    size_t turn = 0, last = said && said->begin >= s.begin ? said->message : SIZE_MAX, i = 0;
    if (role != ROLE_ASSISTANT) return buf_addf(out, "%s, in a generation block", words_of[role]);
    for (const cJSON *m = t->messages->child; m && i <= last; m = m->next, i++) turn += message_is_assistant(m);
    if (at < s.begin || end > s.end) buf_adds(out, "on the edge of ");
    else if (last != SIZE_MAX && at >= said->end && !off) buf_adds(out, "the end of ");
    buf_addf(out, "the assistant's turn %zu%s", last != SIZE_MAX ? turn : k + 1, off ? ", but weight 0" : "");
}

static void explain_template(Buf *out, const Conversation *c, size_t at)
{
    const Saying *before = said_near(c, at, false), *behind = said_near(c, at, true);
    if (before && at < before->end) buf_adds(out, words_of[before->role]);
    else if (before && behind) buf_addf(out, "template, between %s and %s", name_of(before), name_of(behind));
    else if (before) buf_addf(out, "template, after %s", words_of[before->role]);
    else buf_addf(out, "template%s%s", behind ? ", before " : "", behind ? words_of[behind->role] : "");
}

void explain_token(Buf *out, const Explained *x, size_t i)
{
    const Example *ex = &x->ex;
    const Origin *t = &x->origin;
    const Spans *spans = &t->chat.assistant;
    const char *mask = ex->mask_name;
    bool both = strcmp(mask, "both") == 0, by_assistant = both || strcmp(mask, "assistant") == 0,
         by_completion = both || strcmp(mask, "completion") == 0, assistant = t->is_assistant && t->is_assistant[i],
         learned = ex->labels[i] != IGNORE,
         left_out = (by_assistant && !assistant) || (by_completion && i < t->n_prompt);
    if (i >= ex->n) return buf_adds(out, "cut by max_length");
    if (!t->tokens.n)
        return buf_addf(out, "the row's %s: %slearned", strcmp(mask, "given") == 0 ? "labels" : "masks",
                        learned ? "" : "not ");
    size_t at = t->tokens.begin[i], end = t->tokens.end[i];
    if (left_out && learned) buf_addf(out, "weight %g: ", (double)ex->weights[i]);
    if (!by_assistant && !by_completion) buf_adds(out, "no mask: ");
    if (at == end) return buf_adds(out, "added by the tokenizer");
    for (size_t k = 0; k < spans->n && !assistant; k++)
        if (in_header(x, spans->spans[k], at))
            return buf_addf(out, "generation prompt%s", learned ? "" : ": given, not learned");
    if (by_completion) buf_addf(out, "the %s%s", i < t->n_prompt ? "prompt" : "completion", t->messages ? ": " : "");
    if (!t->messages) return buf_adds(out, by_completion ? "" : "plain text");
    for (size_t k = 0; k < spans->n && assistant; k++)
        if (at < spans->spans[k].end && end > spans->spans[k].begin) return explain_assistant(out, t, k, at, end);
    explain_template(out, &t->chat, at);
}

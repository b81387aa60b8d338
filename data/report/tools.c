// tools: what other trainers learn of a row: see explore.h. Each rule was read from the tool's source, and works on the
// row's own tokens.
#include "explore.h"

#include <string.h>

static int eos_of(const Recipe *r)
{
    return r->eos_token ? tokenizer_id(r->tokenizer, r->eos_token) : tokenizer_eos(r->tokenizer);
}

// Is it questions and answers in turn, behind a system message or none? Some rules are worked out for this alone.
static bool is_plain(const Origin *t, Err *e)
{
    size_t n = 0;
    const cJSON *m = t->messages->child;
    if (message_role_of(json_string(m, "role")) == ROLE_SYSTEM) m = m->next;
    for (; m && message_role_of(json_string(m, "role")) == (n % 2 ? ROLE_ASSISTANT : ROLE_USER); m = m->next, n++)
        if (json_get(m, "tool_calls")) break;
    return (!m && n % 2 == 0) || fail(e, "worked out only for questions and answers in turn, without tool calls");
}

// The next answer from message *m on, and the bytes of its content. False if there is none.
static bool next_answer(const Origin *t, size_t *m, Span *s)
{
    for (const cJSON *v; (v = cJSON_GetArrayItem(t->messages, (int)*m)); ++*m)
        if (message_is_assistant(v) && conversation_find(&t->chat, *m, &s->begin, &s->end)) return true;
    return false;
}

// Learns the tokens that touch the span. Returns the first one behind them.
static size_t learn(bool *learned, const Encoding *t, Span s)
{
    size_t i = 0;
    for (; i < t->n && t->begin[i] < s.end; i++)
        if (t->end[i] > s.begin) learned[i] = true;
    return i;
}

// ---- rules --------------------------------------------------------------------------------------------------------

// trl/trainer/sft_trainer.py: whatever a generation block prints, also where the message has weight 0.
static bool trl_assistant(bool *learned, const Explained *x, Err *e)
{
    if (x->origin.chat.by_rendering)
        return fail(e, "the template has no generation blocks: TRL refuses it, or has a version of its own of it");
    memcpy(learned, x->origin.is_assistant, x->origin.tokens.n * sizeof *learned);
    return true;
}

// All tokens behind those of all messages but the last one, with a generation prompt if that is an answer; or, with
// to_difference, from the first token on that differs from those.
static bool behind_prompt(bool *learned, const Explained *x, bool to_difference, Err *e)
{
    const Encoding *t = &x->origin.tokens;
    cJSON *head = cJSON_Duplicate(x->origin.messages, true), *last = head->child->prev;
    bool answered = message_is_assistant(last);
    Encoding p = {0};
    Buf text = {0};
    size_t from = 0;
    cJSON_Delete(cJSON_DetachItemViaPointer(head, last));
    bool ok = conversation_text(&text, x->recipe, x->row, head, answered, e) &&
              recipe_encode(x->recipe, text.data, text.len, false, &p, e);
    while (from < p.n && from < t->n && p.ids[from] == t->ids[from]) from++;
    if (x->origin.n_prompt) from = x->origin.n_prompt;     // the row itself says what its completion is
    for (size_t i = to_difference ? from : p.n; ok && i < t->n; i++) learned[i] = true;
    encoding_free(&p);
    buf_free(&text);
    cJSON_Delete(head);
    return ok;
}

// trl/trainer/sft_trainer.py: the completion, here the last message, begins where the prompt's tokens end or differ.
static bool trl_completion(bool *learned, const Explained *x, Err *e) { return behind_prompt(learned, x, true, e); }

// mlx_lm/tuner/datasets.py: as many tokens are left out as the prompt has.
static bool mlx_lm(bool *learned, const Explained *x, Err *e) { return behind_prompt(learned, x, false, e); }

// Each answer's content, and the token that ends it: the first `end` of the four behind the content.
enum { ANY_ADDED = -2 };
static bool contents(bool *learned, const Explained *x, int end, Err *e)
{
    const Encoding *t = &x->origin.tokens;
    Span s;
    if (!is_plain(&x->origin, e)) return false;
    for (size_t m = 0; next_answer(&x->origin, &m, &s); m++) {
        size_t next = learn(learned, t, s), k = next;
        while (k < t->n && t->ids[k] != end &&
               !(end == ANY_ADDED && tokenizer_is_added(x->recipe->tokenizer, t->ids[k]))) k++;
        if (k < t->n && k <= next + 3) learned[k] = true;
    }
    return true;
}

// axolotl/prompt_strategies/chat_template.py
static bool axolotl(bool *learned, const Explained *x, Err *e) { return contents(learned, x, eos_of(x->recipe), e); }

// nanochat/tokenizer.py, render_conversation. In its own template the token that ends a turn follows the content.
static bool nanochat(bool *learned, const Explained *x, Err *e) { return contents(learned, x, ANY_ADDED, e); }

static bool fail_template(Err *e) { return fail(e, "not worked out for a template of this kind"); }

// llamafactory/data/template.py, parse_template: what stands behind one answer belongs to every answer. Here that is
// what stands behind the last one.
static bool llama_factory(bool *learned, const Explained *x, Err *e)
{
    const Buf *text = &x->origin.chat.text, *h = &x->header;
    Span s, last = {0, 0};
    if (!is_plain(&x->origin, e)) return false;
    for (size_t m = 0; next_answer(&x->origin, &m, &s); m++) last = s;
    size_t tail = text->len - last.end;
    for (size_t m = 0; next_answer(&x->origin, &m, &s); m++) {
        if (!h->len || s.begin < h->len || memcmp(text->data + s.begin - h->len, h->data, h->len) != 0 ||
            memcmp(text->data + s.end, text->data + last.end, tail) != 0) return fail_template(e);
        learn(learned, &x->origin.tokens, (Span){s.begin, s.end + tail});
    }
    return true;
}

// unsloth_zoo/dataset_utils.py, get_chat_template_parts: before an answer stands the generation prompt, and before a
// question what stands between an answer and a question, without what also ends a question.
static bool find_markers(Encoding *question, Encoding *answer, const Explained *x, Err *e)
{
    static const char *const roles[] = {"user", "assistant", "user"}, *const said[] = {"QUESTION", "ANSWER", "AGAIN"};
    const Buf *header = &x->header;
    Buf text = {0};
    cJSON *probe = cJSON_CreateArray();
    for (int i = 0; i < 3; i++) message_add(probe, roles[i], said[i]);
    bool ok = conversation_text(&text, x->recipe, x->row, probe, false, e);
    char *q = ok ? strstr(text.data, said[0]) : NULL, *a = q ? strstr(q, said[1]) : NULL,
         *next = a ? strstr(a, said[2]) : NULL;
    ok = next && header->len && !strstr(header->data, "<think>") && (size_t)(a - q) >= strlen(said[0]) + header->len &&
         memcmp(a - header->len, header->data, header->len) == 0;
    if (ok) {
        *(a - header->len) = *next = 0;
        const char *end = q + strlen(said[0]), *begin = a + strlen(said[1]);
        while (*end && strncmp(begin, end, strlen(end)) == 0) begin += strlen(end);
        ok = recipe_encode(x->recipe, begin, strlen(begin), false, question, e) && question->n &&
             recipe_encode(x->recipe, header->data, header->len, false, answer, e) &&
             tokenizer_is_added(x->recipe->tokenizer, question->ids[0]) &&
             tokenizer_is_added(x->recipe->tokenizer, answer->ids[0]);
    }
    buf_free(&text);
    cJSON_Delete(probe);
    return ok || fail_template(e);
}

static bool starts(const Encoding *t, size_t at, const Encoding *part, size_t n)
{
    return n && at + n <= t->n && memcmp(t->ids + at, part->ids, n * sizeof *t->ids) == 0;
}

// train_on_responses_only, with those markers. What both begin with ends an answer, too, if it is special tokens.
static bool unsloth(bool *learned, const Explained *x, Err *e)
{
    const Encoding *t = &x->origin.tokens;
    const Tokenizer *tokenizer = x->recipe->tokenizer;
    Encoding q = {0}, a = {0};
    size_t opens = 0;
    bool ok = find_markers(&q, &a, x, e), special = true, within = false;
    for (; ok && opens < q.n && opens < a.n && q.ids[opens] == a.ids[opens]; opens++)
        special = special && tokenizer_is_special(tokenizer, q.ids[opens]);
    for (size_t i = 0; ok && i < t->n; i++) {
        bool eos = t->ids[i] == eos_of(x->recipe);
        if (within && !eos && (t->ids[i] == tokenizer_bos(tokenizer) || (special && starts(t, i, &a, opens)) ||
                               starts(t, i, &a, a.n) || (starts(t, i, &q, q.n) && i + 1 < t->n))) within = false;
        if (within) learned[i] = true, within = !eos;
        else if (starts(t, i, &a, a.n)) i += a.n - 1, within = true;
    }
    encoding_free(&q);
    encoding_free(&a);
    return ok && (memchr(learned, true, t->n) || fail(e, "no labels: the tokens that begin an answer are not found"));
}

const Tool tools[N_TOOLS] = {
    {"TRL assistant_only", "what the template prints in generation blocks", "TRL 1.16", trl_assistant},
    {"TRL completion_only", "all tokens behind the prompt: the last message", "TRL 1.16", trl_completion},
    {"axolotl", "each answer, and EOS at most three tokens behind it (train_on_eos: turn)", "axolotl 0.19", axolotl},
    {"unsloth", "from the tokens before an answer up to EOS, or to those before a question (train_on_responses_only)",
     "unsloth_zoo 2026.10", unsloth},
    {"LLaMA-Factory", "each answer, and all that the template puts behind it", "LLaMA-Factory 0.9.5", llama_factory},
    {"mlx-lm", "all tokens behind as many as the prompt has; behind the row one of padding (--mask-prompt)",
     "mlx-lm 0.32", mlx_lm},
    {"nanochat", "each answer, and the token that ends the turn", NULL, nanochat},
};

bool tool_labels(bool *learned, const Tool *tool, const Explained *x, Err *e)
{
    memset(learned, 0, explained_tokens(x) * sizeof *learned);
    return x->origin.messages ? tool->rule(learned, x, e) : fail(e, "the row has no messages");
}

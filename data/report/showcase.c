// showcase: see showcase.h.
#include "showcase.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_ROW = 64, LONG_ROW = 160, MAX_PROMPT = 256 };

// ---- what to show -------------------------------------------------------------------------------------------------

bool showcase_find_answer(const Example *ex, size_t from, size_t *first, size_t *end)
{
    for (*first = from; *first < ex->n && ex->roles[*first] != ROLE_ASSISTANT; ++*first) {}
    for (*end = *first; *end < ex->n && ex->roles[*end] == ROLE_ASSISTANT; ++*end) {}
    return *first < *end;
}

// Is there more in it than a question and an answer?
static bool is_rich(const Example *ex)
{
    size_t first, end;
    if (memchr(ex->roles, ROLE_SYSTEM, ex->n) || memchr(ex->roles, ROLE_TOOL, ex->n)) return true;
    return showcase_find_answer(ex, 0, &first, &end) && showcase_find_answer(ex, end, &first, &end);
}

// The first plain (or rich) row of at most `limit` tokens, else the shortest.
static void choose_row(Showcase *s, const Run *r, bool rich, size_t limit)
{
    size_t best = r->n_eval;
    for (size_t i = 0; i < r->n_eval; i++) {
        const Example *ex = &r->eval[i];
        if (ex->dropped || ex->truncated || ex->n < 2 || is_rich(ex) != rich) continue;
        if (best == r->n_eval || ex->n < r->eval[best].n) best = i;
        if (ex->n <= limit) break;
    }
    if (best == r->n_eval) return;
    const Example *ex = &r->eval[best];
    s->rows[s->n_rows++] = (ShownRow){ex, best, mem_alloc(s->n_models * ex->n, sizeof(float))};
}

static void add_question(Showcase *s, Question q)
{
    q.answers = mem_alloc(s->n_models, sizeof *q.answers);
    q.exact = mem_alloc(s->n_models, sizeof *q.exact);
    s->questions[s->n_questions++] = q;
}

static void choose_questions(Showcase *s, const Run *r)
{
    for (size_t i = 0; i < r->n_eval && s->n_questions < MAX_QUESTIONS; i++) {
        const Example *ex = &r->eval[i];
        Question q = {.example = ex};
        if (ex->dropped || !showcase_find_answer(ex, 0, &q.first, &q.end)) continue;
        if (q.first == 0 || q.first > MAX_PROMPT) continue;
        if (ex->truncated && q.end == ex->n) continue;     // its answer was cut
        add_question(s, q);
    }
}

// A greeting, which rows like the training rows seldom have. None where the template refuses it or makes it long.
static void add_hello(Showcase *s, const Run *r)
{
    cJSON *messages = cJSON_CreateArray();
    Encoding hello = {0};
    Buf text = {0};
    Err e;
    message_add(messages, "user", "Hello");
    if (s->n_questions && r->template && conversation_text(&text, &r->recipe, NULL, messages, true, &e) && text.len &&
        recipe_encode(&r->recipe, text.data, text.len, false, &hello, &e) && hello.n <= MAX_PROMPT &&
        (!r->recipe.max_length || hello.n <= r->recipe.max_length)) {
        s->hello = (Example){.n = hello.n, .ids = hello.ids, .roles = mem_alloc(hello.n, 1)};
        for (size_t i = 0; i < hello.n; i++)
            s->hello.roles[i] = tokenizer_is_special(r->tokenizer, hello.ids[i]) ? ROLE_TEMPLATE : ROLE_USER;
        add_question(s, (Question){.example = &s->hello, .first = hello.n, .end = hello.n});
        hello.ids = NULL;                                  // they are the example's now
    }
    encoding_free(&hello);
    buf_free(&text);
    cJSON_Delete(messages);
}

void showcase_init(Showcase *s, const Run *r, size_t n_models)
{
    *s = (Showcase){.tokenizer = r->tokenizer, .n_models = n_models};
    s->seen = mem_alloc(n_models, sizeof *s->seen);
    choose_row(s, r, false, SHORT_ROW);
    choose_row(s, r, true, LONG_ROW);
    choose_questions(s, r);
    add_hello(s, r);
}

void showcase_free(Showcase *s)
{
    for (size_t i = 0; i < s->n_rows; i++) free(s->rows[i].nll);
    for (size_t i = 0; i < s->n_questions; i++) {
        for (size_t k = 0; k < s->n_models; k++) free(s->questions[i].answers[k]);
        free(s->questions[i].answers);
        free(s->questions[i].exact);
    }
    free(s->hello.ids), free(s->hello.roles);
    free(s->seen);
    *s = (Showcase){0};
}

// ---- the models -----------------------------------------------------------------------------------------------------

void showcase_text(Buf *out, const Tokenizer *t, const int *ids, size_t n)
{
    Buf text = {0};
    tokenizer_decode(t, ids, n, true, &text);
    const char *begin = text.len ? text.data : "", *end = begin + text.len;
    while (begin < end && strchr(" \n\t\r", *begin)) begin++;
    while (end > begin && strchr(" \n\t\r", end[-1])) end--;
    buf_add(out, begin, (size_t)(end - begin));
    buf_free(&text);
}

static void read_row(ShownRow *row, size_t model, const Model *m, Room *room)
{
    float *nll = row->nll + model * row->example->n;
    batch_clear(&room->batch);
    batch_add(&room->batch, row->example, BATCH_EVAL);     // every token but the first is a target
    model_loss(m, &room->work, &room->batch, room->losses);
    for (size_t i = 0; i < room->batch.M; i++) nll[i + 1] = room->losses[i].nll;
}

bool showcase_answer(Buf *out, Sampler *sampler, const Example *ex, size_t first, size_t end, size_t most,
                     const Tokenizer *t)
{
    int *said = mem_alloc(most, sizeof *said);
    size_t n = 0, same = 0, reference = end - first;
    sampler_reset(sampler);
    sampler_feed(sampler, ex->ids, first);
    while (n < most) {
        int id = sampler_choose(sampler, 0, 1, NULL);
        if (same == n && same < reference && ex->ids[first + same] == id) same++;
        said[n++] = id;
        bool ends = (same && same == reference) || id == tokenizer_eos(t) || tokenizer_is_special(t, id);
        if (ends || sampler->n_cached == sampler->capacity) break;
        sampler_feed(sampler, &id, 1);
    }
    showcase_text(out, t, said, n);
    free(said);
    return same && same == reference;
}

// Whether the user's words of the first row are learned, and whether they are seen: what becomes of the answer?
static bool add_cases(Showcase *s, Model *m, Err *e)
{
    const Example *ex = s->n_rows ? s->rows[0].example : NULL;
    size_t first, end;
    if (!ex || ex->n > LONG_ROW || !m->grads || !memchr(ex->roles, ROLE_USER, ex->n)) return true;
    if (!showcase_find_answer(ex, 1, &first, &end)) return true;
    bool *marked = mem_alloc(ex->n, sizeof *marked);
    for (size_t i = 0; i < ex->n; i++) marked[i] = ex->roles[i] == ROLE_USER;
    s->has_cases = hide_tokens(m, ex, marked, s->cases, NULL, e);
    free(marked);
    return s->has_cases;
}

bool showcase_add(Showcase *s, size_t model, Model *m, Room *room, Err *e)
{
    size_t capacity = MAX_PROMPT + MAX_ANSWER, limit = (size_t)m->config.seq_len;
    Sampler sampler = {0};
    for (size_t i = 0; i < s->n_rows; i++) read_row(&s->rows[i], model, m, room);
    if (s->n_questions && !sampler_init(&sampler, m, capacity < limit ? capacity : limit, e)) return false;
    for (size_t i = 0; i < s->n_questions; i++) {
        Question *q = &s->questions[i];
        Buf text = {0};                                    // becomes the question's
        q->exact[model] = showcase_answer(&text, &sampler, q->example, q->first, q->end, MAX_ANSWER, s->tokenizer);
        free(q->answers[model]);
        q->answers[model] = text.data;
    }
    sampler_free(&sampler);
    s->seen[model] = true;
    return model != 1 || add_cases(s, m, e);
}

void showcase_add_first(Showcase *s, const Run *r, const Config *c)
{
    Model first = {0};
    Room room = {0};
    Err e;
    bool ok = run_open_model(r, &first, c, NULL, &e) &&
              room_init(&room, &r->options, c, run_batch_size(r, NULL, 0), WORK_LOSS, &e) &&
              showcase_add(s, 0, &first, &room, &e);
    if (!ok) {
        fprintf(stderr, "train: the report will show no answers, since the first model cannot be read again: %s\n",
                e.text);
        showcase_free(s);
    }
    room_free(&room);
    model_free(&first);
}

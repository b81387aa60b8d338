// template: see template.h. The public face of the engine: makes a Template, runs one, turns its jumps into Err.
#include "jinja.h"

#include <stdlib.h>

void spans_free(Spans *s)
{
    free(s->spans);
    *s = (Spans){0};
}

// A copy of the source as Jinja reads it: every kind of newline is \n, and one at the very end goes.
static const char *normalize_newlines(Arena *a, const char *source, size_t len, size_t *n)
{
    char *text = arena_take(a, len + 1);
    *n = 0;
    for (size_t i = 0; i < len; i++) {
        if (source[i] == '\n' && i > 0 && source[i - 1] == '\r') continue;
        text[(*n)++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (*n > 0 && text[*n - 1] == '\n') (*n)--;
    text[*n] = 0;
    return text;
}

Template *template_parse(const char *source, size_t len, const char *name, Err *e)
{
    size_t bad = utf8_valid(source, len);
    if (bad < len) {
        fail(e, "%s: invalid UTF-8 at byte %zu", name, bad);
        return NULL;
    }
    Template *t = mem_alloc(1, sizeof *t);
    Lexer *x = arena_take(&t->arena, sizeof *x);
    *x = (Lexer){.job = {.t = t, .e = e}, .arena = &t->arena};
    t->name = memcpy(arena_take(&t->arena, strlen(name) + 1), name, strlen(name) + 1);
    t->src = x->src = normalize_newlines(&t->arena, source, len, &x->len);
    if (setjmp(x->job.jump)) {
        template_free(t);
        return NULL;
    }
    parse_template(t, x);
    return t;
}

void template_free(Template *t)
{
    if (!t) return;
    arena_free(&t->arena);
    free(t);
}

bool template_has_generation(const Template *t) { return t->has_generation; }

bool template_render(const Template *t, const cJSON *vars, Buf *out, Spans *spans, Err *e)
{
    size_t n_spans = spans ? spans->n : 0;
    Render *r = mem_alloc(1, sizeof *r);        // not on the stack: a jump back here must find it as it was left
    *r = (Render){.job = {.t = t, .e = e}, .vars = vars, .out = out, .base = out->len, .spans = spans};
    bool ok = setjmp(r->job.jump) == 0;
    if (ok) {
        render_body(r);
    } else {
        if (out->data) { out->len = r->base; out->data[out->len] = 0; }
        if (spans) spans->n = n_spans;
    }
    arena_free(&r->arena);
    free(r);
    return ok;
}

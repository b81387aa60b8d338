// jinja_render: what a running template stands on: memory, limits, failing, and the text under construction.
#include "jinja.h"

#include <stdlib.h>

struct ArenaBlock { ArenaBlock *next; size_t used, cap; _Alignas(16) char data[]; };

void *arena_take(Arena *a, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    ArenaBlock *b = a->blocks;
    if (!b || b->cap - b->used < size) {
        size_t cap = size > 16384 ? size : 16384;
        b = mem_grow(NULL, 1, sizeof *b + cap);
        *b = (ArenaBlock){.next = a->blocks, .cap = cap};
        a->blocks = b;
    }
    b->used += size;
    a->total += size;
    return memset(b->data + b->used - size, 0, size);
}

void *arena_room(Arena *a, void *items, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) return items;
    *cap = *cap ? 2 * *cap : 4;
    void *more = arena_take(a, *cap * size);
    if (n) memcpy(more, items, n * size);
    return more;
}

void arena_free(Arena *a)
{
    for (ArenaBlock *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *a = (Arena){0};
}

_Noreturn void fail_at(Job *job, size_t at, const char *kind, const char *fmt, ...)
{
    char why[sizeof job->e->text], column[24] = "";
    const char *src = job->t->src;
    size_t line = 1, begin = 0;
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    for (size_t i = 0; i < at; i++) {
        if (src[i] != '\n') continue;
        line++;
        begin = i + 1;
    }
    if (strcmp(kind, "syntax error") == 0) sprintf(column, ":%zu", str_count(v_str(src + begin, at - begin)) + 1);
    fail(job->e, "%s:%zu%s: %s: %s", job->t->name, line, column, kind, why);
    longjmp(job->jump, 1);
}

// ---- limits -------------------------------------------------------------------------------------------------------

void render_charge(Render *r, size_t steps)
{
    r->steps += steps;
    if (r->steps > MAX_STEPS || steps > MAX_STEPS) fail_kind(r, "limit", "more than %d steps", MAX_STEPS);
}

void render_enter(Render *r)
{
    if (++r->depth > MAX_RENDER_DEPTH) fail_kind(r, "limit", "nested deeper than %d levels", MAX_RENDER_DEPTH);
}

static void check_bytes(Render *r, size_t more)
{
    if (more > MAX_BYTES || r->arena.total + (r->out->len - r->base) + more > MAX_BYTES)
        fail_kind(r, "limit", "more than %zu MiB of text and values", MAX_BYTES >> 20);
}

void *render_take(Render *r, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) total = SIZE_MAX;
    check_bytes(r, total);
    return arena_take(&r->arena, total);
}

void *render_copy(Render *r, const void *from, size_t size) { return memcpy(render_take(r, 1, size), from, size); }

void *render_room(Render *r, void *items, size_t n, size_t *cap, size_t size)
{
    check_bytes(r, n < *cap ? 0 : 2 * n * size);
    return arena_room(&r->arena, items, n, cap, size);
}

// ---- text under construction --------------------------------------------------------------------------------------

void out_add(Render *r, const char *s, size_t n)
{
    check_bytes(r, n);
    render_charge(r, 1 + n / 64);
    buf_add(r->out, s, n);
}

void out_value(Render *r, Value s) { out_add(r, s.s, s.len); }
void out_text(Render *r, const char *s) { out_add(r, s, strlen(s)); }

void out_char(Render *r, uint32_t code)
{
    char bytes[4];
    out_add(r, bytes, (size_t)utf8_encode(code, bytes));
}

Value out_cut(Render *r, size_t mark)
{
    size_t n = r->out->len - mark;
    char *copy = render_take(r, n + 1, 1);
    if (n) memcpy(copy, r->out->data + mark, n);
    r->out->len = mark;
    return v_str(copy, n);
}

// work: see work.h. One block holds all floats: what comes after each other in it does not depend on the batch.
#include "work.h"

#include "lora.h"

#include <stdlib.h>

// ---- a batch ------------------------------------------------------------------------------------------------------

bool batch_init(Batch *b, BatchSize max, Err *e)
{
    *b = (Batch){0};
    b->ids = calloc(max.tokens + 1, sizeof *b->ids);
    b->starts = calloc(max.rows + 1, sizeof *b->starts);
    b->at = calloc(max.targets + 1, sizeof *b->at);
    b->target = calloc(max.targets + 1, sizeof *b->target);
    b->weight = calloc(max.targets + 1, sizeof *b->weight);
    if (b->ids && b->starts && b->at && b->target && b->weight) return true;
    batch_free(b);
    return fail(e, "out of memory: a batch of %zu tokens", max.tokens);
}

void batch_free(Batch *b)
{
    free(b->ids);
    free(b->starts);
    free(b->at);
    free(b->target);
    free(b->weight);
    free(b->noise.values);
    *b = (Batch){0};
}

void batch_clear(Batch *b) { b->N = b->S = b->M = 0; }

// ---- work memory --------------------------------------------------------------------------------------------------

// Rows of logits that are computed at a time: as many as fit in 64 MB, but 32 to 512. The matrix products are then
// large, and the memory is not.
size_t model_logit_rows(const Config *c)
{
    size_t rows = (size_t)16000000 / (size_t)c->vocab_size;
    return rows < 32 ? 32 : rows > 512 ? 512 : rows;
}

// Hands out pieces of one block. With base NULL it only counts: one function both measures and lays out.
typedef struct { float *base; size_t used; } Layout;

static float *take(Layout *to, size_t n)
{
    float *p = to->base && n ? to->base + to->used : NULL;
    to->used += (n + 15) / 16 * 16;
    return p;
}

static void lay_out_layers(Work *w, const Shape *s, Layout *to)
{
    size_t N = w->max.tokens;
    for (size_t l = 0; l < s->L; l++) {
        LayerActs *acts = &w->acts[l];
        if (l > 0 && w->kind != WORK_GRADIENT) {           // shares all with layer 0 except the layer's input
            *acts = w->acts[0];
            if (l == 1 || w->kind == WORK_CHECKPOINTING) acts->x = take(to, N * s->C);
            else acts->x = w->acts[l - 2].x;               // its output is the next input: two buffers take turns
            continue;
        }
        size_t M = l + 1 == s->L && w->kind == WORK_GRADIENT ? w->max.targets : N;
        *acts = (LayerActs){
            .x = take(to, N * s->C), .qkv = take(to, M * s->HD + N * 2 * s->KD), .att = take(to, M * s->HD),
            .lse = take(to, M * s->H), .x_att = take(to, M * s->C), .gu = take(to, M * 2 * s->F),
        };
    }
}

size_t packed_size(const Shape *s)
{
    return linear_packed(s->C, s->HD) + linear_packed(s->C, 2 * s->KD) + linear_packed(s->HD, s->C) +
           linear_packed(s->C, 2 * s->F) + linear_packed(s->F, s->C);
}

static void lay_out(Work *w, const Config *c, Layout *to)
{
    const Shape s = config_shape(c);
    size_t N = w->max.tokens, M = w->max.targets, C = s.C, slice = model_logit_rows(c);
    lay_out_layers(w, &s, to);
    w->out = take(to, M * C);
    w->norm_out = take(to, M * C);
    w->scale = take(to, M);
    w->logits = take(to, slice * s.V);
    w->norm_att = take(to, N * C);
    w->norm_ffn = take(to, N * C);
    w->norm_q = take(to, M * C);
    w->rstd = take(to, N);
    w->y = take(to, N * s.F);
    w->attention = take(to, w->threads * attention_scratch(w->max.row, s.D));
    w->qkv = take(to, c->qk_norm ? N * (s.HD + 2 * s.KD) : 0);
    if (w->kind == WORK_LOSS) return;
    w->dx = take(to, N * C);
    w->dout = take(to, N * C);
    w->dx_att = take(to, N * C);
    w->dx_q = take(to, M * C);
    w->dnorm = take(to, N * C);
    w->datt = take(to, N * s.HD);
    w->dqkv = take(to, N * (s.HD + 2 * s.KD));
    w->dw_tiles = take(to, tile_count(N) * C);
    w->partial = take(to, linear_scratch(slice, C));
    w->dqk_tiles = take(to, c->qk_norm ? tile_count(N) * 2 * s.D : 0);
    w->ones = take(to, c->qkv_bias || c->o_bias ? N : 0);
}

// The floats of one Work: a whole one, or a share's.
static size_t laid_out(const Config *c, BatchSize max, WorkKind kind, size_t threads)
{
    Work w = {.max = max, .kind = kind, .threads = threads, .acts = mem_alloc((size_t)c->n_layers, sizeof *w.acts)};
    Layout measured = {0};
    lay_out(&w, c, &measured);
    free(w.acts);
    return measured.used;
}

// ---- shares -------------------------------------------------------------------------------------------------------

enum { SMALL_MODEL = 1 << 20 };                            // parameters

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// How many shares such batches have at most; 0: none
static size_t shares_most(const Config *c, BatchSize max)
{
    size_t most = params_count(c) > SMALL_MODEL ? 0 : smaller(max.tokens / SHARE_TOKENS, MAX_SHARES);
    return most > 1 ? most : 0;
}

static size_t share_grads_size(const Config *c, BatchSize max, WorkKind kind)
{
    return kind == WORK_LOSS ? 0 : shares_most(c, max) * params_count(c);
}

// The largest share: one row; or several, whose middles lie inside of a window, and halves of the outer two beside it.
static BatchSize share_size(BatchSize max)
{
    size_t part = max.tokens / MAX_SHARES + 1, window = part > 2 * SHARE_TOKENS ? part : 2 * SHARE_TOKENS;
    size_t tokens = smaller(max.tokens, max.row > 2 * window ? max.row : smaller(2 * window, max.row + window));
    return (BatchSize){tokens, max.row, max.rows, smaller(tokens, max.targets)};
}

static size_t tokens_of(const Batch *b, const Share *s) { return b->starts[s->end] - b->starts[s->first]; }

size_t work_shares(Share shares[MAX_SHARES], const Work *w, const Batch *b)
{
    size_t n = MAX_SHARES, count = 0, last = n, target = 0;
    if (!w->shares || w->whole) return 0;
    while (n > 1 && n * SHARE_TOKENS > b->N) n /= 2;
    for (size_t s = 0; s < b->S; s++) {
        size_t begin = b->starts[s], end = b->starts[s + 1], share = (begin + end) * n / (2 * b->N);
        if (3 * (end - begin) > b->N) return 0;
        if (share != last) shares[count++] = (Share){.first = s, .target = target};
        shares[count - 1].end = s + 1;
        last = share;
        while (target < b->M && b->at[target] < end) target++;
    }
    for (size_t i = 1, k; i < count; i++) {
        Share moved = shares[i];
        for (k = i; k > 0 && tokens_of(b, &shares[k - 1]) < tokens_of(b, &moved); k--) shares[k] = shares[k - 1];
        shares[k] = moved;
    }
    return count > 1 ? count : 0;
}

Batch work_share(Work *w, const Batch *b, const Share *share)
{
    size_t n = b->starts[share->first];
    Batch part = *b;
    part.S = share->end - share->first;
    part.N = tokens_of(b, share);
    part.M = 0;
    part.ids += n;
    if (part.position) part.position += n;
    if (part.noise.values) part.noise.values += n * part.noise.C;
    part.target += share->target;
    part.weight += share->target;
    part.first_row += share->first;
    part.starts = w->starts;
    for (size_t s = 0; s <= part.S; s++) part.starts[s] = b->starts[share->first + s] - n;
    part.at = w->at;
    for (size_t m = share->target; m < b->M && b->at[m] < n + part.N; m++) part.at[part.M++] = b->at[m] - n;
    return part;
}

// ---- memory -------------------------------------------------------------------------------------------------------

size_t work_size(const Config *c, BatchSize max, WorkKind kind)
{
    const Shape s = config_shape(c);
    size_t threads = (size_t)ops_threads(), whole = laid_out(c, max, kind, threads) + packed_size(&s);
    if (!shares_most(c, max)) return whole;
    size_t shares = threads * laid_out(c, share_size(max), kind, 1) + share_grads_size(c, max, kind) +
                    s.L * packed_size(&s) + 32;
    return whole > shares ? whole : shares;
}

size_t work_adapter_size(const Config *c, const Adapter *a, BatchSize max)
{
    size_t whole = tile_count(max.tokens);
    size_t shares = shares_most(c, max) ? (size_t)ops_threads() * tile_count(share_size(max).tokens) : 0;
    return (whole > shares ? whole : shares) * a->layer_size;
}

// Everything but what an adapter needs, at `to`
static void work_open(Work *w, const Config *c, BatchSize max, WorkKind kind, size_t threads, Layout *to)
{
    *w = (Work){.max = max, .kind = kind, .threads = threads};
    w->acts = mem_alloc((size_t)c->n_layers, sizeof *w->acts);
    w->position = mem_alloc(max.tokens, sizeof *w->position);
    w->query_position = mem_alloc(max.targets, sizeof *w->query_position);
    w->rope_position = mem_alloc(max.tokens + max.targets, sizeof *w->rope_position);
    w->query_starts = mem_alloc(max.rows + 1, sizeof *w->query_starts);
    w->order = mem_alloc(max.rows, sizeof *w->order);
    w->starts = mem_alloc(max.rows + 1, sizeof *w->starts);
    w->at = mem_alloc(max.targets, sizeof *w->at);
    lay_out(w, c, to);
}

bool work_init(Work *w, const Config *c, BatchSize max, WorkKind kind, Err *e)
{
    size_t n = work_size(c, max, kind);
    Layout whole = {.base = floats_alloc(n, e)}, shares = whole;
    *w = (Work){0};
    if (!whole.base) return false;
    work_open(w, c, max, kind, (size_t)ops_threads(), &whole);
    const Shape s = config_shape(c);
    w->packed = take(&whole, packed_size(&s));
    w->floats = whole.base;
    w->n_floats = n;
    if (!shares_most(c, max)) return true;
    w->shares = mem_alloc(w->threads, sizeof *w->shares);
    w->share_grads = take(&shares, share_grads_size(c, max, kind));
    w->share_packed = take(&shares, s.L * packed_size(&s));
    w->packs = mem_alloc(s.L, sizeof *w->packs);
    for (size_t t = 0; t < w->threads; t++) {
        work_open(&w->shares[t], c, share_size(max), kind, 1, &shares);
        w->shares[t].packs = w->packs;
    }
    return true;
}

void work_free(Work *w)
{
    for (size_t t = 0; w->shares && t < w->threads; t++) work_free(&w->shares[t]);
    if (w->shares) free(w->packs);
    free(w->shares);
    free(w->starts);
    free(w->at);
    free(w->floats);
    free(w->grads_tiles);
    free(w->keys);
    free(w->acts);
    free(w->position);
    free(w->query_position);
    free(w->rope_position);
    free(w->query_starts);
    free(w->order);
    *w = (Work){0};
}

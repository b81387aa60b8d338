// attention: see ops.h. This is the fast one; attention_plain in tests/test_ops.c is the same in plain loops.
//
//                QUERIES queries of a head, one in each lane of WIDE vectors
//                +---------------------------------+
//        key 0   | s  s  s  s  s  s  s  s  s  ...  |     one row of scores: a key's numbers, one after the other, times
//        key 1   |    s  s  s  s  s  s  s  s  ...  |     the vectors with that number of all the queries
//        ...     |       s  s  s  s  s  s  s  ...  |
//     last key   |                              s  |     the last one that any of them sees; a query does not see
//                +---------------------------------+     keys behind it: their scores are -inf
//
// Maxima and sums over the keys are then made for all these queries at once, from row to row, without a step across
// lanes. A long row's keys are taken in parts that stay in the cache: each part goes by all the queries that see it.
#include "ops.h"

#include "exp.h"
#include "lanes.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { QUERIES = 16, WIDE = QUERIES / LANES };             // queries of a block, and vectors for them
enum { PART = 1 << 15 };                                   // numbers of the keys that are taken at a time

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// Two queries' numbers fill a row of a narrow head: it begins with their first ones, then come their second ones.
static bool in_pairs(size_t D) { return D <= CHUNK; }

// ---- what a thread works with -------------------------------------------------------------------------------------

// For one head: its keys and values, and a block of its queries. Scores are (keys, QUERIES). The queries' vectors stand
// as (D, QUERIES) for products with a key, and as rows for sums over the queries; width is a multiple of QUERIES.
typedef struct {
    size_t width;
    float *k, *v;                                          // (longest row, D)
    Lanes *p, *dp;                                         // (longest row, QUERIES)
    Lanes *q, *datt, *sum;                                 // (D, QUERIES)
    float *q_rows, *datt_rows;                             // (QUERIES, width)
    float *dk, *dv;                                        // (longest row, width)
} HeadMemory;

size_t attention_scratch(size_t longest_row, size_t D)
{
    size_t T = round_up(longest_row, CHUNK), width = round_up(D, QUERIES);
    return 2 * T * D + 2 * T * QUERIES + 3 * D * QUERIES + 2 * QUERIES * width + 2 * T * width;
}

// The share of the thread that calls
static HeadMemory head_memory(float *scratch, const AttentionShape *a)
{
    size_t D = a->D, T = round_up(a->longest_row, CHUNK), width = round_up(D, QUERIES), lanes = D * QUERIES;
    float *k = scratch + attention_scratch(a->longest_row, D) * (size_t)omp_get_thread_num(), *v = k + T * D;
    float *p = v + T * D, *dp = p + T * QUERIES, *q = dp + T * QUERIES, *datt = q + lanes, *sum = datt + lanes;
    float *q_rows = sum + lanes, *datt_rows = q_rows + QUERIES * width, *dk = datt_rows + QUERIES * width;
    return (HeadMemory){.width = width, .k = k, .v = v, .p = (Lanes *)p, .dp = (Lanes *)dp, .q = (Lanes *)q,
                        .datt = (Lanes *)datt, .sum = (Lanes *)sum, .q_rows = q_rows, .datt_rows = datt_rows,
                        .dk = dk, .dv = dk + T * width};
}

// The T keys and values of a row and head side by side, and zeros up to a multiple of CHUNK. In `kv` each lies on a
// page of its own, and long rows are slow to go through.
static void pack(const HeadMemory *w, const float *kv, const AttentionShape *a, size_t T)
{
    size_t D = a->D, KD = a->K * D, room = (round_up(T, CHUNK) - T) * D * sizeof(float);
    for (size_t t = 0; t < T; t++, kv += a->kv_stride) {
        memcpy(w->k + t * D, kv, D * sizeof *kv);
        memcpy(w->v + t * D, kv + KD, D * sizeof *kv);
    }
    memset(w->k + T * D, 0, room);
    memset(w->v + T * D, 0, room);
}

// How many keys a part has: a multiple of CHUNK
static size_t part_keys(size_t D) { return D < PART / CHUNK ? PART / D / CHUNK * CHUNK : CHUNK; }

// Up to QUERIES queries from m on: so many that the blocks after it, which see more keys, are full. Where no query is,
// the last position is repeated. They see n_keys keys of a part, from `first` on: up to the last position, rounded up
// to a multiple of CHUNK. If the first query sees nothing of the next part, this one has all keys that are left: so no
// query is without a key. n_keys is 0 in later parts.
typedef struct {
    size_t m, count, first, n_keys;
    int position[QUERIES];
} Block;

static Block block_at(const AttentionShape *a, size_t s, size_t m, size_t first)
{
    Block b = {.m = m, .count = (a->query_starts[s + 1] - m - 1) % QUERIES + 1, .first = first};
    for (size_t i = 0; i < QUERIES; i++) b.position[i] = a->query_position[m + (i < b.count ? i : b.count - 1)];
    size_t at = (size_t)b.position[0], end = round_up((size_t)b.position[QUERIES - 1] + 1, CHUNK), n = part_keys(a->D);
    b.n_keys = at < first ? 0 : at < first + n ? end - first : n;
    return b;
}

// ---- the products -------------------------------------------------------------------------------------------------

// lanes (D, QUERIES) = scale * x (count, D), transposed, with 0 for the queries that are not there.
// rows (QUERIES, width) = the same, not transposed, and 0 behind D, unless that is NULL. In pairs width is CHUNK, and
// two rows' numbers take turns.
static void to_lanes(Lanes *lanes, float *rows, const float *x, size_t stride, size_t count, size_t D, size_t width,
                     float scale)
{
    float *columns = (float *)lanes;
    for (size_t l = 0; l < QUERIES; l += CHUNK)
        for (size_t d = 0; d < width; d += CHUNK) {
            size_t left = d < D ? D - d : 0, n = left < CHUNK ? left : CHUNK;
            Chunk v[CHUNK] = {0};
            for (size_t i = 0; i < CHUNK && l + i < count; i++) {
                const float *from = x + (l + i) * stride + d;
                if (n == CHUNK) v[i] = scale * *(const Chunk *)from;
                else for (size_t j = 0; j < n; j++) v[i][j] = scale * from[j];
            }
            for (size_t i = 0; rows && i < CHUNK; i += 2) {
                Chunk *to = (Chunk *)(rows + (l + i) * width + d), *next = (Chunk *)(rows + (l + i + 1) * width + d);
                if (in_pairs(D)) take_turns(to, v[i], v[i + 1]);
                else *to = v[i], *next = v[i + 1];
            }
            transpose_chunks(v);
            for (size_t j = 0; j < n; j++) *(Chunk *)(columns + (d + j) * QUERIES + l) = v[j];
        }
}

// x (count, D) = keep * x + scale * lanes (D, QUERIES), transposed; each query has its own scale and keep. keep may be
// NULL: then x is not read.
static void to_rows(float *x, size_t stride, const Lanes *lanes, const Lanes *scales, const Lanes *keep, size_t count,
                    size_t D)
{
    const float *columns = (const float *)lanes, *scale = (const float *)scales, *kept = (const float *)keep;
    for (size_t l = 0; l < count; l += CHUNK)
        for (size_t d = 0; d < D; d += CHUNK) {
            size_t n = D - d < CHUNK ? D - d : CHUNK;
            Chunk v[CHUNK];
            for (size_t j = 0; j < CHUNK; j++)             // behind the last number: any; it is not written
                v[j] = *(const Chunk *)(columns + (d + (j < n ? j : 0)) * QUERIES + l) * *(const Chunk *)(scale + l);
            transpose_chunks(v);
            for (size_t i = 0; i < CHUNK && l + i < count; i++) {
                float *to = x + (l + i) * stride + d;
                if (n == CHUNK) {
                    if (keep) v[i] += kept[l + i] * *(Chunk *)to;
                    *(Chunk *)to = v[i];
                } else for (size_t j = 0; j < n; j++) to[j] = keep ? kept[l + i] * to[j] + v[i][j] : v[i][j];
            }
        }
}

// Products k_j . q of CHUNK / WIDE keys: (., QUERIES) from (., D) and (D, QUERIES). The sums stay in registers. Here
// and below, sum i is of key (or number) i / WIDE, and of the queries' vector i % WIDE.
static inline void dots(Lanes sum[CHUNK], const float *k, const Lanes *q, size_t D)
{
    for (size_t i = 0; i < CHUNK; i++) sum[i] = (Lanes){0};
    for (size_t d = 0; d < D; d++)
        for (size_t i = 0; i < CHUNK; i++) sum[i] += k[i / WIDE * D + d] * q[d * WIDE + i % WIDE];
}

// `count` vectors of sum_j p_j v_j
static inline void sum_some(Lanes *to, const Lanes *p, const float *v, size_t n, size_t D, size_t count)
{
    Lanes sum[CHUNK] = {0};
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < count; i++) sum[i] += v[j * D + i / WIDE] * p[j * WIDE + i % WIDE];
    for (size_t i = 0; i < count; i++) to[i] = sum[i];
}

// sum_j p_j v_j: (D, QUERIES) from (n, QUERIES) and (n, D)
static void weighted_sum(Lanes *to, const Lanes *p, const float *v, size_t n, size_t D)
{
    size_t d = 0;
    for (; d + CHUNK / WIDE <= D; d += CHUNK / WIDE) sum_some(to + d * WIDE, p, v + d, n, D, CHUNK);
    for (; d < D; d++) sum_some(to + d * WIDE, p, v + d, n, D, WIDE);
}

// A number of a query, and that of the next one, as often as they fill a vector
static inline Lanes two(const float *p)
{
    typedef VECTOR(uint64_t, 1) Pair;
    typedef VECTOR(uint64_t, LANES / 2) Pairs;
    return (Lanes)((Pairs){0} + (*(const Pair *)p)[0]);
}

// rows_j += sum_i p_ji x_i: (n, width) from (n, QUERIES), (QUERIES, width); n is a multiple of CHUNK. A query's share
// is an outer product: p of all keys times its x. In pairs, each sum is two: of the even and of the odd queries.
static void add_outer(float *rows, const float *p, const float *x, size_t n, size_t width, bool pairs)
{
    for (size_t j = 0; j < n; j += CHUNK / WIDE, p += CHUNK * LANES, rows += CHUNK / WIDE * width)
        for (size_t d = 0; d < width; d += QUERIES) {
            Lanes sum[CHUNK];
            for (size_t i = 0; i < CHUNK; i++) sum[i] = ((Lanes *)(rows + i / WIDE * width + d))[i % WIDE];
            for (size_t l = 0; pairs && l < QUERIES; l += 2)
                for (size_t i = 0; i < CHUNK; i++)
                    sum[i] += two(p + i / WIDE * QUERIES + l) * ((const Lanes *)(x + l * CHUNK))[i % WIDE];
            for (size_t l = 0; !pairs && l < QUERIES; l++)
                for (size_t i = 0; i < CHUNK; i++)
                    sum[i] += p[i / WIDE * QUERIES + l] * ((const Lanes *)(x + l * width + d))[i % WIDE];
            for (size_t i = 0; i < CHUNK; i++) ((Lanes *)(rows + i / WIDE * width + d))[i % WIDE] = sum[i];
        }
}

// x (T, D) = rows (T, width) that add_outer has summed; of pairs, both sums together
static void unpack(float *x, size_t stride, const float *rows, size_t width, size_t T, size_t D)
{
    for (size_t t = 0; t < T; t++, x += stride, rows += width) {
        if (!in_pairs(D)) memcpy(x, rows, D * sizeof *x);
        else for (size_t d = 0; d < D; d++) x[d] = rows[2 * d] + rows[2 * d + 1];
    }
}

// ---- forward ------------------------------------------------------------------------------------------------------

// The scores q_i . k_j / sqrt(D) - less_i of a block and a part; -inf where the key comes after the query.
static void scores(Lanes *s, const Block *b, const float *k, const Lanes *q, const Lanes less[WIDE], size_t D)
{
    for (size_t j = 0; j < b->n_keys; j += CHUNK / WIDE) {
        Lanes sum[CHUNK];
        dots(sum, k + j * D, q, D);
        for (size_t i = 0; i < CHUNK; i++) s[j * WIDE + i] = sum[i] - less[i % WIDE];
    }
    for (size_t v = 0; v < WIDE; v++)
        for (size_t j = (size_t)b->position[v * LANES] + 1 - b->first; j < b->n_keys; j++) {
            LaneMask hidden = *(const LaneMask *)(b->position + v * LANES) < (int)(b->first + j);
            Lanes *at = s + j * WIDE + v;
            *at = (Lanes)((~hidden & (LaneMask)*at) | (hidden & (LaneMask)(-INFINITY - (Lanes){0})));
        }
}

// The scores become p = exp(s - max), not yet divided by their sum; to (D, QUERIES) = sum_j p_j v_j.
static void softmax_values(Lanes *to, Lanes sum[WIDE], Lanes max[WIDE], Lanes *s, const float *v, size_t n, size_t D)
{
    Lanes even = s[0], odd = s[1], total[WIDE] = {0};      // two maxima, so that neither waits for the other
    for (size_t j = 2; j < n * WIDE; j += 2) {
        keep_larger(&even, s + j);
        keep_larger(&odd, s + j + 1);
    }
    if (WIDE == 1) keep_larger(&even, &odd);
    max[WIDE - 1] = odd, max[0] = even;
    for (size_t j = 0; j < n * WIDE; j += EXPS) {
        for (size_t i = 0; i < EXPS; i++) s[j + i] -= max[i % WIDE];
        exp_lanes(s + j);
        for (size_t i = 0; i < EXPS; i++) total[i % WIDE] += s[j + i];
    }
    memcpy(sum, total, sizeof total);
    weighted_sum(to, s, v, n, D);
}

// Query head h of row s and the part of the keys that begins at `first`. After the first part, att and lse are those of
// the parts before: a mean of these and of this part, by the sums of their exponentials, is that of all.
static void head_forward(float *att, float *lse, const float *q, const AttentionShape *a, size_t s, size_t h,
                         size_t first, const HeadMemory *w)
{
    size_t H = a->H, D = a->D;
    Block b;
    for (size_t m = a->query_starts[s]; m < a->query_starts[s + 1]; m += b.count) {
        b = block_at(a, s, m, first);
        if (b.n_keys == 0) continue;
        _Static_assert(EXPS == 2 * WIDE, "e: of the parts before, and of this one");
        Lanes max[WIDE], sum[WIDE], less[WIDE] = {0}, e[EXPS];
        to_lanes(w->q, NULL, q + m * a->q_stride + h * D, a->q_stride, b.count, D, D, 1 / sqrtf((float)D));
        scores(w->p, &b, w->k + first * D, w->q, less, D);
        softmax_values(w->sum, sum, max, w->p, w->v + first * D, b.n_keys, D);
        for (size_t i = 0; i < QUERIES; i++)
            e[i / LANES][i % LANES] = first && i < b.count ? lse[(m + i) * H + h] : -INFINITY;
        for (size_t v = 0; v < WIDE; v++) {
            Lanes part = max[v];
            keep_larger(max + v, e + v);
            e[v] -= max[v], e[WIDE + v] = part - max[v];
        }
        exp_lanes(e);
        for (size_t v = 0; v < WIDE; v++) {
            sum[v] = e[v] + e[WIDE + v] * sum[v];
            e[v] /= sum[v], e[WIDE + v] /= sum[v];         // the shares
        }
        for (size_t i = 0; i < b.count; i++)
            lse[(m + i) * H + h] = max[i / LANES][i % LANES] + logf(sum[i / LANES][i % LANES]);
        to_rows(att + (m * H + h) * D, H * D, w->sum, e + WIDE, first ? e : NULL, b.count, D);
    }
}

void attention_forward(float *att, float *lse, const float *q, const float *kv, const AttentionShape *a, float *scratch)
{
    size_t H = a->H, D = a->D, group = H / a->K;
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (size_t i = 0; i < a->S; i++)
        for (size_t h = 0; h < H; h++) {
            size_t s = a->order[i], T = a->key_starts[s + 1] - a->key_starts[s];
            HeadMemory w = head_memory(scratch, a);
            pack(&w, kv + a->key_starts[s] * a->kv_stride + h / group * D, a, T);
            for (size_t t = 0; t < T; t += part_keys(D)) head_forward(att, lse, q, a, s, h, t, &w);
        }
}

// ---- backward -----------------------------------------------------------------------------------------------------

// s - lse becomes p = exp(s - lse), and ds * sqrt(D) is p * (dp - mean): dp_j = datt . v_j, and mean is the sum of all
// p_j dp_j, which is datt . att. (Dao 2023, FlashAttention-2, arXiv 2307.08691, algorithm 2.)
static void softmax_backward(Lanes *ds, Lanes *s, const float *v, const Lanes *datt, const Lanes mean[WIDE], size_t n,
                             size_t D)
{
    for (size_t j = 0; j < n; j += CHUNK / WIDE, s += CHUNK, ds += CHUNK) {
        Lanes dp[CHUNK];
        dots(dp, v + j * D, datt, D);
        for (size_t i = 0; i < CHUNK; i += EXPS) exp_lanes(s + i);
        for (size_t i = 0; i < CHUNK; i++) ds[i] = s[i] * (dp[i] - mean[i % WIDE]);
    }
}

// Query head h of row s and a part of the keys: assigns its dq, or adds to it after the first part; adds to w->dk and
// w->dv, which the heads of a group share.
static void head_backward(float *dq, const float *datt, const float *att, const float *lse, const float *q,
                          const AttentionShape *a, size_t s, size_t h, size_t first, const HeadMemory *w)
{
    size_t H = a->H, D = a->D, width = in_pairs(D) ? CHUNK : w->width;
    float scale = 1 / sqrtf((float)D), *dk = w->dk + first * w->width, *dv = w->dv + first * w->width;
    const float *k = w->k + first * D, *v = w->v + first * D;
    const Lanes one[] = {(Lanes){0} + 1, (Lanes){0} + 1}, scales[] = {scale * one[0], scale * one[0]};
    Block b;
    for (size_t m = a->query_starts[s]; m < a->query_starts[s + 1]; m += b.count) {
        b = block_at(a, s, m, first);
        if (b.n_keys == 0) continue;
        Lanes block_lse[WIDE] = {0}, mean[WIDE] = {0};
        for (size_t i = 0; i < b.count; i++) {
            const float *datt_i = datt + ((m + i) * H + h) * D, *att_i = att + ((m + i) * H + h) * D;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (size_t d = 0; d < D; d++) sum += datt_i[d] * att_i[d];
            block_lse[i / LANES][i % LANES] = lse[(m + i) * H + h];
            mean[i / LANES][i % LANES] = sum;
        }
        to_lanes(w->q, w->q_rows, q + m * a->q_stride + h * D, a->q_stride, b.count, D, width, scale);
        to_lanes(w->datt, w->datt_rows, datt + (m * H + h) * D, H * D, b.count, D, width, 1);
        scores(w->p, &b, k, w->q, block_lse, D);                                        // s - lse, s = q k^T / sqrt(D)
        softmax_backward(w->dp, w->p, v, w->datt, mean, b.n_keys, D);                   // p, ds from dp = datt v^T
        add_outer(dv, (float *)w->p, w->datt_rows, b.n_keys, w->width, in_pairs(D));    // dv += p^T datt
        add_outer(dk, (float *)w->dp, w->q_rows, b.n_keys, w->width, in_pairs(D));      // dk += ds^T q
        weighted_sum(w->sum, w->dp, k, b.n_keys, D);                                    // dq = ds k
        to_rows(dq + m * a->q_stride + h * D, a->q_stride, w->sum, scales, first ? one : NULL, b.count, D);
    }
}

void attention_backward(float *dq, float *dkv, const float *datt, const float *att, const float *lse, const float *q,
                        const float *kv, const AttentionShape *a, float *scratch)
{
    size_t K = a->K, D = a->D, group = a->H / K, stride = a->kv_stride;
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (size_t i = 0; i < a->S; i++)
        for (size_t g = 0; g < K; g++) {
            size_t s = a->order[i], at = a->key_starts[s] * stride + g * D, T = a->key_starts[s + 1] - a->key_starts[s];
            HeadMemory w = head_memory(scratch, a);
            pack(&w, kv + at, a, T);
            memset(w.dk, 0, round_up(T, CHUNK) * w.width * sizeof(float));
            memset(w.dv, 0, round_up(T, CHUNK) * w.width * sizeof(float));
            for (size_t t = 0; t < T; t += part_keys(D))
                for (size_t h = g * group; h < (g + 1) * group; h++)
                    head_backward(dq, datt, att, lse, q, a, s, h, t, &w);
            unpack(dkv + at, stride, w.dk, w.width, T, D);
            unpack(dkv + at + K * D, stride, w.dv, w.width, T, D);
        }
}

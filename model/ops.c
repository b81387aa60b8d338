// ops: see ops.h. Matrix products go to OpenBLAS, single-threaded, one fixed tile of the output at a time; OpenMP
// threads share the tiles. Everything else is loops over rows or columns.
#include "ops.h"

#include "base.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

void ops_init(int n_threads)
{
    const char *wanted = getenv("OMP_NUM_THREADS");
    if (n_threads <= 0 && wanted) n_threads = atoi(wanted);
    omp_set_num_threads(n_threads > 0 ? n_threads : omp_get_num_procs());
    openblas_set_num_threads(1);
}

int ops_threads(void) { return omp_get_max_threads(); }

// ---- matrix products ----------------------------------------------------------------------------------------------

// How a product is cut into pieces must not depend on how many threads there are, since the sums inside sgemm may be
// ordered by the piece's shape. Each piece packs its own share of both matrices, so pieces are large, and about equal.
enum { MAX_TILE = 1024, MAX_PARTS = 8, MAX_SPLIT = 1 << 19 };

// Four tiles, or a multiple of that, along a dimension of n.
static size_t tile_length(size_t n)
{
    size_t count = 4 * ((n + MAX_TILE - 1) / MAX_TILE), length = ((n + count - 1) / count + 15) / 16 * 16;
    return length < 64 ? 64 : length;
}

static void sgemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b, size_t ldb,
                  float beta, float *c, size_t ldc)
{
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a,
                (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

// c = beta * c + op(a) op(b), c being (m, n) and the inner dimension k; `ta`, `tb`: op transposes. Cut along the longer
// side of c; the other one is whole while it is short.
static void gemm(bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                 float beta, float *c, size_t ldc)
{
    size_t tile_m = m >= n ? tile_length(m) : MAX_TILE, tile_n = m >= n ? MAX_TILE : tile_length(n);
    size_t n_m = (m + tile_m - 1) / tile_m, n_n = (n + tile_n - 1) / tile_n;
#pragma omp parallel for schedule(dynamic)
    for (size_t t = 0; t < n_m * n_n; t++) {
        size_t i = t / n_n * tile_m, j = t % n_n * tile_n;
        size_t rows = m - i < tile_m ? m - i : tile_m, columns = n - j < tile_n ? n - j : tile_n;
        sgemm(ta, tb, rows, columns, k, 1, ta ? a + i : a + i * lda, lda, tb ? b + j * ldb : b + j, ldb, beta, c + i * ldc + j, ldc);
    }
}

size_t linear_scratch(void) { return (size_t)MAX_PARTS * MAX_SPLIT; }

// The same for a small c and a long k, as gradients have them: k is cut into parts, and their products are added in order.
static void gemm_split(bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                       float beta, float *c, size_t ldc, float *scratch)
{
    size_t parts = k / 512 / 2 * 2;
    if (parts > MAX_PARTS) parts = MAX_PARTS;
    if (parts < 2 || m * n > MAX_SPLIT) {
        gemm(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    size_t length = (k + parts - 1) / parts;
#pragma omp parallel for schedule(dynamic)
    for (size_t p = 0; p < parts; p++) {
        size_t from = p * length, part = k - from < length ? k - from : length;
        sgemm(ta, tb, m, n, part, 1, ta ? a + from * lda : a + from, lda, tb ? b + from : b + from * ldb, ldb, 0, scratch + p * m * n, n);
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = beta == 0 ? 0 : beta * c[i * ldc + j];
            for (size_t p = 0; p < parts; p++) sum += scratch[(p * m + i) * n + j];
            c[i * ldc + j] = sum;
        }
}

void linear_forward(float *y, const float *x, const float *w, size_t N, size_t in, size_t out, float beta)
{
    gemm(false, true, N, out, in, x, in, w, in, beta, y, out);                           // y = x w^T
}

void linear_backward(float *dx, float *dw, const float *dy, const float *x, const float *w, size_t N, size_t in,
                     size_t out, float beta_x, float beta_w, float *scratch)
{
    gemm_split(true, false, out, in, N, dy, out, x, in, beta_w, dw, in, scratch);       // dw = dy^T x
    gemm_split(false, false, N, in, out, dy, out, w, in, beta_x, dx, in, scratch);      // dx = dy w
}

// ---- embedding ----------------------------------------------------------------------------------------------------

void embedding_forward(float *x, const int *ids, const float *table, size_t N, size_t C)
{
    for (size_t n = 0; n < N; n++) memcpy(x + n * C, table + (size_t)ids[n] * C, C * sizeof(float));
}

enum { COLUMN_BLOCK = 16 };    // one cache line: threads that share out columns in such blocks never share a line

void embedding_backward(float *dtable, const float *dx, const int *ids, size_t N, size_t C)
{
#pragma omp parallel for schedule(static)
    for (size_t block = 0; block < C; block += COLUMN_BLOCK) {
        size_t end = block + COLUMN_BLOCK < C ? block + COLUMN_BLOCK : C;
        for (size_t n = 0; n < N; n++)
            for (size_t c = block; c < end; c++) dtable[(size_t)ids[n] * C + c] += dx[n * C + c];
    }
}

// ---- RMSNorm ------------------------------------------------------------------------------------------------------

void rmsnorm_forward(float *y, float *rstd, const float *x, const float *w, float eps, size_t N, size_t C)
{
#pragma omp parallel for schedule(static)
    for (size_t n = 0; n < N; n++) {
        const float *x_n = x + n * C;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t c = 0; c < C; c++) sum += x_n[c] * x_n[c];
        float r = 1 / sqrtf(sum / (float)C + eps);
        for (size_t c = 0; c < C; c++) y[n * C + c] = x_n[c] * r * w[c];
        rstd[n] = r;
    }
}

void rmsnorm_backward(float *dx, float *dw, const float *dy, const float *x, const float *w, const float *rstd, size_t N,
                      size_t C, float beta_x, float beta_w)
{
#pragma omp parallel for schedule(static)
    for (size_t block = 0; block < C; block += COLUMN_BLOCK) {
        size_t end = block + COLUMN_BLOCK < C ? block + COLUMN_BLOCK : C;
        float sum[COLUMN_BLOCK] = {0};
        for (size_t n = 0; n < N; n++)
            for (size_t c = block; c < end; c++) sum[c - block] += dy[n * C + c] * x[n * C + c] * rstd[n];
        for (size_t c = block; c < end; c++) dw[c] = (beta_w == 0 ? 0 : beta_w * dw[c]) + sum[c - block];
    }
#pragma omp parallel for schedule(static)
    for (size_t n = 0; n < N; n++) {
        const float *x_n = x + n * C, *dy_n = dy + n * C;
        float *dx_n = dx + n * C, sum = 0, r = rstd[n];
#pragma omp simd reduction(+ : sum)
        for (size_t c = 0; c < C; c++) sum += x_n[c] * w[c] * dy_n[c];
        float k = r * r * sum / (float)C;
        for (size_t c = 0; c < C; c++)
            dx_n[c] = (beta_x == 0 ? 0 : beta_x * dx_n[c]) + r * (w[c] * dy_n[c] - x_n[c] * k);
    }
}

// ---- RoPE ---------------------------------------------------------------------------------------------------------

void rope(float *x, size_t stride, const float *cos_sin, const int *position, size_t N, size_t heads, size_t D, float sign)
{
#pragma omp parallel for schedule(static)
    for (size_t n = 0; n < N; n++) {
        const float *angle = cos_sin + (size_t)position[n] * D;
        for (size_t h = 0; h < heads; h++) {
            float *pair = x + n * stride + h * D;
            for (size_t i = 0; i < D; i += 2) {
                float c = angle[i], s = sign * angle[i + 1], re = pair[i], im = pair[i + 1];
                pair[i] = re * c - im * s;
                pair[i + 1] = re * s + im * c;
            }
        }
    }
}

// ---- the exponential ----------------------------------------------------------------------------------------------

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, and exp(r) by its series up to r^7 (error below 2e-9).
// Only arithmetic, no branch, no call: the compiler turns a loop over it into vector code.
static inline float exp_inline(float x)
{
    const float shift = 12582912.0f;                       // 1.5 * 2^23: adding it rounds to a whole number
    x = x > 88.0f ? 88.0f : x;                             // both comparisons let a NaN pass
    float low = x < -87.3f ? 0.0f : 1.0f;
    x = x < -87.3f ? -87.3f : x;
    float rounded = x * 1.44269504f + shift, n = rounded - shift;
    float r = (x - n * 0.693145752f) - n * 1.42860677e-6f; // ln 2 in two parts, the first exact in a product with n
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    union { float f; uint32_t u; } bits = {rounded}, scale;
    scale.u = (bits.u + 127) << 23;                        // rounded's low bits are n; n + 127 is the exponent of 2^n
    return p * scale.f * low;
}

float exp_approx(float x) { return exp_inline(x); }

// ---- attention ----------------------------------------------------------------------------------------------------

// Scores exist for one block of queries of one head at a time: (QUERY_BLOCK, keys up to the block's last query).
enum { QUERY_BLOCK = 64 };

size_t attention_scratch(size_t longest_row) { return 2 * QUERY_BLOCK * longest_row * (size_t)ops_threads(); }

static float *thread_scratch(float *scratch, const AttentionShape *a)
{
    return scratch + 2 * QUERY_BLOCK * a->longest_row * (size_t)omp_get_thread_num();
}

// One block of queries [begin, end) against the keys 0 .. n_keys of its row.
typedef struct { size_t begin, end, n_keys; } QueryBlock;

static QueryBlock query_block(const AttentionShape *a, size_t s, size_t begin)
{
    size_t end = begin + QUERY_BLOCK < a->query_starts[s + 1] ? begin + QUERY_BLOCK : a->query_starts[s + 1];
    return (QueryBlock){begin, end, (size_t)a->query_position[end - 1] + 1};
}

static float row_max(const float *x, size_t n)
{
    enum { LANES = 16 };                                   // sixteen maxima side by side, so that it vectorizes
    float lane[LANES], max = x[0];
    for (size_t i = 0; i < LANES; i++) lane[i] = x[0];
    size_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (size_t i = 0; i < LANES; i++) lane[i] = x[j + i] > lane[i] ? x[j + i] : lane[i];
    for (; j < n; j++) max = x[j] > max ? x[j] : max;
    for (size_t i = 0; i < LANES; i++) max = lane[i] > max ? lane[i] : max;
    return max;
}

// p = softmax of n scores; returns log(sum(exp(scores))). What lies behind the n, up to `width`, becomes 0.
static float softmax_row(float *p, size_t n, size_t width)
{
    float max = row_max(p, n), sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < n; j++) {
        p[j] = exp_inline(p[j] - max);
        sum += p[j];
    }
    float scale = 1 / sum;
    for (size_t j = 0; j < n; j++) p[j] *= scale;
    for (size_t j = n; j < width; j++) p[j] = 0;
    return max + logf(sum);
}

void attention_forward(float *att, float *lse, const float *q, const float *kv, const AttentionShape *a, float *scratch)
{
    size_t H = a->H, D = a->D, KD = a->K * D, group = H / a->K, q_row = a->q_stride, kv_row = a->kv_stride;
    float scale = 1 / sqrtf((float)D);
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (size_t s = 0; s < a->S; s++) {
        for (size_t h = 0; h < H; h++) {
            const float *k = kv + a->key_starts[s] * kv_row + h / group * D, *v = k + KD;
            float *p = thread_scratch(scratch, a);
            for (size_t m = a->query_starts[s]; m < a->query_starts[s + 1]; m += QUERY_BLOCK) {
                QueryBlock b = query_block(a, s, m);
                size_t n = b.n_keys, rows = b.end - b.begin;
                sgemm(false, true, rows, n, D, scale, q + m * q_row + h * D, q_row, k, kv_row, 0, p, n);        // q k^T
                for (size_t i = 0; i < rows; i++)
                    lse[(m + i) * H + h] = softmax_row(p + i * n, (size_t)a->query_position[m + i] + 1, n);
                sgemm(false, false, rows, D, n, 1, p, n, v, kv_row, 0, att + m * H * D + h * D, H * D);         // p v
            }
        }
    }
}

// One row of scores s becomes p, and one row of dp becomes ds; both are 0 behind the n keys that the query sees.
static void softmax_row_backward(float *p, float *dp, float lse, float delta, float scale, size_t n, size_t width)
{
    for (size_t j = 0; j < n; j++) {
        p[j] = exp_inline(p[j] - lse);
        dp[j] = p[j] * (dp[j] - delta) * scale;
    }
    for (size_t j = n; j < width; j++) p[j] = dp[j] = 0;
}

// Query head h of row s: assigns its dq, adds to dk and dv, which the heads of a group share.
static void attention_head_backward(float *dq, float *dkv, const float *datt, const float *att, const float *lse,
                                    const float *q, const float *kv, const AttentionShape *a, size_t s, size_t h, float *p)
{
    size_t H = a->H, D = a->D, KD = a->K * D, q_row = a->q_stride, kv_row = a->kv_stride;
    size_t kv_head = a->key_starts[s] * kv_row + h / (H / a->K) * D;
    const float *k = kv + kv_head, *v = k + KD;
    float *dk = dkv + kv_head, *dv = dk + KD, scale = 1 / sqrtf((float)D);
    for (size_t m = a->query_starts[s]; m < a->query_starts[s + 1]; m += QUERY_BLOCK) {
        QueryBlock b = query_block(a, s, m);
        size_t n = b.n_keys, rows = b.end - b.begin, at = m * H * D + h * D, q_at = m * q_row + h * D;
        float *dp = p + rows * n;
        sgemm(false, true, rows, n, D, scale, q + q_at, q_row, k, kv_row, 0, p, n);     // s = q k^T / sqrt(D)
        sgemm(false, true, rows, n, D, 1, datt + at, H * D, v, kv_row, 0, dp, n);       // dp = datt v^T
        for (size_t i = 0; i < rows; i++) {
            float delta = 0;
            for (size_t d = 0; d < D; d++) delta += datt[at + i * H * D + d] * att[at + i * H * D + d];
            softmax_row_backward(p + i * n, dp + i * n, lse[(m + i) * H + h], delta, scale,
                                 (size_t)a->query_position[m + i] + 1, n);
        }
        sgemm(true, false, n, D, rows, 1, p, n, datt + at, H * D, 1, dv, kv_row);       // dv += p^T datt
        sgemm(false, false, rows, D, n, 1, dp, n, k, kv_row, 0, dq + q_at, q_row);      // dq = ds k
        sgemm(true, false, n, D, rows, 1, dp, n, q + q_at, q_row, 1, dk, kv_row);       // dk += ds^T q
    }
}

void attention_backward(float *dq, float *dkv, const float *datt, const float *att, const float *lse, const float *q,
                        const float *kv, const AttentionShape *a, float *scratch)
{
    size_t H = a->H, K = a->K, D = a->D, group = H / K;
    for (size_t n = 0; n < a->key_starts[a->S]; n++) memset(dkv + n * a->kv_stride, 0, 2 * K * D * sizeof(float));
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (size_t s = 0; s < a->S; s++)
        for (size_t g = 0; g < K; g++)
            for (size_t h = g * group; h < (g + 1) * group; h++)
                attention_head_backward(dq, dkv, datt, att, lse, q, kv, a, s, h, thread_scratch(scratch, a));
}

// ---- SwiGLU -------------------------------------------------------------------------------------------------------

void swiglu_forward(float *y, const float *gu, size_t N, size_t F)
{
#pragma omp parallel for schedule(static)
    for (size_t n = 0; n < N; n++) {
        const float *g = gu + n * 2 * F, *u = g + F;
        for (size_t f = 0; f < F; f++) y[n * F + f] = g[f] / (1 + exp_inline(-g[f])) * u[f];
    }
}

void swiglu_backward(float *gu, const float *dy, size_t N, size_t F)
{
#pragma omp parallel for schedule(static)
    for (size_t n = 0; n < N; n++) {
        float *g = gu + n * 2 * F, *u = g + F;
        for (size_t f = 0; f < F; f++) {
            float d = dy[n * F + f], sigmoid = 1 / (1 + exp_inline(-g[f])), silu = g[f] * sigmoid;
            g[f] = d * u[f] * (sigmoid + silu * (1 - sigmoid));
            u[f] = d * silu;
        }
    }
}

// ---- loss ---------------------------------------------------------------------------------------------------------

static TokenLoss cross_entropy_row(float *p, int target, const float *scale, size_t V)
{
    float at_target = p[target], max = row_max(p, V), sum = 0, weighted = 0;
#pragma omp simd reduction(+ : sum, weighted)
    for (size_t i = 0; i < V; i++) {
        float z = p[i] - max, e = exp_inline(z);
        sum += e;
        weighted += e * z;
        p[i] = e;
    }
    if (scale) {
        float k = *scale / sum;
        for (size_t i = 0; i < V; i++) p[i] *= k;
        p[target] -= *scale;
    }
    float log_sum = logf(sum);
    // entropy = -sum p log p, with log p = z - log_sum
    return (TokenLoss){.nll = log_sum - (at_target - max), .entropy = log_sum - weighted / sum, .correct = at_target == max};
}

void cross_entropy(TokenLoss *loss, float *logits, const int *target, const float *scale, size_t R, size_t V)
{
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < R; r++) loss[r] = cross_entropy_row(logits + r * V, target[r], scale ? scale + r : NULL, V);
}

// ops: see ops.h. Matrix products go to OpenBLAS, single-threaded, one fixed tile of the output at a time; OpenMP
// threads share the tiles. Everything else is loops over rows or columns.
#include "ops.h"

#include "base.h"
#include "exp.h"

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

// c = beta * add + op(a) op(b), c and add (which may be c) being (m, n) and the inner dimension k; `ta`, `tb`: op
// transposes. Cut along the longer side of c; the other one is whole while it is short.
static void gemm(bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                 float beta, const float *add, float *c, size_t ldc)
{
    size_t tile_m = m >= n ? tile_length(m) : MAX_TILE, tile_n = m >= n ? MAX_TILE : tile_length(n);
    size_t n_m = (m + tile_m - 1) / tile_m, n_n = (n + tile_n - 1) / tile_n;
#pragma omp parallel for schedule(dynamic)
    for (size_t t = 0; t < n_m * n_n; t++) {
        size_t i = t / n_n * tile_m, j = t % n_n * tile_n;
        size_t rows = m - i < tile_m ? m - i : tile_m, columns = n - j < tile_n ? n - j : tile_n;
        for (size_t r = i; beta != 0 && add != c && r < i + rows; r++) memcpy(c + r * ldc + j, add + r * ldc + j, columns * sizeof *c);
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
        gemm(ta, tb, m, n, k, a, lda, b, ldb, beta, c, c, ldc);
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

void linear_forward(float *y, const float *add, const float *x, const float *w, size_t N, size_t in, size_t out)
{
    gemm(false, true, N, out, in, x, in, w, in, add ? 1 : 0, add, y, out);               // y = add + x w^T
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
#pragma omp parallel
    {
#pragma omp for schedule(static) nowait
        for (size_t block = 0; block < C; block += COLUMN_BLOCK) {
            size_t end = block + COLUMN_BLOCK < C ? block + COLUMN_BLOCK : C;
            float sum[COLUMN_BLOCK] = {0};
            for (size_t n = 0; n < N; n++)
                for (size_t c = block; c < end; c++) sum[c - block] += dy[n * C + c] * x[n * C + c] * rstd[n];
            for (size_t c = block; c < end; c++) dw[c] = (beta_w == 0 ? 0 : beta_w * dw[c]) + sum[c - block];
        }
#pragma omp for schedule(static)
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

float exp_approx(float x) { return exp_inline(x); }

// ---- loss ---------------------------------------------------------------------------------------------------------

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

static TokenLoss cross_entropy_row(float *p, int target, const float *scale, size_t V)
{
    float at_target = p[target], max = row_max(p, V), sum = 0, weighted = 0;
#pragma omp simd reduction(+ : sum, weighted)
    for (size_t i = 0; i < V; i++) {
        float z = p[i] - max, e = exp_inline(z);
        sum += e;
        weighted += e > 0 ? e * z : 0;                     // exp(-inf) * -inf would be NaN
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

// ops: see ops.h. Matrix products go to OpenBLAS, which is single-threaded here: OpenMP's threads share out the cuts.
// Everything else is loops over rows or columns.
#include "ops.h"

#include "base.h"
#include "exp.h"
#include "lanes.h"
#include "processor.h"
#include "product.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Under OMP_PROC_BIND this thread is bound to one processor, and omp_get_num_procs() counts no other.
static int processors(void)
{
    int n = 0;
    for (int i = 0; i < omp_get_num_places(); i++) n += omp_get_place_num_procs(i);
    return n > 0 ? n : omp_get_num_procs();
}

// An OpenBLAS for one thread has no locks unless it is told to: threads that call it at a time spoil each other's sums.
static bool blas_has_locks(void) { return openblas_get_parallel() || strstr(openblas_get_config(), "USE_LOCKING"); }

void ops_init(int n_threads)
{
    const char *wanted = getenv("OMP_NUM_THREADS");
    if (!blas_has_locks()) n_threads = 1;
    if (n_threads <= 0 && wanted) n_threads = atoi(wanted);
    openblas_set_num_threads(1);                           // first: an OpenBLAS made with OpenMP sets ours, too
    omp_set_max_active_levels(1);                          // inside of a loop whose work is shared out: one thread
    omp_set_num_threads(n_threads > 0 ? n_threads : processors());
    processor_flush_to_zero();                             // first here: clang's OpenMP gives each region our state
#pragma omp parallel
    processor_flush_to_zero();
}

int ops_threads(void)
{
    int most = omp_get_thread_limit();
    return omp_get_max_threads() < most ? omp_get_max_threads() : most;
}

// This thread, and what it executes, may run again on all processors that OpenMP spreads threads over. False: not here.
static bool unbind(void)
{
#ifdef __linux__
    cpu_set_t set;
    int ids[CPU_SETSIZE], n;
    CPU_ZERO(&set);
    for (int i = 0; i < omp_get_num_places(); i++) {
        n = omp_get_place_num_procs(i);
        if (n > CPU_SETSIZE) return true;
        omp_get_place_proc_ids(i, ids);
        for (int k = 0; k < n; k++) CPU_SET(ids[k], &set);
    }
    if (CPU_COUNT(&set) > 0) sched_setaffinity(0, sizeof set, &set);
    return true;
#else
    return omp_get_proc_bind() == omp_proc_bind_false;
#endif
}

#if defined __AVX512VL__
const Vectors processor_needs = VECTORS_AVX512;
#elif defined __AVX2__
const Vectors processor_needs = VECTORS_AVX2;
#else
const Vectors processor_needs = VECTORS_ANY;
#endif

#pragma weak openblas_get_corename                         // an OpenBLAS for one processor may be without it
static const char *kernel_name(void) { return openblas_get_corename ? openblas_get_corename() : NULL; }

void ops_restart(char **argv)
{
    bool waits = getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || getenv("KMP_BLOCKTIME");
    const char *coretype = processor_coretype(kernel_name(), processor_vectors(), getenv("OPENBLAS_CORETYPE"));
    if ((waits && !coretype) || !unbind()) return;
    if (coretype) setenv("OPENBLAS_CORETYPE", coretype, 1);
    if (!waits) setenv("GOMP_SPINCOUNT", "1000", 1);
    if (!waits) setenv("KMP_BLOCKTIME", "0", 1);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
#ifdef __linux__
    execv("/proc/self/exe", argv);
#else
    execvp(argv[0], argv);                                 // as the shell found it
#endif
}

void ops_print(FILE *out)
{
    const char *kernel = kernel_name(), *wanted = getenv("OPENBLAS_CORETYPE");
    fprintf(out, "processor with %s, OpenBLAS kernel %s%s%s, %d threads\n", vectors_name(processor_vectors()),
            kernel ? kernel : "not known", wanted ? " by OPENBLAS_CORETYPE=" : "", wanted ? wanted : "", ops_threads());
}

void ops_warn(FILE *out)
{
    static const char *const names[] = {"OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OMP_PLACES", "GOMP_CPU_AFFINITY"};
    size_t i = 0, n = sizeof names / sizeof *names;
    while (i < n && !getenv(names[i])) i++;
    if (ops_threads() > 1 || sysconf(_SC_NPROCESSORS_ONLN) < 2) return;
    if (!blas_has_locks())
        fprintf(out, "train: warning: this OpenBLAS is built without threads and locks, which leaves one thread to "
                "compute with: install another (Debian: libopenblas0-pthread)\n");
    else if (i < n)
        fprintf(out, "train: warning: %s=%s leaves one thread to compute with: unset it\n", names[i], getenv(names[i]));
}

// ---- matrix products ----------------------------------------------------------------------------------------------

static void sgemm(bool ta, bool tb, size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                  size_t ldb, float beta, float *c, size_t ldc)
{
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k,
                1, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

// c = c + a b of whole numbers: each order of the sums gives the same.
static bool multiplies_rightly(bool ta, bool tb, size_t m, size_t n, size_t k)
{
    float *a = mem_alloc(m * k + k * n + 2 * m * n, sizeof *a), *b = a + m * k, *c = b + k * n, *want = c + m * n;
    for (size_t i = 0; i < m * k; i++) a[i] = (float)(i * 7 % 11) - 5;
    for (size_t i = 0; i < k * n; i++) b[i] = (float)(i * 5 % 13) - 6;
    for (size_t i = 0; i < m * n; i++) c[i] = want[i] = (float)(i % 3);
    for (size_t i = 0; i < m; i++)
        for (size_t l = 0; l < k; l++)
            for (size_t j = 0; j < n; j++)
                want[i * n + j] += a[ta ? l * m + i : i * k + l] * b[tb ? j * k + l : l * n + j];
    sgemm(ta, tb, m, n, k, a, ta ? m : k, b, tb ? k : n, 1, c, n);
    bool right = memcmp(c, want, m * n * sizeof *c) == 0;
    free(a);
    return right;
}

bool ops_check(Err *e)
{
    static const size_t shapes[][3] = {{1, 67, 33}, {5, 1, 64}, {37, 49, 131}};
    const char *kernel = kernel_name();
    for (size_t i = 0; i < 4 * sizeof shapes / sizeof *shapes; i++) {
        const size_t *s = shapes[i / 4];
        if (!multiplies_rightly(i & 1, i & 2, s[0], s[1], s[2]))
            return fail(e, "OpenBLAS multiplies wrongly with its kernel %s on this processor (%s): set "
                        "OPENBLAS_CORETYPE to another kernel (Haswell, Nehalem, ARMV8), or install another OpenBLAS",
                        kernel ? kernel : "(not known)", vectors_name(processor_vectors()));
    }
    return true;
}

// The cuts of ops.h. None may depend on how many threads there are: sgemm may order its sums by the shape it gets.
static size_t rounded_part(size_t n, size_t parts) { return ((n + parts - 1) / parts + 15) / 16 * 16; }

size_t tile_count(size_t N) { return 4 * ((N + 1023) / 1024); }
size_t tile_rows(size_t N) { return (N - 1) / (tile_count(N) * PRODUCT_ROWS) * PRODUCT_ROWS + PRODUCT_ROWS; }

Tile tile_at(size_t n, size_t N)
{
    size_t rows = tile_rows(N), threads = (size_t)omp_get_num_threads(), thread = (size_t)omp_get_thread_num();
    return (Tile){n, N - n < rows ? N - n : rows, n / rows, .own = threads * rows < N ? thread * rows : n};
}

// Multiplications: threads for fewer cost more than they save. One row takes longer for each, to read w from memory.
enum { WORTH_SHARING = 1 << 19, WORTH_READING = 1 << 16 };

// Columns o .. o + n of y
static void forward_columns(float *y, const float *add, const float *x, const float *w, size_t N, size_t in, size_t out,
                            size_t o, size_t n)
{
    if (N >= 16 && product_can(n))                         // for the few rows of a sampler, w is not worth copying
        return product(y + o, add ? add + o : NULL, out, x, in, w + o * in, TRANSPOSED, N, n, in);
    for (size_t r = 0; add && add != y && r < N; r++) memcpy(y + r * out + o, add + r * out + o, n * sizeof *y);
    if (N == 1)                                            // sgemm would first copy w
        return cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)n, (int)in, 1, w + o * in, (int)in, x, 1, add ? 1 : 0,
                           y + o, 1);
    sgemm(false, true, N, n, in, x, in, w + o * in, in, add ? 1 : 0, y + o, out);
}

void linear_forward(float *y, const float *add, const float *x, const float *w, size_t N, size_t in, size_t out)
{
    size_t work = N * in * out, piece = N == 1 ? rounded_part(out, work / WORTH_READING + 1) : 256;
#pragma omp parallel for schedule(dynamic) if (work > (N == 1 ? WORTH_READING : WORTH_SHARING))
    for (size_t o = 0; o < out; o += piece)
        forward_columns(y, add, x, w, N, in, out, o, out - o < piece ? out - o : piece);
}

size_t linear_packed(size_t in, size_t out) { return in * (out + PRODUCT_PADDING); }

const float *linear_pack(float *packed, const float *w, size_t in, size_t out)
{
    if (!product_can(out)) return w;
#pragma omp parallel for schedule(static) if (in * out > WORTH_READING)
    for (size_t o = 0; o < out; o += PRODUCT_COLUMNS) product_pack(packed, w, out, in, o);
    return packed;
}

void linear_rows(float *y, const float *add, const float *x, const float *packed, size_t N, size_t in, size_t out)
{
    if (product_can(out)) product(y, add, out, x, in, packed, PACKED, N, out, in);
    else forward_columns(y, add, x, packed, N, in, out, 0, out);
}

void linear_rows_backward(float *dx, const float *dy, size_t dy_row, const float *w, size_t N, size_t in, size_t out)
{
    if (product_can(in)) product(dx, NULL, in, dy, dy_row, w, PLAIN, N, in, out);
    else sgemm(false, false, N, in, out, dy, dy_row, w, in, 0, dx, in);
}

enum { PARTS = 8 };

size_t linear_scratch(size_t N, size_t in) { return PARTS * N * in; }

void linear_backward_input(float *dx, const float *dy, const float *w, size_t N, size_t in, size_t out, float *scratch)
{
    size_t part = (out + PARTS - 1) / PARTS, parts = (out + part - 1) / part;
#pragma omp parallel
    {
#pragma omp for schedule(dynamic)
        for (size_t p = 0; p < parts; p++) {
            size_t o = p * part, n = out - o < part ? out - o : part;
            linear_rows_backward(scratch + p * N * in, dy + o, out, w + o * in, N, in, n);
        }
#pragma omp for schedule(static)
        for (size_t i = 0; i < N * in; i++) {
            float sum = 0;
            for (size_t p = 0; p < parts; p++) sum += scratch[p * N * in + i];
            dx[i] = sum;
        }
    }
}

// dw's rows o .. o + n, or its columns
static void weight_piece(WeightGradient g, float beta, bool own, bool by_rows, size_t o, size_t n)
{
    float *dw = by_rows ? g.dw + o * g.in : g.dw + o;
    if (own) product_gradient(dw, beta ? dw : NULL, g.dy + o, g.out, g.x, n, g.in, g.N);
    else if (by_rows) sgemm(true, false, n, g.in, g.N, g.dy + o, g.out, g.x, g.in, beta, dw, g.in);
    else sgemm(true, false, g.out, n, g.N, g.dy, g.out, g.x + o, g.in, beta, dw, g.in);
}

void linear_backward_weights(const WeightGradient *gradients, size_t count, float beta)
{
#pragma omp parallel
    for (size_t i = 0; i < count; i++) {
        WeightGradient g = gradients[i];
        bool own = product_gradient_pays(g.out, g.in), by_rows = own || g.out >= g.in;  // its longer side
        size_t length = by_rows ? g.out : g.in;
        size_t piece = own ? product_rows(g.out, g.in) : rounded_part(length, (length - 1) / 512 + 1);
#pragma omp for schedule(dynamic) nowait
        for (size_t o = 0; o < length; o += piece)
            weight_piece(g, beta, own, by_rows, o, length - o < piece ? length - o : piece);
    }
}

void rows_product(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w, bool transposed,
                  size_t N, size_t in, size_t out, float beta)
{
    sgemm(false, transposed, N, out, in, x, x_stride, w, transposed ? in : out, beta, y, y_stride);
}

void rows_weights(float *dw, const float *dy, size_t dy_stride, const float *x, size_t N, size_t in, size_t out)
{
    sgemm(true, false, out, in, N, dy, dy_stride, x, in, 0, dw, in);
}

// ---- embedding ----------------------------------------------------------------------------------------------------

void embedding_forward(float *x, const int *ids, const float *table, size_t N, size_t C)
{
#pragma omp parallel for schedule(static) if (N * C > WORTH_SHARING)
    for (size_t n = 0; n < N; n++) memcpy(x + n * C, table + (size_t)ids[n] * C, C * sizeof(float));
}

enum { COLUMN_BLOCK = 16 };    // one cache line: threads that share out columns in such blocks never share a line

void embedding_backward(float *dtable, const float *dx, const int *ids, size_t N, size_t C)
{
#pragma omp parallel for schedule(static) if (N * C > WORTH_SHARING)
    for (size_t block = 0; block < C; block += COLUMN_BLOCK) {
        size_t end = block + COLUMN_BLOCK < C ? block + COLUMN_BLOCK : C;
        for (size_t n = 0; n < N; n++)
#pragma omp simd
            for (size_t c = block; c < end; c++) dtable[(size_t)ids[n] * C + c] += dx[n * C + c];
    }
}

// ---- RMSNorm ------------------------------------------------------------------------------------------------------

void rmsnorm_forward(float *y, float *rstd, const float *x, const float *w, float eps, size_t N, size_t C)
{
    for (size_t n = 0; n < N; n++) {
        const float *x_n = x + n * C;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t c = 0; c < C; c++) sum += x_n[c] * x_n[c];
        float r = 1 / sqrtf(sum / (float)C + eps);
#pragma omp simd
        for (size_t c = 0; c < C; c++) y[n * C + c] = x_n[c] * r * w[c];
        rstd[n] = r;
    }
}

void rmsnorm_backward(float *dx, float *dw, const float *add, const float *dy, const float *x, const float *w,
                      const float *rstd, size_t N, size_t C)
{
    memset(dw, 0, C * sizeof *dw);
    for (size_t n = 0; n < N; n++) {
        const float *x_n = x + n * C, *dy_n = dy + n * C;
        float sum = 0, r = rstd[n];
#pragma omp simd reduction(+ : sum)
        for (size_t c = 0; c < C; c++) sum += x_n[c] * w[c] * dy_n[c];
        float k = r * r * sum / (float)C;
#pragma omp simd
        for (size_t c = 0; c < C; c++) dw[c] += dy_n[c] * x_n[c] * r;
#pragma omp simd
        for (size_t c = 0; c < C; c++) dx[n * C + c] = (add ? add[n * C + c] : 0) + r * (w[c] * dy_n[c] - x_n[c] * k);
    }
}

void head_norm_forward(float *y, const float *x, size_t stride, const float *w, float eps, size_t N, size_t heads,
                       size_t D)
{
    float rstd;
    for (size_t n = 0; n < N; n++)
        for (size_t at = n * stride, end = at + heads * D; at < end; at += D)
            rmsnorm_forward(y + at, &rstd, x + at, w, eps, 1, D);
}

void head_norm_backward(float *dy, float *dw, const float *x, size_t stride, const float *w, float eps, size_t N,
                        size_t heads, size_t D)
{
    float *y = mem_alloc(2 * D, sizeof *y), *dw_head = y + D, rstd;    // y is not used: only rstd is
    memset(dw, 0, D * sizeof *dw);
    for (size_t n = 0; n < N; n++)
        for (size_t at = n * stride, end = at + heads * D; at < end; at += D) {
            rmsnorm_forward(y, &rstd, x + at, w, eps, 1, D);
            rmsnorm_backward(dy + at, dw_head, NULL, dy + at, x + at, w, &rstd, 1, D);
            for (size_t d = 0; d < D; d++) dw[d] += dw_head[d];
        }
    free(y);
}

void bias_forward(float *y, const float *b, size_t N, size_t C)
{
    for (size_t n = 0; b && n < N; n++)
        for (size_t c = 0; c < C; c++) y[n * C + c] += b[c];
}

// ---- RoPE ---------------------------------------------------------------------------------------------------------

void rope(float *x, size_t stride, const float *cos_sin, const int *position, size_t N, size_t heads, size_t D,
          float sign)
{
    for (size_t n = 0; n < N; n++) {
        const float *angle = cos_sin + (size_t)position[n] * D;
        for (size_t h = 0; h < heads; h++) {
            float *pair = x + n * stride + h * D;
#pragma omp simd
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
    for (size_t n = 0; n < N; n++) {
        const float *g = gu + n * 2 * F, *u = g + F;
#pragma omp simd
        for (size_t f = 0; f < F; f++) y[n * F + f] = g[f] / (1 + exp_inline(-g[f])) * u[f];
    }
}

void swiglu_backward(float *gu, float *y, size_t N, size_t F)
{
    for (size_t n = 0; n < N; n++) {
        float *g = gu + n * 2 * F, *u = g + F, *y_n = y + n * F;
#pragma omp simd
        for (size_t f = 0; f < F; f++) {
            float dy = y_n[f], sigmoid = 1 / (1 + exp_inline(-g[f])), silu = g[f] * sigmoid;
            y_n[f] = silu * u[f];
            g[f] = dy * u[f] * (sigmoid + silu * (1 - sigmoid));
            u[f] = dy * silu;
        }
    }
}

// ---- loss ---------------------------------------------------------------------------------------------------------

// (If it is inlined, clang does not vectorize the loop that comes after it.)
__attribute__((noinline)) float row_max(const float *x, size_t n)
{
    Lanes lanes = x[0] - (Lanes){0};
    float max = x[0];
    size_t j = 0;
    for (; j + LANES <= n; j += LANES) keep_larger(&lanes, (const Lanes *)(x + j));
    for (; j < n; j++) max = x[j] > max ? x[j] : max;
    for (size_t i = 0; i < LANES; i++) max = lanes[i] > max ? lanes[i] : max;
    return max;
}

// How many numbers are larger, or with ties: at least as large? A NaN counts as larger than any number.
static int count_larger(const float *x, float than, bool ties, size_t n)
{
    int count = 0;
#pragma omp simd reduction(+ : count)
    for (size_t i = 0; i < n; i++) count += ties ? !(x[i] < than) : !(x[i] <= than);
    return count;
}

static float mean_below(const float *x, float max, size_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += (double)(max - x[i]);
    return (float)(sum / (double)n);
}

static TokenLoss cross_entropy_row(float *p, int target, const float *scale, Objective o, size_t V)
{
    float at_target = p[target], max = row_max(p, V), s = o.label_smoothing;
    double sum = 0, weighted = 0;
    float below = s > 0 ? mean_below(p, max, V) : 0;
    int rank = 1 + count_larger(p, at_target, false, V);
    bool correct = rank == 1 && count_larger(p, at_target, true, V) == 1;        // a tie is no choice
    for (size_t block = 0; block < V; block += 128) {      // as floats, long sums would round off too much
        size_t end = V - block < 128 ? V : block + 128;
        float block_sum = 0, block_weighted = 0;
#pragma omp simd reduction(+ : block_sum, block_weighted)
        for (size_t i = block; i < end; i++) {
            float z = p[i] - max, e = exp_inline(z);
            block_sum += e;
            block_weighted += e * (e > 0 ? z : 0);         // exp(-inf) * -inf would be NaN
            p[i] = e;
        }
        sum += (double)block_sum;
        weighted += (double)block_weighted;
    }
    float log_sum = (float)log(sum), nll = log_sum - (at_target - max), loss = nll, g = scale ? *scale : 0;
    if (s > 0) loss = (1 - s) * nll + s * (log_sum + below);
    if (o.dft) loss = expf(-nll) * nll, g *= expf(-nll);
    if (scale) {
        float k = g / (float)sum, rest = g * s / (float)V;
#pragma omp simd
        for (size_t i = 0; i < V; i++) p[i] = p[i] * k - rest;
        p[target] -= g * (1 - s);
    }
    // entropy = -sum p log p, with log p = z - log_sum
    return (TokenLoss){nll, loss, .entropy = log_sum - (float)(weighted / sum), rank, correct};
}

void cross_entropy(TokenLoss *loss, float *logits, const int *target, const float *scale, Objective o, size_t R,
                   size_t V)
{
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < R; r++)
        loss[r] = cross_entropy_row(logits + r * V, target[r], scale ? scale + r : NULL, o, V);
}

// ops: the arithmetic of the models, each operation as a forward/backward pair. The only file that knows cblas.
//
// Letters:  N tokens of the batch, its rows laid end to end, without padding     S rows
//           M positions that go on (a subset of N, in order)                     T tokens of one row
//           C model dim   H query heads   K key/value heads   D head size   F ffn size   V vocabulary
// A matrix is row-major; "// (N, C)" gives its shape. Outputs come first, then inputs, then sizes.
// Forward assigns. Backward assigns too, but for matrices: dw = beta * dw + ..., where beta is 0 or 1.
//
// Who cuts what:
//
//   share   of a small model's batch: some of its rows, which one thread takes through the whole model (work.h)
//   tile    up to 258 rows, a multiple of PRODUCT_ROWS, that one thread takes through a chain of operations, while they
//           are in the cache. At least four, so that four threads have work
//   piece   256 columns of a product outside of tiles. Of a weight's gradient product_rows() rows; or up to 512 if
//           OpenBLAS computes it, since it copies its share of both matrices for each piece
//   part    an eighth of a sum over the vocabulary, or some hundred keys of a long row: each is summed apart, and then
//           they are added up in order
//
// The same bits for any number of threads: all these sizes depend on the shapes alone. Each output element belongs to
// one piece of work, and one thread computes that piece, in an order that the shapes decide.
//
// rmsnorm, head_norm, bias, rope and swiglu are one thread's work, and linear_rows is for the inside of a tile: their
// caller shares out the tiles. All other operations have a parallel loop of their own.
#ifndef OPS_H
#define OPS_H

#include "base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Call once: n_threads for our OpenMP loops (0: OMP_NUM_THREADS, or all cores), and one thread for OpenBLAS, which is
// called from inside them.
void ops_init(int n_threads);
// Starts the program again, if need be, with threads that wait for each other for microseconds only: OpenMP's default
// of milliseconds makes a run ten times slower where another program wants a core too. And with an OpenBLAS that uses
// the processor's vectors: a version older than the processor takes a kernel that is up to seven times slower; without
// threads of its own, which would wait busily for a while. The libraries read this when they are loaded, so it takes a
// new start; if none succeeds, all stays as it is.
void ops_restart(char **argv);
void ops_print(FILE *out);     // one line: the processor's vectors, OpenBLAS's kernel, the threads
bool ops_check(Err *e);        // Does OpenBLAS multiply matrices rightly? In a millisecond or less.
void ops_warn(FILE *out);      // a warning if the environment, or an OpenBLAS without locks, leaves one thread
int ops_threads(void);

// R rows of N, from row n on; the i-th tile. What is not needed after a tile is best kept from row `own` on: a thread's
// tiles take turns there, if there are more tiles than threads, and it stays in the cache.
typedef struct { size_t n, R, i, own; } Tile;
size_t tile_rows(size_t N);                                          // of a tile, but the last may have fewer
size_t tile_count(size_t N);                                         // N rows make at most so many tiles
Tile tile_at(size_t n, size_t N);                                    // n is a multiple of tile_rows(N)

// A parallel loop over the tiles of N rows. (The inner for only gives t its value: it runs once.)
#define FOR_EACH_TILE(t, N)                                     \
    _Pragma("omp parallel for schedule(dynamic)")               \
    for (size_t n_ = 0; n_ < (N); n_ += tile_rows(N))           \
        for (Tile t = tile_at(n_, N); (t).R > 0; (t).R = 0)

// Every weight is stored as (out, in), as PyTorch's nn.Linear does.
// y = add + x w^T, without `add` where it is NULL; `add` may be y
void linear_forward(float *y, const float *add,                      // (N, out)
                    const float *x, const float *w,                  // (N, in), (out, in)
                    size_t N, size_t in, size_t out);
// dx = dy w, for a long `out` such as the vocabulary
void linear_backward_input(float *dx, const float *dy, const float *w,   // (N, in), (N, out), (out, in)
                           size_t N, size_t in, size_t out, float *scratch);   // linear_scratch() floats
size_t linear_scratch(size_t N, size_t in);
// The same two for the N rows of a tile. The forward takes what linear_pack has made of w before the loop: a copy in
// the order in which a product reads it, in `packed`, linear_packed() floats; or w itself, if it is too narrow. Rows of
// dy are dy_row floats apart.
const float *linear_pack(float *packed, const float *w, size_t in, size_t out);
size_t linear_packed(size_t in, size_t out);
void linear_rows(float *y, const float *add, const float *x, const float *packed, size_t N, size_t in, size_t out);
void linear_rows_backward(float *dx, const float *dy, size_t dy_row, const float *w, size_t N, size_t in, size_t out);
// dw = beta * dw + dy^T x, for several weights at once, so that there is work for all threads
typedef struct {
    float *dw;                                                       // (out, in)
    const float *dy, *x;                                             // (N, out), (N, in)
    size_t N, in, out;
} WeightGradient;
void linear_backward_weights(const WeightGradient *gradients, size_t count, float beta);
// Narrow products inside of a tile, one thread's work. Rows of y and x may be parts of longer ones: y_stride and
// x_stride floats lie between the beginnings of two.
// y = beta * y + x w, w (in, out); or x w^T, w (out, in)
void rows_product(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w, bool transposed,
                  size_t N, size_t in, size_t out, float beta);
// dw = dy^T x                                                       // (out, in)
void rows_weights(float *dw, const float *dy, size_t dy_stride, const float *x, size_t N, size_t in, size_t out);

// x_n = table[ids_n]
void embedding_forward(float *x, const int *ids, const float *table, size_t N, size_t C);   // (N, C), (N), (V, C)
// dtable[ids_n] += dx_n
void embedding_backward(float *dtable, const float *dx, const int *ids, size_t N, size_t C);

// y = x * rstd * w,   rstd = 1 / sqrt(mean_c(x^2) + eps)            (Zhang & Sennrich 2019)
void rmsnorm_forward(float *y, float *rstd,                          // (N, C), (N)
                     const float *x, const float *w, float eps, size_t N, size_t C);
// dx = add + rstd * (w*dy - x * rstd^2 * mean_c(x*w*dy)), without `add` where it is NULL;   dw = sum_n dy * x * rstd
// dx may be x, dy or add
void rmsnorm_backward(float *dx, float *dw,                          // (N, C), (C)
                      const float *add, const float *dy, const float *x, const float *w, const float *rstd,
                      size_t N, size_t C);

// The same for each head of queries or keys, with one w (D) for all of them (QK-norm: Henry et al. 2020, arXiv
// 2010.04245; with RMSNorm as in Qwen3). Rows of y and x are `stride` floats apart. y may be x
void head_norm_forward(float *y, const float *x, size_t stride, const float *w, float eps, size_t N, size_t heads,
                       size_t D);
// In place: dy becomes dx. dw is assigned
void head_norm_backward(float *dy, float *dw, const float *x, size_t stride, const float *w, float eps, size_t N,
                        size_t heads, size_t D);
// y += b in each row, nothing where b is NULL
void bias_forward(float *y, const float *b, size_t N, size_t C);     // (N, C), (C)

// Turns each pair (x[2i], x[2i+1]) of each head by the angle of its position: the complex product with
// cos + i sin (Su et al. 2021, on interleaved pairs as llama2.c). sign = -1 turns back, which is the backward.
void rope(float *x, size_t stride,                                   // (N, heads * D), rows `stride` floats apart
          const float *cos_sin, const int *position,                 // (positions, D/2, 2), (N)
          size_t N, size_t heads, size_t D, float sign);

// The shape of one attention: row s has keys key_starts[s] .. key_starts[s+1] and queries query_starts[s] ..
// query_starts[s+1]; query m stands at position query_position[m] of its row and sees the keys 0 .. that position.
typedef struct {
    size_t S;
    const size_t *key_starts, *query_starts;                         // (S+1), (S+1)
    const int *query_position;                                       // (M)
    const size_t *order;                                             // (S): rows are taken in it, the longest first
    size_t H, K, D, longest_row;
    size_t q_stride, kv_stride;                                      // floats from one row to the next of q, of kv
} AttentionShape;

// att_h = softmax(q_h k^T / sqrt(D)) v, query head h with key/value head h / (H/K)   (Vaswani et al. 2017; GQA: Ainslie
// et al. 2023). lse keeps log(sum(exp(scores))) of each query and head: all that the backward needs to redo the scores.
void attention_forward(float *att, float *lse,                       // (M, H*D), (M, H)
                       const float *q, const float *kv,              // (M, H*D), (N, 2*K*D): keys, then values; strided
                       const AttentionShape *a, float *scratch);     // attention_scratch() floats a thread
// With p = exp(s - lse):  dv = p^T datt;  dp = datt v^T;  ds = p * (dp - datt . att);  dq = ds k;  dk = ds^T q
void attention_backward(float *dq, float *dkv,                       // (M, H*D), (N, 2*K*D), strided as q and kv
                        const float *datt, const float *att, const float *lse, const float *q, const float *kv,
                        const AttentionShape *a, float *scratch);
size_t attention_scratch(size_t longest_row, size_t D);

// y = silu(g) * u,   silu(g) = g / (1 + exp(-g))                    (SwiGLU: Shazeer 2020)
void swiglu_forward(float *y, const float *gu, size_t N, size_t F);  // (N, F), (N, 2*F): g, then u
// du = dy * silu(g);   dg = dy * u * sigmoid(g) * (1 + g * (1 - sigmoid(g)))
// In place: gu becomes its own gradient; y comes as dy, and becomes what it was in the forward.
void swiglu_backward(float *gu, float *y, size_t N, size_t F);

float row_max(const float *x, size_t n);                   // numbers that are none are passed over

// What the loss knows about one target token: -log p(target); what is trained; of p, in nats; 1 and how many logits are
// larger than the target's (a NaN counts as larger); the only argmax.
typedef struct { float nll, loss, entropy; int rank; bool correct; } TokenLoss;

// What is trained. {0} is the nll alone.
//   label_smoothing s    loss = (1 - s) * nll + s * mean_v(-log p[v])           (Szegedy et al. 2015, arXiv 1512.00567)
//   dft                  loss = p[target] * nll, where p[target] counts as a constant   (Wu et al. 2025, 2508.05629)
typedef struct { float label_smoothing; bool dft; } Objective;

// p = softmax(logits);  nll = -log p[target].  With `scale` not NULL logits become the gradient of sum_r scale_r *
// loss_r: for the nll (p - onehot(target)) * scale_r; smoothed, (1 - s) * onehot + s / V for onehot; dft, * p[target].
void cross_entropy(TokenLoss *loss, float *logits,                   // (R), (R, V)
                   const int *target, const float *scale, Objective o, size_t R, size_t V);

#endif

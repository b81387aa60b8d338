// ops: the arithmetic of a Llama, each operation as a forward/backward pair. The only file that knows cblas.
//
// Letters:  N tokens of the batch, its rows laid end to end, without padding     S rows
//           M positions that go on (a subset of N, in order)                     T tokens of one row
//           C model dim   H query heads   K key/value heads   D head size   F ffn size   V vocabulary
// A matrix is row-major; "// (N, C)" gives its shape. Outputs come first, then inputs, then sizes.
// Forward assigns, and backward assigns gradients; those of matrices are computed as dw = beta * dw + ...: beta is 0 for the
// first micro-batch of a step and 1 for the others.
//
// Operations on rows (rmsnorm, rope, swiglu) are one thread's work: the caller shares out tiles of rows. There the products
// of linear become tasks, of which threads without a tile take some. The others share themselves out. The same bits for any
// number of threads: every loop over threads is over pieces of fixed size, each output element belongs to one piece, and each
// piece is computed by one thread in an order that depends on the shapes alone.
#ifndef OPS_H
#define OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Call once: n_threads for our OpenMP loops (0: OMP_NUM_THREADS, or all cores), and one thread for OpenBLAS, which is
// called from inside them.
void ops_init(int n_threads);
int ops_threads(void);

// Rows that a thread takes through a chain of row operations at a time; at most how many such tiles N rows make; into how
// many tasks a tile's products are cut, for threads that have no tile.
size_t tile_rows(size_t N);
size_t tile_count(size_t N);
size_t tile_tasks(size_t N);

// y = add + x w^T, without `add` where it is NULL; it may be y itself
//                                               (every weight is stored as (out, in), as PyTorch's nn.Linear does)
// tasks: at most how many the product becomes, inside of a caller's parallel loop; 0: it is a parallel loop of its own.
void linear_forward(float *y, const float *add,                      // (N, out)
                    const float *x, const float *w,                  // (N, in), (out, in)
                    size_t N, size_t in, size_t out, size_t tasks);
// dx = dy w, in tasks as above.
void linear_backward_input(float *dx, const float *dy, const float *w,   // (N, in), (N, out), (out, in)
                           size_t N, size_t in, size_t out, size_t tasks);
// The same for a long `out`, as the vocabulary: a parallel loop over parts of it, whose sums are added up from `scratch`,
// linear_scratch() floats.
void linear_backward_input_long(float *dx, const float *dy, const float *w, size_t N, size_t in, size_t out, float *scratch);
size_t linear_scratch(size_t N, size_t in);
// dw = beta * dw + dy^T x, for several weights at once, so that there is work for all threads
typedef struct {
    float *dw;                                                       // (out, in)
    const float *dy, *x;                                             // (N, out), (N, in)
    size_t N, in, out;
} WeightGradient;
void linear_backward_weights(const WeightGradient *gradients, size_t count, float beta);

// x_n = table[ids_n]
void embedding_forward(float *x, const int *ids, const float *table, size_t N, size_t C);   // (N, C), (N), (V, C)
// dtable[ids_n] += dx_n
void embedding_backward(float *dtable, const float *dx, const int *ids, size_t N, size_t C);

// y = x * rstd * w,   rstd = 1 / sqrt(mean_c(x^2) + eps)            (Zhang & Sennrich 2019)
void rmsnorm_forward(float *y, float *rstd,                          // (N, C), (N)
                     const float *x, const float *w, float eps, size_t N, size_t C);
// dx = add + rstd * (w*dy - x * rstd^2 * mean_c(x*w*dy)), without `add` where it is NULL;   dw = sum_n dy * x * rstd
// dx may be x or add
void rmsnorm_backward(float *dx, float *dw,                          // (N, C), (C)
                      const float *add, const float *dy, const float *x, const float *w, const float *rstd,
                      size_t N, size_t C);

// Turns each pair (x[2i], x[2i+1]) of each head by the angle of its position: the complex product with
// cos + i sin (Su et al. 2021, on interleaved pairs as llama2.c). sign = -1 turns back, which is the backward.
void rope(float *x, size_t stride,                                   // (N, heads * D), in a matrix of rows `stride` long
          const float *cos_sin, const int *position,                 // (positions, D/2, 2), (N)
          size_t N, size_t heads, size_t D, float sign);

// The shape of one attention: row s has keys key_starts[s] .. key_starts[s+1] and queries query_starts[s] ..
// query_starts[s+1]; query m stands at position query_position[m] of its row and sees the keys 0 .. that position.
typedef struct {
    size_t S;
    const size_t *key_starts, *query_starts;                         // (S+1), (S+1)
    const int *query_position;                                       // (M)
    size_t H, K, D, longest_row;
    size_t q_stride, kv_stride;                                      // floats from one row to the next of q, of kv
} AttentionShape;

// att_h = softmax(q_h k^T / sqrt(D)) v, query head h with key/value head h / (H/K)   (Vaswani et al. 2017; GQA: Ainslie
// et al. 2023). lse keeps log(sum(exp(scores))) of each query and head: all that the backward needs to redo the scores.
void attention_forward(float *att, float *lse,                       // (M, H*D), (M, H)
                       const float *q, const float *kv,              // (M, H*D), (N, 2*K*D): keys, then values; strided
                       const AttentionShape *a, float *scratch);     // attention_scratch() floats
// With p = exp(s - lse):  dv = p^T datt;  dp = datt v^T;  ds = p * (dp - sum_keys(p * dp));  dq = ds k;  dk = ds^T q
void attention_backward(float *dq, float *dkv,                       // (M, H*D), (N, 2*K*D), strided as q and kv
                        const float *datt, const float *lse, const float *q, const float *kv,
                        const AttentionShape *a, float *scratch);
size_t attention_scratch(size_t longest_row, size_t D);

// y = silu(g) * u,   silu(g) = g / (1 + exp(-g))                    (SwiGLU: Shazeer 2020)
void swiglu_forward(float *y, const float *gu, size_t N, size_t F);  // (N, F), (N, 2*F): g, then u
// du = dy * silu(g);   dg = dy * u * sigmoid(g) * (1 + g * (1 - sigmoid(g)));   gu becomes its own gradient, and y, which
// comes as dy, what it was in the forward
void swiglu_backward(float *gu, float *y, size_t N, size_t F);

// What the loss knows about one target token.
typedef struct { float nll, entropy; bool correct; } TokenLoss;      // -log p(target); of p, in nats; argmax == target

// p = softmax(logits);  nll = -log p[target].  With `scale` not NULL logits become (p - onehot(target)) * scale_r,
// the gradient of sum_r scale_r * nll_r.
void cross_entropy(TokenLoss *loss, float *logits,                   // (R), (R, V)
                   const int *target, const float *scale, size_t R, size_t V);

// exp(x), written so that a loop over it vectorizes: relative error under 2 ulp, 0 below -87.3, NaN stays NaN.
float exp_approx(float x);

#endif

// transformer: the loss and gradient of a model (model.h) over ragged rows. It sees numbers only: no text, no roles.
//
// To read the model for the first time, begin with model/sample.c. sampler_feed there is the reference: the whole
// forward for one token or more, on one page. transformer.c is the fast version: the same operations for all tokens of
// a batch, and their gradients. attention_plain in tests/test_ops.c is attention in plain loops; model/attention.c is
// the fast version.
#ifndef TRANSFORMER_H
#define TRANSFORMER_H

#include "model.h"
#include "ops.h"

// ---- a batch ------------------------------------------------------------------------------------------------------
// S rows of tokens, end to end; row s is ids[starts[s]] .. ids[starts[s+1]-1] and rows never see each other. The loss
// is taken over M targets: position at[m] (ascending, an index into ids) should predict target[m], with weight[m]. Of a
// position that predicts no target, the last layer computes only the key and the value.
//
// model_gradient adds noise to the embeddings, if there are `values`. (NEFTune: Jain et al. 2023, arXiv 2310.05914.)
typedef struct {
    float *values;                                         // (N, C), or NULL
    size_t C;
    double alpha;                                          // the noise of n tokens is within +-alpha / sqrt(n C)
    Rng rng;
} Noise;

typedef struct {
    size_t N, S, M;
    int *ids;                                              // (N)
    const int *position;                                   // (N), borrowed: where RoPE sees each token. NULL: its place
                                                           // in its row. A row may leave out positions
    size_t *starts;                                        // (S+1)
    size_t *at;                                            // (M)
    int *target;                                           // (M)
    float *weight;                                         // (M)
    Objective objective;                                   // what the loss of a target is
    Noise noise;
    uint64_t dropout_seed;                                 // of the step, for the dropout of an adapter
    bool no_dropout;                                       // a gradient without it
    size_t first_row;                                      // how many rows of the step are in batches before this one
} Batch;

// Upper bounds of a batch: tokens (N), tokens of one row, rows (S), and targets (M).
typedef struct { size_t tokens, row, rows, targets; } BatchSize;

bool batch_init(Batch *b, BatchSize max, Err *e);          // empty, with memory for `max`; false if memory is short
void batch_free(Batch *b);                                 // accepts {0}
void batch_clear(Batch *b);

// ---- work memory --------------------------------------------------------------------------------------------------
// What model_loss and model_gradient write besides their results. Only one call at a time may use a Work.
typedef enum {
    WORK_LOSS,                                             // for model_loss alone: layers share their activations
    WORK_GRADIENT,                                         // every layer keeps its own
    WORK_CHECKPOINTING                                     // every layer keeps its input; the rest is computed again
} WorkKind;

typedef struct {
    float *x;                                              // (N, C): the layer's input
    float *qkv, *att, *lse;                                // queries, keys and values, with qk_norm as they are before
                                                           // it; (M, H*D), (M, H)
    float *x_att;                                          // (M, C): after attention
    float *gu;                                             // (M, 2*F)
} LayerActs;                                               // M is N in every layer but the last

typedef struct {
    BatchSize max;                                         // the largest batch that fits
    WorkKind kind;
    LayerActs *acts;                                       // (L); layers that share a buffer have the same pointer
    float *out;                                            // (M, C): the last layer's output
    float *norm_out;                                       // (M, C): the norm of out; the backward replaces it by the
                                                           // gradient of that norm
    float *scale;                                          // (M): weight / divisor
    float *logits;                                         // (slice, V): of some targets at a time
    // Scratch of a layer: results that the backward computes again.
    float *norm_att, *norm_q, *norm_ffn, *rstd, *y;        // (N, C), (M, C), (N, C), (N), (N, F)
    float *qkv;                                            // what the attention takes; NULL without qk_norm
    float *attention;                                      // attention_scratch()
    // Gradients of activations, not for WORK_LOSS: between layers, then inside of one.
    float *dout, *dx;                                      // (N, C), (N, C)
    float *dx_att, *dx_q, *dnorm, *datt, *dqkv;            // (N, C), (M, C), (N, C), (N, H*D), (N, (H + 2*K)*D)
    float *dw_tiles, *partial;                             // (tile_count(N, C), C): a norm's; linear_scratch()
    float *dqk_tiles;                                      // (tile_count(N, C), 2*D): q_norm|k_norm's; NULL without
    float *ones;                                           // (N): the input whose weight is a bias; NULL without
    // Of the current batch: place in the row of each token and each target, first target of each row; order of rows.
    int *position, *query_position;                        // (N), (M)
    int *rope_position;                                    // (max.tokens + max.targets): of tokens, then of targets
    size_t *query_starts, *order;                          // (S+1); (S): the rows by length, the longest first
    // With an adapter: work_adapter_size() floats for a layer's gradients by tile, and keys of dropout
    float *grads_tiles;                                    // (tile_count(N, C), layer_size)
    uint32_t *keys;                                        // (max.tokens + max.targets): of tokens, then of targets
    bool drops;                                            // does this pass drop?
    float *floats;                                         // the one block behind all other floats
    size_t n_floats;
} Work;

// For a model of this shape, batches of at most these sizes, and the threads that ops_init has set. False if memory is
// short: e says how much was needed.
bool work_init(Work *w, const Config *c, BatchSize max, WorkKind kind, Err *e);
void work_free(Work *w);                                   // accepts {0}
size_t work_size(const Config *c, BatchSize max, WorkKind kind);       // the floats that work_init would allocate
size_t work_adapter_size(const Config *c, const struct Adapter *a, BatchSize max);     // besides, with an adapter
size_t model_logit_rows(const Config *c);                  // the rows of logits that exist at a time

// ---- loss and gradient --------------------------------------------------------------------------------------------
// The batch has at least one target and fits into w->max.

// loss (M): of each target.
void model_loss(const Model *m, Work *w, const Batch *b, TokenLoss *loss);
// The same, and the gradient of sum_m weight_m * nll_m / divisor. With `add` it is added to m->grads; else it replaces
// m->grads. w is not of kind WORK_LOSS.
void model_gradient(Model *m, Work *w, const Batch *b, TokenLoss *loss, double divisor, bool add);

#endif

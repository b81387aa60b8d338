// work: a batch of rows, and the memory that the passes over it write (transformer.h).
#ifndef WORK_H
#define WORK_H

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
//
// The rows of a batch are dealt out in shares if the model is small. Its step is many short loops: to begin and end
// each with all threads, and to read what another thread has just written, takes as long as a sixth of the work. So one
// thread takes a share through the whole model, forward and backward, with a Work and a gradient of its own; then the
// gradients are added up, in order. Between a large model's loops the threads share out tiles of rows (ops.h).
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

// A layer's weights, as linear_pack has copied them. kv is of the last layer alone: in the others q is q|k|v.
typedef struct { const float *q, *kv, *o, *w1, *w2; } PackedLayer;
size_t packed_size(const Shape *s);                        // the floats of one

typedef struct Work {
    BatchSize max;                                         // the largest batch that fits
    WorkKind kind;
    size_t threads;                                        // that compute in it at a time
    LayerActs *acts;                                       // (L); layers that share a buffer have the same pointer
    float *out;                                            // (M, C): the last layer's output
    float *norm_out;                                       // (M, C): the norm of out; the backward replaces it by the
                                                           // gradient of that norm
    float *scale;                                          // (M): weight / divisor
    float *logits;                                         // (slice, V): of some targets at a time
    // Scratch of a layer: results that the backward computes again.
    float *norm_att, *norm_q, *norm_ffn, *rstd, *y;        // (N, C), (M, C), (N, C), (N), (N, F)
    float *qkv;                                            // what the attention takes; NULL without qk_norm
    float *packed;                                         // packed_size(): the layer's weights; NULL in a share
    float *attention;                                      // attention_scratch() for each thread
    // Gradients of activations, not for WORK_LOSS: between layers, then inside of one.
    float *dout, *dx;                                      // (N, C), (N, C)
    float *dx_att, *dx_q, *dnorm, *datt, *dqkv;            // (N, C), (M, C), (N, C), (N, H*D), (N, (H + 2*K)*D)
    float *dw_tiles, *partial;                             // (tile_count(N), C): a norm's; linear_scratch()
    float *dqk_tiles;                                      // (tile_count(N), 2*D): q_norm|k_norm's; NULL without
    float *ones;                                           // (N): the input whose weight is a bias; NULL without
    // Of the current batch: place in the row of each token and each target, first target of each row; order of rows.
    int *position, *query_position;                        // (N), (M)
    int *rope_position;                                    // (max.tokens + max.targets): of tokens, then of targets
    size_t *query_starts, *order;                          // (S+1); (S): the rows by length, the longest first
    // With an adapter: work_adapter_size() floats for a layer's gradients by tile, and keys of dropout
    float *grads_tiles;                                    // (tile_count(N), layer_size)
    uint32_t *keys;                                        // (max.tokens + max.targets): of tokens, then of targets
    bool drops;                                            // does this pass drop?
    // Shares, which lie in the same block: what a whole pass writes is not needed then. NULL: work_shares is always 0
    struct Work *shares;                                   // (threads)
    float *share_grads;                                    // (shares, n_trained); not for WORK_LOSS
    float *share_packed;                                   // (L, packed_size())
    PackedLayer *packs;                                    // (L): the weights there; each share has this pointer too
    size_t *starts, *at;                                   // (S+1), (M): the share's own Batch
    bool whole;                                            // no shares, for who looks at what a pass leaves here
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

// Rows first .. end-1 of a batch, and its targets from `target` on. A share is at least about SHARE_TOKENS long.
typedef struct { size_t first, end, target; } Share;
enum { MAX_SHARES = 16, SHARE_TOKENS = 128 };

// The shares of a batch, the longest first; 0 if it is not to be dealt out: the model is large, or one row is longer
// than a third of all, so that most threads would wait for it. It does not depend on the number of threads.
size_t work_shares(Share shares[MAX_SHARES], const Work *w, const Batch *b);
// The batch of a share. Its memory is b's, and that of w, the share's own Work.
Batch work_share(Work *w, const Batch *b, const Share *share);

#endif

// transformer: a Llama's shape, THE table of its tensors, and its forward and backward over ragged rows.
// It sees numbers only: no text, no roles. Allocation, checkpoint order, names and shapes, weight decay, tests and
// printing all walk the table.
#ifndef TRANSFORMER_H
#define TRANSFORMER_H

#include "base.h"
#include "ops.h"

// ---- shape --------------------------------------------------------------------------------------------------------
// Names as in llama2.c; rope_theta and what follows as in transformers' LlamaConfig.
typedef struct {
    int dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab_size, seq_len;
    bool tied;                                             // the classifier is tok_emb
    float rope_theta, norm_eps;
    // rope_scaling of type "llama3"; factor 0 means none
    struct { float factor, low_freq_factor, high_freq_factor, original_seq_len; } rope_scaling;
} Config;

// Every size positive and small enough to multiply, heads a multiple of kv heads, head_dim even.
bool config_check(const Config *c, Err *e);

// ---- the tensor table ---------------------------------------------------------------------------------------------
typedef enum { TOK_EMB, ATT_NORM, WQ, WK, WV, WO, FFN_NORM, W1, W3, W2, FINAL_NORM, CLASSIFIER, N_TENSORS } TensorId;
typedef enum { ONE, DIM, QUERY_DIM, KV_DIM, HIDDEN_DIM, VOCAB } Size;

typedef struct {
    const char *name, *hf_name;                            // hf_name: "%d" stands for the layer
    Size rows, columns;                                    // the shape; rows ONE: a vector
    bool per_layer, decay;                                 // decay: weight_decay applies
    bool heads_of_pairs;                                   // rows are RoPE pairs: Hugging Face stores them as halves
} TensorInfo;
extern const TensorInfo tensor_table[N_TENSORS];

size_t config_size(const Config *c, Size s);
size_t tensor_count(const Config *c, TensorId id);         // how many of it: n_layers, 1, or 0 (a tied classifier)
size_t tensor_size(const Config *c, TensorId id);          // floats in one of them
// Where tensor `id` of `layer` begins in an arena of parameters or gradients. Layers follow each other; inside a layer
// wq|wk|wv and w1|w3 are neighbours, so that each group can be used as one matrix.
size_t tensor_offset(const Config *c, TensorId id, size_t layer);
size_t params_count(const Config *c);                      // floats in an arena

// ---- the model ----------------------------------------------------------------------------------------------------
// S rows of tokens, end to end; row s is ids[starts[s]] .. ids[starts[s+1]-1] and rows never see each other. The M
// targets are what the loss is about: at position at[m] (ascending, an index into ids) the model should say target[m],
// with weight[m]. Positions that are no target cost only what others need of them.
typedef struct {
    size_t N, S, M;
    int *ids;                                              // (N)
    size_t *starts;                                        // (S+1)
    size_t *at;                                            // (M)
    int *target;                                           // (M)
    float *weight;                                         // (M)
} Batch;

typedef struct {
    float *x;                                              // (N, C): the layer's input
    float *qkv, *att, *lse;                                // queries, keys and values; (M, H*D), (M, H)
    float *x_att;                                          // (M, C): after attention
    float *gu;                                             // (M, 2*F)
} LayerActs;                                               // M is N in every layer but the last

typedef struct {
    Config config;
    size_t n_params;
    float *params;                                         // the arena, in tensor_offset order
    float *grads;                                          // the same shape; NULL until model_reserve with training
    bool accumulate;                                       // grads hold earlier micro-batches of this step
    float *cos_sin;                                        // (seq_len, D/2, 2)
    // Work memory for up to max_tokens, made by model_reserve.
    size_t max_tokens, max_row, max_rows, max_targets;
    bool training, checkpointing;
    LayerActs *acts;                                       // one a layer, (eval, checkpointing: all share one but for x)
    float *out, *norm_out;                                 // (M, C), (M, C): after the last layer
    float *logits, *scale;                                 // (a slice of M, V), (M)
    float *norm_att, *norm_q, *norm_ffn, *rstd, *y;        // of the layer at hand: (N, C), (M, C), (N, C), (N), (N, F)
    float *dout, *dx;                                      // (N, C), (N, C): gradients between layers
    float *dx_att, *dx_q, *dnorm, *datt, *dqkv;             // (N, C), (M, C), (N, C), (N, H*D), (N, (H + 2*K)*D)
    float *dw_tiles, *attention, *partial;                 // (tile_count(N), C), attention_scratch, linear_scratch
    int *position, *query_position;                        // (N), (M): place in the row
    size_t *query_starts;                                  // (S+1)
    float *activations;                                    // the one block behind all of these
    size_t n_activations;                                  // floats in it
} Model;

// Allocates the parameters (uninitialised) and the RoPE table. False when memory is short.
bool model_init(Model *m, const Config *c, Err *e);
// Normal(0, 0.02); wo and w2, which write into the residual stream, smaller by 1/sqrt(2 n_layers); norms 1.
void model_randomize(Model *m, uint64_t seed);
// Work memory for batches of at most these sizes; training: gradients too. Says how much is missing if it is.
bool model_reserve(Model *m, size_t max_tokens, size_t max_row, size_t max_rows, size_t max_targets, bool training,
                   bool checkpointing, Err *e);
void model_free(Model *m);                                 // accepts {0}
// The floats of work memory that model_reserve would allocate; the rows of logits that exist at a time.
size_t model_work_size(const Config *c, size_t max_tokens, size_t max_row, size_t max_rows, size_t max_targets, bool training,
                       bool checkpointing);
size_t model_logit_rows(const Config *c);

static inline float *model_param(const Model *m, TensorId id, size_t layer) { return m->params + tensor_offset(&m->config, id, layer); }
static inline float *model_grad(const Model *m, TensorId id, size_t layer) { return m->grads + tensor_offset(&m->config, id, layer); }

// Fills loss (M). With divisor > 0 it also prepares the gradient of sum_m weight_m * nll_m / divisor, which
// model_backward then carries through the layers into grads (added to them while m->accumulate is set).
void model_forward(Model *m, const Batch *b, TokenLoss *loss, double divisor);
void model_backward(Model *m, const Batch *b);

#endif

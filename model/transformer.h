// transformer: a model's shape, THE table of its tensors, and its loss and gradient over ragged rows.
// It sees numbers only: no text, no roles. Allocation, checkpoint order, names and shapes, weight decay, tests and
// printing all walk the table. What families of models differ in is in the table and in Config: there is one forward.
//
// To read the model for the first time, begin with model/sample.c. sampler_feed there is the reference: the whole
// forward for one token or more, on one page. transformer.c is the fast version: the same operations for all tokens of
// a batch, and their gradients. attention_plain in tests/test_ops.c is attention in plain loops; model/attention.c is
// the fast version.
#ifndef TRANSFORMER_H
#define TRANSFORMER_H

#include "base.h"
#include "ops.h"

// ---- shape --------------------------------------------------------------------------------------------------------
typedef enum { LLAMA, MISTRAL, QWEN2, QWEN3, SMOLLM3, N_FAMILIES } FamilyId;   // their names: checkpoint.h
enum { MAX_LAYERS = 1 << 10 };

// Names as in llama2.c; from rope_theta on as in transformers' LlamaConfig.
typedef struct {
    int dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab_size, seq_len;
    FamilyId family;
    bool tied;                                             // the classifier is tok_emb
    bool windowed;                                         // seq_len is the model's sliding_window, and
    int max_positions;                                     // max_position_embeddings is larger
    bool qkv_bias, o_bias;                                 // wq, wk, wv have a bias; wo has one
    bool qk_norm;                                          // each head of q and k goes through an RMSNorm before RoPE
    bool no_rope[MAX_LAYERS];                              // the layers without RoPE
    float rope_theta, norm_eps;
    // rope_scaling of type "llama3"; factor 0 means none
    struct { float factor, low_freq_factor, high_freq_factor, original_seq_len; } rope_scaling;
} Config;

// The sizes under one-letter names, as formulas have them, made once from a Config.
typedef struct {
    size_t L, C, F, V;                                     // n_layers, dim, hidden_dim, vocab_size
    size_t H, K, D, HD, KD;                                // n_heads, n_kv_heads, head_dim; H * D, K * D
} Shape;
Shape config_shape(const Config *c);

// Every size positive and small enough to multiply, heads a multiple of kv heads, head_dim even.
bool config_check(const Config *c, Err *e);

// ---- the tensor table ---------------------------------------------------------------------------------------------
// First the tensors of a Llama, then what only other models have. The key of an adapter's dropout depends on the first
// twelve numbers.
typedef enum { TOK_EMB, ATT_NORM, WQ, WK, WV, WO, FFN_NORM, W1, W3, W2, FINAL_NORM, CLASSIFIER,
               BQ, BK, BV, BO, Q_NORM, K_NORM, N_TENSORS } TensorId;
typedef enum { SIZE_ONE, SIZE_DIM, SIZE_QUERY, SIZE_KV, SIZE_HEAD, SIZE_HIDDEN, SIZE_VOCAB } Size;
typedef enum { ALWAYS, UNTIED, QKV_BIAS, O_BIAS, QK_NORM } Presence;

typedef struct {
    const char *name, *hf_name;                            // "%d" in hf_name is the layer's number
    Size rows, columns;                                    // the shape; rows SIZE_ONE: a vector, without weight decay
    Presence present;                                      // in which models
    bool per_layer;
    bool heads_of_pairs;                                   // rows (of a vector: elements) are RoPE pairs: Hugging Face
                                                           // stores them as halves
} TensorInfo;
extern const TensorInfo tensor_table[N_TENSORS];

size_t config_size(const Config *c, Size s);
size_t tensor_count(const Config *c, TensorId id);         // how many there are: n_layers, 1, or 0
size_t tensor_size(const Config *c, TensorId id);          // floats in one of them
// Where tensor `id` of `layer` begins in an arena of parameters or gradients. Layers follow each other; inside a layer
// wq|wk|wv, w1|w3, bq|bk|bv and q_norm|k_norm are neighbours: each group can be used as one tensor.
size_t tensor_offset(const Config *c, TensorId id, size_t layer);
size_t params_count(const Config *c);                      // floats in an arena
void tensor_hf_name(TensorId id, size_t layer, char out[96]);          // Hugging Face's name of one
static inline TensorId classifier_id(const Config *c) { return c->tied ? TOK_EMB : CLASSIFIER; }

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

// ---- the model ----------------------------------------------------------------------------------------------------
typedef struct {
    Config config;
    Shape shape;
    size_t n_params;
    float *params;                                         // the arena, in tensor_offset order
    struct Adapter *adapter;                               // NULL: none (lora.h)
    size_t n_trained;
    float *trained;                                        // what is trained: params, or an adapter's arena
    float *grads;                                          // (n_trained); NULL without model_init_grads
    float *cos_sin;                                        // (seq_len, D/2, 2)
} Model;

// Radians a position, of pair i: with Llama 3's stretching of low frequencies, where the Config has a factor, as
// transformers' _compute_llama3_parameters does it.
float rope_frequency(const Config *c, int i);
// Allocates the parameters (uninitialised) and the RoPE table. False when memory is short.
bool model_init(Model *m, const Config *c, Err *e);
bool model_init_grads(Model *m, Err *e);                   // the gradients too (uninitialised), for model_gradient
// Normal(0, 0.02); wo and w2, which write into the residual stream, smaller by 1/sqrt(2 n_layers); norms 1; biases 0
void model_randomize(Model *m, uint64_t seed);
void model_free(Model *m);                                 // accepts {0}

static inline float *model_param(const Model *m, TensorId id, size_t layer)
{
    return m->params + tensor_offset(&m->config, id, layer);
}

// NULL where the model has no such bias.
static inline const float *model_bias(const Model *m, TensorId id, size_t layer)
{
    return tensor_count(&m->config, id) ? model_param(m, id, layer) : NULL;
}

// Of a model without an adapter.
static inline float *model_grad(Model *m, TensorId id, size_t layer)
{
    return m->grads + tensor_offset(&m->config, id, layer);
}

// (V, C): as they are used, with the rows that an adapter may have instead
const float *model_embedding(const Model *m);
const float *model_classifier(const Model *m);

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

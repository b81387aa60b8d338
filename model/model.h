// model: a model's shape, THE table of its tensors, and its parameters.
// Allocation, checkpoint order, names and shapes, weight decay, tests and printing all walk the table. What families of
// models differ in is in the table and in Config: there is one forward (transformer.h).
#ifndef MODEL_H
#define MODEL_H

#include "base.h"

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
float *floats_alloc(size_t n, Err *e);                     // uninitialised; NULL when memory is short
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

#endif

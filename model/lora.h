// lora: an adapter of a model (LoRA: Hu et al. 2021, arXiv 2106.09685). A linear y = x W^T gets a branch beside it,
//
//     y = x W^T + scale * dropout(x) A^T B^T       A (r, in), B (out, r); scale = alpha / r, or alpha / sqrt(r)
//                                                  (rsLoRA: Kalajdzievski 2023, arXiv 2312.03732)
//
// and only A and B are trained; if wanted, rows of the embedding too, which take the place of the model's own (PEFT's
// trainable tokens). The model's parameters are read and never written. An adapter is no second model: its branches
// belong to tensors of the table. peft.h reads and writes adapters.
#ifndef LORA_H
#define LORA_H

#include "work.h"

typedef struct {
    size_t r;                                              // 0: the tensor has no branch
    float scale;
    size_t a, b;                                           // where A and B begin in the arena
} Lora;

typedef struct Adapter {
    Lora *lora;                                            // (L * N_TENSORS + 1): see lora_at
    size_t lowest, layer_size;                             // lora_index of the lowest tensor trained; see grads_tiles
    int *tokens;                                           // (n_tokens): whose rows of the embedding are trained
    size_t n_tokens, token_rows;                           // where their rows (n_tokens, C) begin in the arena
    float *embedding;                                      // (V, C): the model's, with these rows; NULL: no tokens
    float dropout;
    size_t n;                                              // floats in the arena, which is the model's `trained`:
                                                           // A and B in the table's order, then the rows of tokens
    cJSON *json;                                           // PEFT's adapter_config.json
    char base_sha256[65];                                  // "" until it is asked for
} Adapter;

static inline size_t lora_index(TensorId id, size_t layer) { return layer * N_TENSORS + (size_t)id; }
// Tensors without a branch have a place too, that of the next one. So A and B of the tensors first .. last of a layer
// are the floats from lora_at(first).a to lora_at(last + 1).a.
static inline const Lora *lora_at(const Adapter *a, TensorId id, size_t layer)
{
    return &a->lora[lora_index(id, layer)];
}

void adapter_lay_out(Adapter *a, const Config *c);         // the places in the arena, once r and tokens are set
// Gives the model an adapter, with memory for its numbers (uninitialised). The model owns it, also where this fails.
bool model_adapt(Model *m, Adapter *a, Err *e);
void adapter_free(Adapter *a);                             // accepts NULL
// A uniform in +-1 / sqrt(in), B zero, and the tokens' rows as they are in the model: the model computes what it did.
void adapter_randomize(Model *m, uint64_t seed);
void adapter_changed(Model *m);                            // to be called after each change of the arena
// W = W + scale * B A, summed in double, and the tokens' rows. The model is then one without an adapter.
void model_merge(Model *m);
void lora_name(size_t index, char matrix, char out[128]);            // PEFT's name of A or B (matrix), by lora_index
// Are n_trained numbers, the arena's or their gradients, all finite? Else the name of the first tensor that is not.
bool adapter_finite(const Model *m, const float *numbers, char name[128]);
#define TOKEN_ROWS "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"

// ---- inside of the model's passes ---------------------------------------------------------------------------------

// The branches of the tensors first .. last of a layer, in a tile. Without an adapter these functions do nothing. The
// tensors are neighbours: y is (R, stride), and their products stand side by side in its rows.
typedef struct { TensorId first, last; size_t layer, stride; } Products;
// y += scale * dropout(x) A^T B^T                                   // x (R, in); w NULL: without dropout
void lora_forward(const Model *m, const Work *w, Products p, Tile t, float *y, const float *x);
// Adds to dx what follows from dy; writes the tile's gradients of A and B. dx or x may be NULL: then only the other.
void lora_backward(const Model *m, const Work *w, Products p, Tile t, float *dx, const float *dy, const float *x);
uint32_t lora_key(uint64_t seed, size_t row, size_t position);       // of a token's dropout
// Adds to the gradients of the tokens' rows: x (R, C) is the gradient of embedding[ids] (R); or, where ids is NULL, the
// input of a head that is the embedding, logits = x embedding^T (R, V).
void lora_tokens_backward(Model *m, const float *x, size_t R, const int *ids, const float *dlogits);

#endif

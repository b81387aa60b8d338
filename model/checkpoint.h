// checkpoint: models in files, read and written by the tensor table. Two formats: llama2.c's .bin (version 0 and 1
// read, version 0 written, which llama2.c's run loads) and the Hugging Face folder (config.json, model.safetensors or
// its shards; F32, F16, BF16 read, F32 written). RoPE pair order is converted here and nowhere else.
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "transformer.h"

// Is `path` a Hugging Face folder (a folder), or a .bin (anything else)?
bool checkpoint_is_folder(const char *path);

// The model's shape alone, from the header or config.json.
bool checkpoint_config(Config *c, const char *path, Err *e);
// A Config from transformers' LlamaConfig names: config.json, or the option model_init. `where` goes into messages.
bool config_from_json(Config *c, const cJSON *json, const char *where, Err *e);

// model_init and all the weights. Every size, name, dtype and shape is checked before it is used.
bool checkpoint_load(Model *m, const char *path, Err *e);

// The path is the .bin file itself. Refuses what the format cannot say (rope_theta, head_dim, ...).
bool checkpoint_save_bin(const Model *m, const char *path, Err *e);
bool config_fits_bin(const Config *c, Err *e);
// The path is the folder; config.json and model.safetensors are written there. other_keys (NULL: none) go into the
// config.json too: those of the one the model came from, or bos_token_id and eos_token_id.
bool checkpoint_save_folder(const Model *m, const char *path, const cJSON *other_keys, Err *e);

#endif

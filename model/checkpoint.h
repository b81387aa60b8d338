// checkpoint: models in files, read and written by the tensor table. RoPE pair order is converted here and nowhere
// else.
//   FORMAT_FOLDER  Hugging Face: config.json, model.safetensors or its shards; F32, F16, BF16 read, F32 written
//   FORMAT_BIN     llama2.c: version 0 and 1 read; version 0 written, which llama2.c's run loads
//   FORMAT_GGUF    llama.cpp: F32, F16, BF16 and Q8_0 read; F32, F16 and Q8_0 written; the tokenizer is in the file
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "gguf.h"
#include "model.h"

// What all others need to know of a format. To add one: its name here, its row and functions in checkpoint.c, and how
// format_of tells it from the others; what its tokenizer is like belongs in tokenizer/export.
typedef enum { FORMAT_FOLDER, FORMAT_BIN, FORMAT_GGUF, N_FORMATS } FormatId;

typedef struct {
    bool is_folder;                                        // a model's path is a folder, or one file
    const char *ending;                                    // of the path of a new one; "": any other
    const char *model_file, *tokenizer_file;               // their names in a folder that has both
    // The shape; unless m is NULL, model_init and all the weights too.
    bool (*read)(Config *c, Model *m, const char *path, Err *e);
    bool (*fits)(const Config *c, Err *e);                 // refuses a shape that it cannot express; NULL: takes any
    // other_keys (NULL: none) go into a config.json too: those of the one that the model came from. A folder must
    // exist.
    bool (*save)(const Model *m, const char *path, const cJSON *other_keys, Err *e);
} Format;
extern const Format formats[N_FORMATS];

const Format *format_of(const char *path);                 // of a model that is read
const Format *format_for(const char *path);                // of one that is to be written, by its name
Path format_path(const Format *f, const char *dir);        // where the model is in a folder

// By the path's format. Every size, name, dtype and shape is checked before it is used.
bool checkpoint_config(Config *c, const char *path, Err *e);
bool checkpoint_load(Model *m, const char *path, Err *e);

// checkpoint_gguf.c. `more` (NULL: none): keys besides the model's, as the tokenizer's. Matrices get the type, or F16
// where their rows are not whole blocks of Q8_0; vectors are F32.
#define ROPE_FACTORS "rope_freqs.weight"                   // a tensor besides those of the table
bool gguf_read(Config *c, Model *m, const char *path, Err *e);
bool gguf_save(const Model *m, const char *path, const GgufKeys *more, Dtype type, Err *e);

// One or more safetensors files, as one. Files of adapters are read and written like those of models (peft.h).
typedef struct { SafeTensors *files; size_t n, cap; } Shards;
bool shards_add(Shards *s, const char *folder, const char *name, Err *e);
void shards_close(Shards *s);                              // accepts {0}

// Tensors of a file, and where they begin in an arena. head_dim: where the rows are RoPE pairs, else 0.
typedef struct { StTensor tensor; char name[128]; size_t at, head_dim; } Entry;        // of a tensor its shape alone
// of_model: a tied head and RoPE frequencies may be in the files too. The caller frees the items.
typedef struct { Entry *items; size_t n, cap; bool of_model; } Entries;
// Adds a matrix, or (rows 0) a vector. Returns where its name goes.
char *entries_add(Entries *p, size_t rows, size_t columns, size_t at, size_t head_dim);
// Fails if one is missing, of another shape, or if the files have others besides.
bool entries_check(const Shards *s, const Entries *p, const char *where, Err *e);
void entries_read(const Shards *s, const Entries *p, float *arena);      // after entries_check
// The two, and model_init between them. Frees the items.
bool entries_load(Model *m, const Config *c, const Shards *s, Entries p, const char *where, Err *e);
Entries model_entries(const Config *c);                    // those of a model, under Hugging Face's names
// The numbers as a file has them. *own (NULL before): what the caller frees.
const float *entry_values(const Entry *part, const float *arena, float **own);
void config_set_window(Config *c, int window);             // 0: none; after seq_len is max_position_embeddings
bool checkpoint_check(const Config *c, Err *e);            // config_check, and no more positions than is reasonable
bool entries_save(const Entries *p, const float *arena, const char *folder, const char *name, const char *more, Err *e);

// A family of models, and what a key that is absent from its config.json means (transformers 5.23, configuration_*.py).
// To add one: its name in model.h, its row here, and what it differs in as a row of the tensor table.
typedef struct {
    const char *model_type, *architecture;
    int seq_len;
    double rope_theta;
    int n_kv_heads, head_dim, window;                      // 0: n_heads; dim / n_heads; none
    bool tied;
} Family;
extern const Family families[N_FAMILIES];

// A Config from transformers' names: config.json, or the option model_init. `where` goes into messages.
bool config_from_json(Config *c, const cJSON *json, const char *where, Err *e);
// Refuses keys that mean nothing here, with the nearest one that does: for what people write, not for files.
bool config_check_keys(const cJSON *json, const char *where, Err *e);

#endif

// generate: text from a model, for people: a plain continuation as llama2.c's run prints it, and a chat.
#ifndef GENERATE_H
#define GENERATE_H

#include "../../model/sample.h"
#include "../rows/example.h"

typedef struct {
    const Model *model;
    const char *model_path;                                // a folder's config.json may name more end tokens
    const Recipe *recipe;                                  // tokenizer and template
    float temperature, top_p;
    size_t max_new_tokens;
    uint64_t seed;
} Generation;

// Both write to stdout as the text comes. sample: BOS and the prompt go in, prompt and continuation come out, up to
// EOS or BOS. chat: one answer to `prompt`, or with NULL a conversation with the lines of stdin.
bool generate_sample(const Generation *g, const char *prompt, Err *e);
bool generate_chat(const Generation *g, const char *system, const char *prompt, Err *e);

#endif

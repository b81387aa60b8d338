// generate: text from a model, for people: a plain continuation as llama2.c's run prints it, and a chat.
#ifndef GENERATE_H
#define GENERATE_H

#include "inputs.h"

// Both take the path of a model, and print to stdout as the text comes. sample: BOS and the option prompt go in, prompt
// and continuation come out, up to EOS or BOS. chat: one answer to the option prompt, or else a conversation with the
// lines of stdin.
bool generate_sample(Run *r, char **model, Err *e);
bool generate_chat(Run *r, char **model, Err *e);

#endif

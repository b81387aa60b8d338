// turn: how a chat template ends an assistant's turn.
#ifndef TURN_H
#define TURN_H

#include "example.h"

// The token that ends an answer: the first added token that the template prints after the assistant's words, whether or
// not more turns follow. -1 if there is no template, or it ends a turn with plain text.
int turn_end(const Recipe *r);

// eos_token_id of a config.json or generation_config.json, a number or a list: the ids that were there, the tokenizer's
// EOS and turn_end. Whoever generates text stops at them.
void turn_add_ends(cJSON *config, const Recipe *r);

// Adds an id to a list of ids, if it is one (>= 0) and not there yet. False for an id below 0.
bool turn_add_id(cJSON *ids, int id);
// The special tokens that the template prints around messages, but a BOS in front, which a base knows. False: none.
bool turn_add_tokens(cJSON *ids, const Recipe *r);

#endif

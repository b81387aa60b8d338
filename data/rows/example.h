// example: one row of a data set -> token ids, and for each token its role and label. THE place where a label becomes
// -100. A row is one JSON object of one of these kinds, looked for in this order:
//   input_ids (+ labels, or assistant_masks, completion_mask)    used as they are
//   prompt + completion        strings, or lists of messages
//   messages, conversations    role/content, or ShareGPT's from/value
//   instruction, input, output Alpaca's (+ system, history), made into messages
//   the text field             plain text
// A key that is null counts as absent. The semantics are TRL's.
//
// One small row, and the batch made of it. The label of a token is its own id, or -100: nothing is shifted here. batch
// shifts: position at[m] predicts target[m], the label of the token after it.
//
//   position    0         1    2        3             4    5             batch:   at      3    4
//   token       <|user|>  Hi   <|end|>  <|assistant|> Yo   <|end|>                target  77   4
//   ids         2         91   4        3             77   4                      weight  1    1
//   labels      -100      -100 -100     -100          77   4
//   weights     0         0    0        0             1    1
//   roles       template  user template template      assistant assistant
//
// With prompt_loss_weight = 0.1 the first four labels are 2, 91, 4, 3 and their weights 0.1; `at` then holds 0 to 4.
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include "conversation.h"

enum { IGNORE = -100 };        // the label that the loss ignores: ignore_index of PyTorch's cross_entropy

typedef struct {
    size_t n;                                              // tokens
    int *ids, *labels;                                     // (n), (n): labels[i] is the label of ids[i]
    float *weights;                                        // (n): of the token's loss; 0 exactly if its label is -100
    unsigned char *roles;                                  // (n)
    size_t n_learned, n_left_out;                          // tokens after the first: how many the mask selects, and
                                                           // how many prompt_loss_weight could bring back
    size_t n_supervised;                                   // have a label, the first token too
    size_t row, line, turn;                                // in the file, from 0 and 1; its turn from 1 (split_turns)
    bool truncated, dropped;                               // cut at max_length; the mask selects no token of it
    bool spans_by_rendering;                               // the template has no generation blocks to tell the spans
    unsigned char notes;                                   // Note bits
    char unknown_role[20];
    const char *unused_column;
    const char *mask_name;                                 // what made the labels: "assistant", "completion", "both"
                                                           // (each AND the other), "none", or "given" by the row
} Example;
void example_free(Example *ex);                            // accepts {0}

// Tokens of n bytes of text, all of them in the model's vocabulary. The caller frees `out`.
bool recipe_encode(const Recipe *r, const char *text, size_t n, bool add_special_tokens, Encoding *out, Err *e);

// How a row became its example, for those who ask why. Spans and roles in `chat` are of bytes.
typedef struct {
    Conversation chat;                                     // of any row with a text
    cJSON *messages;                                       // as the template got them; NULL: the row has none
    Encoding tokens;                                       // all of them, also those that max_length cut off
    bool *is_assistant;                                    // (tokens.n): in a span; NULL: nobody asked for spans
    size_t n_prompt;                                       // tokens of the prompt (prompt + completion rows)
} Origin;
void origin_free(Origin *t);                               // accepts {0}

// Builds the example of one row: labels first, then the cut at max_length (from the start on), then "dropped" if
// no token that the mask selects is left. `origin`: NULL, or where to keep how it was done, for the caller to free,
// also after a failure. The arrays of `ex` then also have the tokens that were cut off. An error names no place: the
// caller knows file and line. Safe in parallel.
bool example_build(Example *ex, Origin *origin, const cJSON *row, const Recipe *recipe, Err *e);

#endif

// dataset: a .jsonl or .json file -> examples, in parallel over rows.
#ifndef DATASET_H
#define DATASET_H

#include "example.h"

typedef struct {
    const char *text;                                      // one row's JSON; points into the file
    size_t len, line, row, turn;                           // line, turn: from 1; turn: that it ends with, 0: it has all
} RowText;

typedef struct {
    File file;
    RowText *rows;                                         // (n): those of the file or, with split_turns, of turns
    Example *examples;                                     // (n), in the file's order
    size_t n, cap;
} Dataset;

// Rows: objects one after another, on one line each or on several; a JSON list of objects; or {"data": [...]}. The
// content tells which.
// Errors name file and line. A data set without a row is an error.
bool dataset_open(Dataset *d, const char *path, Err *e);
// Builds all examples; with split_turns, one for each turn. The first bad row (by line) is the error.
bool dataset_build(Dataset *d, const Recipe *recipe, Err *e);
// One row as JSON, up to its turn, for what wants more of it than the example keeps; the caller deletes it.
cJSON *dataset_row(const Dataset *d, size_t i, Err *e);
// The same, and its example and how that was done, as example_build gives them. NULL on failure.
cJSON *dataset_example(Example *ex, Origin *origin, const Dataset *d, size_t i, const Recipe *recipe, Err *e);
size_t dataset_find(const Dataset *d, size_t row);         // the first example of a row of the file; n: none
void dataset_free(Dataset *d);                             // accepts {0}

// What can be seen to go wrong before anything is trained.
typedef enum {
    SYSTEM_LEARNED, USER_LEARNED,                          // words of the system or the user have labels
    NO_END_LEARNED,                                        // the last label is no special token that ends a turn
    ANSWER_CUT, ALL_MASKED,                                // by max_length; the mask leaves nothing: the row is dropped
    ONLY_FIRST_LABEL,                                      // which is never predicted
    DOUBLE_BOS,
    PREFIX_MISMATCH, SPANS_GUESSED, CALLS_LOST, UNUSED_COLUMN, UNKNOWN_ROLE, EQUAL_KEYS,       // as the bits of a Note
    N_SYMPTOMS
} Symptom;

// Does token i end an answer? It is special, the assistant's, and the last one of the answer that is no white space.
bool example_ends_turn(const Example *ex, size_t i, const Tokenizer *t);       // t NULL: false

// Counts over n examples, for the start-up report.
typedef struct {
    size_t rows, dropped, truncated, in_file;              // in_file: rows that they were made of (split_turns)
    size_t tokens, supervised;                             // of the rows that are not dropped; supervised: has a label
    size_t left_out;                                       // of these, tokens that prompt_loss_weight is about
    struct { size_t rows; const Example *first; } symptoms[N_SYMPTOMS];
    bool spans_by_rendering;
    const char *mask;                                      // the rows' mask_name, or "mixed"
    const Example *first;                                  // the first one that is not dropped, NULL if all are
} Summary;
Summary dataset_summary(const Example *examples, size_t n, const Tokenizer *t);

#endif

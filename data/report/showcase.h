// showcase: what the report shows of the models themselves: held-out rows with the loss of each token, and held-out
// questions with each model's answer. Model 0 is the one before training; the others are what training made of it.
#ifndef SHOWCASE_H
#define SHOWCASE_H

#include "../../model/sample.h"
#include "hide.h"

enum { MAX_SHOWN_ROWS = 2, MAX_QUESTIONS = 6, MAX_ANSWER = 64 };

typedef struct {
    const Example *example;
    size_t index;                                          // among the held-out rows
    float *nll;                                            // (n_models, n): of each token but the first
} ShownRow;

typedef struct {
    const Example *example;
    size_t first, end;                                     // tokens [first, end) are the first answer
    char **answers;                                        // (n_models): what each model says instead, greedily
    bool *exact;                                           // (n_models): is it the same, token by token?
} Question;

typedef struct {
    const Tokenizer *tokenizer;
    size_t n_models, n_rows, n_questions;
    bool *seen;                                            // (n_models)
    HideCases cases;                                       // of model 1 on the user's words in row 0, if there are any
    bool has_cases;
    ShownRow rows[MAX_SHOWN_ROWS];                         // a short one, and one with more in it
    Question questions[MAX_QUESTIONS + 1];                 // of the held-out rows, and "Hello"
    Example hello;                                         // without an answer
} Showcase;

// Chooses from r's held-out rows. The tokenizer and the rows are borrowed: r must outlive the showcase.
void showcase_init(Showcase *s, const Run *r, size_t n_models);
void showcase_free(Showcase *s);                           // accepts {0}
// Reads the rows with a model as it is now, and has it answer. The room must do for a batch of one of r's held-out
// rows.
bool showcase_add(Showcase *s, size_t model, Model *m, Room *room, Err *e);
// For a run that goes on: adds model 0, the one that the run once began with, read anew. Where it cannot be read any
// more the showcase is emptied, with a warning.
void showcase_add_first(Showcase *s, const Run *r, const Config *c);

// Where the first answer at or after token `from` begins and ends; false if there is none.
bool showcase_find_answer(const Example *ex, size_t from, size_t *first, size_t *end);
// Appends what the model says instead of tokens [first, end), greedily: up to a special token, or until it is the same,
// or `most` tokens. Is it the same, token by token? Ends where the sampler has no more room.
bool showcase_answer(Buf *out, Sampler *sampler, const Example *ex, size_t first, size_t end, size_t most,
                     const Tokenizer *t);
// The text of n tokens, without special tokens and outer white space. Appends.
void showcase_text(Buf *out, const Tokenizer *t, const int *ids, size_t n);

#endif

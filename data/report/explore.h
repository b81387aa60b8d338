// explore: why each token of a row has its label, and what other trainers make of the row: for inspect, as words in its
// table, and as a page that needs no network and no script.
#ifndef EXPLORE_H
#define EXPLORE_H

#include "../run/inputs.h"

// A row made into an example once more, with how that was done.
typedef struct {
    cJSON *row;
    Example ex;
    Origin origin;
    Buf header;                                            // what a generation prompt prints after a user's message
    const Recipe *recipe;                                  // borrowed
} Explained;
bool explain_row(Explained *x, const Dataset *data, size_t row, const Recipe *r, Err *e);
void explained_free(Explained *x);                         // accepts {0}, and what failed
size_t explained_tokens(const Explained *x);               // all of them, also those that max_length cut off
// Appends why token i has its label, or none: "the assistant's turn 2". Plain text, about 40 characters.
void explain_token(Buf *out, const Explained *x, size_t i);

// What another trainer learns of the same row, by its rule. To add one: its rule in tools.c, a row in the table there,
// and its own code in tests/oracle/labels.py.
typedef struct {
    const char *name, *how;                                // how it finds the tokens
    const char *checked;                                   // against which version; NULL: read from its source only
    bool (*rule)(bool *learned, const Explained *x, Err *e);
} Tool;
enum { N_TOOLS = 7 };
extern const Tool tools[N_TOOLS];
// learned (explained_tokens(x)) becomes true where the tool has a label. False: the tool refuses the row, or its rule
// does not apply; e says why.
bool tool_labels(bool *learned, const Tool *tool, const Explained *x, Err *e);

// Writes the rows [first, end) as a page: the file `path`, atomically.
bool explore_page(const Run *r, size_t first, size_t end, const char *path, Err *e);

#endif

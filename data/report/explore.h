// explore: why each token of a row has its label: for inspect, as words in its table, and as a page that needs
// no network and no script.
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

// Writes the rows [first, end) as a page: the file `path`, atomically.
bool explore_page(const Run *r, size_t first, size_t end, const char *path, Err *e);

#endif

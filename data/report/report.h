// report: what people see of the data: the start-up report, the token table, the padded batch, JSON lines.
#ifndef REPORT_H
#define REPORT_H

#include "../rows/dataset.h"

// Rows, tokens, what is learned, and what looks wrong, before anything is trained. `name`: the data set's file.
void report_summary(FILE *out, const char *name, const Summary *s, const Recipe *recipe);

// What tokens [first, end) add to the text of tokens [0, first), special tokens and all. False, and nothing added, if
// they do not make it longer: a token may only complete a character that began before it.
bool report_added_text(Buf *out, const int *ids, size_t first, size_t end, const Tokenizer *t);
// One token as the cell of a table: what it adds to the token before it, or its spelling in the vocabulary if that is
// no text of its own. Control characters become \n, \t, \x1B.
void report_token_cell(Buf *out, const Example *ex, size_t i, const Tokenizer *t);

// One row as a table: position, token, id, label, weight, role, LEARNS or MASKED; then its supervised text and counts.
void report_row(FILE *out, const Example *ex, size_t row, const Tokenizer *t, bool colour);
// Rows as a collator would give them to a model that wants rectangles: input_ids, attention_mask, labels.
void report_padded(FILE *out, const Example *examples, size_t n, const Tokenizer *t);

// The lines of inspect --json: the rows [first, end), then the summary of all, to stdout.
bool report_json(const Dataset *data, const Recipe *recipe, size_t first, size_t end, Err *e);

#endif

// report: what people see of the data: the start-up report, the token table, the padded batch, JSON lines.
#ifndef REPORT_H
#define REPORT_H

#include "explore.h"
#include "../run/progress.h"

// The first line of it: rows, dropped, truncated.
void report_rows(FILE *out, const char *name, const Summary *s);
// Rows, tokens, the supervised ones, and what looks wrong, before anything is trained. `name`: the data set's file.
void report_summary(FILE *out, const char *name, const Summary *s, const Recipe *recipe);

// How large the run will be, in steps, tokens and bytes.
void report_plan(FILE *out, const Run *r, const Config *c, const Example *const *rows, size_t n_rows, int64_t n_steps);
// Warns if rows are held out that are trained on too: the same file, by whatever path, or equal rows.
void report_overlap(FILE *out, const Run *r);
// For each line of the log one on stdout, where there is no line of progress on a terminal; and a warning if, at the
// end of the run, its loss is worse than that of a guess: the logarithm of the vocabulary's size, or INFINITY for none.
void report_loss(const Progress *p, int64_t n_steps, double guess);
void report_evaluation(const cJSON *line);                 // a line of the log: its metrics over all roles
// On a terminal, one line on stderr that each step overwrites; nothing elsewhere. `label` (NULL: none) comes first.
void progress_show(const Progress *p, int64_t n_steps, const char *label);
void progress_clear(void);                                 // ends that line, before something else is printed

// What tokens [first, end) add to the text of tokens [0, first), special tokens and all. False, and nothing added, if
// they do not make it longer: a token may only complete a character that began before it.
bool report_added_text(Buf *out, const int *ids, size_t first, size_t end, const Tokenizer *t);
// One token as the cell of a table: what it adds to the token before it, or its spelling in the vocabulary if that is
// no text of its own. Control characters become \n, \t, \x1B.
void report_token_cell(Buf *out, const Example *ex, size_t i, const Tokenizer *t);

// Rows as a collator would give them to a model that wants rectangles: input_ids, attention_mask, labels.
void report_padded(Buf *out, const Example *examples, size_t n, const Tokenizer *t);

// What they come to: {"summary": ...} of inspect --json; owned by the caller.
cJSON *report_summary_json(const Summary *s);

bool report_inspect(Run *r, Err *e);                       // the command inspect

#endif

// report: what people see of data and losses: the start-up report, the token table, the padded batch, JSON lines.
#ifndef REPORT_H
#define REPORT_H

#include "../rows/dataset.h"

// Losses of an evaluation by role: sums over tokens, divided once.
typedef struct {
    double nll[N_ROLES], weighted_nll, weight, weighted_correct;
    size_t n[N_ROLES];                                     // predicted tokens of the role
    size_t answers, exact;                                 // the assistant's turns; those with every token the model's
                                                           // first choice: greedy decoding would give them
} EvalSums;

// The numbers that runs are compared by. To add one: its name here; in report.c a row of metric_table, a place in
// metric_order, what it is in metric_ratio, and a line of eval_add_json, which writes it to log.jsonl. Everything else
// reads the table: the terminal, compare.csv, the page and its curves.
typedef enum { METRIC_ASSISTANT, METRIC_PROMPT, METRIC_EXACT, N_METRICS } Metric;

typedef struct {
    const char *key;                                       // in log.jsonl and compare.csv
    const char *title, *note;                              // for people; the note has the unit, and which way is better
    bool as_percent;                                       // a share from 0 to 1, shown as per cent; otherwise a loss
} MetricRow;

extern const MetricRow metric_table[N_METRICS];
extern const Metric metric_order[N_METRICS];               // the order in which the page and the verdict show them
// NAN where the evaluation had nothing of the kind.
double eval_metric(const EvalSums *sums, Metric metric);

typedef struct { int64_t step; double value[N_METRICS]; } EvalPoint;   // a point of their curves
EvalPoint eval_point(int64_t step, const EvalSums *sums);
// The evaluations that a log.jsonl holds, appended to {points, n, cap}.
bool eval_read_log(const char *path, EvalPoint **points, size_t *n, size_t *cap, Err *e);

// eval_loss (the training objective), eval_assistant_loss, eval_prompt_loss (everything that is not the assistant's),
// eval_mean_token_accuracy, eval_exact_match; with `counts` also the tokens behind each, and the loss of each role.
// What has no token is null.
void eval_add_json(cJSON *json, const EvalSums *sums, bool counts);
void eval_print(FILE *out, const EvalSums *sums);

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

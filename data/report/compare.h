// compare: the evaluations of several runs in one table. An arm is a value of prompt_loss_weight (0: masked, 1:
// unmasked), or an element of the key arms. Each arm is run with the same seeds: arms differ only in their keys, and
// seeds show what chance does.
#ifndef COMPARE_H
#define COMPARE_H

#include "../run/inputs.h"
#include "plot.h"

enum { MAX_ARMS = 8 };

typedef struct {
    char name[64];                                         // "masked", "unmasked", "weight 0.1", or the config's
    char label[64];                                        // on the page: "loss on the answer only"
    char slug[64], folder[64];                             // the name in scripts and paths; its folder in output_dir
    cJSON *keys;                                           // an object: those of the config that it changes
    char *text;                                            // the same as JSON, of an arm of the config; else NULL
} Arm;

// A run's log, and of its lines those of the evaluations and those of training.
typedef enum { LINES_EVAL, LINES_TRAIN } LineKind;
typedef struct {
    cJSON *log;                                            // NULL: the run was not made, or was cut short
    const cJSON **lines[2];
    cJSON *traces;                                         // of the first seed: the lines of trace.h; or NULL
} RunLog;

typedef struct {
    size_t n_arms, n_seeds, n_points;                      // n_points: evaluations of a run
    size_t n_train;                                        // lines of training of a run
    double guess;                                          // the loss of a guess: the logarithm of vocab_size
    Arm arms[MAX_ARMS];                                    // (n_arms)
    bool named;                                            // the arms are those of the config
    int width;                                             // columns for a name in a table
    int64_t first_seed;
    RunLog *runs;                                          // (n_arms, n_seeds)
} Comparison;

// The config's arms, whose keys are checked; where it has none, `weights`: "0,1" are two arms. At least one, at most
// MAX_ARMS, none twice.
bool comparison_init(Comparison *c, const Options *o, const char *weights, Err *e);
void comparison_free(Comparison *c);                       // accepts {0}
// Takes the log of a run that is complete; all runs must have been evaluated at the same steps.
bool comparison_add(Comparison *c, size_t arm, size_t seed, const Run *r, Err *e);

// How many seeds every arm was run with.
size_t comparison_whole_seeds(const Comparison *c);
// Over those; deviation: the sample standard deviation, NAN for a single seed.
typedef struct { double mean, deviation; } Spread;
Spread comparison_spread(const Comparison *c, size_t arm, size_t point, Metric metric);
// The same of any number of the log: `key` in the lines of its kind. NAN where it is not.
Spread comparison_value(const Comparison *c, size_t arm, LineKind kind, size_t i, const char *key);
const cJSON *comparison_line(const Comparison *c, size_t arm, LineKind kind, size_t i);    // of the first seed, or NULL
int64_t comparison_step(const Comparison *c, LineKind kind, size_t i);  // the step of a line
// How an arm's first run read the n-th row that it traced; NULL if it traced fewer.
const cJSON *comparison_trace(const Comparison *c, size_t arm, size_t point, size_t n);
int64_t comparison_last_step(const Comparison *c);         // of the last evaluation; where there is none, of training

// The metric's title; in rows without answers the prompts are called text.
const char *comparison_title(const Comparison *c, Metric metric);
// Adds what comparison_value gives of an arm to a line of a plot. Of more than `most` numbers some are left out.
void comparison_series(PlotLine *line, const Comparison *c, size_t arm, LineKind kind, const char *key, size_t most);
bool comparison_is_kept(size_t i, size_t n, size_t most);  // number i of n then? The first and the last one always are

const char *metric_text(Metric metric, double value, char out[32]);    // "0.1234", "56.7 %"

bool comparison_write_csv(const Comparison *c, const char *path, Err *e);      // one line a run and step
void comparison_print_run(FILE *out, const Comparison *c, size_t arm, size_t seed);    // one line: its last evaluation
void comparison_plot(FILE *out, const Comparison *c, Metric metric);           // means over seeds, as text
void comparison_table(FILE *out, const Comparison *c);     // first and last evaluation of each arm
// A line for each arm whose loss ended above where it began, or above that of a guess: the run blew up.
void comparison_warn(FILE *out, const Comparison *c);
// The same, and then what was found, a sentence a line: of the first arm against each other one, and whether the
// difference exceeds the spread of the seeds; of a single arm, from its first evaluation to its last. `labels`: arms
// are called as on the page.
void comparison_verdict(Buf *out, const Comparison *c, bool labels);

#endif

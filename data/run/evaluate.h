// evaluate: the loss of a model on rows, by role, over tokens that are the same for every run; and a run's curve of it.
#ifndef EVALUATE_H
#define EVALUATE_H

#include "../../model/transformer.h"
#include "../rows/batch.h"
#include "../rows/dataset.h"
#include "options.h"

// The memory that a model needs besides itself to compute batches of rows.
typedef struct {
    Work work;
    Batch batch;
    TokenLoss *losses;                                     // (work.max.targets)
    unsigned char *roles;                                  // (work.max.targets): of the targets of an evaluation, or
                                                           // END_OF_TURN
} Room;
// Takes label_smoothing_factor, loss_type and neftune_noise_alpha of the options.
bool room_init(Room *room, const Options *o, const Config *c, BatchSize max, WorkKind kind, Err *e);
void room_free(Room *room);                                // accepts {0}

// The tokens that end the assistant's turns (example_ends_turn): a part of ROLE_ASSISTANT that is counted once more.
enum { END_OF_TURN = N_ROLES, N_PARTS };

// Sums of an evaluation over tokens, divided once: over the predicted tokens of each role, and over all of them.
typedef struct { double nll, entropy; size_t n, correct; } PartSums;
typedef struct {
    PartSums parts[N_PARTS];
    double weighted_loss, weight, weighted_correct;
    size_t answers, exact;                                 // the assistant's turns; how many of them greedy decoding
                                                           // gives: each token is the model's first choice
    size_t rows, truncated, dropped;                       // of the data set
} EvalSums;

// The numbers that compare runs. To add one: its name here; in evaluate.c a row of metric_table, a place in
// metric_order, and a line of eval_add_json, which writes it to log.jsonl; its column of log.csv in
// data/report/record.c. Everything else reads the table: the terminal, compare.csv, the page and its curves.
typedef enum { METRIC_ASSISTANT, METRIC_PROMPT, METRIC_EXACT, N_METRICS } Metric;

typedef struct {
    const char *key;                                       // in log.jsonl and compare.csv
    const char *title, *note;                              // for people; the note has the unit, and which way is better
    bool as_percent;                                       // a share from 0 to 1, shown as per cent; otherwise a loss
} MetricRow;

extern const MetricRow metric_table[N_METRICS];
extern const Metric metric_order[N_METRICS];               // the order in which the page and the verdict show them

// eval_loss (the training objective), eval_assistant_loss, eval_prompt_loss (everything that is not the assistant's),
// eval_mean_token_accuracy, eval_exact_match; with `counts` also the number of rows and tokens; then, for each role and
// for end_of_turn, eval_ROLE_loss, eval_ROLE_tokens, eval_ROLE_accuracy and eval_ROLE_entropy. A metric without tokens
// is null. Of a role without tokens, except the assistant, the keys are absent.
void eval_add_json(cJSON *json, const EvalSums *sums, bool counts);
void eval_print(const EvalSums *sums);

// The losses of all rows that are not dropped, in batches of as many rows as fit into the room. The tokens do not
// depend on the run's mask: the same rows and weights give the same bits in every run. The tokenizer (NULL: none) says
// which tokens end a turn.
EvalSums evaluate(const Model *m, Room *room, const Example *rows, size_t n, const Tokenizer *t);

// Of the first GRADIENT_ROWS rows that are not dropped, or as many as fit into the room: the gradient of the mean nll
// over all tokens but each row's first, without noise and dropout. It is the sum of two parts, each with the divisor of
// the whole: from the assistant's tokens, and from all others (prompt). Adds to json
//   eval_assistant_gradient_norm, eval_prompt_gradient_norm; eval_gradient_cosine, between the two parts;
//   eval_assistant_gradient_share, eval_prompt_gradient_share: dot(part, whole) / |whole|^2. They sum to 1; one below 0
//   is of a part that points against the whole.
// by_role: eval_ROLE_gradient_norm and _share of the other roles too; roles sum to the whole. Adds nothing where the
// rows have tokens of one part alone. Replaces m->grads. Takes the memory of a second gradient for a while; where that
// is not free, says so once and adds nothing. The room is not of kind WORK_LOSS.
enum { GRADIENT_ROWS = 32 };
void eval_add_gradients(cJSON *json, Model *m, Room *room, const Example *rows, size_t n, bool by_role);

#endif

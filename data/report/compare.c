// compare: see compare.h.
#include "compare.h"

#include "../run/output.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- the arms -----------------------------------------------------------------------------------------------------

static double weight_of(const Arm *a) { return json_get(a->keys, "prompt_loss_weight")->valuedouble; }

static bool add_weights(Comparison *c, const char *weights, Err *e)
{
    for (const char *p = weights;; p++) {
        char *end;
        double w = strtod(p, &end);
        bool good = c->n_arms < MAX_ARMS && end > p && (*end == ',' || !*end) && w >= 0 && w <= 1000;
        for (size_t i = 0; good && i < c->n_arms; i++) good = weight_of(&c->arms[i]) != w;
        if (!good)
            return fail(e, "prompt_loss_weights: expected up to %d different numbers from 0 to 1000, as in 0,1; "
                           "found \"%s\"", MAX_ARMS, weights);
        Arm *a = &c->arms[c->n_arms++];
        if (w == 0 || w == 1) snprintf(a->name, sizeof a->name, w == 0 ? "masked" : "unmasked");
        else snprintf(a->name, sizeof a->name, "weight %g", w);
        strcpy(a->slug, a->name);
        strcpy(a->label, w == 0 ? "loss on the answer only" : w == 1 ? "loss on every token" : a->name);
        snprintf(a->folder, sizeof a->folder, "weight-%g", w);
        a->keys = cJSON_CreateObject();
        cJSON_AddNumberToObject(a->keys, "prompt_loss_weight", w);
        p = end;
        if (!*p) return true;
    }
}

// The slug of a name: its letters and digits, with one - for what stands between them.
static bool add_arm(Comparison *c, const Options *o, const cJSON *arm, Err *e)
{
    const char *name = json_string(arm, "name");
    size_t n = 0, length = name ? strlen(name) : 0;
    Arm *a = &c->arms[c->n_arms];
    bool plain = length < sizeof a->name;
    for (size_t i = 0; i < length && plain; i++) {
        unsigned char ch = (unsigned char)name[i];
        if (iscntrl(ch)) plain = false;
        else if (isalnum(ch) || ch >= 0x80) a->slug[n++] = (char)tolower(ch);
        else if (n && a->slug[n - 1] != '-') a->slug[n++] = '-';
    }
    if (n && a->slug[n - 1] == '-') a->slug[--n] = 0;
    if (!plain || n == 0)
        return fail(e, "name: expected a text of up to %zu bytes with a letter or a digit, found %s%s%s",
                    sizeof a->name - 1, length ? "\"" : "", length ? name : json_kind(json_get(arm, "name")),
                    length ? "\"" : "");
    for (size_t i = 0; i < c->n_arms; i++)
        if (strcmp(a->slug, c->arms[i].slug) == 0)
            return fail(e, "name: \"%s\": arm \"%s\" has the same folder, %s", name, c->arms[i].name, a->slug);
    c->n_arms++;
    if ((int)length > c->width) c->width = (int)length;
    strcpy(a->name, name);
    strcpy(a->label, name);
    strcpy(a->folder, a->slug);
    a->keys = cJSON_Duplicate(arm, true);
    cJSON_DeleteItemFromObjectCaseSensitive(a->keys, "name");
    a->text = cJSON_PrintUnformatted(a->keys);
    Options trial;
    options_copy(&trial, o);
    bool ok = options_set_arm(&trial, a->keys, e);
    options_free(&trial);
    return ok;
}

static bool add_arms(Comparison *c, const Options *o, Err *e)
{
    int n = cJSON_GetArraySize(o->arms);
    if (o->prompt_loss_weights) return fail(e, "arms and prompt_loss_weights: expected one of the two, found both");
    if (n < 1 || n > MAX_ARMS) return fail(e, "arms: expected 1 to %d, found %d", MAX_ARMS, n);
    for (int i = 0; i < n; i++)
        if (!add_arm(c, o, cJSON_GetArrayItem(o->arms, i), e)) return fail_prefix(e, "arms[%d]: ", i);
    return true;
}

bool comparison_init(Comparison *c, const Options *o, const char *weights, Err *e)
{
    *c = (Comparison){.n_seeds = (size_t)o->seeds, .first_seed = o->seed, .named = o->arms != NULL,
                      .width = 14};
    if (!(c->named ? add_arms(c, o, e) : add_weights(c, weights, e))) return comparison_free(c), false;
    c->runs = mem_alloc(c->n_arms * c->n_seeds, sizeof *c->runs);
    return true;
}

void comparison_free(Comparison *c)
{
    for (size_t i = 0; i < c->n_arms; i++) cJSON_Delete(c->arms[i].keys), cJSON_free(c->arms[i].text);
    for (size_t i = 0; c->runs && i < c->n_arms * c->n_seeds; i++) {
        free(c->runs[i].lines[LINES_EVAL]);
        free(c->runs[i].lines[LINES_TRAIN]);
        cJSON_Delete(c->runs[i].log);
        cJSON_Delete(c->runs[i].traces);
    }
    free(c->runs);
    *c = (Comparison){0};
}

bool comparison_add(Comparison *c, size_t arm, size_t seed, const Run *r, Err *e)
{
    RunLog *run = &c->runs[arm * c->n_seeds + seed];
    size_t n[2] = {0}, most;
    run->log = run_read_log(r, e);
    if (!run->log) return false;
    most = (size_t)cJSON_GetArraySize(run->log);
    for (LineKind k = LINES_EVAL; k <= LINES_TRAIN; k++) {
        const cJSON *line;
        run->lines[k] = mem_alloc(most, sizeof *run->lines[k]);
        cJSON_ArrayForEach(line, run->log)
            if (json_get(line, k == LINES_EVAL ? "eval_loss" : "loss")) run->lines[k][n[k]++] = line;
    }
    c->n_points = n[LINES_EVAL];
    c->n_train = n[LINES_TRAIN];
    Path traces = path_in(r->options.output_dir, TRACES_FILE);
    if (seed > 0 || !file_exists(traces.text)) return true;
    run->traces = run_read_lines(traces.text, e);
    return run->traces != NULL;
}

static const RunLog *run_of(const Comparison *c, size_t arm, size_t seed) { return &c->runs[arm * c->n_seeds + seed]; }

// Was every arm run with this seed? Other seeds are left out of all means: arms stay comparable if runs were cut short.
static bool seed_is_whole(const Comparison *c, size_t seed)
{
    for (size_t a = 0; a < c->n_arms; a++)
        if (!run_of(c, a, seed)->log) return false;
    return true;
}

size_t comparison_whole_seeds(const Comparison *c)
{
    size_t n = 0;
    for (size_t s = 0; s < c->n_seeds; s++) n += seed_is_whole(c, s);
    return n;
}

static double number_of(const RunLog *run, LineKind kind, size_t i, const char *key)
{
    const cJSON *v = json_get(run->lines[kind][i], key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

Spread comparison_value(const Comparison *c, size_t arm, LineKind kind, size_t i, const char *key)
{
    double sum = 0, squares = 0;
    size_t n = comparison_whole_seeds(c);
    if (n == 0 || i >= (kind == LINES_EVAL ? c->n_points : c->n_train)) return (Spread){NAN, NAN};
    for (size_t s = 0; s < c->n_seeds; s++)
        if (seed_is_whole(c, s)) sum += number_of(run_of(c, arm, s), kind, i, key);
    double mean = sum / (double)n;
    for (size_t s = 0; s < c->n_seeds; s++) {
        if (!seed_is_whole(c, s)) continue;
        double d = number_of(run_of(c, arm, s), kind, i, key) - mean;
        squares += d * d;
    }
    return (Spread){mean, n > 1 ? sqrt(squares / (double)(n - 1)) : NAN};
}

Spread comparison_spread(const Comparison *c, size_t arm, size_t point, Metric metric)
{
    return comparison_value(c, arm, LINES_EVAL, point, metric_table[metric].key);
}

const cJSON *comparison_line(const Comparison *c, size_t arm, LineKind kind, size_t i)
{
    const RunLog *run = run_of(c, arm, 0);                 // the first seed is whole if any is
    return run->log && i < (kind == LINES_EVAL ? c->n_points : c->n_train) ? run->lines[kind][i] : NULL;
}

int64_t comparison_step(const Comparison *c, LineKind kind, size_t i)
{
    const cJSON *line = comparison_line(c, 0, kind, i);
    return line ? (int64_t)json_get(line, "step")->valuedouble : 0;
}

const cJSON *comparison_trace(const Comparison *c, size_t arm, size_t point, size_t n)
{
    const cJSON *all = c->n_points ? run_of(c, arm, 0)->traces : NULL;
    size_t rows = (size_t)cJSON_GetArraySize(all) / (c->n_points ? c->n_points : 1);
    return n < rows ? cJSON_GetArrayItem(all, (int)(point * rows + n)) : NULL;
}

int64_t comparison_last_step(const Comparison *c)
{
    if (c->n_points) return comparison_step(c, LINES_EVAL, c->n_points - 1);
    return c->n_train ? comparison_step(c, LINES_TRAIN, c->n_train - 1) : 0;
}

// ---- files --------------------------------------------------------------------------------------------------------

// A name of the config stands in quotes, and a quote in it is doubled.
static void add_first_cell(Buf *b, const Comparison *c, const Arm *a)
{
    if (!c->named) return buf_addf(b, "%g", weight_of(a));
    buf_addc(b, '"');
    for (const char *p = a->name; *p; p++) buf_addf(b, "%s%c", *p == '"' ? "\"" : "", *p);
    buf_addc(b, '"');
}

bool comparison_write_csv(const Comparison *c, const char *path, Err *e)
{
    Buf b = {0};
    buf_addf(&b, "%s,seed,step", c->named ? "arm" : "prompt_loss_weight");
    for (Metric m = 0; m < N_METRICS; m++) buf_addf(&b, ",%s", metric_table[m].key);
    buf_addc(&b, '\n');
    for (size_t a = 0; a < c->n_arms; a++)
        for (size_t s = 0; s < c->n_seeds; s++)
            for (size_t i = 0; i < c->n_points && run_of(c, a, s)->log; i++) {
                long long seed = c->first_seed + (int64_t)s;
                add_first_cell(&b, c, &c->arms[a]);
                buf_addf(&b, ",%lld,%lld", seed, (long long)comparison_step(c, LINES_EVAL, i));
                for (Metric m = 0; m < N_METRICS; m++) {
                    double v = number_of(run_of(c, a, s), LINES_EVAL, i, metric_table[m].key);
                    if (isnan(v)) buf_addc(&b, ',');
                    else buf_addf(&b, ",%.9g", v);
                }
                buf_addc(&b, '\n');
            }
    bool ok = file_put(path, b.data, b.len, e);
    buf_free(&b);
    return ok;
}

const char *comparison_title(const Comparison *c, Metric metric)
{
    bool no_answers = isnan(comparison_spread(c, 0, 0, METRIC_ASSISTANT).mean);
    return metric == METRIC_PROMPT && no_answers ? "Loss on held-out text" : metric_table[metric].title;
}

void comparison_series(PlotLine *line, const Comparison *c, size_t arm, LineKind kind, const char *key, size_t most)
{
    size_t n = kind == LINES_EVAL ? c->n_points : c->n_train;
    for (size_t i = 0; i < n; i++) {
        if (!comparison_is_kept(i, n, most)) continue;
        Spread s = comparison_value(c, arm, kind, i, key);
        plot_point(line, (double)comparison_step(c, kind, i), s.mean, s.deviation);
    }
}

bool comparison_is_kept(size_t i, size_t n, size_t most) { return i == 0 || (n - 1 - i) % (n / most + 1) == 0; }

// ---- for the terminal ---------------------------------------------------------------------------------------------

void comparison_plot(FILE *out, const Comparison *c, Metric metric)
{
    Plot plot = {.title = metric_table[metric].key, .x_title = "steps", .percent = metric_table[metric].as_percent};
    for (size_t a = 0; a < c->n_arms; a++)
        comparison_series(plot_line(&plot, NULL, c->arms[a].name, a), c, a, LINES_EVAL, plot.title, SIZE_MAX);
    plot_print(out, &plot);
    plot_free(&plot);
}

static void print_cell(FILE *out, Spread s, size_t width)
{
    char text[40] = "-";
    size_t n;                                              // columns, not bytes: the sign has two of these
    if (!isnan(s.mean) && isnan(s.deviation)) snprintf(text, sizeof text, "%.4f", s.mean);
    else if (!isnan(s.mean)) snprintf(text, sizeof text, "%.4f ± %.4f", s.mean, s.deviation);
    n = strlen(text) - (strstr(text, "±") ? strlen("±") - 1 : 0);
    fprintf(out, "  %*s%s", n < width ? (int)(width - n) : 0, "", text);
}

void comparison_print_run(FILE *out, const Comparison *c, size_t arm, size_t seed)
{
    fprintf(out, "%-*s seed %lld:", c->width, c->arms[arm].name, (long long)c->first_seed + (long long)seed);
    for (Metric m = 0; m < N_METRICS; m++) {
        double last = number_of(run_of(c, arm, seed), LINES_EVAL, c->n_points - 1, metric_table[m].key);
        if (!isnan(last)) fprintf(out, "  %s %.4f", metric_table[m].key, last);
    }
    fprintf(out, "\n");
    fflush(out);
}

void comparison_table(FILE *out, const Comparison *c)
{
    fprintf(out, "\n%-*s %8s", c->width, "arm", "step");
    for (Metric m = 0; m < N_METRICS; m++) fprintf(out, "  %s", metric_table[m].key);
    fprintf(out, "\n");
    for (size_t row = 0; row <= c->n_arms; row++) {        // before the first step all arms are the same model
        size_t arm = row ? row - 1 : 0, i = row ? c->n_points - 1 : 0;
        fprintf(out, "%-*s %8lld", c->width, row ? c->arms[arm].name : "before",
                (long long)comparison_step(c, LINES_EVAL, i));
        for (Metric m = 0; m < N_METRICS; m++)
            print_cell(out, comparison_spread(c, arm, i, m), strlen(metric_table[m].key));
        fprintf(out, "\n");
    }
}

// ---- what was found -----------------------------------------------------------------------------------------------

const char *metric_text(Metric metric, double value, char out[32])
{
    bool as_percent = metric_table[metric].as_percent;
    snprintf(out, 32, as_percent ? "%.1f %%" : "%.4f", as_percent ? 100 * value : value);
    return out;
}

static const char *arm_name(const Arm *a, bool label) { return label ? a->label : a->name; }

// One sentence on one metric. The difference counts as seen when it is larger than both arms' deviations together.
static void compare_arms(Buf *out, const Comparison *c, size_t other, Metric metric, bool labels)
{
    char first_value[32], other_value[32], both[32];
    Spread x = comparison_spread(c, 0, c->n_points - 1, metric);
    Spread y = comparison_spread(c, other, c->n_points - 1, metric);
    double difference = x.mean - y.mean, spread = x.deviation + y.deviation;
    bool percent = metric_table[metric].as_percent;
    if (isnan(difference)) return;
    buf_addf(out, "%s: %s for %s against %s for %s", comparison_title(c, metric),
             metric_text(metric, x.mean, first_value), arm_name(&c->arms[0], labels),
             metric_text(metric, y.mean, other_value), arm_name(&c->arms[other], labels));
    snprintf(both, sizeof both, percent ? "%.1f points" : "%.4f", percent ? 100 * spread : spread);
    if (isnan(spread)) buf_adds(out, ".\n");
    else if (fabs(difference) > spread)
        buf_addf(out, ", %s by more than both standard deviations together (%s).\n",
                 difference < 0 ? "lower" : "higher", both);
    else buf_addf(out, ". They differ by less than both standard deviations together (%s): no difference was seen.\n",
                  both);
}

// The same of one run: from its first evaluation to its last.
static void compare_ends(Buf *out, const Comparison *c, Metric metric)
{
    char from[32], to[32];
    double first = comparison_spread(c, 0, 0, metric).mean;
    double last = comparison_spread(c, 0, c->n_points - 1, metric).mean;
    if (isnan(first) || isnan(last)) return;
    buf_addf(out, "%s: from %s to %s in %lld steps.\n", comparison_title(c, metric), metric_text(metric, first, from),
             metric_text(metric, last, to), (long long)(comparison_last_step(c) - comparison_step(c, LINES_EVAL, 0)));
}

// By the loss on answers; where rows have none, on text.
static void add_warnings(Buf *out, const Comparison *c, bool labels)
{
    for (size_t a = 0; a < c->n_arms && c->n_points > 1; a++) {
        char from[32], to[32];
        bool answers = !isnan(comparison_spread(c, a, 0, METRIC_ASSISTANT).mean);
        Metric metric = answers ? METRIC_ASSISTANT : METRIC_PROMPT;
        double first = comparison_spread(c, a, 0, metric).mean;
        double last = comparison_spread(c, a, c->n_points - 1, metric).mean;
        bool rose = last > 1.02 * first, guessing = c->guess > 0 && last > 1.02 * c->guess;
        if (!rose && !guessing) continue;
        buf_addf(out, "Warning: %s%sthe loss ended at %s, %s %s: the learning rate is too large%s.\n",
                 c->n_arms > 1 ? arm_name(&c->arms[a], labels) : "", c->n_arms > 1 ? ": " : "",
                 metric_text(metric, last, to), rose ? "and began at" : "and that of a guess is",
                 metric_text(metric, rose ? first : c->guess, from),
                 rose ? ", the run blew up" : ", or the run too short");
    }
}

void comparison_warn(FILE *out, const Comparison *c)
{
    Buf text = {0};
    add_warnings(&text, c, false);
    if (text.len) fputs(text.data, out);
    buf_free(&text);
}

void comparison_verdict(Buf *out, const Comparison *c, bool labels)
{
    add_warnings(out, c, labels);
    for (size_t i = 0; i < N_METRICS && c->n_arms == 1; i++) compare_ends(out, c, metric_order[i]);
    for (size_t a = 1; a < c->n_arms; a++)
        for (size_t i = 0; i < N_METRICS; i++) compare_arms(out, c, a, metric_order[i], labels);
    if (c->n_arms > 1 && comparison_whole_seeds(c) == 1)
        buf_adds(out, "One seed cannot show how much of this is chance: --seeds=5 shows the standard deviation.\n");
}

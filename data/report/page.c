// page: see page.h. C collects the numbers and draws the curves; page.html says where they stand and what they mean. It
// is a template in the language of chat templates, and all texts that it gets are HTML already.
#include "page.h"

#include "../rows/turn.h"
#include "plot.h"
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const char page_html[], page_css[], page_js[];     // files of these names as strings: the Makefile makes them

typedef struct {
    const Run *run;
    const Comparison *comparison;
    const Showcase *showcase;
    cJSON *vars;                                           // of the template
} Page;

// ---- text ---------------------------------------------------------------------------------------------------------

// Control characters but \n and \t, marks that turn the direction of text, what has no width, and what is no character.
static bool is_hidden(uint32_t c)
{
    return (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7F && c < 0xA0) || c == 0xAD || c == 0x61C || c == 0x180E ||
           (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) ||
           c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFB) || (c & 0xFFFE) == 0xFFFE || (c >= 0xFDD0 && c <= 0xFDEF) ||
           (c >= 0xE0000 && c <= 0xE0FFF);
}

void html_escape(Buf *out, const char *text)
{
    static const struct { char c; const char *entity; } entities[] = {
        {'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
    for (const char *p = text, *end = p + strlen(p); p < end;) {
        const char *entity = NULL;
        uint32_t code;
        int n = utf8_decode(p, end, &code);
        for (size_t i = 0; i < sizeof entities / sizeof *entities; i++)
            if (*p == entities[i].c) entity = entities[i].entity;
        if (n == 0) buf_adds(out, "\uFFFD"), n = 1;
        else if (entity) buf_adds(out, entity);
        else if (is_hidden(code)) buf_addf(out, "[U+%04X]", (unsigned)code);
        else buf_add(out, p, (size_t)n);
        p += n;
    }
}

// Adds a text to an object, as HTML.
static void put(cJSON *to, const char *key, const char *text)
{
    Buf html = {0};
    html_escape(&html, text ? text : "");
    cJSON_AddStringToObject(to, key, html.len ? html.data : "");
    buf_free(&html);
}

static void put_buf(cJSON *to, const char *key, Buf *text)  // frees it
{
    put(to, key, text->data);
    buf_free(text);
}

static void put_digits(cJSON *to, const char *key, double value, int digits)
{
    char text[64];
    snprintf(text, sizeof text, "%.*f", digits, value);
    put(to, key, text);
}

static cJSON *add_object(cJSON *list)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(list, object);
    return object;
}

// ---- the models ---------------------------------------------------------------------------------------------------

// Model 0 is the one before training, 1 + a that of arm a. A single arm is a run of its own.
static const char *model_name(const Page *p, size_t model)
{
    const Comparison *c = p->comparison;
    return model == 0 ? "before training" : c->n_arms == 1 && !c->named ? "trained" : c->arms[model - 1].label;
}

static void put_stroke(cJSON *to, size_t style)
{
    put(to, "colour", plot_colour(style));
    put(to, "dashes", plot_dashes(style));
}

static const char *const arm_ids[MAX_ARMS] = {"arm0", "arm1", "arm2", "arm3", "arm4", "arm5", "arm6", "arm7"};

static void add_models(const Page *p)
{
    const Comparison *c = p->comparison;
    cJSON *models = cJSON_AddArrayToObject(p->vars, "models");
    for (size_t k = 0; k <= c->n_arms; k++) {
        cJSON *model = add_object(models);
        put(model, "name", model_name(p, k));
        if (k == 0 || c->n_arms == 1) continue;
        put(model, "id", arm_ids[k - 1]);
        put_stroke(model, k - 1);
        if (c->named) put(model, "changes", c->arms[k - 1].text);
    }
}

// The sentences of the verdict, and apart from them those that are a warning.
static void add_found(const Page *p)
{
    Buf verdict = {0};
    cJSON *lists[] = {cJSON_AddArrayToObject(p->vars, "found"), cJSON_AddArrayToObject(p->vars, "warnings")};
    comparison_verdict(&verdict, p->comparison, true);
    for (char *line = verdict.data, *end; line && (end = strchr(line, '\n')); line = end + 1) {    // each ends its line
        *end = 0;
        put(add_object(lists[strncmp(line, "Warning", 7) == 0]), "text", line);
    }
    buf_free(&verdict);
}

// ---- numbers ------------------------------------------------------------------------------------------------------

static void add_spread(cJSON *row, Metric m, Spread s)
{
    char text[32];
    cJSON *cell = add_object(row);
    if (isnan(s.mean)) return;
    put(cell, "mean", metric_text(m, s.mean, text));
    cJSON_AddNumberToObject(cell, "value", s.mean);
    if (isnan(s.deviation)) return;
    put(cell, "deviation", metric_text(m, s.deviation, text));
    cJSON_AddNumberToObject(cell, "spread", s.deviation);
}

enum { MOST_POINTS = 500 };                                // of a very long run some are left out

// For each metric that the run has: its evaluations.
static void add_metrics(const Page *p)
{
    const Comparison *c = p->comparison;
    cJSON *metrics = cJSON_AddArrayToObject(p->vars, "metrics");
    for (size_t k = 0; k < N_METRICS && c->n_points; k++) {
        Metric m = metric_order[k];
        if (isnan(comparison_spread(c, 0, c->n_points - 1, m).mean)) continue;
        cJSON *metric = add_object(metrics), *points = cJSON_AddArrayToObject(metric, "points");
        put(metric, "key", metric_table[m].key);
        put(metric, "title", comparison_title(c, m));
        for (size_t i = 0; i < c->n_points; i++) {
            if (!comparison_is_kept(i, c->n_points, MOST_POINTS)) continue;
            cJSON *point = add_object(points), *cells = cJSON_AddArrayToObject(point, "arms");
            cJSON_AddNumberToObject(point, "step", (double)comparison_step(c, LINES_EVAL, i));
            for (size_t a = 0; a < c->n_arms; a++) add_spread(cells, m, comparison_spread(c, a, i, m));
        }
    }
}

// The means of all numbers of a line of the log: the value as text with two digits, and as a number.
static void add_line(cJSON *to, const Page *p, size_t arm, LineKind kind, size_t i)
{
    const cJSON *line = comparison_line(p->comparison, arm, kind, i);
    for (const cJSON *v = line ? line->child : NULL; v; v = v->next) {
        double mean = comparison_value(p->comparison, arm, kind, i, v->string).mean;
        if (isnan(mean)) continue;
        cJSON *number = cJSON_AddObjectToObject(to, v->string);
        put_digits(number, "text", mean, 2);
        cJSON_AddNumberToObject(number, "value", mean);
    }
}

static void add_lines(const Page *p)
{
    const Comparison *c = p->comparison;
    add_line(cJSON_AddObjectToObject(p->vars, "first"), p, 0, c->n_points ? LINES_EVAL : LINES_TRAIN, 0);
    cJSON *last = cJSON_AddArrayToObject(p->vars, "last");
    for (size_t a = 0; a < c->n_arms; a++)
        add_line(add_object(last), p, a, c->n_points ? LINES_EVAL : LINES_TRAIN,
                 (c->n_points ? c->n_points : c->n_train) - 1);
}

static void add_facts(const Page *p, const Config *config)
{
    const Run *r = p->run;
    const Comparison *c = p->comparison;
    Summary train = dataset_summary(r->data.examples, r->n_train, r->tokenizer);
    bool turns = false;                                    // or rows of text
    size_t learned = 0, left_out = 0, rows = train.rows - train.dropped;
    double tokens = train.tokens ? (double)train.tokens : 1;
    int end = turn_end(&r->recipe);
    for (size_t i = 0; i < r->n_train; i++) {
        learned += r->data.examples[i].n_learned;
        left_out += r->data.examples[i].n_left_out;
        turns |= memchr(r->data.examples[i].roles, ROLE_ASSISTANT, r->data.examples[i].n) != NULL;
    }
    json_add_numbers(p->vars, (JsonNumber[]){
        {"parameters", (double)params_count(config)}, {"rows", (double)rows}, {"labels", (double)train.supervised},
        {"held_out", (double)r->n_eval}, {"steps", (double)comparison_last_step(c)}, {"learned", (double)learned},
        {"left_out", (double)left_out}, {"vocab_size", config->vocab_size}, {"guess_value", c->guess},
        {"chance", floor(exp(comparison_spread(c, 0, 0, METRIC_ASSISTANT).mean))},
        {"n_seeds", (double)comparison_whole_seeds(c)}, {"end_id", end},
        {"end_rows", (double)(rows - train.symptoms[NO_END_LEARNED].rows)}, {NULL, 0}});
    put_digits(p->vars, "labels_percent", 100 * (double)train.supervised / tokens, 1);
    put_digits(p->vars, "ratio", (double)learned / (double)(left_out ? left_out : 1), 3);
    put_digits(p->vars, "guess", c->guess, 2);
    cJSON_AddBoolToObject(p->vars, "named", c->named);
    if (end >= 0 && turns) put(p->vars, "end", tokenizer_piece(r->tokenizer, end));
}

static void add_config(const Page *p)
{
    const Options *o = &p->run->options;
    cJSON *json = options_json(o), *keys = cJSON_AddArrayToObject(p->vars, "keys");
    for (const cJSON *v = json->child; v; v = v->next) {
        // A run that was resumed has the page of one that was never stopped.
        if (!options_given(o, v->string) || strcmp(v->string, "resume_from_checkpoint") == 0) continue;
        char *value = cJSON_PrintUnformatted(v);
        cJSON *key = add_object(keys);
        put(key, "key", v->string);
        put(key, "value", cJSON_IsString(v) ? v->valuestring : value);
        cJSON_free(value);
    }
    cJSON_Delete(json);
}

// ---- curves -------------------------------------------------------------------------------------------------------

static const struct { const char *key, *title, *note; LineKind kind; bool percent; } curves[] = {
    {"eval_end_of_turn_loss", "Loss on the end of turn", "nats per token", LINES_EVAL, false},
    {"eval_assistant_entropy", "Entropy on answers", "nats; how unsure the model is", LINES_EVAL, false},
    {"eval_user_entropy", "Entropy on the user's words", "nats; how unsure the model is", LINES_EVAL, false},
    {"eval_assistant_gradient_share", "The answers' share of the gradient", "prompts have the rest", LINES_EVAL, true},
    {"eval_assistant_gradient_norm", "Norm of the answers' part", "on 32 held-out rows", LINES_EVAL, false},
    {"eval_prompt_gradient_norm", "Norm of the prompts' part", "on the same rows", LINES_EVAL, false},
    {"eval_gradient_cosine", "Cosine of the two parts", "1: they agree; below 0: they oppose", LINES_EVAL, false},
    {"loss", "Training loss", "mean of the steps since the last point, over what each run learns", LINES_TRAIN, false}};

// Takes the plot over. What has no line is not there.
static void add_figure(cJSON *to, Plot *plot, const char *note)
{
    if (plot_is_drawn(plot)) {
        Buf svg = {0};
        cJSON *figure = cJSON_IsArray(to) ? add_object(to) : cJSON_AddObjectToObject(to, plot->id);
        plot_svg(&svg, plot, NULL);
        put(figure, "title", plot->title);
        put(figure, "note", note);
        cJSON_AddBoolToObject(figure, "log", plot_is_log(plot));
        cJSON_AddStringToObject(figure, "svg", svg.data);
        buf_free(&svg);
    }
    plot_free(plot);
}

// A line for each arm.
static Plot plot_arms(const Page *p, const char *title, LineKind kind, const char *key, bool percent)
{
    Plot plot = {.id = key, .title = title, .x_title = "steps", .percent = percent};
    for (size_t a = 0; a < p->comparison->n_arms; a++)
        comparison_series(plot_line(&plot, arm_ids[a], model_name(p, 1 + a), a), p->comparison, a, kind, key,
                          MOST_POINTS);
    return plot;
}

static Plot plot_metric(const Page *p, Metric m)
{
    const Comparison *c = p->comparison;
    Plot plot = plot_arms(p, comparison_title(c, m), LINES_EVAL, metric_table[m].key, metric_table[m].as_percent);
    if (!plot.percent) plot.mark = c->guess, plot.mark_name = "a guess";
    return plot;
}

// What came of each weight of the prompt.
static Plot plot_weights(const Page *p, Metric m, const char *const *ticks)
{
    const Comparison *c = p->comparison;
    Plot plot = {.id = metric_table[m].key, .title = comparison_title(c, m), .x_title = "prompt_loss_weight",
                 .percent = metric_table[m].as_percent, .prefix = "weight-", .ticks = ticks};
    PlotLine *line = plot_line(&plot, "weight", "after the last step", 0);
    for (size_t a = 0; a < c->n_arms; a++) {
        Spread s = comparison_spread(c, a, c->n_points - 1, m);
        plot_point(line, (double)a, s.mean, s.deviation);
    }
    return plot;
}

// What the log calls a role, or the end tokens of the assistant; and its stroke.
static const struct { const char *key, *name; size_t style; } parts[] = {
    {"assistant", "assistant", 2}, {"end_of_turn", "its end of turn", 7}, {"user", "user", 4}, {"system", "system", 3},
    {"tool", "tool", 6}, {"template", "template", 5}, {"text", "text", 5}};

// For each arm the loss of each role, on the same axis.
static void add_roles(const Page *p)
{
    const Comparison *c = p->comparison;
    cJSON *figures = cJSON_AddArrayToObject(p->vars, "role_figures"), *roles = cJSON_AddArrayToObject(p->vars, "roles");
    double low = INFINITY, high = -INFINITY;
    Plot plots[MAX_ARMS];
    for (size_t a = 0; a < c->n_arms; a++) {
        plots[a] = (Plot){.id = arm_ids[a], .prefix = "roles-", .title = model_name(p, 1 + a), .x_title = "steps"};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            char key[48];
            snprintf(key, sizeof key, "eval_%s_loss", parts[i].key);
            if (isnan(comparison_value(c, 0, LINES_EVAL, c->n_points - 1, key).mean)) continue;
            comparison_series(plot_line(&plots[a], parts[i].key, parts[i].name, parts[i].style), c, a, LINES_EVAL, key,
                              MOST_POINTS);
            if (a > 0) continue;
            cJSON *role = add_object(roles);
            put(role, "id", parts[i].key);
            put(role, "name", parts[i].name);
            put_stroke(role, parts[i].style);
        }
        plot_range(&plots[a], &plots[a].low, &plots[a].high);
        low = fmin(low, plots[a].low), high = fmax(high, plots[a].high);
    }
    for (size_t a = 0; a < c->n_arms; a++) {
        plots[a].low = low, plots[a].high = high;
        add_figure(figures, &plots[a], "nats per token");
    }
}

// All figures; and curves.svg with those of the first screen.
static bool add_figures(const Page *p, Err *e)
{
    const Comparison *c = p->comparison;
    cJSON *plots = cJSON_AddObjectToObject(p->vars, "plots"), *weights = cJSON_AddArrayToObject(p->vars, "weights");
    const char *ticks[MAX_ARMS];
    Plot first[2], plot;
    size_t n_first = 0;
    Buf picture = {0};
    for (size_t a = 0; a < c->n_arms; a++) ticks[a] = c->arms[a].folder + (c->named ? 0 : strlen("weight-"));
    for (size_t i = 0; i < N_METRICS; i++) {
        Metric m = metric_order[i];
        plot = plot_metric(p, m);
        if (plot_is_drawn(&plot) && n_first < 2) first[n_first++] = plot_metric(p, m);
        add_figure(plots, &plot, metric_table[m].note);
        if (c->named || c->n_arms < 3) continue;
        plot = plot_weights(p, m, ticks);
        add_figure(weights, &plot, "after the last step");
    }
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        plot = plot_arms(p, curves[i].title, curves[i].kind, curves[i].key, curves[i].percent);
        add_figure(plots, &plot, curves[i].note);
    }
    add_roles(p);
    if (n_first) plot_picture(&picture, first, n_first);
    for (size_t i = 0; i < n_first; i++) plot_free(&first[i]);
    Path path = path_in(p->run->options.output_dir, "curves.svg");
    bool ok = !n_first || file_put(path.text, picture.data, picture.len, e);
    buf_free(&picture);
    return ok;
}

// ---- rows ---------------------------------------------------------------------------------------------------------

// A row with the first `most` of its tokens.
static cJSON *add_row(cJSON *rows, const Page *p, const Example *ex, size_t index, size_t most)
{
    cJSON *row = add_object(rows), *tokens = cJSON_AddArrayToObject(row, "tokens");
    cJSON_AddNumberToObject(row, "index", (double)index);
    cJSON_AddNumberToObject(row, "line", (double)ex->line);
    cJSON_AddNumberToObject(row, "more", ex->n > most ? (double)(ex->n - most) : 0);
    for (size_t i = 0; i < ex->n && i < most; i++) {
        Buf text = {0};
        cJSON *token = add_object(tokens);
        report_token_cell(&text, ex, i, p->showcase->tokenizer);
        put_buf(token, "text", &text);
        put(token, "role", role_names[ex->roles[i]]);
        cJSON_AddNumberToObject(token, "id", ex->ids[i]);
        cJSON_AddNumberToObject(token, "label", ex->labels[i]);
        cJSON_AddBoolToObject(token, "learn", ex->labels[i] != IGNORE);
    }
    return row;
}

static void put_loss(cJSON *to, double nll)
{
    put_digits(to, "loss", nll, 1);
    cJSON_AddNumberToObject(to, "heat", nll < 7 ? fmax(floor(nll), 0) : 7);
}

// Held-out rows with the loss of each model at the end. Of the first arm: the masked tokens that end a turn.
static void add_rows(const Page *p)
{
    int end = turn_end(&p->run->recipe);
    double low = INFINITY, high = -INFINITY;
    cJSON *rows = cJSON_AddArrayToObject(p->vars, "rows_read");
    for (size_t k = 0; k < p->showcase->n_rows; k++) {
        const ShownRow *shown = &p->showcase->rows[k];
        const Example *ex = shown->example;
        cJSON *row = add_row(rows, p, ex, shown->index, SIZE_MAX), *token = json_get(row, "tokens")->child;
        for (size_t i = 0; i < ex->n; i++, token = token->next) {
            cJSON *models = cJSON_AddArrayToObject(token, "models");
            for (size_t m = 0; m <= p->comparison->n_arms && i; m++)
                put_loss(add_object(models), (double)shown->nll[m * ex->n + i]);
            double nll = (double)shown->nll[ex->n + i];
            if (i && ex->ids[i] == end && ex->labels[i] == IGNORE) low = fmin(low, nll), high = fmax(high, nll);
        }
    }
    if (!(low < 0.05)) return;                             // it is shown with one digit
    put_digits(p->vars, "end_low", low, 1);
    put_digits(p->vars, "end_high", high, 1);
}

// Label mask and attention mask: the four cases of hide.h, on the first of these rows.
static void add_cases(const Page *p)
{
    static const char *const names[] = {"answer_loss", "logits", "keys", "values"};
    cJSON *cases = cJSON_AddArrayToObject(p->vars, "cases");
    for (int i = 0; i < 4 && p->showcase->has_cases; i++) {
        const HideCase *of = &p->showcase->cases[i / 2][i % 2];
        const double values[] = {of->answer_loss, of->marked.logits, of->marked.keys, of->marked.values};
        cJSON *one = add_object(cases);
        cJSON_AddBoolToObject(one, "learned", i / 2);
        cJSON_AddBoolToObject(one, "hidden", i % 2);
        for (int k = 0; k < 4; k++)
            if (!isnan(values[k])) put_digits(one, names[k], values[k], 4);
    }
}

// ---- rows over training -------------------------------------------------------------------------------------------

enum { MOST_STEPS = 41 };                                  // of the slider

static void put_said(cJSON *to, const cJSON *trace)
{
    put(to, "said", json_string(trace, "answer"));
    cJSON_AddBoolToObject(to, "exact", cJSON_IsTrue(json_get(trace, "exact")));
}

// The n-th row that was traced, as an arm read it at all steps of the slider.
static void add_arm(cJSON *arms, const Page *p, size_t arm, size_t n, const size_t points[], size_t n_points)
{
    const Comparison *c = p->comparison;
    cJSON *to = add_object(arms), *steps = cJSON_AddArrayToObject(to, "steps");
    cJSON_AddNumberToObject(to, "model", (double)(1 + arm));
    for (size_t k = 0; k < n_points; k++) {
        const cJSON *trace = comparison_trace(c, arm, points[k], n), *loss = json_get(trace, "loss")->child,
                    *rank = json_get(trace, "rank")->child;
        cJSON *step = add_object(steps), *tokens = cJSON_AddArrayToObject(step, "tokens");
        cJSON_AddNumberToObject(step, "step", (double)comparison_step(c, LINES_EVAL, points[k]));
        put_said(step, trace);
        for (; loss && rank; loss = loss->next, rank = rank->next) {
            cJSON *token = add_object(tokens);
            put_loss(token, cJSON_IsNumber(loss) ? loss->valuedouble : NAN);
            cJSON_AddNumberToObject(token, "rank", cJSON_IsNumber(rank) ? rank->valuedouble : 0);
        }
    }
}

// Rows over training, for the first arm and the last: two short ones, and one for each arm that alone is right in it.
static void add_traces(const Page *p)
{
    const Comparison *c = p->comparison;
    size_t arms[] = {0, c->n_arms - 1}, alone[] = {SIZE_MAX, SIZE_MAX}, points[MOST_STEPS], n = 0;
    size_t n_points = c->n_points < MOST_STEPS ? c->n_points : MOST_STEPS;
    cJSON *rows = cJSON_AddArrayToObject(p->vars, "traces");
    for (size_t k = 0; k < n_points; k++) points[k] = n_points > 1 ? k * (c->n_points - 1) / (n_points - 1) : 0;
    for (; comparison_trace(c, 0, 0, n); n++) {
        size_t n_right = 0, right = 0;
        for (size_t a = 0; a < c->n_arms; a++)
            if (cJSON_IsTrue(json_get(comparison_trace(c, a, c->n_points - 1, n), "exact"))) n_right++, right = a;
        for (int k = 0; k < 2 && n >= 2 && n_right == 1 && c->n_arms > 1; k++)
            if (right == arms[k] && alone[k] == SIZE_MAX) alone[k] = n;
    }
    const size_t chosen[] = {0, 1, alone[0], alone[1]};
    for (size_t i = 0; i < 4; i++) {
        if (chosen[i] >= n) continue;
        size_t index = (size_t)json_get(comparison_trace(c, 0, 0, chosen[i]), "row")->valuedouble;
        cJSON *row = add_row(rows, p, &p->run->eval[index], index, SIZE_MAX);
        cJSON *list = cJSON_AddArrayToObject(row, "arms");
        if (i >= 2) cJSON_AddNumberToObject(row, "alone", (double)(1 + arms[i - 2]));
        for (size_t k = 0; k < (c->n_arms > 1 ? 2 : 1); k++) add_arm(list, p, arms[k], chosen[i], points, n_points);
    }
}

// ---- questions ----------------------------------------------------------------------------------------------------

// What the models are given: the text before the answer, the template's parts apart from the others.
static void add_prompt(cJSON *to, const Page *p, const Question *q)
{
    const Example *ex = q->example;
    cJSON *parts_of = cJSON_AddArrayToObject(to, "prompt");
    for (size_t i = 0, end; i < q->first; i = end) {
        bool template = ex->roles[i] == ROLE_TEMPLATE;
        Buf text = {0};
        for (end = i; end < q->first && (ex->roles[end] == ROLE_TEMPLATE) == template; end++) {}
        report_added_text(&text, ex->ids, i, end, p->showcase->tokenizer);
        cJSON *part = add_object(parts_of);
        put_buf(part, "text", &text);
        cJSON_AddBoolToObject(part, "template", template);
    }
}

static void add_questions(const Page *p)
{
    cJSON *questions = cJSON_AddArrayToObject(p->vars, "questions");
    for (size_t i = 0; i < p->showcase->n_questions; i++) {
        const Question *q = &p->showcase->questions[i];
        cJSON *question = add_object(questions), *answers = cJSON_AddArrayToObject(question, "answers");
        Buf reference = {0};
        showcase_text(&reference, p->showcase->tokenizer, q->example->ids + q->first, q->end - q->first);
        add_prompt(question, p, q);
        put_buf(question, "reference", &reference);
        cJSON_AddBoolToObject(question, "has_reference", q->end > q->first);
        for (size_t k = 0; k <= p->comparison->n_arms; k++) {
            cJSON *answer = add_object(answers);
            put(answer, "said", q->answers[k]);
            cJSON_AddBoolToObject(answer, "exact", q->exact[k]);
        }
    }
}

// ---- the page -----------------------------------------------------------------------------------------------------

// The page's policy forbids all that comes from elsewhere, and all scripts but its own: it has that one's SHA-256, in
// base 64.
static void put_hash(cJSON *to)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char hex[68], hash[45];
    sha256_hex(page_js, strlen(page_js), hex);
    memcpy(hex + 64, "00", 3);                             // 66 digits of 4 bits are 44 of 6 bits
    for (int i = 0; i < 22; i++) {
        unsigned bits = 0;
        sscanf(hex + 3 * i, "%3x", &bits);
        hash[2 * i] = digits[bits >> 6];
        hash[2 * i + 1] = digits[bits & 63];
    }
    hash[43] = '=';                                        // the last of them has nothing of the hash
    hash[44] = 0;
    put(to, "hash", hash);
}

bool page_report(const Run *r, const Config *c, const char *command, const Comparison *comparison, const Showcase *show,
                 Err *e)
{
    cJSON *vars = cJSON_CreateObject();
    const Page page = {r, comparison, show, vars};
    Buf b = {0};
    const Example *first = dataset_summary(r->data.examples, r->n_train, r->tokenizer).first;
    put(vars, "command", command);
    put(vars, "dataset", r->options.dataset_name);
    put_hash(vars);
    cJSON_AddStringToObject(vars, "css", page_css);
    cJSON_AddStringToObject(vars, "js", page_js);
    add_models(&page);
    add_found(&page);
    add_metrics(&page);
    add_lines(&page);
    add_facts(&page, c);
    add_config(&page);
    add_row(cJSON_AddArrayToObject(vars, "mask"), &page, first, first->row, 200);
    add_rows(&page);
    add_cases(&page);
    add_traces(&page);
    add_questions(&page);
    Path path = path_in(r->options.output_dir, "report.html");
    Template *t = template_parse(page_html, strlen(page_html), "page.html", e);
    bool ok = t && add_figures(&page, e) && template_render(t, vars, &b, NULL, e) &&
              file_put(path.text, b.data, b.len, e);
    if (ok) printf("the report is %s\n", path.text);
    template_free(t);
    cJSON_Delete(vars);
    buf_free(&b);
    return ok;
}

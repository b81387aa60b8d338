// page: see page.h. Colour is never the only sign: a supervised token has a solid frame, a loss its number, an arm its
// dashes.
#include "page.h"

#include "../rows/turn.h"
#include "plot.h"
#include "report.h"

#include <math.h>
#include <string.h>

extern const char page_css[], page_js[];                  // page.css and page.js as strings: the Makefile makes them

typedef struct {
    const char *command;
    const Run *run;
    const Comparison *comparison;
    const Showcase *showcase;
    Summary train, eval;
    size_t n_params;
    Plot first[2];                                         // the plots of the first screen,
    Metric metrics[2];                                     // what they show,
    size_t n_first;                                        // and how many there are
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

// Model 0 is the one before training, 1 + a that of arm a. A single arm is a run of its own.
static const char *model_name(const Page *p, size_t model)
{
    const Comparison *c = p->comparison;
    return model == 0 ? "before training" : c->n_arms == 1 && !c->named ? "trained" : c->arms[model - 1].label;
}

static size_t n_models(const Page *p) { return 1 + p->comparison->n_arms; }

static void add_stroke(Buf *b, size_t style)
{
    buf_addf(b, "<svg class=\"swatch\" viewBox=\"0 0 28 8\" aria-hidden=\"true\"><line x1=\"1\" y1=\"4\" x2=\"27\" y2=\"4\" "
                "stroke=\"%s\" stroke-width=\"3\" stroke-dasharray=\"%s\"/></svg>", plot_colour(style), plot_dashes(style));
}

// Its name, and before it a line as the plots draw its arm.
static void add_model(Buf *b, const Page *p, size_t model)
{
    if (model && p->comparison->n_arms > 1) add_stroke(b, model - 1);
    html_escape(b, model_name(p, model));
}

// Models from `first` on, each between the same tags.
static void add_models(Buf *b, const Page *p, size_t first, const char *before, const char *after)
{
    for (size_t k = first; k < n_models(p); k++) {
        buf_adds(b, before);
        add_model(b, p, k);
        buf_adds(b, after);
    }
}

// ---- tables -------------------------------------------------------------------------------------------------------

typedef struct {
    const char *class, *caption;
    const char *label;                                     // for screen readers; a table with a label scrolls sideways
    const char *const *columns;                            // their names, then NULL; one with a "<" stands to the left
    size_t first_model;                                    // it and those after it have the last columns; 0: all models
} Table;

// The caller adds the rows, then calls end_table.
static void begin_table(Buf *b, const Page *p, const Table *t)
{
    if (t->label) buf_addf(b, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\">\n", t->label);
    buf_adds(b, "<table");
    if (t->class) buf_addf(b, " class=\"%s\"", t->class);
    buf_addf(b, ">\n<caption>%s</caption>\n<thead><tr>", t->caption);
    for (const char *const *name = t->columns; *name; name++) {
        bool left = **name == '<';
        buf_addf(b, "<th scope=\"col\"%s>%s</th>", left ? " class=\"left\"" : "", *name + left);
    }
    add_models(b, p, t->first_model, "<th scope=\"col\">", "</th>");
    buf_adds(b, "</tr></thead>\n<tbody>\n");
}

static void end_table(Buf *b, const Table *t) { buf_addf(b, "</tbody>\n</table>\n%s", t->label ? "</div>\n" : ""); }

// An answer to a question that arises here: the caller adds its text and END_ANSWER.
static void begin_answer(Buf *b, const char *question) { buf_addf(b, "<aside>\n<h3>%s</h3>\n<p>", question); }

#define END_ANSWER "</p>\n</aside>\n"

// ---- curves -------------------------------------------------------------------------------------------------------

static bool has_metric(const Comparison *c, Metric m)
{
    return !isnan(comparison_spread(c, 0, c->n_points - 1, m).mean);
}

static double at_end(const Comparison *c, size_t arm, const char *key)
{
    return comparison_value(c, arm, LINES_EVAL, c->n_points - 1, key).mean;
}

// The numbers of the log under `key`. Of a very long run some points are left out, but never the last.
static void add_series(PlotLine *line, const Comparison *c, size_t arm, LineKind kind, const char *key)
{
    enum { MOST = 500 };
    size_t n = kind == LINES_EVAL ? c->n_points : c->n_train, stride = n / MOST + 1;
    for (size_t i = (n + stride - 1) % stride; i < n; i += stride) {
        Spread s = comparison_value(c, arm, kind, i, key);
        plot_point(line, (double)comparison_step(c, kind, i), s.mean, s.deviation);
    }
}

static const char *const arm_ids[MAX_ARMS] = {"arm0", "arm1", "arm2", "arm3", "arm4", "arm5", "arm6", "arm7"};

// A line for each arm.
static Plot plot_arms(const Page *p, const char *title, LineKind kind, const char *key, bool percent)
{
    Plot plot = {.id = key, .title = title, .x_title = "steps", .percent = percent};
    for (size_t a = 0; a < p->comparison->n_arms; a++)
        add_series(plot_line(&plot, arm_ids[a], model_name(p, 1 + a), a), p->comparison, a, kind, key);
    return plot;
}

// Nothing is added of a plot without a line.
static void add_figure(Buf *b, const Plot *plot, const char *note)
{
    if (!plot_is_drawn(plot)) return;
    buf_adds(b, "<figure>\n<figcaption>");
    html_escape(b, plot->title);
    buf_addf(b, " <span>%s<span class=\"scale\">%s</span></span></figcaption>\n", note,
             plot_is_log(plot) ? "; log scale" : "");
    plot_svg(b, plot, NULL);
    buf_adds(b, "</figure>\n");
}

static void add_arms(Buf *b, const Page *p, LineKind kind, const char *key, const char *title, const char *note)
{
    Plot plot = plot_arms(p, title, kind, key, false);
    add_figure(b, &plot, note);
    plot_free(&plot);
}

static Plot plot_metric(const Page *p, Metric m)
{
    const Comparison *c = p->comparison;
    Plot plot = plot_arms(p, comparison_title(c, m), LINES_EVAL, metric_table[m].key, metric_table[m].as_percent);
    if (!plot.percent) plot.mark = c->guess, plot.mark_name = "a guess";
    return plot;
}

static void add_key(Buf *b, const char *id, size_t style, const char *name)
{
    buf_addf(b, "<li data-line=\"%s\">", id);
    add_stroke(b, style);
    html_escape(b, name);
    buf_adds(b, "</li>\n");
}

static void add_legend(Buf *b, const Page *p)
{
    if (p->comparison->n_arms == 1) return;
    buf_adds(b, "<ul class=\"legend\">\n");
    for (size_t a = 0; a < p->comparison->n_arms; a++) add_key(b, arm_ids[a], a, model_name(p, 1 + a));
    buf_adds(b, "</ul>\n");
}

// What the log calls a role, or the end tokens of the assistant; and its stroke.
static const struct { const char *name, *title; size_t style; } curves[] = {
    {"assistant", "assistant", 2}, {"end_of_turn", "its end of turn", 7}, {"user", "user", 4}, {"system", "system", 3},
    {"tool", "tool", 6}, {"template", "template", 5}, {"text", "text", 5}};
enum { N_CURVES = sizeof curves / sizeof *curves };

// For each arm, one number (loss, entropy) of each role, and all arms with the same axis.
static void add_roles(Buf *b, const Page *p, const char *what, const char *note)
{
    const Comparison *c = p->comparison;
    Plot plots[MAX_ARMS] = {{0}};
    char ids[MAX_ARMS][32], key[48];
    double low = INFINITY, high = -INFINITY;
    bool used[N_CURVES] = {false};
    for (size_t a = 0; a < c->n_arms; a++) {
        snprintf(ids[a], sizeof ids[a], "%s-arm%zu", what, a);
        plots[a] = (Plot){.id = ids[a], .title = model_name(p, 1 + a), .x_title = "steps"};
        for (size_t i = 0; i < N_CURVES; i++) {
            snprintf(key, sizeof key, "eval_%s_%s", curves[i].name, what);
            if (isnan(at_end(c, a, key))) continue;
            used[i] = true;
            add_series(plot_line(&plots[a], curves[i].name, curves[i].title, curves[i].style), c, a, LINES_EVAL, key);
        }
        plot_range(&plots[a], &plots[a].low, &plots[a].high);
        low = fmin(low, plots[a].low), high = fmax(high, plots[a].high);
    }
    buf_adds(b, "<ul class=\"legend\">\n");
    for (size_t i = 0; i < N_CURVES; i++)
        if (used[i]) add_key(b, curves[i].name, curves[i].style, curves[i].title);
    buf_adds(b, "</ul>\n<div class=\"plots\">\n");
    for (size_t a = 0; a < c->n_arms; a++) {
        plots[a].low = low, plots[a].high = high;
        add_figure(b, &plots[a], note);
        plot_free(&plots[a]);
    }
    buf_adds(b, "</div>\n");
}

// ---- the first screen ---------------------------------------------------------------------------------------------

// The sentences of the verdict, or those of them that are a warning.
static void add_found(Buf *b, const Page *p, bool warnings)
{
    Buf verdict = {0};
    comparison_verdict(&verdict, p->comparison, true);
    for (char *line = verdict.data, *end; line && (end = strchr(line, '\n')); line = end + 1) {    // each ends its line
        *end = 0;
        if (warnings != (strncmp(line, "Warning", 7) == 0)) continue;
        buf_adds(b, warnings ? "<p class=\"note\">" : "<p>");
        html_escape(b, line);
        buf_adds(b, "</p>\n");
    }
    buf_free(&verdict);
}

static void add_value(Buf *b, Metric m, Spread s)
{
    char mean[32], deviation[32];
    buf_addf(b, "<b>%s</b>", metric_text(m, s.mean, mean));
    if (!isnan(s.deviation)) buf_addf(b, " ± %s", metric_text(m, s.deviation, deviation));
}

// Is the first of two arms better by more than both deviations? 1: yes, -1: it is worse, 0: no difference was seen.
static int is_better(const Comparison *c, Metric m)
{
    Spread x = comparison_spread(c, 0, c->n_points - 1, m), y = comparison_spread(c, 1, c->n_points - 1, m);
    double gain = metric_table[m].as_percent ? x.mean - y.mean : y.mean - x.mean, spread = x.deviation + y.deviation;
    return gain > spread ? 1 : -gain > spread ? -1 : 0;
}

// The answer to the heading in a sentence; of more than two arms it names the best.
static void add_verdict(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    size_t last = c->n_points - 1, seeds = comparison_whole_seeds(c);
    buf_adds(b, "<p class=\"verdict\">");
    if (!c->named && c->n_arms == 2 && p->n_first == 2 && seeds > 1) {
        int loss = is_better(c, METRIC_ASSISTANT), exact = is_better(c, METRIC_EXACT);
        buf_adds(b, loss * exact < 0 ? "It depends on the measure. " : loss + exact > 0 ? "The answer only. " :
                    loss + exact < 0 ? "Every token. " : "No difference was seen. ");
    }
    buf_addf(b, "After %lld steps", (long long)comparison_last_step(c));
    for (size_t i = 0; i < p->n_first; i++) {
        Metric m = p->metrics[i];
        buf_addf(b, "%s %s is ", i ? ";" : "", m == METRIC_EXACT ? "exact match" :
                 m == METRIC_PROMPT ? "the loss on held-out text" : "the loss on held-out answers");
        size_t best = 0;
        for (size_t a = 1; a < c->n_arms; a++) {
            double gain = comparison_spread(c, a, last, m).mean - comparison_spread(c, best, last, m).mean;
            if (metric_table[m].as_percent ? gain > 0 : gain < 0) best = a;
        }
        for (size_t a = 0; a < c->n_arms; a++) {
            if (c->n_arms > 2 && a != best) continue;
            buf_adds(b, c->n_arms > 2 ? "best with " : a ? " and " : "");
            add_value(b, m, comparison_spread(c, a, last, m));
            buf_adds(b, c->n_arms == 1 ? " (before training " : c->named ? " with " : " with the ");
            if (c->n_arms > 1) html_escape(b, model_name(p, 1 + a));
            else add_value(b, m, comparison_spread(c, a, 0, m)), buf_addc(b, ')');
        }
    }
    buf_adds(b, ".");
    if (seeds > 1) buf_addf(b, " <span class=\"soft\">Mean over %zu seeds ± one standard deviation.</span>", seeds);
    else if (c->n_arms > 1) buf_adds(b, " <span class=\"soft\">One seed cannot show how much of this is chance: --seeds=5 "
                                        "shows the standard deviation.</span>");
    buf_adds(b, "</p>\n");
}

// The policy forbids all that comes from elsewhere, and all scripts but the page's own, by its hash.
static void add_policy(Buf *b)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char hex[68];
    sha256_hex(page_js, strlen(page_js), hex);
    memcpy(hex + 64, "00", 3);                             // 66 digits of 4 bits are 44 of 6 bits
    buf_adds(b, "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
                "script-src 'sha256-");
    for (int i = 0; i < 66; i += 3) {
        unsigned bits = 0;
        sscanf(hex + i, "%3x", &bits);
        buf_addf(b, "%c%c", digits[bits >> 6], i < 63 ? digits[bits & 63] : '=');      // the last one is none of the hash
    }
    buf_adds(b, "'\">\n");
}

// The first screen: the question, its answer, and the curves that it is taken from.
static void add_head(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    const char *title = c->named ? "A comparison of arms" : c->n_arms > 1 ? "Masked against unmasked" : "A training run";
    buf_adds(b, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    add_policy(b);
    buf_addf(b, "<title>%s: ", title);
    html_escape(b, p->run->options.dataset_name);
    buf_addf(b, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<h1>%s</h1>\n", page_css,
             c->named || c->n_arms == 1 ? title : "Loss on the answer only, or on every token?");
    add_found(b, p, true);
    add_verdict(b, p);
    add_legend(b, p);
    buf_adds(b, "<div class=\"plots\">\n");
    for (size_t i = 0; i < p->n_first; i++) add_figure(b, &p->first[i], metric_table[p->metrics[i]].note);
    buf_adds(b, "</div>\n");
}
// ---- tokens -------------------------------------------------------------------------------------------------------

static void add_token_text(Buf *b, const Page *p, const Example *ex, size_t i)
{
    Buf text = {0};
    report_token_cell(&text, ex, i, p->showcase->tokenizer);
    html_escape(b, text.data ? text.data : "");
    buf_free(&text);
}

// A card: the token in its role's colour, with a solid frame if it is supervised. The caller adds the lines below it.
static void begin_token(Buf *b, const Page *p, const Example *ex, size_t i)
{
    bool learns = ex->labels[i] != IGNORE;
    buf_addf(b, "<span class=\"tok %s\" title=\"position %zu, id %d, label %d (%s), role %s\"><b class=\"%s\">"
                "<bdi dir=\"auto\">", learns ? "learn" : "mask", i, ex->ids[i], ex->labels[i],
             learns ? "supervised" : "masked", role_names[ex->roles[i]], role_names[ex->roles[i]]);
    add_token_text(b, p, ex, i);
    buf_adds(b, "</bdi></b>");
}

static int heat(double nll) { return nll >= 7 ? 7 : nll > 0 ? (int)nll : 0; }

static void add_chips(Buf *b, const Example *ex, bool losses)
{
    bool used[N_ROLES] = {false};
    for (size_t i = 0; i < ex->n; i++) used[ex->roles[i]] = true;
    buf_adds(b, "<ul class=\"chips\">\n<li class=\"soft\">role</li>\n");
    for (int r = 0; r < N_ROLES; r++)
        if (used[r]) buf_addf(b, "<li class=\"%s\">%s</li>\n", role_names[r], role_names[r]);
    buf_adds(b, "<li class=\"tok learn\"><b>supervised</b></li>\n<li class=\"tok mask\">masked (label -100)</li>\n");
    if (losses) buf_adds(b, "<li class=\"soft\">loss</li>\n");
    for (int h = 0; losses && h < 8; h++) buf_addf(b, "<li class=\"h%d\">%d%s</li>\n", h, h, h == 7 ? " or more" : "");
    buf_adds(b, "</ul>\n");
}

// The first row that is trained on, as the trainer sees it.
static void add_mask(Buf *b, const Page *p)
{
    enum { MOST = 200 };
    const Example *ex = p->train.first;
    int end = turn_end(&p->run->recipe);
    buf_addf(b, "<section>\n<h2>Row %zu with its mask</h2>\n<p>The chat template makes one text of the row, and the "
                "tokenizer makes tokens of it. Each token has a label: its own id where the model learns, and -100 where "
                "it does not. The loss is taken where the label is not -100: %.1f %% of all tokens in the training rows. "
                "%s</p>\n", ex->row, 100.0 * (double)p->train.supervised / (double)p->train.tokens,
             p->comparison->named || p->comparison->n_arms == 1 ? "" :
             "The loss on every token gives every token its id as label.");
    add_chips(b, ex, false);
    buf_adds(b, "<div class=\"tokens\">\n<span class=\"tok key\"><b>token</b><i>id</i><i>label</i></span>\n");
    for (size_t i = 0; i < ex->n && i < MOST; i++) {
        begin_token(b, p, ex, i);
        buf_addf(b, "<i>%d</i><i>%d</i></span>\n", ex->ids[i], ex->labels[i]);
    }
    if (ex->n > MOST) buf_addf(b, "<span class=\"soft\">and %zu more</span>\n", ex->n - MOST);
    buf_adds(b, "</div>\n<div class=\"why\">\n");
    if (end >= 0) {
        begin_answer(b, "Which token ends a turn?");
        html_escape(b, tokenizer_piece(p->showcase->tokenizer, end));
        buf_addf(b, ", id %d. The template prints it after the assistant's words. It has a label in %zu of %zu rows, so the "
                    "model learns to stop." END_ANSWER, end,
                 p->train.rows - p->train.dropped - p->train.symptoms[NO_END_LEARNED].rows,
                 p->train.rows - p->train.dropped);
    }
    begin_answer(b, "Who shifts the labels?");
    buf_adds(b, "The label above belongs to its own token. The model at position i-1 predicts token i. The program shifts "
                "once, when it makes a batch, as transformers does inside the model. Do not shift labels in your data."
                END_ANSWER);
    begin_answer(b, "Is the label mask the attention mask?");
    buf_adds(b, "No. A masked token has no loss of its own, but the answer still sees it: its key and its value take part, "
                "and get a gradient. The attention mask hides a token from all others." END_ANSWER "</div>\n</section>\n");
}

static void add_row(Buf *b, const Page *p, const ShownRow *row)
{
    const Example *ex = row->example;
    buf_addf(b, "<h3>Held-out row %zu (line %zu)</h3>\n<div class=\"tokens\">\n<span class=\"tok key\"><b>token</b>",
             row->index, ex->line);
    add_models(b, p, 0, "<i>", "</i>");
    buf_adds(b, "</span>\n");
    for (size_t i = 0; i < ex->n; i++) {
        begin_token(b, p, ex, i);
        for (size_t k = 0; k < n_models(p); k++) {
            double nll = (double)row->nll[k * ex->n + i];
            if (i) buf_addf(b, "<i class=\"h%d\">%.1f</i>", heat(nll), nll);
            else buf_adds(b, "<i>–</i>");
        }
        buf_adds(b, "</span>\n");
    }
    buf_adds(b, "</div>\n");
}

static void add_rows(Buf *b, const Page *p)
{
    if (!p->showcase->n_rows) return;
    buf_adds(b, "<section>\n<h2>Rows, token by token</h2>\n<p>Below each token of a held-out row is its loss, in nats, for "
                "each model: how much the token surprised the model.</p>\n");
    add_chips(b, p->showcase->rows[p->showcase->n_rows - 1].example, true);
    for (size_t r = 0; r < p->showcase->n_rows; r++) add_row(b, p, &p->showcase->rows[r]);
    buf_adds(b, "</section>\n");
}

// ---- by role, over training -----------------------------------------------------------------------------------------

#define SHORT_LOSS "nats per token"

// Why the model before training may be worse than a guess.
static void explain_guess(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    double loss = comparison_value(c, 0, LINES_EVAL, 0, "eval_assistant_loss").mean;
    double entropy = comparison_value(c, 0, LINES_EVAL, 0, "eval_assistant_entropy").mean;
    if (!(loss > c->guess) || isnan(entropy)) return;
    begin_answer(b, "Why is the model before training worse than a guess?");
    buf_addf(b, "A guess gives each of %.0f tokens the same probability: its loss is the logarithm of that, %.2f. Before "
                "training the loss on answers is %.2f, so the model gives the right token even less: %.1g on average. It is "
                "not unsure. Its entropy there is %.2f nats, and that of a guess is %.2f. It is confident of something "
                "else: it comes from text in which no answer stood at this place." END_ANSWER, exp(c->guess), c->guess,
             loss, exp(-loss), entropy, c->guess);
}

// Why the arm with the mask gets worse at prompts.
static void explain_prompts(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    double from = comparison_value(c, 0, LINES_EVAL, 0, "eval_prompt_loss").mean, to = at_end(c, 0, "eval_prompt_loss");
    if (!(to > from) || c->named || isnan(at_end(c, 0, "eval_assistant_loss"))) return;
    begin_answer(b, "Why does the loss on prompts rise, and is that bad?");
    buf_addf(b, "With the loss on the answer only no prompt token has a label. Training moves the weights for the answers, "
                "and nothing keeps the predictions of prompts where they were: their loss goes from %.2f to %.2f. For a "
                "chat model this is not bad. It reads prompts and never writes them, and its answers get better. It would "
                "be bad for a model that should also write the user's part." END_ANSWER, from, to);
}

// Why a token without a label can have the loss 0.
static void explain_end(Buf *b, const Page *p)
{
    (void)b, (void)p;
}

static void add_training_loss(Buf *b, const Page *p)
{
    Plot plot = plot_arms(p, "Training loss", LINES_TRAIN, "loss", false);
    if (!plot_is_drawn(&plot)) return plot_free(&plot);
    buf_adds(b, "<section>\n<h2>The training loss</h2>\n");
    if (p->comparison->n_arms > 1)
        buf_addf(b, "<p>%s</p>\n", p->comparison->named ?
                 "Each arm's own loss while it trains. Arms whose keys change the loss itself cannot be compared by it: "
                 "compare the loss on held-out answers." :
                 "Each arm's own loss while it trains. The two cannot be compared: each is a mean over other tokens. One "
                 "is over the answers, the other over the prompts too, and prompts are easier or harder to predict than "
                 "answers. A lower line does not mean a better model. Compare the loss on held-out answers, which is over "
                 "the same tokens for all.");
    buf_adds(b, "<div class=\"plots\">\n");
    add_figure(b, &plot, "mean of the steps since the last point, over the targets of the run itself");
    plot_free(&plot);
    buf_adds(b, "</div>\n</section>\n");
}

static void add_curves(Buf *b, const Page *p)
{
    buf_adds(b, "<section>\n<h2>What each role costs</h2>\n");
    add_roles(b, p, "loss", SHORT_LOSS);
    buf_adds(b, "<div class=\"why\">\n");
    explain_guess(b, p);
    explain_prompts(b, p);
    explain_end(b, p);
    buf_adds(b, "</div>\n");
    add_legend(b, p);
    buf_adds(b, "<div class=\"plots\">\n");
    if (p->n_first > 1) {
        Plot plot = plot_metric(p, METRIC_PROMPT);
        add_figure(b, &plot, metric_table[METRIC_PROMPT].note);
        plot_free(&plot);
    }
    add_arms(b, p, LINES_EVAL, "eval_end_of_turn_loss", "Loss on the end of turn", SHORT_LOSS);
    add_arms(b, p, LINES_EVAL, "eval_assistant_entropy", "Entropy on answers", "nats; how unsure the model is");
    add_arms(b, p, LINES_EVAL, "eval_user_entropy", "Entropy on the user's words", "nats; how unsure the model is");
    buf_adds(b, "</div>\n</section>\n");
}

static void add_spread(Buf *b, Metric m, Spread s)
{
    char mean[32], deviation[32];
    if (isnan(s.mean)) return buf_adds(b, "<td>–</td>");
    buf_addf(b, "<td><span>%s</span>", metric_text(m, s.mean, mean));
    if (!isnan(s.deviation)) buf_addf(b, " <span class=\"soft\">± %s</span>", metric_text(m, s.deviation, deviation));
    buf_adds(b, "</td>");
}

static void add_points(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    buf_adds(b, "<details>\n<summary>Every evaluation as a table</summary>\n");
    for (Metric m = 0; m < N_METRICS; m++) {
        if (!has_metric(c, m)) continue;
        char label[80];
        snprintf(label, sizeof label, "%s at each evaluation", comparison_title(c, m));
        Table t = {.caption = comparison_title(c, m), .label = label, .columns = (const char *[]){"<step", NULL},
                   .first_model = 1};
        begin_table(b, p, &t);
        for (size_t i = 0; i < c->n_points; i++) {
            buf_addf(b, "<tr><th scope=\"row\">%lld</th>", (long long)comparison_step(c, LINES_EVAL, i));
            for (size_t a = 0; a < c->n_arms; a++) add_spread(b, m, comparison_spread(c, a, i, m));
            buf_adds(b, "</tr>\n");
        }
        end_table(b, &t);
    }
    buf_adds(b, "</details>\n");
}

// ---- questions ----------------------------------------------------------------------------------------------------

static void add_answer(Buf *b, const char *text)
{
    buf_adds(b, "<dd class=\"said\" dir=\"auto\"><bdi dir=\"auto\">");
    html_escape(b, text);
    buf_adds(b, "</bdi>");
}

// What the model is given: the text of the tokens before the answer. The template's parts are set in another type.
static void add_prompt(Buf *b, const Page *p, const Question *q)
{
    const Example *ex = q->example;
    buf_adds(b, "<p class=\"said\" dir=\"auto\">");
    for (size_t i = 0, end; i < q->first; i = end) {
        bool template = ex->roles[i] == ROLE_TEMPLATE;
        Buf text = {0};
        for (end = i; end < q->first && (ex->roles[end] == ROLE_TEMPLATE) == template; end++) {}
        report_added_text(&text, ex->ids, i, end, p->showcase->tokenizer);
        buf_adds(b, template ? "<bdi class=\"mono soft\">" : "<bdi dir=\"auto\">");
        html_escape(b, text.data ? text.data : "");
        buf_adds(b, "</bdi>");
        buf_free(&text);
    }
    buf_adds(b, "</p>\n");
}

static void add_question(Buf *b, const Page *p, const Question *q)
{
    Buf reference = {0};
    showcase_text(&reference, p->showcase->tokenizer, q->example->ids + q->first, q->end - q->first);
    buf_adds(b, "<li>\n");
    add_prompt(b, p, q);
    buf_adds(b, "<dl class=\"answers\">\n<div><dt>reference</dt>");
    add_answer(b, reference.data);
    buf_adds(b, "</dd></div>\n");
    for (size_t k = 0; k < n_models(p); k++) {
        buf_adds(b, "<div><dt>");
        add_model(b, p, k);
        buf_adds(b, "</dt>");
        add_answer(b, q->answers[k] && *q->answers[k] ? q->answers[k] : "(nothing)");
        if (q->exact[k]) buf_adds(b, " <span class=\"exact\">✓ exact</span>");
        buf_adds(b, "</dd></div>\n");
    }
    buf_adds(b, "</dl>\n</li>\n");
    buf_free(&reference);
}

static void add_questions(Buf *b, const Page *p)
{
    if (!p->showcase->n_questions) return;
    buf_adds(b, "<section>\n<h2>The same questions, answered</h2>\n<p>No run was trained on these held-out questions. "
                "Each model answers with its most likely tokens, one after the other, until the token that ends a turn."
                "</p>\n<ol class=\"asked\">\n");
    for (size_t i = 0; i < p->showcase->n_questions; i++) add_question(b, p, &p->showcase->questions[i]);
    buf_adds(b, "</ol>\n</section>\n");
}

// ---- numbers and configuration ------------------------------------------------------------------------------------

// 1234567 as 1,234,567
static void add_fact(Buf *b, const char *name, size_t value, const char *more)
{
    char digits[32];
    size_t n = (size_t)snprintf(digits, sizeof digits, "%zu", value);
    buf_addf(b, "<div><dt>%s</dt><dd>", name);
    for (size_t i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) buf_addc(b, ',');
        buf_addc(b, digits[i]);
    }
    buf_addf(b, "%s</dd></div>\n", more);
}
static void add_facts(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    const Summary *t = &p->train;
    char part[32];
    buf_adds(b, "<dl class=\"facts\">\n");
    add_fact(b, "parameters", p->n_params, "");
    add_fact(b, "training rows", t->rows - t->dropped, "");
    snprintf(part, sizeof part, " (%.1f %%)", t->tokens ? 100.0 * (double)t->supervised / (double)t->tokens : 0);
    add_fact(b, "tokens with a label", t->supervised, part);
    add_fact(b, "held-out rows", p->eval.rows, "");
    add_fact(b, "steps", (size_t)comparison_last_step(c), "");
    const char *seeds = c->n_arms == 1 ? "seeds" : c->named ? "seeds for each arm" : "seeds for each weight";
    add_fact(b, seeds, comparison_whole_seeds(c), "");
    buf_adds(b, "</dl>\n");
}

static void add_numbers(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    char caption[128];
    const char *columns[N_METRICS + 2] = {"<model"};
    size_t n = 1;
    for (Metric m = 0; m < N_METRICS; m++)
        if (has_metric(c, m)) columns[n++] = comparison_title(c, m);
    snprintf(caption, sizeof caption, "Before training, and after %lld steps%s", (long long)comparison_last_step(c),
             comparison_whole_seeds(c) > 1 ? ": mean ± standard deviation over seeds" : "");
    Table t = {.class = "final", .caption = caption, .label = "Final numbers", .columns = columns,
               .first_model = n_models(p)};
    buf_adds(b, "<section>\n<h2>The numbers</h2>\n");
    add_found(b, p, false);
    begin_table(b, p, &t);
    for (size_t k = 0; k < n_models(p); k++) {
        size_t arm = k ? k - 1 : 0, i = k ? c->n_points - 1 : 0;
        buf_adds(b, "<tr><th scope=\"row\">");
        add_model(b, p, k);
        buf_adds(b, "</th>");
        for (Metric m = 0; m < N_METRICS; m++)
            if (has_metric(c, m)) add_spread(b, m, comparison_spread(c, arm, i, m));
        buf_adds(b, "</tr>\n");
    }
    end_table(b, &t);
    add_points(b, p);
    add_facts(b, p);
    buf_adds(b, "</section>\n");
}

static void add_arm_keys(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    if (!c->named) return;
    buf_adds(b, "<ul class=\"found\">\n");
    for (size_t a = 0; a < c->n_arms; a++) {
        buf_adds(b, "<li>");
        add_model(b, p, 1 + a);
        buf_adds(b, ": <code>");
        html_escape(b, c->arms[a].text);
        buf_adds(b, "</code></li>\n");
    }
    buf_adds(b, "</ul>\n");
}

static void add_config(Buf *b, const Page *p)
{
    cJSON *json = options_json(&p->run->options);
    Table t = {.class = "config", .caption = "Keys that were set; all others have their default values",
               .columns = (const char *[]){"<key", "<value", NULL}, .first_model = n_models(p)};
    buf_adds(b, "<section>\n<h2>The configuration</h2>\n<p class=\"soft mono\">");
    html_escape(b, p->command);
    buf_adds(b, "</p>\n");
    add_arm_keys(b, p);
    begin_table(b, p, &t);
    for (const cJSON *v = json->child; v; v = v->next) {
        // A run that was resumed has the page of one that was never stopped.
        if (!options_given(&p->run->options, v->string) || strcmp(v->string, "resume_from_checkpoint") == 0) continue;
        char *value = cJSON_PrintUnformatted(v);
        buf_addf(b, "<tr><th scope=\"row\" class=\"mono\">%s</th><td class=\"mono\"><bdi>", v->string);
        html_escape(b, cJSON_IsString(v) ? v->valuestring : value);
        buf_adds(b, "</bdi></td></tr>\n");
        cJSON_free(value);
    }
    end_table(b, &t);
    buf_adds(b, "</section>\n");
    cJSON_Delete(json);
}

bool page_report(const Run *r, const Config *c, const char *command, const Comparison *comparison, const Showcase *show,
                 Err *e)
{
    Page page = {.command = command, .run = r, .comparison = comparison, .showcase = show,
                 .train = dataset_summary(r->data.examples, r->n_train, r->tokenizer),
                 .eval = dataset_summary(r->eval, r->n_eval, r->tokenizer), .n_params = params_count(c)};
    Buf b = {0}, picture = {0};
    for (size_t i = 0; i < N_METRICS && page.n_first < 2; i++) {
        Metric m = metric_order[i];
        if (!has_metric(comparison, m)) continue;
        page.first[page.n_first] = plot_metric(&page, m);
        page.metrics[page.n_first++] = m;
    }
    if (page.n_first) plot_picture(&picture, page.first, page.n_first);
    add_head(&b, &page);
    add_mask(&b, &page);
    add_curves(&b, &page);
    add_training_loss(&b, &page);
    add_rows(&b, &page);
    add_questions(&b, &page);
    add_numbers(&b, &page);
    add_config(&b, &page);
    buf_addf(&b, "</main>\n<footer class=\"soft small\"><p>Written by sft.c, which trains small Llamas in C. This file is "
                 "complete: it loads nothing.</p></footer>\n<script>%s</script>\n</body>\n</html>\n", page_js);
    for (size_t i = 0; i < page.n_first; i++) plot_free(&page.first[i]);
    Path path = path_in(r->options.output_dir, "report.html");
    bool ok = file_put(path.text, b.data, b.len, e) &&
              (!picture.len || file_put(path_in(r->options.output_dir, "curves.svg").text, picture.data, picture.len, e));
    if (ok) printf("the report is %s\n", path.text);
    buf_free(&b);
    buf_free(&picture);
    return ok;
}

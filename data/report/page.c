// page: see page.h. Colour is never the only sign: a supervised token has a solid frame, a loss its number, an arm its
// dashes.
#include "page.h"

#include "plot.h"
#include "report.h"

#include <math.h>
#include <string.h>

extern const char page_css[];                             // page.css as a string: the Makefile makes it

typedef struct {
    const char *command;
    const Options *options;
    const Comparison *comparison;
    const Showcase *showcase;
    Summary train, eval;
    size_t n_params;
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
    return model == 0 ? "before" : c->n_arms == 1 && !c->named ? "trained" : c->arms[model - 1].name;
}

static size_t n_models(const Page *p) { return 1 + p->comparison->n_arms; }

// Its name, and before it a line as the plots draw its arm.
static void add_model(Buf *b, const Page *p, size_t model)
{
    if (model && p->comparison->n_arms > 1)
        buf_addf(b, "<svg class=\"swatch\" viewBox=\"0 0 28 8\" aria-hidden=\"true\"><line x1=\"1\" y1=\"4\" x2=\"27\" "
                    "y2=\"4\" stroke=\"%s\" stroke-width=\"3\" stroke-dasharray=\"%s\"/></svg>",
                 plot_colour(model - 1), plot_dashes(model - 1));
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

// ---- head ---------------------------------------------------------------------------------------------------------

static void add_found(Buf *b, const Page *p)
{
    Buf verdict = {0};
    comparison_verdict(&verdict, p->comparison);
    buf_adds(b, "<ul class=\"found\">\n");
    for (char *line = verdict.data, *end; line && (end = strchr(line, '\n')); line = end + 1) {    // each ends its line
        *end = 0;
        buf_adds(b, "<li>");
        html_escape(b, line);
        buf_adds(b, "</li>\n");
    }
    buf_adds(b, "</ul>\n");
    buf_free(&verdict);
}

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
    add_fact(b, "steps", (size_t)c->steps[c->n_points - 1], "");
    const char *seeds = c->n_arms == 1 ? "seeds" : c->named ? "seeds for each arm" : "seeds for each weight";
    add_fact(b, seeds, comparison_whole_seeds(c), "");
    buf_adds(b, "</dl>\n");
}

// The page needs no script and nothing from elsewhere: its policy forbids both.
static void add_head(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    bool many = c->n_arms > 1;
    const char *title = c->named ? "A comparison of arms" : many ? "Masked against unmasked" : "A training run";
    buf_addf(b, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                "<meta http-equiv=\"Content-Security-Policy\" "
                "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
                "<title>%s: ", title);
    html_escape(b, p->options->dataset_name);
    buf_addf(b, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<p class=\"soft small mono\">", page_css);
    html_escape(b, p->command);
    buf_addf(b, "</p>\n<h1>%s</h1>\n", title);
    add_found(b, p);
    if (many)
        buf_addf(b, "<p class=\"soft\">Every run starts from the same model and sees the same rows. Runs with the same "
                    "seed also see them in the same order; these differ in %s. All "
                    "runs are evaluated on the same tokens of the same held-out rows.</p>\n",
                 c->named ? "the keys of their arms only" :
                            "one number only, the weight in the loss of tokens that are not the assistant's. It is 0 "
                            "in the masked run and 1 in the unmasked run");
    if (c->named) buf_adds(b, "<ul class=\"found\">\n");
    for (size_t a = 0; c->named && a < c->n_arms; a++) {
        buf_adds(b, "<li>");
        add_model(b, p, 1 + a);
        buf_adds(b, ": <code>");
        html_escape(b, c->arms[a].text);
        buf_adds(b, "</code></li>\n");
    }
    if (c->named) buf_adds(b, "</ul>\n");
    add_facts(b, p);
    buf_adds(b, "</header>\n<main>\n");
}

// ---- the curves ---------------------------------------------------------------------------------------------------

static bool has_metric(const Comparison *c, Metric m)
{
    return !isnan(comparison_spread(c, 0, c->n_points - 1, m).mean);
}

static bool add_plot(Buf *b, const Page *p, Metric m)
{
    const Comparison *c = p->comparison;
    Buf figure = {0}, ends = {0};
    for (size_t a = 0; a < c->n_arms; a++) {
        char from[32], to[32];
        metric_text(m, comparison_spread(c, a, 0, m).mean, from);
        metric_text(m, comparison_spread(c, a, c->n_points - 1, m).mean, to);
        buf_adds(&ends, a ? "; " : "");
        html_escape(&ends, model_name(p, 1 + a));
        buf_addf(&ends, ": from %s to %s", from, to);
    }
    buf_addf(&figure, "<figure>\n<figcaption>%s <span>%s%s</span></figcaption>\n", comparison_title(c, m),
             metric_table[m].note, comparison_is_steep(c, m) ? "; log scale" : "");
    bool ok = plot_svg(&figure, c, m, comparison_title(c, m), ends.data);
    if (ok) buf_addf(b, "%s</figure>\n", figure.data);
    buf_free(&figure);
    buf_free(&ends);
    return ok;
}

static void add_spread(Buf *b, Metric m, Spread s)
{
    char mean[32], deviation[32];
    if (isnan(s.mean)) return buf_adds(b, "<td>–</td>");
    buf_addf(b, "<td><span>%s</span>", metric_text(m, s.mean, mean));
    if (!isnan(s.deviation)) buf_addf(b, " <span class=\"soft\">± %s</span>", metric_text(m, s.deviation, deviation));
    buf_adds(b, "</td>");
}

static void add_points(Buf *b, const Page *p, bool open)
{
    const Comparison *c = p->comparison;
    buf_addf(b, "<details%s>\n<summary>Every evaluation as a table</summary>\n", open ? " open" : "");
    for (Metric m = 0; m < N_METRICS; m++) {
        if (!has_metric(c, m)) continue;
        char label[80];
        snprintf(label, sizeof label, "%s at each evaluation", comparison_title(c, m));
        Table t = {.caption = comparison_title(c, m), .label = label, .columns = (const char *[]){"<step", NULL},
                   .first_model = 1};
        begin_table(b, p, &t);
        for (size_t i = 0; i < c->n_points; i++) {
            buf_addf(b, "<tr><th scope=\"row\">%lld</th>", (long long)c->steps[i]);
            for (size_t a = 0; a < c->n_arms; a++) add_spread(b, m, comparison_spread(c, a, i, m));
            buf_adds(b, "</tr>\n");
        }
        end_table(b, &t);
    }
    buf_adds(b, "</details>\n");
}

static void add_curves(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    bool many = c->n_arms > 1, drawn = false;
    Buf plots = {0};
    for (size_t i = 0; i < N_METRICS; i++)
        if (has_metric(c, metric_order[i]) && add_plot(&plots, p, metric_order[i])) drawn = true;
    buf_adds(b, "<section>\n<h2>The curves</h2>\n");
    if (drawn && many) {
        buf_adds(b, "<ul class=\"legend\">\n");
        add_models(b, p, 1, "<li>", "</li>\n");
        buf_adds(b, "</ul>\n");
    }
    if (drawn) buf_addf(b, "<div class=\"plots\">\n%s</div>\n", plots.data);
    else if (c->n_points < 2) buf_adds(b, "<p class=\"note\">No curves: there was only one evaluation.</p>\n");
    else buf_adds(b, "<p class=\"note\">The curves are missing because gnuplot, which draws them, was not found or "
                     "failed. Install it (the package is gnuplot-nox, gnuplot or gnuplot-minimal) and run the same "
                     "command again. The numbers are below.</p>\n");
    if (drawn && comparison_whole_seeds(c) > 1)
        buf_addf(b, "<p class=\"soft small\">Lines are means over %zu seeds. Each band shows one standard deviation "
                    "above and below its line.</p>\n", comparison_whole_seeds(c));
    add_points(b, p, !drawn);
    buf_adds(b, "</section>\n");
    buf_free(&plots);
}

// ---- tokens -------------------------------------------------------------------------------------------------------

static void add_token_text(Buf *b, const Page *p, const Example *ex, size_t i)
{
    Buf text = {0};
    report_token_cell(&text, ex, i, p->showcase->tokenizer);
    html_escape(b, text.data ? text.data : "");
    buf_free(&text);
}

static float nll_of(const ShownRow *row, size_t model, size_t i) { return row->nll[model * row->example->n + i]; }

// One card: the token in its role's colour, framed if it is supervised, and below it each model's loss on it.
static void add_token(Buf *b, const Page *p, const ShownRow *row, size_t i)
{
    const Example *ex = row->example;
    bool learns = ex->labels[i] != IGNORE;
    buf_addf(b, "<span class=\"tok %s\" title=\"position %zu, id %d, label %d (%s), role %s", learns ? "learn" : "mask",
             i, ex->ids[i], ex->labels[i], learns ? "supervised" : "masked", role_names[ex->roles[i]]);
    for (size_t k = 0; k < n_models(p) && i > 0; k++) {
        buf_adds(b, k ? ", " : "; loss ");
        html_escape(b, model_name(p, k));
        buf_addf(b, " %.4f", (double)nll_of(row, k, i));
    }
    buf_addf(b, "\"><b class=\"%s\"><bdi dir=\"auto\">", role_names[ex->roles[i]]);
    add_token_text(b, p, ex, i);
    buf_adds(b, "</bdi></b>");
    for (size_t k = 0; k < n_models(p); k++) {
        double nll = (double)nll_of(row, k, i);
        if (i) buf_addf(b, "<i class=\"h%d\">%.1f</i>", nll >= 7 ? 7 : nll > 0 ? (int)nll : 0, nll);
        else buf_adds(b, "<i>–</i>");
    }
    buf_adds(b, "</span>\n");
}

static void add_token_table(Buf *b, const Page *p, const ShownRow *row)
{
    const Example *ex = row->example;
    char label[64], caption[128];
    snprintf(label, sizeof label, "Tokens of held-out row %zu", row->index);
    snprintf(caption, sizeof caption, "%s, with the loss of each model", label);
    Table t = {.caption = caption, .label = label,
               .columns = (const char *[]){"<position", "<token", "id", "label", "<role", "<status", NULL}};
    buf_addf(b, "<details>\n<summary>The same %zu tokens as a table</summary>\n", ex->n);
    begin_table(b, p, &t);
    for (size_t i = 0; i < ex->n; i++) {
        buf_addf(b, "<tr><th scope=\"row\">%zu</th><td class=\"left mono\"><bdi dir=\"auto\">", i);
        add_token_text(b, p, ex, i);
        buf_addf(b, "</bdi></td><td>%d</td><td>%d</td><td class=\"left\">%s</td><td class=\"left\">%s</td>", ex->ids[i],
                 ex->labels[i], role_names[ex->roles[i]], ex->labels[i] != IGNORE ? "supervised" : "masked");
        for (size_t k = 0; k < n_models(p); k++) {
            if (i) buf_addf(b, "<td>%.4f</td>", (double)nll_of(row, k, i));
            else buf_adds(b, "<td>–</td>");
        }
        buf_adds(b, "</tr>\n");
    }
    end_table(b, &t);
    buf_adds(b, "</details>\n");
}

static void add_row(Buf *b, const Page *p, const ShownRow *row)
{
    const Example *ex = row->example;
    size_t learned = 0;
    for (size_t i = 0; i < ex->n; i++) learned += ex->labels[i] != IGNORE;
    buf_addf(b, "<h3>Held-out row %zu (line %zu): %zu tokens, %zu of them supervised</h3>\n"
                "<div class=\"tokens\" role=\"img\" "
                "aria-label=\"The row as coloured tokens, each with its losses; a table of the same tokens follows\">\n"
                "<span class=\"tok key\"><b>token</b>", row->index, ex->line, ex->n, learned);
    add_models(b, p, 0, "<i>", "</i>");
    buf_adds(b, "</span>\n");
    for (size_t i = 0; i < ex->n; i++) add_token(b, p, row, i);
    buf_adds(b, "</div>\n");
    add_token_table(b, p, row);
}

static void add_rows(Buf *b, const Page *p)
{
    bool used[N_ROLES] = {false};
    if (!p->showcase->n_rows) return;
    for (size_t r = 0; r < p->showcase->n_rows; r++) {
        const Example *ex = p->showcase->rows[r].example;
        for (size_t i = 0; i < ex->n; i++) used[ex->roles[i]] = true;
    }
    buf_adds(b, "<section>\n<h2>Rows, token by token</h2>\n<p>This is a row as the trainer sees it: tokens, each with "
                "a role. A supervised token has a label; all other tokens have none. Below each token "
                "is its loss, in nats, for each model: how much the token surprised the model. Point at a token for "
                "its id and label.</p>\n<ul class=\"chips\">\n<li class=\"soft\">role</li>\n");
    for (int r = 0; r < N_ROLES; r++)
        if (used[r]) buf_addf(b, "<li class=\"%s\">%s</li>\n", role_names[r], role_names[r]);
    buf_adds(b, "</ul>\n<ul class=\"chips\">\n<li class=\"tok learn\"><b>supervised</b></li>\n"
                "<li class=\"tok mask\">masked (label -100)</li>\n<li class=\"soft\">loss</li>\n");
    for (int h = 0; h < 8; h++) buf_addf(b, "<li class=\"h%d\">%d%s</li>\n", h, h, h == 7 ? " or more" : "");
    buf_adds(b, "</ul>\n");
    for (size_t r = 0; r < p->showcase->n_rows; r++) add_row(b, p, &p->showcase->rows[r]);
    buf_adds(b, "</section>\n");
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

static void add_numbers(Buf *b, const Page *p)
{
    const Comparison *c = p->comparison;
    char caption[128];
    const char *columns[N_METRICS + 2] = {"<model"};
    size_t n = 1;
    for (Metric m = 0; m < N_METRICS; m++)
        if (has_metric(c, m)) columns[n++] = comparison_title(c, m);
    snprintf(caption, sizeof caption, "Before training, and after %lld steps%s", (long long)c->steps[c->n_points - 1],
             comparison_whole_seeds(c) > 1 ? ": mean ± standard deviation over seeds" : "");
    Table t = {.class = "final", .caption = caption, .label = "Final numbers", .columns = columns,
               .first_model = n_models(p)};
    buf_adds(b, "<section>\n<h2>The numbers</h2>\n");
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
    buf_adds(b, "</section>\n");
}

static void add_config(Buf *b, const Page *p)
{
    cJSON *json = options_json(p->options);
    Table t = {.class = "config", .caption = "Keys that were set; all others have their default values",
               .columns = (const char *[]){"<key", "<value", NULL}, .first_model = n_models(p)};
    buf_adds(b, "<section>\n<h2>The configuration</h2>\n");
    begin_table(b, p, &t);
    for (const cJSON *v = json->child; v; v = v->next) {
        // A run that was resumed has the page of one that was never stopped.
        if (!options_given(p->options, v->string) || strcmp(v->string, "resume_from_checkpoint") == 0) continue;
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
    const Page page = {.command = command, .options = &r->options, .comparison = comparison, .showcase = show,
                       .train = dataset_summary(r->data.examples, r->n_train, r->tokenizer),
                       .eval = dataset_summary(r->eval, r->n_eval, r->tokenizer), .n_params = params_count(c)};
    Buf b = {0};
    add_head(&b, &page);
    add_curves(&b, &page);
    add_rows(&b, &page);
    add_questions(&b, &page);
    add_numbers(&b, &page);
    add_config(&b, &page);
    buf_adds(&b, "</main>\n<footer class=\"soft small\"><p>Written by sft.c, which trains small Llamas in C. This file "
                 "is complete: it loads nothing and runs no script.</p></footer>\n</body>\n</html>\n");
    Path path = path_in(r->options.output_dir, "report.html");
    bool ok = file_put(path.text, b.data, b.len, e);
    if (ok) printf("the report is %s\n", path.text);
    buf_free(&b);
    return ok;
}

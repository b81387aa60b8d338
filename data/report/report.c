// report: see report.h.
#include "report.h"

#include "../run/memory.h"
#include "hide.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- tokens as text -----------------------------------------------------------------------------------------------

bool report_added_text(Buf *out, const int *ids, size_t first, size_t end, const Tokenizer *t)
{
    Buf before = {0}, all = {0};
    tokenizer_decode(t, ids, first, false, &before);
    tokenizer_decode(t, ids, end, false, &all);
    bool grows = all.len > before.len && (!before.len || memcmp(all.data, before.data, before.len) == 0);
    if (grows) buf_adds(out, all.data + before.len);
    buf_free(&before);
    buf_free(&all);
    return grows;
}

// The text of token i, and of as many behind it, up to `end`, as it takes to complete its last character. Returns how
// many tokens that are; 0, and nothing added, if they complete none. A token is decoded with the one before it, because
// decoders drop the space in front of a text's first token.
static size_t whole_text(Buf *out, const Example *ex, size_t i, size_t end, const Tokenizer *t)
{
    enum { LONGEST = 8 };                                  // tokens of one character, and more
    const cJSON *special = tokenizer_special_tokens(t);
    const char *bos = json_string(special, "bos_token"), *eos = json_string(special, "eos_token");
    if (bos && ex->ids[i] == tokenizer_bos(t)) return buf_adds(out, bos), 1;
    if (eos && ex->ids[i] == tokenizer_eos(t)) return buf_adds(out, eos), 1;
    size_t from = i ? i - 1 : 0;
    for (size_t n = 1; n <= LONGEST && i + n <= end; n++) {
        Buf text = {0};
        bool whole = report_added_text(&text, ex->ids + from, i - from, i - from + n, t) &&
                     utf8_valid(text.data, text.len) == text.len && !strstr(text.data, "\uFFFD");
        if (whole) buf_adds(out, text.data);
        buf_free(&text);
        if (whole) return n;
    }
    return 0;
}

static void token_text(Buf *out, const Example *ex, size_t i, const Tokenizer *t)
{
    if (!whole_text(out, ex, i, i + 1, t)) buf_adds(out, tokenizer_piece(t, ex->ids[i]));
}

static void escape(Buf *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '\n') buf_adds(out, "\\n");
        else if (c == '\t') buf_adds(out, "\\t");
        else if (c == '\r') buf_adds(out, "\\r");
        else if (c < 0x20 || c == 0x7F) buf_addf(out, "\\x%02X", c);
        else buf_addc(out, *p);
    }
}

void report_token_cell(Buf *out, const Example *ex, size_t i, const Tokenizer *t)
{
    Buf text = {0};
    token_text(&text, ex, i, t);
    escape(out, text.data);
    buf_free(&text);
}

// Pads or cuts to `width` characters.
static void fit(Buf *out, const char *text, size_t width)
{
    size_t n = 0;
    for (const char *p = text, *end = p + strlen(p); p < end;) {
        uint32_t code;
        int bytes = utf8_decode(p, end, &code);
        if (bytes == 0) bytes = 1;
        if (++n == width && p + bytes < end) {
            buf_adds(out, "…");
            break;
        }
        buf_add(out, p, (size_t)bytes);
        p += bytes;
    }
    for (; n < width; n++) buf_addc(out, ' ');
}

// The text of a row on one line: all of it, or what is learned, run by run.
static void row_text(Buf *out, const Example *ex, bool learned, const Tokenizer *t)
{
    Buf text = {0};
    for (size_t i = 0, end, n; i < ex->n; i = end) {
        bool label = ex->labels[i] != IGNORE;
        for (end = i + 1; end < ex->n && (!learned || (ex->labels[end] != IGNORE) == label); end++) {}
        if (learned && !label) continue;
        if (text.len) buf_adds(&text, " … ");
        for (; i < end; i += n) {
            n = whole_text(&text, ex, i, end, t);
            if (n == 0) buf_adds(&text, tokenizer_piece(t, ex->ids[i])), n = 1;
        }
    }
    escape(out, text.len ? text.data : "(none)");
    buf_free(&text);
}

// ---- the start-up report ------------------------------------------------------------------------------------------

// What it means for the model, as the lesson's list of symptoms has it.
static const char *const symptom_texts[N_SYMPTOMS] = {
    [SYSTEM_LEARNED] = "the system message is learned: the model may recite it",
    [USER_LEARNED] = "the user's words are learned: the model may echo them, or ask more questions itself",
    [NO_END_LEARNED] = "the last learned token does not end a turn: the model may not learn to stop",
    [ANSWER_CUT] = "the row is cut at max_length: the end of its answer is gone",
    [ALL_MASKED] = "the mask leaves nothing to learn: the row is dropped",
    [ONLY_FIRST_LABEL] = "only the first token has a label, and the first is never predicted",
    [DOUBLE_BOS] = "two BOS tokens: the template prints one, and so does another part",
    [PREFIX_MISMATCH] = "the row does not begin with the tokens of its prompt: the completion begins where they differ",
    [SPANS_GUESSED] = "the template's generation prompt or tail differs from turn to turn: see inspect",
    [CALLS_LOST] = "the template does not write tool_calls: the model cannot learn them",
    [UNUSED_COLUMN] = "a column is not used",
    [UNKNOWN_ROLE] = "a role is not known: its words count as the user's",
    [EQUAL_KEYS] = "an object has a key twice: the last one counts",
};

static void report_symptoms(FILE *out, const Summary *s)
{
    for (Symptom i = 0; i < N_SYMPTOMS; i++) {
        const Example *first = s->symptoms[i].first;
        if (!first) continue;
        const char *detail = i == UNUSED_COLUMN ? first->unused_column : i == UNKNOWN_ROLE ? first->unknown_role : NULL;
        fprintf(out, "  warning: %zu row%s, the first is row %zu (line %zu): %s%s%s%s\n", s->symptoms[i].rows,
                s->symptoms[i].rows == 1 ? "" : "s", first->row, first->line, symptom_texts[i], detail ? ": \"" : "",
                detail ? detail : "", detail ? "\"" : "");
    }
    if (s->tokens && s->supervised == s->tokens && s->left_out == 0 && strcmp(s->mask, "none") != 0)
        fprintf(out, "  warning: every token is supervised although the mask is \"%s\"\n", s->mask);
}

void report_rows(FILE *out, const char *name, const Summary *s)
{
    fprintf(out, "%s: %zu rows", name, s->rows);
    if (s->in_file < s->rows) fprintf(out, ", one for each turn of %zu in the file", s->in_file);
    fprintf(out, ", %zu dropped (nothing to learn), %zu truncated\n", s->dropped, s->truncated);
}

// What a mask of this name selects: the sentence "The mask selects ...".
static const char *mask_text(const char *name)
{
    static const char *const texts[][2] = {
        {"assistant", "the assistant's tokens"}, {"completion", "the completion's tokens"},
        {"both", "the assistant's tokens in the completion"}, {"given", "the tokens that have a label in the row"},
        {"mixed", "tokens that depend on the kind of row"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(name, texts[i][0]) == 0) return texts[i][1];
    return "every token";
}

void report_summary(FILE *out, const char *name, const Summary *s, const Recipe *r)
{
    double ratio = s->tokens ? 100.0 * (double)s->supervised / (double)s->tokens : 0;
    report_rows(out, name, s);
    bool rendered = s->spans_by_rendering && strcmp(s->mask, "none") != 0;
    fprintf(out, "  mask=%s: supervised %zu of %zu tokens (%.1f %%). The mask selects %s", s->mask, s->supervised,
            s->tokens, ratio, mask_text(s->mask));
    if (r->prompt_loss_weight > 0)
        fprintf(out, "; %zu others are supervised with prompt_loss_weight %g", s->left_out,
                (double)r->prompt_loss_weight);
    fprintf(out, "\n%s", rendered ? "  the template has no generation blocks: rendering shows which tokens are the "
                                    "assistant's\n" : "");
    size_t kept = s->rows - s->dropped;
    if (kept && r->tokenizer)
        fprintf(out, "  end of turn supervised in %zu of %zu rows\n", kept - s->symptoms[NO_END_LEARNED].rows, kept);
    report_symptoms(out, s);
    if (!s->first || !r->tokenizer) return;
    Buf shown = {0};
    row_text(&shown, s->first, true, r->tokenizer);
    size_t n = shown.len > 400 ? 400 : shown.len;
    while (n < shown.len && ((unsigned char)shown.data[n] & 0xC0) == 0x80) n--;        // not inside of a character
    fprintf(out, "  the first row learns: %.*s%s\n", (int)n, shown.data, n < shown.len ? "…" : "");
    buf_free(&shown);
}

static uint64_t row_hash(const Example *ex)                // FNV-1a over the ids
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < ex->n; i++) hash = (hash ^ (uint64_t)ex->ids[i]) * 0x100000001B3u;
    return hash;
}

static int by_hash(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void report_overlap(FILE *out, const Run *r)
{
    const Options *o = &r->options;
    struct stat a, b;
    size_t n_equal = 0;
    uint64_t *trained = mem_alloc(r->n_train, sizeof *trained);
    for (size_t i = 0; i < r->n_train; i++) trained[i] = row_hash(&r->data.examples[i]);
    qsort(trained, r->n_train, sizeof *trained, by_hash);
    for (size_t i = 0; i < r->n_eval; i++) {
        uint64_t h = row_hash(&r->eval[i]);
        n_equal += bsearch(&h, trained, r->n_train, sizeof *trained, by_hash) != NULL;
    }
    free(trained);
    if (o->eval_dataset_name && stat(o->dataset_name, &a) == 0 && stat(o->eval_dataset_name, &b) == 0 &&
        a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        fprintf(out, "  warning: eval_dataset_name is the training file: the held-out rows are trained on\n");
    else if (n_equal)
        fprintf(out, "  warning: %zu of %zu held-out rows are equal to rows that are trained on\n", n_equal, r->n_eval);
}

// 1234567 as 1,234,567
static void print_grouped(FILE *out, size_t n)
{
    if (n >= 1000) print_grouped(out, n / 1000);
    fprintf(out, n >= 1000 ? ",%03zu" : "%zu", n % 1000);
}

// The second line is that of PEFT's print_trainable_parameters.
static void report_adapter(FILE *out, const Run *r)
{
    const Adapter *a = r->model.adapter;
    char *targets = cJSON_PrintUnformatted(json_get(a->json, "target_modules"));
    size_t first = 0, n = a->n + r->model.n_params;
    while (!a->lora[first].r) first++;
    fprintf(out, "LoRA on %s of %s: r %zu, lora_alpha %g, scale %g, dropout %g, %zu trained tokens\ntrainable params: ",
            targets, r->base_path, a->lora[first].r, json_get(a->json, "lora_alpha")->valuedouble,
            (double)a->lora[first].scale, (double)a->dropout, a->n_tokens);
    print_grouped(out, a->n);
    fprintf(out, " || all params: ");
    print_grouped(out, n);
    fprintf(out, " || trainable%%: %.4f\n", 100.0 * (double)a->n / (double)n);
    if (!options_given(&r->options, "learning_rate"))
        fprintf(out, "  learning_rate is %g: 1e-4 to 2e-4 is usual for LoRA\n", r->options.learning_rate);
    if (!run_format(r)->is_folder)
        fprintf(out, "  PEFT takes no .bin or .gguf as the base: ./train export makes a folder of it\n");
    cJSON_free(targets);
}

void report_plan(FILE *out, const Run *r, const Config *c, const Example *const *rows, size_t n_rows, int64_t n_steps)
{
    const Options *o = &r->options;
    size_t tokens = batch_bound(rows, n_rows, (size_t)o->per_device_train_batch_size, BATCH_TRAIN).tokens;
    MemoryPlan p = memory_plan(r, c, r->room.work.max, r->room.work.kind);
    size_t parts[] = {p.weights, p.gradients, p.moments, p.activations, p.data}, sum = 0;
    double mb[5];
    for (int i = 0; i < 5; i++) sum += parts[i], mb[i] = (double)parts[i] / 1e6;
    fprintf(out, "%zu parameters, %lld steps of up to %zu tokens\n", r->model.n_params, (long long)n_steps,
            tokens * (size_t)o->gradient_accumulation_steps);
    if (r->model.adapter) report_adapter(out, r);
    ops_print(out);
    fprintf(out, "memory: weights %.0f MB, gradients %.0f, optimizer %.0f, activations%s %.0f (%zu rows of logits at a "
            "time), data %.0f, together %.0f\n", mb[0], mb[1], mb[2],
            r->room.work.kind == WORK_CHECKPOINTING ? " (computed again in the backward)" : "", mb[3],
            model_logit_rows(c), mb[4], (double)sum / 1e6);
}

void progress_clear(void)
{
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
}

void progress_show(const Progress *p, int64_t n_steps, const char *label)
{
    if (!isatty(STDERR_FILENO)) return;
    const TrainSums *s = &p->total, *shown = p->since_log.steps ? &p->since_log : s;
    double left = s->seconds / (double)p->step * (double)(n_steps - p->step);
    progress_clear();
    if (label) fprintf(stderr, "%s  ", label);
    fprintf(stderr, "step %lld/%lld  loss %.4f  lr %.2e  %.0f tokens/s  %d:%02d left", (long long)p->step,
            (long long)n_steps, shown->loss / (double)shown->steps, p->lr, (double)s->tokens / s->seconds,
            (int)left / 60, (int)left % 60);
    if (p->step < n_steps) return;
    if (label) progress_clear();
    else fprintf(stderr, "\n");
}

void report_loss(const Progress *p, int64_t n_steps, double guess)
{
    double loss = p->since_log.loss / (double)p->since_log.steps;
    bool terminal = isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
    if (!terminal) printf("step %lld of %lld: loss %.4f\n", (long long)p->step, (long long)n_steps, loss);
    if (p->step == n_steps && loss > 1.02 * guess)
        printf("warning: the loss ended at %.4f, and that of a guess is %.4f: the learning rate is too large, or the "
               "run too short\n", loss, guess);
    fflush(stdout);
}

void report_evaluation(const cJSON *line)
{
    progress_clear();
    printf("step %lld: ", (long long)json_get(line, "step")->valuedouble);
    for (const cJSON *v = json_get(line, "eval_loss"), *last = json_get(line, "eval_exact_match"); v; v = v->next) {
        if (cJSON_IsNumber(v)) printf(" %s %.4f", v->string, v->valuedouble);
        if (v == last) break;                              // what follows is by role
    }
    printf("\n");
    fflush(stdout);
}

// ---- inspect ------------------------------------------------------------------------------------------------------

static void print_token(const Explained *x, size_t i, const Tokenizer *t, bool colour)
{
    const Example *ex = &x->ex;
    Buf text = {0}, cell = {0}, why = {0};
    bool learns = ex->labels[i] != IGNORE;
    if (t) report_token_cell(&text, ex, i, t);
    fit(&cell, text.data ? text.data : "", 24);
    explain_token(&why, x, i);
    const char *on = !colour ? "" : learns ? "\033[32m" : "\033[2m", *off = colour ? "\033[0m" : "";
    printf("%s%-6zu%s  %-8d  %-8d  %-6g  %-10s %s %s%s\n", on, i, cell.data, ex->ids[i], ex->labels[i],
           (double)ex->weights[i], role_names[ex->roles[i]], learns ? "LEARNS" : "MASKED", why.data, off);
    buf_free(&why);
    buf_free(&text);
    buf_free(&cell);
}

// One row as a table: position, token, id, label, weight, role, LEARNS or MASKED, and why; then its supervised text and
// counts.
static void print_row(const Explained *x, const Tokenizer *t, bool colour)
{
    const Example *ex = &x->ex;
    size_t cut = explained_tokens(x) - ex->n;
    printf("row %zu (line %zu)", ex->row, ex->line);
    if (ex->turn) printf(", turn %zu", ex->turn);
    printf("%s%s\n", ex->truncated ? ", truncated" : "",
           ex->dropped ? ", dropped: the mask leaves nothing to learn" : "");
    Buf text = {0}, learned = {0};
    if (t) row_text(&text, ex, false, t);
    if (t) printf("text: %s\n\n", text.data);
    printf("%-6s%-24s  %-8s  %-8s  %-6s  %-10s %s %s\n", "pos", "token", "input_id", "label", "weight", "role",
           "status", "why");
    for (size_t i = 0; i < ex->n; i++) print_token(x, i, t, colour);
    if (cut) printf("(%zu more tokens are cut by max_length)\n", cut);
    if (t) row_text(&learned, ex, true, t);
    printf("\nsupervised text: %s\n", t ? learned.data : "(no tokenizer)");
    printf("total tokens: %zu\nmasked: %zu\nsupervised: %zu\nshare supervised: %.1f %%\n%s\n", ex->n,
           ex->n - ex->n_supervised, ex->n_supervised, ex->n ? 100.0 * (double)ex->n_supervised / (double)ex->n : 0,
           ex->n && ex->labels[0] != IGNORE ? "note: token 0 has a label too, but it is never predicted\n" : "");
    buf_free(&text);
    buf_free(&learned);
}

static int pad_id(const Tokenizer *t)
{
    const char *pad = t ? json_string(tokenizer_special_tokens(t), "pad_token") : NULL;
    int id = pad ? tokenizer_id(t, pad) : -1;
    if (id < 0 && t) id = tokenizer_eos(t);
    return id < 0 ? 0 : id;
}

void report_padded(Buf *out, const Example *examples, size_t n, const Tokenizer *t)
{
    static const char *const names[] = {"input_ids", "attention_mask", "labels"};
    size_t width = 0;
    int pad = pad_id(t);
    for (size_t i = 0; i < n; i++) width = examples[i].n > width ? examples[i].n : width;
    buf_addf(out, "as a padded batch (pad id %d; the trainer itself lays rows end to end and pads nothing):\n", pad);
    for (int part = 0; part < 3; part++) {
        buf_addf(out, "%s (%zu, %zu)\n", names[part], n, width);
        for (size_t i = 0; i < n; i++) {
            const Example *ex = &examples[i];
            for (size_t k = 0; k < width; k++) {
                bool real = k < ex->n;
                int values[] = {real ? ex->ids[k] : pad, real, real ? ex->labels[k] : IGNORE};
                buf_addf(out, "%s%d", k ? " " : "  [", values[part]);
            }
            buf_adds(out, "]\n");
        }
    }
}

static cJSON *example_json(const Example *ex, const char *text)
{
    cJSON *json = cJSON_CreateObject(), *weights = cJSON_CreateArray(), *roles = cJSON_CreateArray();
    cJSON_AddNumberToObject(json, "row", (double)ex->row);
    cJSON_AddNumberToObject(json, "line", (double)ex->line);
    if (ex->turn) cJSON_AddNumberToObject(json, "turn", (double)ex->turn);
    cJSON_AddStringToObject(json, "text", text ? text : "");
    cJSON_AddItemToObject(json, "input_ids", cJSON_CreateIntArray(ex->ids, (int)ex->n));
    cJSON_AddItemToObject(json, "labels", cJSON_CreateIntArray(ex->labels, (int)ex->n));
    for (size_t i = 0; i < ex->n; i++) {
        cJSON_AddItemToArray(weights, cJSON_CreateNumber((double)ex->weights[i]));
        cJSON_AddItemToArray(roles, cJSON_CreateString(role_names[ex->roles[i]]));
    }
    cJSON_AddItemToObject(json, "weights", weights);
    cJSON_AddItemToObject(json, "roles", roles);
    cJSON_AddBoolToObject(json, "truncated", ex->truncated);
    cJSON_AddBoolToObject(json, "dropped", ex->dropped);
    return json;
}

cJSON *report_summary_json(const Summary *s)
{
    cJSON *json = cJSON_CreateObject(), *summary = cJSON_AddObjectToObject(json, "summary");
    const JsonNumber numbers[] = {
        {"rows", (double)s->rows}, {"dropped", (double)s->dropped}, {"truncated", (double)s->truncated},
        {"tokens", (double)s->tokens}, {"supervised", (double)s->supervised}, {NULL, 0}};
    json_add_numbers(summary, numbers);
    cJSON_AddStringToObject(summary, "mask", s->mask);
    return json;
}

bool report_inspect(Run *r, Err *e)
{
    const Options *o = &r->options;
    const Dataset *d = &r->data;
    Config c;
    if (!run_open_inputs(r, o->hide != NULL, &c, e)) return false;
    size_t last = d->rows[d->n - 1].row, first = 0, end = o->json ? d->n : 1, on_page = d->n < 8 ? d->n : 8;
    if (o->rows > 0) end = dataset_find(d, (size_t)o->rows);       // a row of the file, with all its turns
    if (o->row >= 0) {
        if ((size_t)o->row > last) return fail(e, "row: expected 0 to %zu, found %lld", last, (long long)o->row);
        first = dataset_find(d, (size_t)o->row);
        end = dataset_find(d, (size_t)o->row + 1);
    }
    if (o->hide) return hide_inspect(r, &c, &d->examples[first], e);
    if (o->rows > 0 || o->row >= 0) on_page = end;
    if (o->html && !explore_page(r, first, on_page, o->html, e)) return false;
    Summary s = dataset_summary(d->examples, d->n, r->tokenizer);
    if (!o->json) report_summary(stdout, o->dataset_name, &s, &r->recipe), printf("\n");
    if (!o->json && o->html)
        return printf("rows %zu to %zu are in %s\n", d->rows[first].row, d->rows[on_page - 1].row, o->html), true;
    bool ok = true;
    for (size_t i = first; i < end && ok; i++) {
        Explained x;
        ok = explain_row(&x, d, i, &r->recipe, e);
        if (ok && o->json) json_print(example_json(&x.ex, x.origin.chat.text.data));
        else if (ok) print_row(&x, r->tokenizer, isatty(STDOUT_FILENO));
        explained_free(&x);
    }
    Buf batch = {0};
    if (ok && o->json) json_print(report_summary_json(&s));
    else if (ok && end - first > 1) report_padded(&batch, d->examples + first, end - first, r->tokenizer);
    fputs(batch.data ? batch.data : "", stdout);
    buf_free(&batch);
    return ok;
}

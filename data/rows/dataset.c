// dataset: see dataset.h.
#include "dataset.h"

#include <stdlib.h>
#include <string.h>

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static void add_row(Dataset *d, const char *begin, const char *end, size_t line)
{
    while (begin < end && is_blank(*begin)) begin++;
    while (end > begin && is_blank(end[-1])) end--;
    if (begin == end) return;
    ARRAY_ROOM(d->rows, d->n, d->cap);
    d->rows[d->n++] = (RowText){begin, (size_t)(end - begin), line};
}

static void split_lines(Dataset *d, const char *p, const char *end)
{
    for (size_t line = 1; p < end; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) stop = end;
        add_row(d, p, stop, line);
        p = stop + 1;
    }
}

// The elements of a JSON list: cut at the commas outside of strings, lists and objects.
static bool split_list(Dataset *d, const char *p, const char *end, Err *e)
{
    const char *begin = NULL;
    size_t depth = 0, line = 1, begin_line = 1;
    bool in_string = false;
    for (; p < end; p++) {
        if (*p == '\n') line++;
        if (in_string) {
            if (*p == '\\' && p + 1 < end) p++;
            else if (*p == '"') in_string = false;
            continue;
        }
        if (depth == 1 && !is_blank(*p) && !begin) begin = p, begin_line = line;
        if (*p == '"') in_string = true;
        if (depth == 1 && (*p == ',' || *p == ']')) {
            add_row(d, begin, p, begin_line);
            begin = NULL;
        }
        if (*p == '[' || *p == '{') depth++;
        if ((*p == ']' || *p == '}') && --depth == 0) break;
    }
    if (p == end) return fail(e, "%s: the list that begins it never ends", d->file.path);
    for (p++; p < end; p++)
        if (!is_blank(*p)) return fail(e, "%s:%zu: expected nothing after the list, found \"%.*s\"", d->file.path, line,
                                           (int)(end - p < 10 ? end - p : 10), p);
    return true;
}

bool dataset_open(Dataset *d, const char *path, Err *e)
{
    *d = (Dataset){0};
    if (!file_map(&d->file, path, e)) return false;
    const char *p = (const char *)d->file.data, *end = p + d->file.size;
    if (d->file.size >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) p += 3;        // a byte order mark
    const char *first = p;
    while (first < end && is_blank(*first)) first++;
    bool ok = true;
    if (first < end && *first == '[') ok = split_list(d, p, end, e);
    else split_lines(d, p, end);
    if (ok && d->n == 0) ok = fail(e, "%s: expected rows, found none", path);
    if (!ok) dataset_free(d);
    return ok;
}

cJSON *dataset_row(const Dataset *d, size_t i, Err *e)
{
    return json_parse(d->rows[i].text, d->rows[i].len, d->file.path, d->rows[i].line, e);
}

static bool build_row(Dataset *d, size_t i, const Recipe *recipe, Err *e)
{
    cJSON *row = dataset_row(d, i, e);
    if (!row) return false;
    bool ok = example_build(&d->examples[i], NULL, row, recipe, e);
    d->examples[i].line = d->rows[i].line;
    cJSON_Delete(row);
    return ok || fail_prefix(e, "%s:%zu: ", d->file.path, d->rows[i].line);
}

bool dataset_build(Dataset *d, const Recipe *recipe, Err *e)
{
    size_t first_bad = d->n;
    d->examples = mem_alloc(d->n, sizeof *d->examples);
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t i = 0; i < d->n; i++) {
        Err mine;
        if (build_row(d, i, recipe, &mine)) continue;
#pragma omp critical
        if (i < first_bad) {
            first_bad = i;
            *e = mine;
        }
    }
    return first_bad == d->n;
}

void dataset_free(Dataset *d)
{
    for (size_t i = 0; d->examples && i < d->n; i++) example_free(&d->examples[i]);
    free(d->examples);
    free(d->rows);
    file_unmap(&d->file);
    *d = (Dataset){0};
}

// Is the token text that is all white space? Templates often end a turn with one such token after the end marker.
static bool token_is_blank(const Tokenizer *t, int id)
{
    Buf text = {0};
    tokenizer_decode(t, &id, 1, false, &text);
    bool blank = true;
    for (size_t i = 0; i < text.len; i++) blank = blank && is_blank(text.data[i]);
    buf_free(&text);
    return blank;
}

// Does the last thing learned, white space aside, end a turn? Only a special token can be told from text.
static bool ends_in_special(const Example *ex, const Tokenizer *t)
{
    size_t i = ex->n;
    while (i > 0 && (ex->labels[i - 1] == IGNORE || token_is_blank(t, ex->ids[i - 1]))) i--;
    return i > 0 && tokenizer_is_special(t, ex->ids[i - 1]);
}

static bool learns_role(const Example *ex, Role role)
{
    for (size_t i = 0; i < ex->n; i++)
        if (ex->labels[i] != IGNORE && ex->roles[i] == role) return true;
    return false;
}

static void find_symptoms(Summary *s, const Example *ex, const Tokenizer *t)
{
    bool kept = !ex->dropped, two = ex->n > 1 && t && tokenizer_bos(t) >= 0;
    bool found[N_SYMPTOMS] = {
        [SYSTEM_LEARNED] = learns_role(ex, ROLE_SYSTEM), [USER_LEARNED] = learns_role(ex, ROLE_USER),
        [NO_END_LEARNED] = kept && t && !ends_in_special(ex, t),
        [ANSWER_CUT] = ex->truncated, [ALL_MASKED] = ex->dropped,
        [ONLY_FIRST_LABEL] = kept && ex->n_learned == 0,
        [DOUBLE_BOS] = two && ex->ids[0] == tokenizer_bos(t) && ex->ids[1] == tokenizer_bos(t),
        [PREFIX_MISMATCH] = ex->prefix_mismatch,
    };
    for (Symptom i = 0; i < N_SYMPTOMS; i++)
        if (found[i] && s->symptoms[i].rows++ == 0) s->symptoms[i].first_line = ex->line;
}

Summary dataset_summary(const Example *examples, size_t n, const Tokenizer *t)
{
    Summary s = {.rows = n};
    for (size_t i = 0; i < n; i++) {
        const Example *ex = &examples[i];
        size_t supervised = 0;
        for (size_t k = 0; k < ex->n; k++) supervised += ex->labels[k] != IGNORE;
        s.truncated += ex->truncated;
        s.dropped += ex->dropped;
        s.spans_by_rendering |= ex->spans_by_rendering;
        s.mask = !s.mask || strcmp(s.mask, ex->mask) == 0 ? ex->mask : "mixed";
        find_symptoms(&s, ex, t);
        if (ex->dropped) continue;
        if (!s.first) s.first = ex;
        s.tokens += ex->n;
        s.supervised += supervised;
        s.left_out += ex->n_left_out;
    }
    return s;
}

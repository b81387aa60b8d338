// dataset: see dataset.h.
#include "dataset.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static void add_row(Dataset *d, const char *begin, const char *end, size_t line)
{
    while (begin < end && is_blank(*begin)) begin++;
    while (end > begin && is_blank(end[-1])) end--;
    if (begin == end) return;
    ARRAY_ROOM(d->rows, d->n, d->cap);
    d->rows[d->n] = (RowText){begin, (size_t)(end - begin), line, d->n, 0};
    d->n++;
}

// The first byte behind the JSON value at `p`; `end` if it does not end there. A value that is no object and no list
// goes to the end of its line. *line follows.
static const char *value_end(const char *p, const char *end, size_t *line)
{
    size_t depth = 0;
    bool in_string = false;
    for (; p < end; p++) {
        if (*p == '\n') ++*line;
        if (in_string) {
            if (*p == '\\' && p + 1 < end) p++;
            else if (*p == '"') in_string = false;
            continue;
        }
        if (*p == '"') in_string = true;
        if (*p == '{' || *p == '[') depth++;
        if ((*p == '}' || *p == ']') && (depth <= 1 || --depth == 0)) return p + 1;
        if (*p == '\n' && depth == 0) return p;
    }
    return end;
}

static const char *skip_blanks(const char *p, const char *end, size_t *line)
{
    for (; p < end && is_blank(*p); p++) *line += *p == '\n';
    return p;
}

// Objects one after another. Most files have one on each line, but an object may go over several lines. What follows an
// object on its line belongs to the row, so that the parser names it.
static bool split_objects(Dataset *d, const char *p, const char *end, Err *e)
{
    for (size_t line = 1, first; (p = skip_blanks(p, end, &line)) < end;) {
        const char *begin = p;
        first = line;
        p = value_end(p, end, &line);
        const char *next = p;
        while (next < end && (*next == ' ' || *next == '\t')) next++;
        if (next < end && *next == ',' && *begin == '{')
            return fail(e, "%s:%zu: a comma after a row: rows stand one on a line without commas, or in one list [...]",
                        d->file.path, line);
        if (next < end && !is_blank(*next) && *next != '{') p = value_end(next, end, &line);
        add_row(d, begin, p, first);
    }
    return true;
}

// The elements of a JSON list that begins at `p`, on `line`. Only blanks may follow it, and closing brackets of what it
// stands in.
static bool split_list(Dataset *d, const char *p, const char *end, size_t line, Err *e)
{
    for (p++; (p = skip_blanks(p, end, &line)) < end && *p != ']'; p++) {
        const char *begin = p;
        size_t first = line;
        for (bool in_value = true; p < end && in_value;) {
            if (*p == '{' || *p == '[') p = value_end(p, end, &line);
            else if (*p == ',' || *p == ']') in_value = false;
            else line += *p++ == '\n';
        }
        add_row(d, begin, p, first);
        if (p == end || *p == ']') break;
    }
    if (p >= end) return fail(e, "%s: the list that begins it never ends", d->file.path);
    p = skip_blanks(p + 1, end, &line);
    if (p < end && *p == '[')
        return fail(e, "%s:%zu: a list on each line: expected an object on each line, such as {\"messages\": [...]}",
                    d->file.path, line);
    return p == end || fail(e, "%s:%zu: expected nothing after the list, found \"%.*s\"", d->file.path, line,
                            (int)(end - p < 10 ? end - p : 10), p);
}

// {"data": [...]}: where the list begins in a file that is one such object; NULL if it is another.
static const char *data_list(const RowText *row, size_t *line)
{
    const char *p = row->text, *end = p + row->len, *key;
    *line = row->line;
    for (p++; p < end && *p != '}'; p++) {
        p = key = skip_blanks(p, end, line);
        while (p < end && *p != ':') p++;
        bool is_data = (size_t)(p - key) >= 6 && strncmp(key, "\"data\"", 6) == 0;
        p = skip_blanks(p + 1, end, line);
        const char *first = skip_blanks(p + 1, end, &(size_t){0});
        if (is_data && first < end && *p == '[' && *first == '{') return p;
        if (p < end && (*p == '{' || *p == '[')) p = value_end(p, end, line);
        for (bool in_string = false; p < end && (in_string || (*p != ',' && *p != '}')); p++) {
            *line += *p == '\n';
            if (*p == '"') in_string = !in_string;
            if (*p == '\\') p++;
        }
        if (p < end && *p == '}') break;
    }
    return NULL;
}

// The rows of {"data": [...]} take the place of the one object; the rest of it is not looked at.
static bool open_data_list(Dataset *d, Err *e)
{
    size_t line;
    const RowText whole = d->rows[0];
    const char *list = data_list(&whole, &line), *end = whole.text + whole.len;
    if (!list) return true;
    d->n = 0;
    return split_list(d, list, value_end(list, end, &(size_t){0}), line, e);
}

// Texts that people have rows in and that are no JSON: what it is, and the line that converts it; NULL for JSON.
static const char *other_format(const char *p, size_t n)
{
    if (n == 0 || strchr("{[", *p)) return NULL;
    const char *stop = memchr(p, '\n', n);
    size_t line = stop ? (size_t)(stop - p) : n, word = 0;
    while (word < line && (isalpha((unsigned char)p[word]) || p[word] == '_')) word++;
    bool key = word && word < line && p[word] == ':';
    if ((line >= 3 && strncmp(p, "---", 3) == 0) || (line > 1 && p[0] == '-' && p[1] == ' ') || key)
        return "YAML: python3 -c \"import json, sys, yaml; [print(json.dumps(r)) for r in yaml.safe_load(sys.stdin)]\" "
               "<IN makes rows of it";
    if (memchr(p, ',', line) || memchr(p, '\t', line) || memchr(p, ';', line))
        return "CSV: python3 -c \"import csv, json, sys; [print(json.dumps(r)) for r in csv.DictReader(sys.stdin)]\" "
               "<IN makes rows of it";
    return *p == '<' ? "HTML or XML" : "no JSON";
}

bool dataset_open(Dataset *d, const char *path, Err *e)
{
    *d = (Dataset){0};
    if (!file_map(&d->file, path, e)) return false;
    const char *p = (const char *)d->file.data, *end = p + d->file.size;
    size_t line = 1;
    if (d->file.size >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) p += 3;        // a byte order mark
    const char *first = skip_blanks(p, end, &line), *other = other_format(first, (size_t)(end - first));
    bool ok;
    if (other) ok = fail(e, "%s: expected rows of JSON, one object on a line; found %s", path, other);
    else if (first < end && *first == '[') ok = split_list(d, first, end, line, e);
    else ok = split_objects(d, p, end, e) && (d->n != 1 || open_data_list(d, e));
    if (ok && d->n == 0) ok = fail(e, "%s: expected rows, found none", path);
    if (!ok) dataset_free(d);
    return ok;
}

// Removes what follows turn `turn` in a row of messages, nothing with 0. Returns how many turns are left.
static size_t cut_behind(cJSON *row, size_t turn)
{
    bool other = row_get(row, "input_ids") || (row_get(row, "prompt") && row_get(row, "completion"));
    cJSON *list = (cJSON *)row_get(row, row_get(row, "messages") ? "messages" : "conversations");
    size_t n = 0;
    for (cJSON *m = list && !other ? list->child : NULL, *next; m; m = next) {
        next = m->next;
        if (turn && n == turn) cJSON_Delete(cJSON_DetachItemViaPointer(list, m));
        else n += message_is_assistant(m);
    }
    return n;
}

cJSON *dataset_row(const Dataset *d, size_t i, Err *e)
{
    cJSON *row = json_parse_literal(d->rows[i].text, d->rows[i].len, d->file.path, d->rows[i].line, e);
    cut_behind(row, d->rows[i].turn);
    return row;
}

size_t dataset_find(const Dataset *d, size_t row)
{
    size_t i = 0;
    while (i < d->n && d->rows[i].row < row) i++;
    return i;
}

// A row of messages becomes one for each of its assistant's turns.
static void split_turns(Dataset *d)
{
    Dataset file = *d;
    Err ignored;                                           // a bad row stays one, and building it says what is wrong
    *d = (Dataset){.file = file.file};
    for (size_t i = 0; i < file.n; i++) {
        cJSON *row = dataset_row(&file, i, &ignored);
        size_t turns = cut_behind(row, 0);
        for (size_t turn = turns > 0; turn <= turns; turn++) {
            ARRAY_ROOM(d->rows, d->n, d->cap);
            d->rows[d->n] = file.rows[i];
            d->rows[d->n++].turn = turn;
        }
        cJSON_Delete(row);
    }
    free(file.rows);
}

cJSON *dataset_example(Example *ex, Origin *origin, const Dataset *d, size_t i, const Recipe *recipe, Err *e)
{
    cJSON *row = dataset_row(d, i, e);
    if (!row) return NULL;
    bool equal_keys = e->text[0] != 0, ok = example_build(ex, origin, row, recipe, e);
    if (equal_keys) ex->notes |= NOTE_EQUAL_KEYS;
    ex->row = d->rows[i].row;
    ex->line = d->rows[i].line;
    ex->turn = d->rows[i].turn;
    if (ok) return row;
    fail_prefix(e, "%s:%zu: ", d->file.path, d->rows[i].line);
    cJSON_Delete(row);
    return NULL;
}

bool dataset_build(Dataset *d, const Recipe *recipe, Err *e)
{
    if (recipe->split_turns) split_turns(d);
    size_t first_bad = d->n;
    d->examples = mem_alloc(d->n, sizeof *d->examples);
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t i = 0; i < d->n; i++) {
        Err mine;
        cJSON *row = dataset_example(&d->examples[i], NULL, d, i, recipe, &mine);
        bool ok = row != NULL;
        cJSON_Delete(row);
        if (ok) continue;
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

bool example_ends_turn(const Example *ex, size_t i, const Tokenizer *t)
{
    if (!t || ex->roles[i] != ROLE_ASSISTANT || !tokenizer_is_special(t, ex->ids[i])) return false;
    for (i++; i < ex->n && ex->roles[i] == ROLE_ASSISTANT; i++)
        if (!token_is_blank(t, ex->ids[i])) return false;
    return true;
}

// Is the end of each turn learned? Of each run of labels, the last token that is no white space must be special: only a
// special token can be told from text. A run that goes on as text, with no special token behind it, is no turn's end.
static bool ends_learned(const Example *ex, const Tokenizer *t)
{
    bool any = false;
    for (size_t i = 0; i < ex->n; i++) {
        if (ex->labels[i] == IGNORE || (i + 1 < ex->n && ex->labels[i + 1] != IGNORE)) continue;
        size_t last = i, next = i + 1;                     // the last label of a run
        while (last > 0 && ex->labels[last] != IGNORE && token_is_blank(t, ex->ids[last])) last--;
        while (next < ex->n && token_is_blank(t, ex->ids[next])) next++;
        bool learned = ex->labels[last] != IGNORE && tokenizer_is_special(t, ex->ids[last]);
        bool ends = next == ex->n || tokenizer_is_special(t, ex->ids[next]);
        if (ends && !learned) return false;
        any |= learned;
    }
    return any;
}

static bool learns_role(const Example *ex, Role role)
{
    for (size_t i = 0; i < ex->n; i++)
        if (ex->labels[i] != IGNORE && ex->roles[i] == role) return true;
    return false;
}

_Static_assert(NOTE_EQUAL_KEYS == 1 << (EQUAL_KEYS - PREFIX_MISMATCH), "a Note's bit is that of its symptom");

static void find_symptoms(Summary *s, const Example *ex, const Tokenizer *t)
{
    bool kept = !ex->dropped, two = ex->n > 1 && t && tokenizer_bos(t) >= 0;
    bool found[N_SYMPTOMS] = {
        [SYSTEM_LEARNED] = learns_role(ex, ROLE_SYSTEM), [USER_LEARNED] = learns_role(ex, ROLE_USER),
        [NO_END_LEARNED] = kept && t && !ends_learned(ex, t),
        [ANSWER_CUT] = ex->truncated, [ALL_MASKED] = ex->dropped,
        [ONLY_FIRST_LABEL] = kept && ex->n_learned == 0,
        [DOUBLE_BOS] = two && ex->ids[0] == tokenizer_bos(t) && ex->ids[1] == tokenizer_bos(t),
    };
    for (Symptom i = PREFIX_MISMATCH; i < N_SYMPTOMS; i++) found[i] = ex->notes >> (i - PREFIX_MISMATCH) & 1;
    for (Symptom i = 0; i < N_SYMPTOMS; i++)
        if (found[i] && s->symptoms[i].rows++ == 0) s->symptoms[i].first = ex;
}

Summary dataset_summary(const Example *examples, size_t n, const Tokenizer *t)
{
    Summary s = {.rows = n};
    for (size_t i = 0; i < n; i++) {
        const Example *ex = &examples[i];
        s.in_file += ex->turn < 2;
        s.truncated += ex->truncated;
        s.dropped += ex->dropped;
        s.spans_by_rendering |= ex->spans_by_rendering;
        s.mask = !s.mask || strcmp(s.mask, ex->mask_name) == 0 ? ex->mask_name : "mixed";
        find_symptoms(&s, ex, t);
        if (ex->dropped) continue;
        if (!s.first) s.first = ex;
        s.tokens += ex->n;
        s.supervised += ex->n_supervised;
        s.left_out += ex->n_left_out;
    }
    return s;
}

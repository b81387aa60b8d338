// explore: the page of inspect --html: see explore.h. explore.html, in the language of chat templates, makes it of the
// variables that stand here; every text of them is HTML already.
#include "explore.h"

#include "page.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

extern const char explore_html[], explore_css[];           // files of these names as strings: the Makefile makes them

// Adds n bytes of text so that each of them can be seen: signs for blanks, \xE6 for a byte that is no whole character.
static void put_text(cJSON *to, const char *key, const char *text, size_t n)
{
    Buf b = {0};
    for (const char *p = text, *end = text + n; p < end;) {
        uint32_t c;
        char one[5] = "";
        size_t bytes = (size_t)utf8_decode(p, end, &c);
        memcpy(one, p, bytes);
        bool blank = bytes && (c == 0xA0 || (c >= 0x2000 && c < 0x200B) || c == 0x202F || c == 0x205F || c == 0x3000);
        if (!bytes || !*p) buf_addf(&b, "<i>\\x%02X</i>", (unsigned char)*p);
        else if (strchr(" \n\t", *p)) buf_addf(&b, "<i>%s</i>", *p == ' ' ? "·" : *p == '\n' ? "↵" : "→");
        else if (blank) buf_addf(&b, "[U+%04X]", (unsigned)c);
        else html_escape(&b, one);
        p += bytes ? bytes : 1;
    }
    cJSON_AddStringToObject(to, key, b.len ? b.data : "");
    buf_free(&b);
}

static cJSON *add_token(cJSON *list, const Explained *x, size_t i)
{
    const Tokenizer *t = x->recipe->tokenizer;
    cJSON *token = cJSON_CreateObject();
    Buf text = {0}, why = {0};
    const JsonNumber numbers[] = {{"position", (double)i}, {"id", x->ex.ids[i]},
                                  {"label", i < x->ex.n ? x->ex.labels[i] : IGNORE}, {NULL, 0}};
    if (t && tokenizer_is_special(t, x->ex.ids[i])) report_token_cell(&text, &x->ex, i, t);
    else if (t) tokenizer_bytes(t, x->ex.ids[i], &text);
    explain_token(&why, x, i);
    put_text(token, "text", text.data, text.len);
    cJSON_AddStringToObject(token, "role", role_names[x->ex.roles[i]]);
    cJSON_AddStringToObject(token, "why", why.data);
    cJSON_AddItemToArray(list, json_add_numbers(token, numbers));
    buf_free(&text);
    buf_free(&why);
    return token;
}

// The tokens that the tool or this program learns; or why it has no labels.
static void add_tool(cJSON *list, const Tool *tool, const Explained *x, bool *learned)
{
    cJSON *json = cJSON_CreateObject(), *tokens = cJSON_AddArrayToObject(json, "tokens");
    Err why = {""};
    bool ok = tool_labels(learned, tool, x, &why);
    for (size_t i = 0; ok && i < x->ex.n; i++)
        if (learned[i] || x->ex.labels[i] != IGNORE)
            cJSON_AddBoolToObject(add_token(tokens, x, i), "learned", learned[i]);
    put_text(json, "refused", why.text, ok ? 0 : strlen(why.text));
    cJSON_AddStringToObject(json, "name", tool->name);
    cJSON_AddStringToObject(json, "how", tool->how);
    cJSON_AddStringToObject(json, "checked", tool->checked ? tool->checked : "");
    cJSON_AddItemToArray(list, json);
}

static void add_row(cJSON *vars, const Explained *x)
{
    size_t n = explained_tokens(x);
    cJSON *row = cJSON_AddObjectToObject(vars, "row"), *tokens = cJSON_AddArrayToObject(row, "tokens"),
          *list = cJSON_AddArrayToObject(row, "tools");
    bool *learned = mem_alloc(n, sizeof *learned);
    const JsonNumber numbers[] = {{"index", (double)x->ex.row}, {"line", (double)x->ex.line},
                                  {"dropped", x->ex.dropped}, {NULL, 0}};
    json_add_numbers(row, numbers);
    put_text(row, "text", x->origin.chat.text.data, x->origin.chat.text.len);
    for (size_t i = 0; i < n; i++) add_token(tokens, x, i);
    for (size_t i = 0; i < N_TOOLS && x->origin.messages; i++) add_tool(list, &tools[i], x, learned);
    free(learned);
}

static cJSON *data_set(const Run *r)
{
    Summary s = dataset_summary(r->data.examples, r->data.n, r->tokenizer);
    cJSON *vars = report_summary_json(&s);
    Buf name = {0};
    html_escape(&name, r->options.dataset_name);
    cJSON_AddStringToObject(vars, "name", name.data);
    cJSON_AddStringToObject(vars, "css", explore_css);
    buf_free(&name);
    return vars;
}

bool explore_page(const Run *r, size_t first, size_t end, const char *path, Err *e)
{
    enum { BATCH = 4 };                                    // rows of the padded batch
    Buf b = {0}, batch = {0};
    Template *t = template_parse(explore_html, strlen(explore_html), "explore.html", e);
    cJSON *vars = data_set(r);
    bool ok = t && template_render(t, vars, &b, NULL, e);
    for (size_t i = first; i < end && ok; i++) {           // one after the other: a template may only run for so long
        Explained x;
        ok = explain_row(&x, &r->data, i, &r->recipe, e);
        cJSON_DeleteItemFromObject(vars, "row");
        if (ok) add_row(vars, &x);
        ok = ok && template_render(t, vars, &b, NULL, e);
        explained_free(&x);
    }
    report_padded(&batch, r->data.examples + first, end < first + BATCH ? end - first : BATCH, r->tokenizer);
    cJSON_AddStringToObject(vars, "batch", batch.data);
    ok = ok && template_render(t, vars, &b, NULL, e) && file_put(path, b.data, b.len, e);
    template_free(t);
    cJSON_Delete(vars);
    buf_free(&b);
    buf_free(&batch);
    return ok;
}

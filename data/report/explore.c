// explore: the page of inspect --html: see explore.h. Colour is never the only sign: what is learned has a frame.
#include "explore.h"

#include "page.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

extern const char explore_css[], explore_html[];           // explore.css and .html: the Makefile makes strings of them

// Appends n bytes so that each of them can be seen: signs for blanks, \xE6 for a byte that is no whole character.
static void add_visible(Buf *b, const char *text, size_t n)
{
    for (const char *p = text, *end = text + n; p < end;) {
        uint32_t c;
        char one[5] = "";
        size_t bytes = (size_t)utf8_decode(p, end, &c);
        memcpy(one, p, bytes);
        bool blank = bytes && (c == 0xA0 || (c >= 0x2000 && c < 0x200B) || c == 0x202F || c == 0x205F || c == 0x3000);
        if (!bytes || !*p) buf_addf(b, "<i>\\x%02X</i>", (unsigned char)*p);
        else if (strchr(" \n\t", *p)) buf_addf(b, "<i>%s</i>", *p == ' ' ? "·" : *p == '\n' ? "↵" : "→");
        else if (blank) buf_addf(b, "[U+%04X]", (unsigned)c);
        else html_escape(b, one);
        p += bytes ? bytes : 1;
    }
}

static void add_text(Buf *b, const Explained *x, size_t i)
{
    const Tokenizer *t = x->recipe->tokenizer;
    Buf text = {0};
    if (t && tokenizer_is_special(t, x->ex.ids[i])) report_token_cell(&text, &x->ex, i, t);
    else if (t) tokenizer_bytes(t, x->ex.ids[i], &text);
    add_visible(b, text.data, text.len);
    buf_free(&text);
}

static bool is_learned(const Explained *x, size_t i) { return i < x->ex.n && x->ex.labels[i] != IGNORE; }

// A token in its role's colour, and what is below it; `classes`: what else it is.
static void add_token(Buf *b, const Explained *x, size_t i, const char *tag, const char *classes, const char *below)
{
    const char *role = role_names[x->ex.roles[i]];
    buf_addf(b, "<%s class=\"t %s %s\" title=\"position %zu, role %s\"><b>", tag, role, classes, i, role);
    add_text(b, x, i);
    buf_addf(b, "</b>%s</%s>", below, tag);
}

// The tokens with position, id and label, and below each run of them the reason that they have in common.
static void add_tokens(Buf *b, const Explained *x)
{
    Buf last = {0};
    for (size_t i = 0; i < explained_tokens(x); i++) {
        Buf why = {0};
        char below[80];
        explain_token(&why, x, i);
        if (!i || strcmp(why.data, last.data) != 0) {
            buf_addf(b, "%s<div class=\"run\"><p>", i ? "</div></div>\n" : "");
            html_escape(b, why.data);
            buf_adds(b, "</p><div class=\"tokens\">");
        }
        int label = i < x->ex.n ? x->ex.labels[i] : IGNORE;
        snprintf(below, sizeof below, "<small>%zu</small><small>%d</small><small>%d</small>", i, x->ex.ids[i], label);
        add_token(b, x, i, "span", is_learned(x, i) ? "learn" : i < x->ex.n ? "" : "cut", below);
        buf_free(&last);
        last = why;
    }
    buf_free(&last);
    buf_adds(b, "</div></div></div>\n");
}

// What `learned` has, and what it lacks of this program's labels; the rest is left out. Then both in numbers.
static void add_learned(Buf *b, const Explained *x, const bool *learned)
{
    size_t n = 0, more = 0, less = 0;
    for (size_t i = 0; i < x->ex.n; i++) {
        bool here = is_learned(x, i), same = learned[i] == here;
        if (i && (learned[i] || here) && !learned[i - 1] && !is_learned(x, i - 1)) buf_adds(b, "<i>…</i>");
        if (learned[i] || here)
            add_token(b, x, i, same ? "span" : here ? "del" : "ins", same ? "learn" : here ? "less" : "more", "");
        n += learned[i];
        more += learned[i] && !here;
        less += !learned[i] && here;
    }
    buf_addf(b, "</div></td><td>%zu%s", n, more || less ? "" : " (the same)");
    if (more) buf_addf(b, " (%zu more)", more);
    if (less) buf_addf(b, " (%zu fewer)", less);
}

static void add_tools(Buf *b, const Explained *x)
{
    bool *learned = mem_alloc(explained_tokens(x), sizeof *learned);
    buf_adds(b, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Other trainers\">\n<table>\n<thead>"
                "<tr><th>trainer</th><th>learns</th><th>tokens</th><th>how</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < N_TOOLS; i++) {
        const Tool *t = &tools[i];
        Err why;
        buf_addf(b, "<tr><td>%s</td><td><div class=\"tokens\">", t->name);
        if (tool_labels(learned, t, x, &why)) add_learned(b, x, learned);
        else html_escape(b, why.text), buf_adds(b, "</div></td><td>–");
        buf_addf(b, "</td><td class=\"soft\">%s; %s%s</td></tr>\n", t->how,
                 t->checked ? "checked against " : "by its source", t->checked ? t->checked : "");
    }
    buf_adds(b, "</tbody>\n</table>\n</div>\n");
    free(learned);
}

static void add_row(Buf *b, const Explained *x)
{
    size_t n = 0;
    for (size_t i = 0; i < x->ex.n; i++) n += is_learned(x, i);
    buf_addf(b, "<section>\n<h2>Row %zu (line %zu): %zu tokens, %zu of them learned%s</h2>\n<p class=\"said mono\">",
             x->ex.row, x->ex.line, explained_tokens(x), n, x->ex.dropped ? "; the row is dropped" : "");
    add_visible(b, x->origin.chat.text.data, x->origin.chat.text.len);
    buf_adds(b, "</p>\n<div class=\"row\">");
    add_tokens(b, x);
    if (x->origin.messages) add_tools(b, x);
    buf_adds(b, "</section>\n");
}

static void add_head(Buf *b, const Run *r)
{
    Summary s = dataset_summary(r->data.examples, r->data.n, r->tokenizer);
    Buf name = {0};
    html_escape(&name, r->options.dataset_name);
    buf_addf(b, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
                "content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" "
                "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>The mask of %s</title>\n<style>\n%s"
                "</style>\n</head>\n<body>\n<header>\n<h1>The mask, token by token</h1>\n<p><code>%s</code>: %zu rows, "
                "%zu dropped, %zu truncated. %zu of %zu tokens have a label: mask <b>%s</b>.</p>\n%s", name.data,
             explore_css, name.data, s.rows, s.dropped, s.truncated, s.supervised, s.tokens, s.mask, explore_html);
    buf_free(&name);
}

bool explore_page(const Run *r, size_t first, size_t end, const char *path, Err *e)
{
    enum { BATCH = 4 };                                    // rows of the padded batch
    Buf b = {0};
    bool ok = true;
    add_head(&b, r);
    for (size_t i = first; i < end && ok; i++) {
        Explained x;
        ok = explain_row(&x, &r->data, i, &r->recipe, e);
        if (ok) add_row(&b, &x);
        explained_free(&x);
    }
    buf_adds(&b, "<section>\n<h2>The first rows as a padded batch</h2>\n<p>Trainers that want rectangles fill rows up: "
                 "attention_mask is 0 there and the label -100, so that padding is neither seen nor learned. A masked "
                 "token is seen: its attention_mask is 1.</p>\n<pre class=\"scroll mono\" tabindex=\"0\">");
    report_padded(&b, r->data.examples + first, end < first + BATCH ? end - first : BATCH, r->tokenizer);
    buf_adds(&b, "</pre>\n</section>\n</main>\n</body>\n</html>\n");
    ok = ok && file_put(path, b.data, b.len, e);
    buf_free(&b);
    return ok;
}

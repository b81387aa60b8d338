// jinja_print: values as text: str() and repr() as Python has them, and JSON as json.dumps writes it.
#include "jinja.h"

#include <math.h>
#include <stdlib.h>

const char *type_name(Value v)
{
    static const char *const names[] = {
        [V_MISSING] = "nothing", [V_UNDEFINED] = "an undefined value", [V_NONE] = "none", [V_BOOL] = "a bool",
        [V_INT] = "an int", [V_BIG] = "an int of more than 64 bits", [V_FLOAT] = "a float", [V_STRING] = "a string",
        [V_LIST] = "a list", [V_TUPLE] = "a tuple", [V_RANGE] = "a range", [V_VIEW] = "a view of a dict",
        [V_ITER] = "an iterator", [V_DICT] = "a dict", [V_NAMESPACE] = "a namespace", [V_LOOP] = "a loop",
        [V_MACRO] = "a macro", [V_FUNCTION] = "a function",
    };
    return names[v.kind];
}

// The fewest digits that read back as the same number; an exponent below 1e-4 and from 1e16.
static size_t float_text(double f, bool json, char text[40])
{
    if (isnan(f)) return (size_t)sprintf(text, json ? "NaN" : "nan");
    if (isinf(f)) return (size_t)sprintf(text, "%s%s", f < 0 ? "-" : "", json ? "Infinity" : "inf");
    char digits[40];
    int precision = 15;
    do snprintf(digits, sizeof digits, "%.*e", precision - 1, f);
    while (strtod(digits, NULL) != f && ++precision <= 17);
    int exp = atoi(strchr(digits, 'e') + 1);
    if (exp < -4 || exp >= 16) {
        size_t n = (size_t)(strchr(digits, 'e') - digits);
        while (digits[n - 1] == '0') n--;
        if (digits[n - 1] == '.') n--;
        return (size_t)sprintf(text, "%.*se%c%02d", (int)n, digits, exp < 0 ? '-' : '+', abs(exp));
    }
    size_t n = (size_t)snprintf(text, 40, "%.*f", precision - 1 - exp > 1 ? precision - 1 - exp : 1, f);
    while (text[n - 1] == '0' && text[n - 2] != '.') n--;
    return n;
}

// A character as an escape: \\n, \\u00e9 and the like. JSON has no escape of more than 16 bits, and writes two.
static void write_escape(Render *r, uint32_t c, bool json)
{
    char text[16], letter = c == '\\' || c == '"' || c == '\'' ? (char)c : 0;
    for (const char *p = json ? "\nn\rr\tt\bb\ff" : "\nn\rr\tt"; *p; p += 2)
        if ((uint32_t)*p == c) letter = p[1];
    if (letter) sprintf(text, "\\%c", letter);
    else if (c < 0x100 && !json) sprintf(text, "\\x%02x", c);
    else if (c < 0x10000) sprintf(text, "\\u%04x", c);
    else if (!json) sprintf(text, "\\U%08x", c);
    else sprintf(text, "\\u%04x\\u%04x", 0xD7C0 + (c >> 10), 0xDC00 + (c & 0x3FF));
    out_text(r, text);
}

static void write_string(Render *r, Value v, const Style *style)
{
    bool single = memchr(v.s, '\'', v.len), dbl = memchr(v.s, '"', v.len);
    char quote = style->json || (single && !dbl) ? '"' : '\'';
    const char *end = v.s + v.len, *plain = v.s;
    out_add(r, &quote, 1);
    for (const char *p = v.s, *next; p < end; p = next) {
        uint32_t c = char_code(p, end);
        next = p + char_len(p, end);
        bool fits = style->json ? c >= 32 && !(style->ascii && c > 126) : code_is_printable(c);
        if (fits && c != (uint32_t)quote && c != '\\') continue;
        out_add(r, plain, (size_t)(p - plain));
        plain = next;
        write_escape(r, c, style->json);
    }
    out_add(r, plain, (size_t)(end - plain));
    out_add(r, &quote, 1);
}

static void write_newline(Render *r, const Style *style, size_t level)
{
    if (!is_a(style->indent, GIVEN)) return;
    out_text(r, "\n");
    for (size_t i = 0; i < level; i++)
        if (style->indent.kind == V_STRING) out_value(r, style->indent);
        else for (int64_t n = int_of(style->indent); n > 0; n--) out_text(r, " ");
}

static void write_key(Render *r, Value key, const Style *style)
{
    bool quoted = style->json && key.kind != V_STRING;
    if (quoted && !is_a(key, NUMBERS | SET(V_BIG) | SET(V_NONE)))
        fail_run(r, "a key of JSON cannot be %s", type_name(key));
    if (quoted) out_text(r, "\"");
    value_write(r, key, style, 0);
    if (quoted) out_text(r, "\"");
}

// The entries of a dict, or the items of a list: then there are no keys.
static void write_items(Render *r, const char *open, Dict d, const char *close, const Style *style, size_t level)
{
    if (style->sort) d = *dict_copy(r, &d);
    if (style->sort) sort_values(r, d.vals.items, d.keys.items, d.keys.n, false);
    out_text(r, open);
    for (size_t i = 0; i < d.vals.n; i++) {
        if (i) value_print(r, style->item_sep);
        write_newline(r, style, level + 1);
        if (d.keys.n) {
            write_key(r, d.keys.items[i], style);
            value_print(r, style->key_sep);
        }
        value_write(r, d.vals.items[i], style, level + 1);
    }
    if (d.vals.n) write_newline(r, style, level);
    out_text(r, close);
}

// What json.dumps takes; an undefined value is an error for it, too.
#define IN_JSON (NUMBERS | SET(V_BIG) | SET(V_STRING) | SET(V_NONE) | SET(V_LIST) | SET(V_TUPLE) | SET(V_DICT))

void value_write(Render *r, Value v, const Style *style, size_t level)
{
    bool json = style->json;
    char text[80];
    Dict list = {.vals = is_a(v, SEQS) ? *v.seq : (Seq){0}};
    if (json && !is_a(v, IN_JSON)) fail_run(r, "JSON has no form for %s", type_name(v));
    render_enter(r);
    switch (v.kind) {
    case V_STRING:
        if (v.markup && !json) out_text(r, "Markup(");
        write_string(r, v, style);
        if (v.markup && !json) out_text(r, ")");
        break;
    case V_UNDEFINED: out_text(r, "Undefined"); break;
    case V_MISSING: case V_NONE: out_text(r, json ? "null" : "None"); break;
    case V_BOOL: out_text(r, json ? (v.b ? "true" : "false") : v.b ? "True" : "False"); break;
    case V_INT: out_add(r, text, (size_t)sprintf(text, "%lld", (long long)v.i)); break;
    case V_BIG: out_value(r, v); break;
    case V_FLOAT: out_add(r, text, float_text(v.f, json, text)); break;
    case V_LIST: write_items(r, "[", list, "]", style, level); break;
    case V_TUPLE:
        write_items(r, json ? "[" : "(", list, json ? "]" : list.vals.n == 1 ? ",)" : ")", style, level);
        break;
    case V_RANGE: out_text(r, v.seq->name); break;
    case V_VIEW:
        out_text(r, v.seq->name);
        write_items(r, "([", list, "])", style, level);
        break;
    case V_DICT: write_items(r, "{", *v.dict, "}", style, level); break;
    case V_NAMESPACE: write_items(r, "<Namespace {", *v.dict, "}>", style, level); break;
    case V_LOOP:
        out_add(r, text, (size_t)sprintf(text, "<LoopContext %zu/%zu>", v.loop->index0 + 1, v.loop->items->n));
        break;
    default:                                    // what has no text of its own in Python, but an address
        out_text(r, v.kind == V_MACRO ? "<Macro " : "<");
        if (v.kind == V_MACRO) value_write(r, v.macro->name, style, level);
        else out_text(r, type_name(v));
        out_text(r, ">");
    }
    r->depth--;
}

static const Style python = {.item_sep = {.kind = V_STRING, .len = 2, .s = ", "},
                             .key_sep = {.kind = V_STRING, .len = 2, .s = ": "}};

void value_print(Render *r, Value v)
{
    if (v.kind == V_STRING) out_value(r, v);
    else if (v.kind != V_UNDEFINED) value_write(r, v, &python, 0);
}

const char *value_chars(Render *r, Value v)
{
    size_t mark = r->out->len;
    value_print(r, v);
    return out_cut(r, mark).s;
}

Value value_to_str(Render *r, Value v) { return v.kind == V_STRING ? v : v_text(value_chars(r, v)); }

// jinja_print: values as text: str() and repr() as Python has them.
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
static size_t float_text(double f, char text[40])
{
    if (isnan(f)) return (size_t)sprintf(text, "nan");
    if (isinf(f)) return (size_t)sprintf(text, f < 0 ? "-inf" : "inf");
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

static void repr_string(Render *r, Value v)
{
    bool single = memchr(v.s, '\'', v.len), dbl = memchr(v.s, '"', v.len);
    char quote = single && !dbl ? '"' : '\'';
    const char *end = v.s + v.len;
    out_add(r, &quote, 1);
    for (const char *p = v.s; p < end; p += char_len(p, end)) {
        uint32_t c = char_code(p, end);
        const char *at = c && c < 128 ? strchr("\nn\rr\tt\\\\", (int)c) : NULL;
        char text[12];
        if (at && strchr("\n\r\t\\", (int)c)) sprintf(text, "\\%c", at[1]);
        else if (c == (uint32_t)quote) sprintf(text, "\\%c", quote);
        else if (!code_is_printable(c)) sprintf(text, c < 256 ? "\\x%02x" : c < 65536 ? "\\u%04x" : "\\U%08x", c);
        else {
            out_add(r, p, char_len(p, end));
            continue;
        }
        out_text(r, text);
    }
    out_add(r, &quote, 1);
}

static void repr_items(Render *r, const char *open, const Seq *s, const char *close)
{
    out_text(r, open);
    for (size_t i = 0; i < s->n; i++) {
        if (i) out_text(r, ", ");
        value_repr(r, s->items[i]);
    }
    out_text(r, close);
}

static void repr_dict(Render *r, const Dict *d)
{
    out_text(r, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i) out_text(r, ", ");
        value_repr(r, d->keys[i]);
        out_text(r, ": ");
        value_repr(r, d->vals[i]);
    }
    out_text(r, "}");
}

// What has no text of its own in Python, but an address, is <a function> and the like.
static void repr_object(Render *r, Value v)
{
    char text[80];
    if (v.kind == V_NAMESPACE) {
        out_text(r, "<Namespace ");
        repr_dict(r, v.dict);
    } else if (v.kind == V_MACRO) {
        out_text(r, "<Macro ");
        value_repr(r, v.macro->name);
    } else if (v.kind == V_LOOP) {
        sprintf(text, "<LoopContext %zu/%zu", v.loop->index0 + 1, v.loop->items->n);
        out_text(r, text);
    } else {
        out_text(r, "<");
        out_text(r, type_name(v));
    }
    out_text(r, ">");
}

void value_repr(Render *r, Value v)
{
    char text[40];
    render_enter(r);
    switch (v.kind) {
    case V_STRING:
        if (v.markup) out_text(r, "Markup(");
        repr_string(r, v);
        if (v.markup) out_text(r, ")");
        break;
    case V_UNDEFINED: out_text(r, "Undefined"); break;
    case V_MISSING: case V_NONE: out_text(r, "None"); break;
    case V_BOOL: out_text(r, v.b ? "True" : "False"); break;
    case V_INT: out_add(r, text, (size_t)sprintf(text, "%lld", (long long)v.i)); break;
    case V_BIG: out_value(r, v); break;
    case V_FLOAT: out_add(r, text, float_text(v.f, text)); break;
    case V_LIST: repr_items(r, "[", v.seq, "]"); break;
    case V_TUPLE: repr_items(r, "(", v.seq, v.seq->n == 1 ? ",)" : ")"); break;
    case V_RANGE: out_text(r, v.seq->name); break;
    case V_VIEW:
        out_text(r, v.seq->name);
        repr_items(r, "([", v.seq, "])");
        break;
    case V_DICT: repr_dict(r, v.dict); break;
    default: repr_object(r, v);
    }
    r->depth--;
}

void value_print(Render *r, Value v)
{
    if (v.kind == V_STRING) out_value(r, v);
    else if (v.kind != V_UNDEFINED) value_repr(r, v);
}

Value value_to_str(Render *r, Value v)
{
    if (v.kind == V_STRING) return v;
    size_t mark = r->out->len;
    value_print(r, v);
    return out_cut(r, mark);
}

const char *value_chars(Render *r, Value v)
{
    size_t mark = r->out->len;
    value_print(r, v);
    return out_cut(r, mark).s;
}

// jinja_format: numbers out of text, and Python's two ways to put values into text: "..." % args and "...".format(...).
#include "jinja.h"

#include <math.h>
#include <stdlib.h>

// ---- reading numbers ----------------------------------------------------------------------------------------------

// The text without white space around it and without the underscores that may stand between digits; false if one stands
// elsewhere. `out` has room for all of it.
static bool clean_number(Value s, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.s[i] == '_' && (i == 0 || i + 1 == s.len || s.s[i - 1] == '_' || s.s[i + 1] == '_')) return false;
        if (s.s[i] == 0) return false;
        if (s.s[i] != '_') out[n++] = s.s[i];
    }
    out[n] = 0;
    return n > 0;
}

bool text_to_int(Value s, unsigned base, Int *out)
{
    char text[300];
    s = str_strip(s, v_none(), true, true);
    if (s.len >= sizeof text || !clean_number(s, text)) return false;
    const char *p = text;
    bool minus = *p == '-';
    if (*p == '-' || *p == '+') p++;
    int mark = *p == '0' ? p[1] | 32 : 0;
    unsigned prefix = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (prefix && (base == prefix || base == 0)) { p += 2; base = prefix; }
    if (base == 0) base = 10;
    unsigned __int128 value = 0, most = (unsigned __int128)INT_LIMIT;
    if (!*p) return false;
    for (; *p; p++) {
        unsigned digit = *p >= '0' && *p <= '9' ? (unsigned)(*p - '0')
                         : (*p | 32) >= 'a' && (*p | 32) <= 'z' ? (unsigned)(*p | 32) - 'a' + 10 : 99;
        if (digit >= base || value > (most - digit) / base) return false;
        value = value * base + digit;
    }
    *out = minus ? -(Int)value : (Int)value;
    return true;
}

bool text_to_float(Value s, double *out)
{
    char text[400];
    s = str_strip(s, v_none(), true, true);
    if (s.len >= sizeof text || !clean_number(s, text) || strpbrk(text, "xXpP(")) return false;
    char *end;
    *out = strtod(text, &end);
    return *end == 0 && end != text;
}

// ---- one value, one specification ---------------------------------------------------------------------------------

typedef struct { Value fill; char align, sign, group, type; bool alt; Int width, precision; } Spec;

static void put_padded(Render *r, const Spec *spec, Value text, Value sign, char default_align)
{
    char align = spec->align ? spec->align : default_align;
    Int pad = spec->width - (Int)str_count(text) - (Int)sign.len;
    if (pad > (Int)MAX_BYTES) fail_kind(r, "limit", "a text padded to more than %zu characters", MAX_BYTES);
    Int left = pad <= 0 || align == '<' ? 0 : align == '^' ? pad / 2 : pad;
    if (align == '=') out_add(r, sign.s, sign.len);
    for (Int i = 0; i < left; i++) out_add(r, spec->fill.s, spec->fill.len);
    if (align != '=') out_add(r, sign.s, sign.len);
    out_add(r, text.s, text.len);
    for (Int i = left; i < pad; i++) out_add(r, spec->fill.s, spec->fill.len);
}

// Digits with a separator between groups of three (four for other bases than ten).
static Value grouped(Render *r, Value digits, char sep, size_t group)
{
    size_t whole = 0, mark = r->out->len;
    while (whole < digits.len && (group == 4 || (digits.s[whole] >= '0' && digits.s[whole] <= '9'))) whole++;
    for (size_t i = 0; i < digits.len; i++) {
        if (sep && i > 0 && i < whole && (whole - i) % group == 0) out_add(r, &sep, 1);
        out_add(r, digits.s + i, 1);
    }
    return out_cut(r, mark);
}

static Value sign_text(Render *r, const Spec *spec, bool minus, const char *prefix)
{
    size_t mark = r->out->len;
    if (minus) out_text(r, "-");
    else if (spec->sign == '+' || spec->sign == ' ') out_add(r, &spec->sign, 1);
    out_text(r, prefix);
    return out_cut(r, mark);
}

static void put_int(Render *r, const Spec *spec, Int i)
{
    char type = spec->type;
    unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : (type | 32) == 'x' ? 16 : 10;
    char prefix[] = {spec->alt && base != 10 ? '0' : 0, type, 0};
    size_t mark = r->out->len;
    out_int(r, i, base, type == 'X');
    Value digits = out_cut(r, mark);
    if (spec->precision > (Int)digits.len) digits = str_pad(r, digits, spec->precision, v_text("0"), 1);
    put_padded(r, spec, grouped(r, digits, spec->group, base == 10 ? 3 : 4), sign_text(r, spec, i < 0, prefix), '>');
}

static void put_float(Render *r, const Spec *spec, double f)
{
    char text[700], fmt[] = "%#.*?", type = spec->type;
    int precision = spec->precision < 0 ? 6 : (int)spec->precision;
    if (spec->precision > 300) fail_kind(r, "limit", "more than 300 decimals");
    double size = fabs(f);
    if (!type && spec->precision < 0) {
        text[float_text(size, text)] = 0;
    } else if (!isfinite(f)) {
        strcpy(text, isnan(f) ? "nan" : "inf");
        for (char *p = text; (type == 'F' || type == 'E' || type == 'G') && *p; p++) *p -= 32;
    } else {
        fmt[4] = type == '%' || type == 0 ? type ? 'f' : 'g' : type;
        if (!spec->alt) memmove(fmt + 1, fmt + 2, 4);
        snprintf(text, sizeof text, fmt, precision, type == '%' ? size * 100 : size);
        if (!type && !strpbrk(text, ".e")) strcat(text, ".0");     // without a type a float still looks like one
        if (type == '%') strcat(text, "%");
    }
    put_padded(r, spec, grouped(r, v_text(text), spec->group, 3), sign_text(r, spec, signbit(f) && !isnan(f), ""), '>');
}

static void put_code(Render *r, Int code)
{
    if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        fail_run(r, "%%c arg not in range(0x110000)");
    out_char(r, (uint32_t)code);
}

static void put_text(Render *r, const Spec *spec, Value s)
{
    if (spec->precision >= 0) s = str_slice(s, 0, (size_t)spec->precision);
    put_padded(r, spec, s, v_text(""), '<');
}

static Int spec_number(Render *r, const char **p, const char *end)
{
    Int n = 0;
    for (; *p < end && **p >= '0' && **p <= '9'; (*p)++) {
        n = n * 10 + (**p - '0');
        if (n > (Int)MAX_BYTES) fail_run(r, "Too many decimal digits in format string");
    }
    return n;
}

// [[fill]align][sign][#][0][width][group][.precision][type]
static Spec parse_spec(Render *r, Value text, Value v)
{
    Spec spec = {.fill = v_text(" "), .precision = -1};
    const char *p = text.s, *end = p + text.len;
    size_t first = p < end ? char_len(p, end) : 0;
    if (p + first < end && strchr("<>=^", p[first]) && p[first]) {
        spec.fill = v_str(p, first);
        spec.align = p[first];
        p += first + 1;
    } else if (p < end && *p && strchr("<>=^", *p)) {
        spec.align = *p++;
    }
    if (p < end && *p && strchr("+- ", *p)) spec.sign = *p++;
    if (p < end && *p == '#') { spec.alt = true; p++; }
    if (p < end && *p == '0') {
        if (!spec.align) { spec.align = '='; spec.fill = v_text("0"); }
        p++;
    }
    spec.width = spec_number(r, &p, end);
    if (p < end && (*p == ',' || *p == '_')) spec.group = *p++;
    if (p < end && *p == '.') {
        const char *digits = ++p;
        spec.precision = spec_number(r, &p, end);
        if (p == digits) fail_run(r, "Format specifier missing precision");
    }
    if (p < end) spec.type = *p++;
    if (p < end) fail_run(r, "Invalid format specifier");
    const char *allowed = v.kind == V_STRING ? "s" : v.kind == V_FLOAT ? "eEfFgGn%" : "bcdoxXneEfFgG%";
    if (spec.type && !strchr(allowed, spec.type))
        fail_run(r, "Unknown format code '%c' for object of type '%s'", spec.type, type_name(v));
    return spec;
}

// format(v, text)
static void put_value(Render *r, Value v, Value text)
{
    if (text.len == 0) {
        value_print(r, v);
        return;
    }
    if (v.kind != V_STRING && !is_number(v))
        fail_run(r, "unsupported format string passed to %s.__format__", type_name(v));
    Spec spec = parse_spec(r, text, v);
    if (spec.type == 'n') spec.type = v.kind == V_FLOAT ? 'g' : 'd';
    if (v.kind == V_STRING) {
        if (spec.align == '=') spec.align = '<';
        put_text(r, &spec, v);
    } else if (v.kind == V_FLOAT || (spec.type && strchr("eEfFgG%", spec.type))) {
        put_float(r, &spec, float_of(v));
    } else if (spec.type == 'c') {
        put_code(r, int_of(v));
    } else {
        if (spec.precision >= 0) fail_run(r, "Precision not allowed in integer format specifier");
        put_int(r, &spec, int_of(v));
    }
}

// ---- "..." % args -------------------------------------------------------------------------------------------------

typedef struct { Render *r; const char *p, *end, *begin; Value args; size_t at; } Percent;

static Value percent_arg(Percent *f)
{
    bool tuple = f->args.kind == V_TUPLE;
    if (tuple ? f->at >= f->args.seq->n : f->at >= 1) fail_run(f->r, "not enough arguments for format string");
    return tuple ? f->args.seq->items[f->at++] : (f->at++, f->args);
}

static Int percent_number(Percent *f)
{
    if (f->p >= f->end || *f->p != '*') return spec_number(f->r, &f->p, f->end);
    f->p++;
    Value v = percent_arg(f);
    if (v.kind != V_INT) fail_run(f->r, "* wants int");
    return v.i;
}

static Value percent_key(Percent *f)
{
    if (f->args.kind == V_UNDEFINED) fail_undefined(f->r, f->args);
    if (f->args.kind != V_DICT) fail_run(f->r, "format requires a mapping");
    const char *key = ++f->p;
    while (f->p < f->end && *f->p != ')') f->p++;
    if (f->p == f->end) fail_run(f->r, "incomplete format key");
    Value name = v_str(key, (size_t)(f->p++ - key));
    const Value *v = dict_get(f->r, f->args.dict, name);
    if (!v) fail_run(f->r, "%s", repr_text(f->r, name));
    return *v;
}

static void percent_put(Percent *f, Spec *spec, Value v)
{
    Render *r = f->r;
    char type = spec->type;
    if (type == 's' || type == 'r' || type == 'a') {
        size_t mark = r->out->len;
        if (type == 's') value_print(r, v);
        else value_repr(r, v);
        Value text = out_cut(r, mark);
        if (!spec->align) spec->align = '>';
        put_text(r, spec, text);
    } else if (type == 'c') {
        if (v.kind != V_STRING && !is_int(v)) fail_run(r, "%%c requires int or char");
        if (v.kind == V_STRING) out_add(r, v.s, v.len);
        else put_code(r, int_of(v));
    } else if (strchr("diuxXo", type)) {
        bool whole = strchr("diu", type);
        if (v.kind == V_UNDEFINED) fail_undefined(r, v);
        if (!(whole ? is_number(v) : is_int(v)))
            fail_run(r, "%%%c format: %s is required, not %s", type, whole ? "a real number" : "an integer",
                     type_name(v));
        spec->type = whole ? 'd' : type;
        put_int(r, spec, is_int(v) ? int_of(v) : int_from_float(r, v.f));
    } else {
        if (v.kind == V_UNDEFINED) fail_undefined(r, v);
        if (!is_number(v)) fail_run(r, "must be real number, not %s", type_name(v));
        if (spec->precision < 0) spec->precision = 6;
        put_float(r, spec, float_of(v));
    }
}

static void percent_field(Percent *f)
{
    Spec spec = {.fill = v_text(" "), .precision = -1};
    Value keyed = {.kind = V_MISSING};
    bool left = false, zero = false;
    if (f->p < f->end && *f->p == '(') keyed = percent_key(f);
    for (; f->p < f->end && *f->p && strchr("-+ #0", *f->p); f->p++) {
        left |= *f->p == '-';
        zero |= *f->p == '0';
        spec.alt |= *f->p == '#';
        if (*f->p == '+' || (*f->p == ' ' && !spec.sign)) spec.sign = *f->p;
    }
    spec.width = percent_number(f);
    if (spec.width < 0) { left = true; spec.width = -spec.width; }
    if (f->p < f->end && *f->p == '.') { f->p++; spec.precision = percent_number(f); }
    while (f->p < f->end && *f->p && strchr("hlL", *f->p)) f->p++;
    if (f->p >= f->end) fail_run(f->r, "incomplete format");
    spec.type = *f->p++;
    if (spec.type == '%') { out_text(f->r, "%"); return; }
    if (keyed.kind == V_MISSING) keyed = percent_arg(f);
    if (!spec.type || !strchr("sradiuxXoeEfFgGc", spec.type))
        fail_run(f->r, "unsupported format character '%c' (0x%x) at index %zu", spec.type, (unsigned char)spec.type,
                 str_count(v_str(f->begin, (size_t)(f->p - f->begin))) - 1);
    if (left) spec.align = '<';
    else if (zero && !strchr("sra", spec.type)) { spec.align = '='; spec.fill = v_text("0"); }
    percent_put(f, &spec, keyed);
}

Value str_percent(Render *r, Value format, Value args)
{
    Percent f = {r, format.s, format.s + format.len, format.s, args, 0};
    size_t mark = r->out->len;
    while (f.p < f.end) {
        const char *sign = memchr(f.p, '%', (size_t)(f.end - f.p));
        out_add(r, f.p, (size_t)((sign ? sign : f.end) - f.p));
        if (!sign) break;
        f.p = sign + 1;
        percent_field(&f);
    }
    // What is left over matters, but not of what could have served as a mapping.
    bool mapping = args.kind == V_DICT || args.kind == V_LIST || args.kind == V_UNDEFINED || args.kind == V_RANGE;
    if (args.kind == V_TUPLE ? f.at < args.seq->n : f.at == 0 && !mapping)
        fail_run(r, "not all arguments converted during string formatting");
    return out_cut(r, mark);
}

// ---- "...".format(...) --------------------------------------------------------------------------------------------

typedef struct { Render *r; Args *args; Int auto_at; bool manual; } Format;     // auto_at: the next number of {}

static Value format_first(Format *f, Value name)
{
    Render *r = f->r;
    Int i = -1;
    bool digits = name.len > 0 && name.len < 9 && strspn(value_chars(r, name), "0123456789") == name.len;
    if (digits || name.len == 0) {
        if (digits ? f->auto_at > 0 : f->manual)
            fail_run(r, digits ? "cannot switch from automatic field numbering to manual field specification"
                               : "cannot switch from manual field specification to automatic field numbering");
        if (digits) text_to_int(name, 10, &i);
        else i = f->auto_at++;
        f->manual |= digits;
        if (i >= (Int)f->args->n) fail_run(r, "tuple index out of range");
        return f->args->v[i];
    }
    for (size_t k = 0; k < f->args->n_kw; k++)
        if (text_same(f->args->names[k], name)) return f->args->kw[k];
    fail_run(r, "%s", repr_text(r, name));
}

// name.attr[key]...
static Value format_field(Format *f, Value field)
{
    const char *p = field.s, *end = p + field.len;
    while (p < end && *p != '.' && *p != '[') p++;
    Value v = format_first(f, v_str(field.s, (size_t)(p - field.s)));
    while (p < end) {
        const char *begin = p + 1;
        if (*p == '.') {
            for (p = begin; p < end && *p != '.' && *p != '['; ) p++;
            if (p == begin) fail_run(f->r, "Empty attribute in format string");
            v = value_attr(f->r, v, v_str(begin, (size_t)(p - begin)));
        } else if (*p == '[') {
            for (p = begin; p < end && *p != ']'; ) p++;
            if (p == end) fail_run(f->r, "Missing ']' in format string");
            Value key = v_str(begin, (size_t)(p++ - begin)), number = v_int(0);
            bool digits = text_to_int(key, 10, &number.i) && key.s[0] >= '0' && key.s[0] <= '9';
            v = value_item(f->r, v, digits ? number : key);
        } else {
            fail_run(f->r, "Only '.' or '[' may follow ']' in format field specifier");
        }
    }
    return v;
}

static void format_into(Format *f, Value text, int depth);

// What stands between { at p and its }: returns where that ends.
static const char *format_braces(Format *f, const char *p, const char *end, int depth)
{
    Render *r = f->r;
    const char *begin = p;
    int open = 1;
    for (; p < end && open > 0; p++) open += *p == '{' ? 1 : *p == '}' ? -1 : 0;
    if (open > 0)
        fail_run(r, p == begin ? "Single '{' encountered in format string" : "expected '}' before end of string");
    const char *close = p - 1, *name = begin;
    for (bool in_key = false; name < close && (in_key || (*name != '!' && *name != ':')); name++)
        in_key = *name == '[' || (in_key && *name != ']');
    Value v = format_field(f, v_str(begin, (size_t)(name - begin)));
    if (name < close && *name == '!') {
        char how = name + 1 < close ? name[1] : 0;
        if (how != 's' && how != 'r' && how != 'a') fail_run(r, "Unknown conversion specifier %c", how ? how : '!');
        size_t mark = r->out->len;
        if (how == 's') value_print(r, v);
        else value_repr(r, v);
        v = out_cut(r, mark);
        name += 2;
    }
    Value spec = name < close ? v_str(name + 1, (size_t)(close - name - 1)) : v_str("", 0);
    if (memchr(spec.s, '{', spec.len)) {
        size_t mark = r->out->len;
        format_into(f, spec, depth + 1);
        spec = out_cut(r, mark);
    }
    put_value(r, v, spec);
    return p;
}

static void format_into(Format *f, Value text, int depth)
{
    const char *p = text.s, *end = p + text.len;
    if (depth > 1) fail_run(f->r, "Max string recursion exceeded");
    while (p < end) {
        const char *plain = p;
        while (p < end && *p != '{' && *p != '}') p++;
        out_add(f->r, plain, (size_t)(p - plain));
        if (p == end) return;
        char c = *p++;
        if (p < end && *p == c) {
            out_add(f->r, p++, 1);
        } else {
            if (c == '}') fail_run(f->r, "Single '}' encountered in format string");
            p = format_braces(f, p, end, depth);
        }
    }
}

Value str_format(Render *r, Value format, Args *a)
{
    Format f = {r, a, 0, false};
    size_t mark = r->out->len;
    format_into(&f, format, 0);
    return out_cut(r, mark);
}

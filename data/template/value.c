// jinja_value: what every value can do: memory, failing, truth, equality, order, iteration, printing (str, repr, JSON).
// All of it as Python has it, down to the wording of its errors.
#include "jinja.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

// ---- memory and limits --------------------------------------------------------------------------------------------

struct ArenaBlock { ArenaBlock *next; size_t used, cap; _Alignas(16) char data[]; };

void *arena_take(Arena *a, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    ArenaBlock *b = a->blocks;
    if (!b || b->cap - b->used < size) {
        size_t cap = size > 16384 ? size : 16384;
        b = mem_grow(NULL, sizeof *b + cap, 1);
        *b = (ArenaBlock){.next = a->blocks, .cap = cap};
        a->blocks = b;
    }
    b->used += size;
    a->total += size;
    return b->data + b->used - size;
}

void arena_free(Arena *a)
{
    for (ArenaBlock *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *a = (Arena){0};
}

_Noreturn void fail_kind(Render *r, const char *kind, const char *fmt, ...)
{
    char why[sizeof r->e->text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    fail(r->e, "%s:%u: %s: %s", r->t->name, r->line, kind, why);
    longjmp(r->jump, 1);
}

void render_charge(Render *r, size_t steps)
{
    r->steps += steps;
    if (r->steps > MAX_STEPS || steps > MAX_STEPS) fail_kind(r, "limit", "more than %d steps", MAX_STEPS);
}

void render_enter(Render *r)
{
    if (++r->depth > MAX_RENDER_DEPTH) fail_kind(r, "limit", "nested deeper than %d levels", MAX_RENDER_DEPTH);
}

static void check_bytes(Render *r, size_t more)
{
    if (more > MAX_BYTES || r->arena.total + (r->out->len - r->base) + more > MAX_BYTES)
        fail_kind(r, "limit", "more than %zu MiB of text and values", MAX_BYTES >> 20);
}

void *render_take(Render *r, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) total = SIZE_MAX;
    check_bytes(r, total);
    return arena_take(&r->arena, total);
}

Int value_int_or(Render *r, Value v, Int otherwise)
{
    if (v.kind == V_MISSING) return otherwise;
    if (v.kind == V_UNDEFINED) fail_undefined(r, v);
    if (!is_int(v)) fail_run(r, "'%s' object cannot be interpreted as an integer", type_name(v));
    if (int_of(v) > INT64_MAX || int_of(v) < INT64_MIN) fail_run(r, "Python int too large to convert to C ssize_t");
    return int_of(v);
}

Int int_from_float(Render *r, double f)
{
    if (isnan(f)) fail_run(r, "cannot convert float NaN to integer");
    if (isinf(f)) fail_run(r, "cannot convert float infinity to integer");
    if (fabs(f) >= 0x1p127) fail_kind(r, "limit", "an integer has more than 128 bits");
    return (Int)f;
}

bool value_truth_or(Render *r, Value v, bool otherwise) { return v.kind == V_MISSING ? otherwise : value_truth(r, v); }

// ---- text under construction --------------------------------------------------------------------------------------

void out_add(Render *r, const char *s, size_t n)
{
    check_bytes(r, n);
    render_charge(r, 1 + n / 64);
    buf_add(r->out, s, n);
}

void out_text(Render *r, const char *s) { out_add(r, s, strlen(s)); }

void out_char(Render *r, uint32_t code)
{
    char bytes[4];
    out_add(r, bytes, (size_t)utf8_encode(code, bytes));
}

void out_int(Render *r, Int i, unsigned base, bool upper)
{
    char digits[130], *p = digits + sizeof digits;
    unsigned __int128 u = i < 0 ? -(unsigned __int128)i : (unsigned __int128)i;
    do *--p = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
    while (u /= base);
    out_add(r, p, (size_t)(digits + sizeof digits - p));
}

Value out_cut(Render *r, size_t mark)
{
    size_t n = r->out->len - mark;
    char *copy = render_take(r, n + 1, 1);
    if (n) memcpy(copy, r->out->data + mark, n);
    copy[n] = 0;
    r->out->len = mark;
    return v_str(copy, n);
}

// ---- undefined ----------------------------------------------------------------------------------------------------

static Value undefined_new(Render *r, Undef u)
{
    Undef *copy = render_take(r, 1, sizeof *copy);
    *copy = u;
    return (Value){.kind = V_UNDEFINED, .undef = copy};
}

Value undefined_hint(Render *r, const char *hint) { return undefined_new(r, (Undef){.hint = hint}); }
Value undefined_name(Render *r, Value name) { return undefined_new(r, (Undef){.name = name}); }

Value undefined_member(Render *r, Value obj, Value name, bool unsafe)
{
    return undefined_new(r, (Undef){.obj = obj, .name = name, .unsafe = unsafe});
}

// The type as Jinja's messages call it: classes of its own come with their module.
static const char *object_name(Value v)
{
    switch (v.kind) {
    case V_NONE: return "None";
    case V_NAMESPACE: return "jinja2.utils.Namespace object";
    case V_CYCLER: return "jinja2.utils.Cycler object";
    case V_JOINER: return "jinja2.utils.Joiner object";
    case V_LOOP: return "jinja2.runtime.LoopContext object";
    case V_MACRO: return "jinja2.runtime.Macro object";
    case V_STRING: return v.markup ? "markupsafe.Markup object" : "str object";
    case V_TUPLE: if (v.seq->type) return "jinja2.filters._GroupTuple object";
    }
    return NULL;
}

_Noreturn void fail_undefined(Render *r, Value v)
{
    const Undef *u = v.undef;
    if (u->hint) fail_kind(r, "undefined", "%s", u->hint);
    const char *name = repr_text(r, u->name), *type = u->obj.kind == V_MISSING ? NULL : object_name(u->obj);
    if (u->obj.kind == V_MISSING) fail_kind(r, "undefined", "%s is undefined", name);
    if (u->unsafe)
        fail_kind(r, "security", "access to attribute %s of '%s' object is unsafe.", name, type_name(u->obj));
    const char *tail = type ? "" : " object";
    if (!type) type = type_name(u->obj);
    if (u->name.kind != V_STRING) fail_kind(r, "undefined", "%s%s has no element %s", type, tail, name);
    fail_kind(r, "undefined", "'%s%s' has no attribute %s", type, tail, name);
}

const char *type_name(Value v)
{
    static const char *const names[] = {
        [V_MISSING] = "NoneType", [V_UNDEFINED] = "Undefined", [V_NONE] = "NoneType", [V_BOOL] = "bool",
        [V_INT] = "int",
        [V_FLOAT] = "float", [V_STRING] = "str", [V_LIST] = "list", [V_TUPLE] = "tuple", [V_RANGE] = "range",
        [V_DICT] = "dict", [V_NAMESPACE] = "Namespace", [V_LOOP] = "LoopContext", [V_MACRO] = "Macro",
        [V_FUNCTION] = "function", [V_METHOD] = "builtin_function_or_method", [V_CYCLER] = "Cycler",
        [V_JOINER] = "Joiner",
    };
    if ((v.kind == V_VIEW || v.kind == V_ITER || v.kind == V_TUPLE) && v.seq->type) return v.seq->type;
    if (v.kind == V_FUNCTION && v.function->py_name[0] == '<') return "type";
    return v.markup ? "Markup" : names[v.kind];
}

// ---- lists and dicts ----------------------------------------------------------------------------------------------

Seq *seq_new(Render *r, size_t cap)
{
    Seq *s = render_take(r, 1, sizeof *s);
    *s = (Seq){.cap = cap};
    if (cap) s->items = render_take(r, cap, sizeof *s->items);
    return s;
}

void seq_add(Render *r, Seq *s, Value v)
{
    render_charge(r, 1);
    if (s->n == s->cap) {
        Value *more = render_take(r, s->cap = s->cap ? 2 * s->cap : 4, sizeof *more);
        if (s->n) memcpy(more, s->items, s->n * sizeof *more);
        s->items = more;
    }
    s->items[s->n++] = v;
}

Dict *dict_new(Render *r, size_t cap)
{
    Dict *d = render_take(r, 1, sizeof *d);
    *d = (Dict){.cap = cap};
    if (cap) d->keys = render_take(r, cap, sizeof *d->keys);
    if (cap) d->vals = render_take(r, cap, sizeof *d->vals);
    return d;
}

// A scan: the dicts of a chat are small, and large ones are charged for it.
const Value *dict_get(Render *r, const Dict *d, Value key)
{
    render_charge(r, d->n / 8);
    for (size_t i = 0; i < d->n; i++) {
        const Value *k = &d->keys[i];
        if (k->kind == V_STRING && key.kind == V_STRING) {
            if (text_same(*k, key)) return &d->vals[i];
        } else if (value_equal(r, *k, key)) {
            return &d->vals[i];
        }
    }
    return NULL;
}

bool is_hashable(Render *r, Value v)
{
    bool ok = v.kind != V_LIST && v.kind != V_DICT && !(v.kind == V_VIEW && strcmp(v.seq->type, "dict_values") != 0);
    render_enter(r);
    for (size_t i = 0; ok && v.kind == V_TUPLE && i < v.seq->n; i++) ok = is_hashable(r, v.seq->items[i]);
    r->depth--;
    return ok;
}

void dict_put(Render *r, Dict *d, Value key, Value value)
{
    if (!is_hashable(r, key)) fail_run(r, "unhashable type: '%s'", type_name(key));
    Value *old = (Value *)dict_get(r, d, key);
    if (old) {
        *old = value;
        return;
    }
    assert(d->n <= d->cap && (d->cap == 0 || (d->keys && d->vals)));
    if (d->n == d->cap) {
        Dict *more = dict_new(r, d->cap ? 2 * d->cap : 4);
        assert(more->cap > d->n);
        if (d->n) memcpy(more->keys, d->keys, d->n * sizeof *d->keys);
        if (d->n) memcpy(more->vals, d->vals, d->n * sizeof *d->vals);
        more->n = d->n;
        *d = *more;
    }
    d->keys[d->n] = key;
    d->vals[d->n++] = value;
}

Seq *dict_items(Render *r, const Dict *d)
{
    Seq *items = seq_new(r, d->n);
    for (size_t i = 0; i < d->n; i++) {
        Seq *pair = seq_new(r, 2);
        seq_add(r, pair, d->keys[i]);
        seq_add(r, pair, d->vals[i]);
        seq_add(r, items, v_seq(V_TUPLE, pair));
    }
    return items;
}

// cJSON keeps every number as a double: whole ones are ints here, so that 1.0 in a file prints as 1.
static Value number_from_json(double f) { return f == floor(f) && fabs(f) < 0x1p63 ? v_int((Int)f) : v_float(f); }

Value value_from_json(Render *r, const cJSON *json)
{
    const cJSON *part;
    if (cJSON_IsString(json)) return v_text(json->valuestring);
    if (cJSON_IsNumber(json)) return number_from_json(json->valuedouble);
    if (cJSON_IsBool(json)) return v_bool(cJSON_IsTrue(json));
    if (!cJSON_IsArray(json) && !cJSON_IsObject(json)) return v_none();
    render_enter(r);
    Value v;
    if (cJSON_IsArray(json)) {
        v = v_seq(V_LIST, seq_new(r, 0));
        cJSON_ArrayForEach(part, json) seq_add(r, v.seq, value_from_json(r, part));
    } else {
        v = v_dict(dict_new(r, 0));
        cJSON_ArrayForEach(part, json) dict_put(r, v.dict, v_text(part->string), value_from_json(r, part));
    }
    r->depth--;
    return v;
}

Seq *value_iterate(Render *r, Value v)
{
    Seq *s = seq_new(r, 0);
    if (v.kind == V_UNDEFINED) return s;
    if (v.kind == V_DICT) {
        *s = (Seq){.items = v.dict->keys, .n = v.dict->n};
        return s;
    }
    if (is_seq(v)) {
        *s = *v.seq;
        if (v.kind == V_ITER) v.seq->n = 0;
        return s;
    }
    if (v.kind != V_STRING) fail_run(r, "'%s' object is not iterable", type_name(v));
    for (const char *p = v.s, *end = v.s + v.len; p < end; p += s->items[s->n - 1].len)
        seq_add(r, s, v_str(p, char_len(p, end)));
    return s;
}

size_t value_length(Render *r, Value v)
{
    if (v.kind == V_STRING) return str_count(v);
    if (is_seq(v) && v.kind != V_ITER) return v.seq->n;
    if (v.kind == V_DICT) return v.dict->n;
    if (v.kind == V_LOOP) return loop_length(r, v.loop);
    if (v.kind != V_UNDEFINED) fail_run(r, "object of type '%s' has no len()", type_name(v));
    return 0;
}

// ---- truth, equality, order ---------------------------------------------------------------------------------------

bool value_truth(Render *r, Value v)
{
    switch (v.kind) {
    case V_MISSING: case V_UNDEFINED: case V_NONE: return false;
    case V_BOOL: return v.b;
    case V_INT: return v.i != 0;
    case V_FLOAT: return v.f != 0;
    case V_STRING: return v.len > 0;
    case V_LIST: case V_TUPLE: case V_RANGE: case V_VIEW: return v.seq->n > 0;
    case V_DICT: return v.dict->n > 0;
    case V_LOOP: return loop_length(r, v.loop) > 0;
    default: return true;
    }
}

static bool dicts_equal(Render *r, const Dict *a, const Dict *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        const Value *other = dict_get(r, b, a->keys[i]);
        if (!other || !value_equal(r, a->vals[i], *other)) return false;
    }
    return true;
}

bool value_equal(Render *r, Value a, Value b)
{
    render_charge(r, 1 + (a.kind == V_STRING ? a.len / 64 : 0));
    if (is_int(a) && is_int(b)) return int_of(a) == int_of(b);
    if (is_number(a) && is_number(b)) return float_of(a) == float_of(b);
    if (a.kind != b.kind) return false;
    if (a.kind == V_STRING) return text_same(a, b);
    if (a.kind == V_NONE || a.kind == V_UNDEFINED || a.kind == V_MISSING) return true;
    bool same = a.seq == b.seq;                 // any pointer of the union
    if (same || a.kind == V_ITER || (!is_seq(a) && a.kind != V_DICT)) return same;
    render_enter(r);
    if (a.kind == V_DICT) {
        same = dicts_equal(r, a.dict, b.dict);
    } else {
        same = a.seq->n == b.seq->n;
        for (size_t i = 0; same && i < a.seq->n; i++) same = value_equal(r, a.seq->items[i], b.seq->items[i]);
    }
    r->depth--;
    return same;
}

bool value_less(Render *r, Value a, Value b, const char *op)
{
    render_charge(r, 1 + (a.kind == V_STRING ? a.len / 64 : 0));
    if (a.kind == V_UNDEFINED) fail_undefined(r, a);
    if (b.kind == V_UNDEFINED) fail_undefined(r, b);
    bool or_equal = op[1] == '=';
    if (*op == '>') { Value t = a; a = b; b = t; }
    if (is_int(a) && is_int(b)) return or_equal ? int_of(a) <= int_of(b) : int_of(a) < int_of(b);
    if (is_number(a) && is_number(b)) return or_equal ? float_of(a) <= float_of(b) : float_of(a) < float_of(b);
    if (a.kind == V_STRING && b.kind == V_STRING) {     // UTF-8 sorts as its code points do
        int order = memcmp(a.s, b.s, a.len < b.len ? a.len : b.len);
        return order ? order < 0 : or_equal ? a.len <= b.len : a.len < b.len;
    }
    if (a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE)) {
        size_t i = 0, n = a.seq->n < b.seq->n ? a.seq->n : b.seq->n;
        while (i < n && value_equal(r, a.seq->items[i], b.seq->items[i])) i++;
        if (i == n) return or_equal ? a.seq->n <= b.seq->n : a.seq->n < b.seq->n;
        render_enter(r);
        Value x = a.seq->items[i], y = b.seq->items[i];
        bool less = *op == '>' ? value_less(r, y, x, op) : value_less(r, x, y, op);
        r->depth--;
        return less;
    }
    if (*op == '>') { Value t = a; a = b; b = t; }
    fail_run(r, "'%s' not supported between instances of '%s' and '%s'", op, type_name(a), type_name(b));
}

// Merge sort, since qsort is not stable.
void sort_values(Render *r, Value *items, Value *keys, size_t n, bool reverse)
{
    if (n < 2) return;
    size_t half = n / 2, a = 0, b = half;
    sort_values(r, items, keys, half, reverse);
    sort_values(r, items + half, keys + half, n - half, reverse);
    Value *merged = render_take(r, n, sizeof *merged), *merged_keys = render_take(r, n, sizeof *merged);
    for (size_t i = 0; i < n; i++) {
        bool right = a == half || (b < n && value_less(r, keys[reverse ? a : b], keys[reverse ? b : a], "<"));
        size_t from = right ? b++ : a++;
        merged[i] = items[from];
        merged_keys[i] = keys[from];
    }
    memcpy(items, merged, n * sizeof *merged);
    memcpy(keys, merged_keys, n * sizeof *merged);
}

// ---- printing -----------------------------------------------------------------------------------------------------

// The fewest digits that read back as the same number; an exponent below 1e-4 and from 1e16.
size_t float_text(double f, char text[40])
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

static void repr_seq(Render *r, Value v)
{
    const Seq *s = v.seq;
    if (v.kind == V_LIST) repr_items(r, "[", s, "]");
    else if (v.kind == V_TUPLE) repr_items(r, "(", s, s->n == 1 ? ",)" : ")");
    else if (v.kind == V_VIEW) {
        out_text(r, s->type);
        repr_items(r, "([", s, "])");
    } else if (v.kind == V_RANGE) {
        Int parts[] = {s->start, s->stop, s->step};
        for (size_t i = 0; i < (s->step == 1 ? 2 : 3); i++) {
            out_text(r, i ? ", " : "range(");
            value_print(r, v_int(parts[i]));
        }
        out_text(r, ")");
    } else {
        out_text(r, "<");
        out_text(r, s->type);
        out_text(r, " object>");
    }
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
    case V_INT:
        if (v.i < 0) out_text(r, "-");
        out_int(r, v.i, 10, false);
        break;
    case V_FLOAT: out_add(r, text, float_text(v.f, text)); break;
    case V_LIST: case V_TUPLE: case V_RANGE: case V_VIEW: case V_ITER: repr_seq(r, v); break;
    case V_DICT: repr_dict(r, v.dict); break;
    case V_NAMESPACE:
        out_text(r, "<Namespace ");
        repr_dict(r, v.dict);
        out_text(r, ">");
        break;
    case V_MACRO:
        out_text(r, "<Macro ");
        if (v.macro->name.kind == V_NONE) out_text(r, "anonymous");
        else value_repr(r, v.macro->name);
        out_text(r, ">");
        break;
    default:
        out_text(r, "<");
        out_text(r, type_name(v));
        if (v.kind == V_LOOP) {
            out_text(r, " ");
            out_int(r, (Int)v.loop->index0 + 1, 10, false);
            out_text(r, "/");
            out_int(r, (Int)loop_length(r, v.loop), 10, false);
        }
        out_text(r, ">");
    }
    r->depth--;
}

void value_print(Render *r, Value v)
{
    if (v.kind == V_STRING) out_add(r, v.s, v.len);
    else if (v.kind != V_UNDEFINED) value_repr(r, v);
}

Value value_to_str(Render *r, Value v)
{
    if (v.kind == V_STRING) return v;
    size_t mark = r->out->len;
    value_print(r, v);
    return out_cut(r, mark);
}

const char *repr_text(Render *r, Value v)
{
    size_t mark = r->out->len;
    value_repr(r, v);
    return out_cut(r, mark).s;
}

const char *value_chars(Render *r, Value v)
{
    size_t mark = r->out->len;
    value_print(r, v);
    return out_cut(r, mark).s;
}

// ---- JSON ---------------------------------------------------------------------------------------------------------

static void json_text(Render *r, Value v, bool ascii)
{
    const char *end = v.s + v.len, *plain = v.s;
    out_text(r, "\"");
    for (const char *p = v.s; p < end; ) {
        uint32_t c = char_code(p, end);
        size_t len = char_len(p, end);
        bool escape = c < 32 || c == '"' || c == '\\' || (ascii && c > 126);
        p += len;
        if (!escape) continue;
        out_add(r, plain, (size_t)(p - len - plain));
        plain = p;
        char text[16];
        const char *at = c < 128 && c ? strchr("\bb\ff\nn\rr\tt\"\"\\\\", (int)c) : NULL;
        if (at && strchr("\b\f\n\r\t\"\\", (int)c)) sprintf(text, "\\%c", at[1]);
        else if (c < 0x10000) sprintf(text, "\\u%04x", c);
        else sprintf(text, "\\u%04x\\u%04x", 0xD7C0 + (c >> 10), 0xDC00 + (c & 0x3FF));
        out_text(r, text);
    }
    out_add(r, plain, (size_t)(end - plain));
    out_text(r, "\"");
}

static void json_newline(Render *r, const JsonStyle *style, size_t level)
{
    if (!is_given(style->indent)) return;
    out_text(r, "\n");
    for (size_t i = 0; i < level; i++)
        if (style->indent.kind == V_STRING) out_add(r, style->indent.s, style->indent.len);
        else for (Int n = int_of(style->indent); n > 0; n--) out_text(r, " ");
}

// A key as json.dumps makes it a string; a number's is its text.
static Value json_key(Render *r, Value key)
{
    if (key.kind == V_BOOL) return v_text(key.b ? "true" : "false");
    if (key.kind == V_NONE) return v_text("null");
    if (key.kind != V_STRING && !is_number(key))
        fail_run(r, "keys must be str, int, float, bool or None, not %s", type_name(key));
    return value_to_str(r, key);
}

static void json_members(Render *r, Value v, const JsonStyle *style, size_t level)
{
    Dict d = v.kind == V_DICT ? *v.dict : (Dict){.vals = v.seq->items, .n = v.seq->n};
    if (style->sort && d.keys) {
        Value *order = render_take(r, d.n, sizeof *order), *vals = render_take(r, d.n, sizeof *vals);
        if (d.n) memcpy(order, d.keys, d.n * sizeof *order);
        if (d.n) memcpy(vals, d.vals, d.n * sizeof *vals);
        sort_values(r, vals, order, d.n, false);
        d.keys = order;
        d.vals = vals;
    }
    out_text(r, v.kind == V_DICT ? "{" : "[");
    for (size_t i = 0; i < d.n; i++) {
        if (i) value_print(r, style->item_sep);
        json_newline(r, style, level + 1);
        if (v.kind == V_DICT) {
            json_text(r, json_key(r, d.keys[i]), style->ascii);
            value_print(r, style->key_sep);
        }
        value_json(r, d.vals[i], style, level + 1);
    }
    if (d.n) json_newline(r, style, level);
    out_text(r, v.kind == V_DICT ? "}" : "]");
}

void value_json(Render *r, Value v, const JsonStyle *style, size_t level)
{
    render_enter(r);
    if (v.kind == V_STRING) json_text(r, v, style->ascii);
    else if (v.kind == V_BOOL || v.kind == V_NONE) value_print(r, json_key(r, v));
    else if (v.kind == V_FLOAT && !isfinite(v.f)) out_text(r, isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity");
    else if (is_number(v)) value_print(r, v);
    else if (v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_DICT) json_members(r, v, style, level);
    else fail_run(r, "Object of type %s is not JSON serializable", type_name(v));
    r->depth--;
}

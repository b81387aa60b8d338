// jinja_json: values out of the JSON of a row, and values as the JSON that json.dumps writes.
#include "jinja.h"

#include <math.h>
#include <stdlib.h>

// A number prints as it was written: the item carries its text. Without a text (a value that no file wrote), whole
// numbers are ints.
static Value number_from_json(Render *r, const cJSON *json)
{
    const char *text = json->valuestring;
    double f = json->valuedouble;
    if (!text) return f == floor(f) && fabs(f) < 0x1p63 ? v_int((int64_t)f) : v_float(f);
    return strpbrk(text, ".eE") ? v_float(strtod(text, NULL)) : text_to_int(&r->arena, v_text(text));
}

Value value_from_json(Render *r, const cJSON *json)
{
    const cJSON *part;
    if (cJSON_IsString(json)) return v_text(json->valuestring);
    if (cJSON_IsNumber(json)) return number_from_json(r, json);
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

// ---- to JSON ------------------------------------------------------------------------------------------------------

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
    if (!is_a(style->indent, GIVEN)) return;
    out_text(r, "\n");
    for (size_t i = 0; i < level; i++)
        if (style->indent.kind == V_STRING) out_value(r, style->indent);
        else for (int64_t n = int_of(style->indent); n > 0; n--) out_text(r, " ");
}

// A key as json.dumps makes it a string; a number's is its text.
static Value json_key(Render *r, Value key)
{
    if (key.kind == V_BOOL) return v_text(key.b ? "true" : "false");
    if (key.kind == V_NONE) return v_text("null");
    if (!is_a(key, NUMBERS | SET(V_BIG) | SET(V_STRING))) fail_run(r, "a key of JSON cannot be %s", type_name(key));
    return value_to_str(r, key);
}

static Dict in_order(Render *r, Dict d)
{
    Value *keys = render_take(r, d.n, sizeof *keys), *vals = render_take(r, d.n, sizeof *vals);
    if (d.n) memcpy(keys, d.keys, d.n * sizeof *keys);
    if (d.n) memcpy(vals, d.vals, d.n * sizeof *vals);
    sort_values(r, vals, keys, d.n, false);
    return (Dict){.keys = keys, .vals = vals, .n = d.n};
}

static void json_members(Render *r, Value v, const JsonStyle *style, size_t level)
{
    Dict d = v.kind == V_DICT ? *v.dict : (Dict){.vals = v.seq->items, .n = v.seq->n};
    if (style->sort && v.kind == V_DICT) d = in_order(r, d);
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
    else if (is_a(v, SET(V_BOOL) | SET(V_NONE))) out_value(r, json_key(r, v));
    else if (v.kind == V_FLOAT && !isfinite(v.f)) out_text(r, isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity");
    else if (is_a(v, NUMBERS | SET(V_BIG))) value_print(r, v);
    else if (is_a(v, SET(V_LIST) | SET(V_TUPLE) | SET(V_DICT))) json_members(r, v, style, level);
    else fail_run(r, "JSON has no form for %s", type_name(v));      // so it is in Python for undefined values, too
    r->depth--;
}

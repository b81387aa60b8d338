// json: the JSON of base.h. Strict, with the text of numbers kept, and messages that name the place.
#include "base.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// Puts line and column (in characters, from 1) of an offset before the message. `line` is the line of the first byte, 0
// for 1. Returns NULL.
static cJSON *fail_place(Err *e, const char *text, size_t at, const char *where, size_t line)
{
    size_t column = 1;
    if (line == 0) line = 1;
    for (size_t i = 0; i < at; i++) {
        if (text[i] == '\n') { line++; column = 1; }
        else if (((unsigned char)text[i] & 0xC0) != 0x80) column++;
    }
    fail_prefix(e, "%s:%zu:%zu: ", where, line, column);
    return NULL;
}

static size_t skip_blanks(const char *text, size_t len, size_t at)
{
    while (at < len && strchr(" \t\r\n", text[at])) at++;
    return at;
}

// cJSON keeps C strings: an escaped NUL would silently cut one. Offset of the first \u0000, or len.
static size_t find_escaped_nul(const char *text, size_t len)
{
    for (size_t i = 0; i + 5 < len; i++) {
        if (text[i] != '\\') continue;
        if (memcmp(text + i, "\\u0000", 6) == 0) return i;
        i++;
    }
    return len;
}

// Python's rule: of equal keys in an object the last counts, at the place of the first. The first one found goes into
// `twice`, in quotes.
static void keep_last_of_equal_keys(cJSON *v, char twice[64])
{
    size_t n = 0, room = 16;
    for (cJSON *child = v->child; child; child = child->next, n++) keep_last_of_equal_keys(child, twice);
    if (!cJSON_IsObject(v) || n < 2) return;
    while (room < 2 * n) room *= 2;
    cJSON **seen = mem_alloc(room, sizeof *seen);          // by hash, since a vocabulary is an object of 100,000 keys
    for (cJSON *child = v->child, *next; child; child = next) {
        uint64_t hash = 0xCBF29CE484222325u;               // FNV-1a
        next = child->next;
        for (const char *p = child->string; *p; p++) hash = (hash ^ (unsigned char)*p) * 0x100000001B3u;
        size_t at = (size_t)(hash >> 32) & (room - 1);
        while (seen[at] && strcmp(seen[at]->string, child->string) != 0) at = (at + 1) & (room - 1);
        if (!seen[at]) {
            seen[at] = child;
            continue;
        }
        if (!*twice) snprintf(twice, 64, "\"%.60s\"", child->string);
        cJSON_DetachItemViaPointer(v, child);
        cJSON_ReplaceItemViaPointer(v, seen[at], child);
        seen[at] = child;
    }
    free(seen);
}

// What is wrong at text[at], where the parser stopped, in words; or NULL.
static const char *broken_json(const char *text, size_t len, size_t at)
{
    static const char *const words[] = {"True", "False", "None", "NaN", "Infinity"};
    at = skip_blanks(text, len, at);
    size_t before = at, next = skip_blanks(text, len, at + 1);
    while (before > 0 && strchr(" \t\r\n", text[before - 1])) before--;
    char last = before > 0 ? text[before - 1] : 0;
    if (at == len) return "the text ends before the value does";
    bool closes = last == ',' && strchr("}]", text[at]), closes_next = next < len && strchr("}]", text[next]);
    if (closes || (text[at] == ',' && closes_next)) return "a comma before a closing bracket";
    if (text[at] == '\'') return "strings stand in double quotes";
    if (text[at] == '/' || text[at] == '#') return "JSON has no comments";
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (len - at >= strlen(words[i]) && strncmp(text + at, words[i], strlen(words[i])) == 0)
            return i < 3 ? "true, false and null are written in lower case" : "a number must be finite";
    if (strchr("\"{[", text[at]) && last && strchr("\"}]0123456789el", last)) return "a comma is missing";
    return NULL;
}

// The next number of a JSON text at or after *p, outside of strings; false if there is none.
static bool next_number(const char **p, const char *end, size_t *length)
{
    for (bool in_string = false; *p < end; ++*p) {
        if (in_string && **p == '\\') ++*p;
        else if (**p == '"') in_string = !in_string;
        else if (!in_string && (**p == '-' || (**p >= '0' && **p <= '9'))) {
            const char *q = *p;
            while (q < end && strchr("+-.0123456789eE", *q)) q++;
            *length = (size_t)(q - *p);
            return true;
        }
    }
    return false;
}

static void keep_numbers(cJSON *v, const char **p, const char *end)
{
    size_t length;
    if (cJSON_IsNumber(v) && next_number(p, end, &length)) {
        v->valuestring = mem_strndup(*p, length);          // cJSON_Delete frees it, cJSON_Duplicate copies it
        *p += length;
    }
    for (cJSON *child = v->child; child; child = child->next) keep_numbers(child, p, end);
}

static cJSON *parse(const char *text, size_t len, const char *where, size_t line, bool literals, Err *e)
{
    size_t bad = utf8_valid(text, len);
    if (bad < len) {
        fail(e, "invalid UTF-8: byte 0x%02X", (unsigned char)text[bad]);
        return fail_place(e, text, bad, where, line);
    }
    bad = find_escaped_nul(text, len);
    if (bad < len || memchr(text, 0, len)) {
        fail(e, "a NUL character cannot stand in a text here");
        return fail_place(e, text, bad < len ? bad : strlen(text), where, line);
    }
    const char *end = text;
    cJSON *value = cJSON_ParseWithLengthOpts(text, len, &end, false);
    size_t at = (size_t)(end - text);
    if (at > len) at = len;
    if (value) at = skip_blanks(text, len, at);
    if (value && at == len) {
        const char *p = text;
        if (literals) keep_numbers(value, &p, text + len);
        char twice[64] = "";
        keep_last_of_equal_keys(value, twice);
        e->text[0] = 0;
        if (*twice) fail(e, "the key %s stands twice in an object", twice);
        return value;
    }
    if (!value && at > 0 && strchr("}'", text[at - 1])) at--;          // where a key should stand it stops one late
    const char *why = value ? NULL : broken_json(text, len, at);
    cJSON_Delete(value);
    fail(e, "%s \"%.*s\"%s%s", value ? "expected the end of the JSON value, found" : "broken JSON at",
         (int)(len - at < 20 ? len - at : 20), text + at, why ? ": " : "", why ? why : "");
    return fail_place(e, text, at, where, line);
}

cJSON *json_parse(const char *text, size_t len, const char *where, size_t line, Err *e)
{
    return parse(text, len, where, line, false, e);
}

cJSON *json_parse_literal(const char *text, size_t len, const char *where, size_t line, Err *e)
{
    return parse(text, len, where, line, true, e);
}

cJSON *json_load(const char *path, Err *e)
{
    File f;
    if (!file_map(&f, path, e)) return NULL;
    cJSON *value = json_parse((const char *)f.data, f.size, path, 0, e);
    file_unmap(&f);
    return value;
}

bool json_save(const cJSON *value, const char *path, Err *e)
{
    char *text = cJSON_Print(value);
    bool ok = file_put(path, text, strlen(text), e);
    cJSON_free(text);
    return ok;
}

void json_print(cJSON *value)
{
    char *text = cJSON_PrintUnformatted(value);
    puts(text);
    cJSON_free(text);
    cJSON_Delete(value);
}

const cJSON *json_get(const cJSON *object, const char *key) { return cJSON_GetObjectItemCaseSensitive(object, key); }
const char *json_string(const cJSON *object, const char *key) { return cJSON_GetStringValue(json_get(object, key)); }

void json_set(cJSON *object, const char *key, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddItemToObject(object, key, value);
}

const char *json_kind(const cJSON *v)
{
    return !v                 ? "nothing"
         : cJSON_IsString(v)  ? "a string"
         : cJSON_IsNumber(v)  ? "a number"
         : cJSON_IsBool(v)    ? "true or false"
         : cJSON_IsNull(v)    ? "null"
         : cJSON_IsArray(v)   ? "a list"
                              : "an object";
}

bool json_is_int(const cJSON *v, int64_t min, int64_t max)
{
    return cJSON_IsNumber(v) && v->valuedouble == floor(v->valuedouble) && v->valuedouble >= (double)min &&
           v->valuedouble <= (double)max;
}

cJSON *json_add_numbers(cJSON *object, const JsonNumber *numbers)
{
    for (const JsonNumber *n = numbers; n->key; n++)
        cJSON_AddItemToObject(object, n->key, isnan(n->value) ? cJSON_CreateNull() : cJSON_CreateNumber(n->value));
    return object;
}

bool json_is_absent(const cJSON *v) { return !v || cJSON_IsNull(v); }

const char *json_found(const cJSON *v, char room[32])
{
    if (!cJSON_IsNumber(v)) return json_kind(v);
    snprintf(room, 32, "%.16g", v->valuedouble);
    return room;
}

static bool fail_value(Err *e, const char *where, const char *key, const char *expected, const cJSON *v)
{
    char room[32];
    return fail(e, "%s%s%s: expected %s, found %s", where ? where : "", where ? "." : "", key, expected,
                json_found(v, room));
}

bool json_get_int(int *out, const cJSON *object, const char *where, const char *key, int min, int max, int absent,
                  Err *e)
{
    const cJSON *v = json_get(object, key);
    bool none = json_is_absent(v) && absent != JSON_REQUIRED;
    if (!none && !json_is_int(v, min, max)) {
        char expected[64];
        snprintf(expected, sizeof expected, "a whole number from %d to %d", min, max);
        return fail_value(e, where, key, expected, v);
    }
    *out = none ? absent : (int)v->valuedouble;
    return true;
}

bool json_get_number(double *out, const cJSON *object, const char *where, const char *key, double absent, Err *e)
{
    const cJSON *v = json_get(object, key);
    bool none = json_is_absent(v) && !isnan(absent);
    if (!none && !cJSON_IsNumber(v)) return fail_value(e, where, key, "a number", v);
    *out = none ? absent : v->valuedouble;
    return true;
}

bool json_get_flag(bool *out, const cJSON *object, const char *where, const char *key, bool absent, Err *e)
{
    const cJSON *v = json_get(object, key);
    if (!json_is_absent(v) && !cJSON_IsBool(v)) return fail_value(e, where, key, "true or false", v);
    *out = json_is_absent(v) ? absent : cJSON_IsTrue(v);
    return true;
}

bool json_get_string(const char **out, const cJSON *object, const char *where, const char *key, Err *e)
{
    const cJSON *v = json_get(object, key);
    *out = cJSON_GetStringValue(v);
    return *out || fail_value(e, where, key, "a string", v);
}

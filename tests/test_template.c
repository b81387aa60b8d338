// Tests of data/template: what templates print, where their generation spans lie, how they fail, and what stops a
// hostile one. tests/fixtures/jinja.jsonl holds what Jinja2 itself says; tests/oracle/jinja.py made it.
#include "check.h"
#include "../data/template/template.h"

typedef struct { char *text; Spans spans; Err e; } Result;      // text is NULL after a failure

static Result render(const char *source, const cJSON *vars)
{
    Result res = {0};
    Buf out = {0};
    Template *t = template_parse(source, strlen(source), "t", &res.e);
    if (t && template_render(t, vars, &out, &res.spans, &res.e)) res.text = out.data;
    else buf_free(&out);
    template_free(t);
    return res;
}

static void result_free(Result *res)
{
    free(res->text);
    spans_free(&res->spans);
}

// The JSON is written with ' for ".
static cJSON *parse(const char *text)
{
    Err e;
    const char *json = quoted(text);
    cJSON *value = json_parse(json, strlen(json), "test", 0, &e);
    CHECK_MSG(value, "%s", e.text);
    return value;
}

// ---- what is expected of a case -----------------------------------------------------------------------------------

// The message must read "t:LINE: KIND: WHY", with a column for syntax errors. LINE (0: any) and KIND must be these. WHY
// is in the engine's own words, apart from raise_exception's.
static bool is_error(const Result *res, unsigned want_line, const char *kind, const char *why)
{
    unsigned line = 0, column;
    int at = 0;
    const char *text = res->e.text;
    if (res->text) return false;
    if (strcmp(kind, "syntax error") == 0) sscanf(text, "t:%u:%u: %n", &line, &column, &at);
    else sscanf(text, "t:%u: %n", &line, &at);
    size_t n = strlen(kind);
    return at > 0 && (want_line == 0 || line == want_line) && strncmp(text + at, kind, n) == 0 &&
           strncmp(text + at + n, ": ", 2) == 0 && text[at + n + 2] &&
           (strcmp(kind, "raise") != 0 || strcmp(text + at + n + 2, why) == 0);
}

// `what` is the refused thing with its name, such as "filter 'xmlattr'".
static bool is_refused(const Result *res, const char *what)
{
    char refusal[128];
    snprintf(refusal, sizeof refusal, ": the %s is not part of chat templates", what);
    return !res->text && strstr(res->e.text, refusal);
}

static bool are_spans(const Spans *spans, const cJSON *want)
{
    size_t i = 0;
    const cJSON *span;
    cJSON_ArrayForEach(span, want) {
        if (i == spans->n || spans->spans[i].begin != (size_t)span->child->valuedouble ||
            spans->spans[i].end != (size_t)span->child->next->valuedouble) return false;
        i++;
    }
    return i == spans->n;
}

static bool complain(const char *what, const Result *res)
{
    return CHECK_MSG(false, "%s gives %s%s", what, res->text ? "the text " : "the error ",
                     res->text ? res->text : res->e.text);
}

static bool check_text(const char *what, const Result *res, const char *text, const cJSON *spans)
{
    if (res->text && strcmp(res->text, text) == 0 && (!spans || are_spans(&res->spans, spans))) return true;
    return complain(what, res);
}

static bool check_error(const char *what, const Result *res, unsigned line, const char *kind, const char *why)
{
    return is_error(res, line, kind, why) || complain(what, res);
}

// Calls `row` with every line but the first, which is the header.
typedef bool (*RowCheck)(const cJSON *header, const cJSON *row, void *with);

static void each_row(const char *path, RowCheck row, void *with, int *passed, int *total)
{
    File f;
    Err e;
    cJSON *header = NULL;
    if (!CHECK_MSG(file_map(&f, path, &e), "%s", e.text)) return;
    const char *p = (const char *)f.data, *end = p + f.size;
    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) stop = end;
        cJSON *value = json_parse(p, (size_t)(stop - p), path, 0, &e);
        CHECK_MSG(value, "%s", e.text);
        if (!header) header = value;
        else {
            *passed += row(header, value, with);
            ++*total;
            cJSON_Delete(value);
        }
        p = stop + 1;
    }
    cJSON_Delete(header);
    file_unmap(&f);
}

// ---- Jinja2's own answers -----------------------------------------------------------------------------------------

// `with` counts the rows that must be refused.
static bool fixture_row(const cJSON *header, const cJSON *row, void *with)
{
    const char *source = json_string(row, "template"), *refused = json_string(row, "refused");
    const char *text = json_string(row, "text");
    const cJSON *line = json_get(row, "line");
    Result res = render(source, json_get(header, "variables"));
    bool ok = refused ? is_refused(&res, refused) || complain(source, &res)
              : text  ? check_text(source, &res, text, json_get(row, "spans"))
                      : check_error(source, &res, line ? (unsigned)line->valuedouble : 0, json_string(row, "kind"),
                                    json_string(row, "error"));
    *(int *)with += refused != NULL;
    result_free(&res);
    return ok;
}

static void test_language(void)
{
    int passed = 0, total = 0, refused = 0;
    each_row("tests/fixtures/jinja.jsonl", fixture_row, &refused, &passed, &total);
    CHECK(total > 500);
    printf("     templates as Jinja2 renders them: %d of %d, %d of them refused by name\n", passed, total, refused);
}

// ---- what the fixture cannot say ----------------------------------------------------------------------------------

static void test_values_from_json(void)
{
    static const struct { const char *source, *text; } cases[] = {
        {"{{ i }} {{ f }} {{ big }} {{ neg }} {{ no }} {{ yes }}", "3 1.5 123456789012 -7 None True"},
        {"{{ i / 1 }} {{ i is integer }} {{ f is float }} {{ i == 3.0 }}", "3.0 True True True"},
        {"{{ list }} {{ obj }} {{ obj.a.b[1] }} {{ obj['a'] }}", "[1, 'a', None] {'a': {'b': [1, 2]}} 2 {'b': [1, 2]}"},
        {"{{ obj.items() }}|{{ with_items.items }}|{{ with_items['items'] }}",
         "dict_items([('a', {'b': [1, 2]})])|<a function>|1"},
        {"{{ list|map('string') }}", "<an iterator>"},
        {"a\r\nb\rc\n{{ \"x\r\ny\" }}\n\n", "a\nb\nc\nx\ny\n"},
        {"{{ '\\x00' }}{{ ['\\x00'] }}{{ '\\u200b' }}", ""},
        {"", ""},
    };
    cJSON *vars = parse("{'i':3,'f':1.5,'big':123456789012,'neg':-7,'no':null,'yes':true,'list':[1,'a',null],"
                        "'obj':{'a':{'b':[1,2]}},'with_items':{'items':1}}");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Result res = render(cases[i].source, vars);
        check_text(cases[i].source, &res, cases[i].text, NULL);
        result_free(&res);
    }
    cJSON_Delete(vars);
}

// A number prints as it was written: its item carries its text, as those of a row do.
static void test_numbers_as_written(void)
{
    static const struct { const char *written, *text, *json, *sum; } cases[] = {       // text NULL: as written
        {"5", NULL, NULL, "6"}, {"-0", "0", "0", "1"}, {"5.0", NULL, NULL, "6.0"}, {"-0.0", NULL, NULL, "1.0"},
        {"1e3", "1000.0", "1000.0", "1001.0"}, {"1E-7", "1e-07", "1e-07", "1.0000001"}, {"0.10", "0.1", "0.1", "1.1"},
        {"9007199254740993", NULL, NULL, "9007199254740994"},
        {"9223372036854775806", NULL, NULL, "9223372036854775807"},
        {"-9223372036854775808", NULL, NULL, "-9223372036854775807"}, {"9223372036854775807", NULL, NULL, NULL},
        {"18446744073709551615", NULL, NULL, NULL}, {"-123456789012345678901234567890", NULL, NULL, NULL},
        {"1e400", "inf", "Infinity", "inf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *written = cases[i].written, *text = cases[i].text ? cases[i].text : written;
        cJSON *vars = cJSON_CreateObject(), *row = cJSON_AddObjectToObject(vars, "row");
        cJSON *number = cJSON_AddNumberToObject(row, "x", strtod(written, NULL));
        number->valuestring = mem_strdup(written);
        Result print = render("{{ row.x }} {{ row.x ~ '' }} {{ [row.x] }} {{ row.x is number and row.x == row.x }}",
                              vars);
        Result json = render("{{ row|tojson }}", vars), sum = render("{{ row.x + 1 }}", vars);
        Buf want = {0};
        buf_addf(&want, "%s %s [%s] True", text, text, text);
        check_text(written, &print, want.data, NULL);
        buf_clear(&want);
        buf_addf(&want, "{\"x\": %s}", cases[i].json ? cases[i].json : written);
        check_text(written, &json, want.data, NULL);
        if (cases[i].sum) check_text(written, &sum, cases[i].sum, NULL);
        else CHECK_FAILS(sum.text != NULL, sum.e, "an int of more than 64 bits");
        buf_free(&want);
        result_free(&print);
        result_free(&json);
        result_free(&sum);
        cJSON_Delete(vars);
    }
}

static void test_where_errors_are(void)
{
    static const struct { const char *source, *message; } cases[] = {
        {"{{ a b }}", "t:1:6: syntax error: expected }}, found b"},
        {"x\n\n é {% if %}", "t:3:10: syntax error: expected an expression, found %}"},
        {"{% if x %}\n{{ x }}", "t:2:8: syntax error: expected endif, found the end of the template"},
        {"{% if x %}{% endfor %}", "t:1:14: syntax error: the tag 'endfor' is unknown, or has no place here"},
        {"a\n{{ 'x'|nosuch }}", "t:2:8: syntax error: No filter named 'nosuch'."},
        {"{{ x is nosuch }}", "t:1:9: syntax error: No test named 'nosuch'."},
        {"a\n{# b", "t:2:1: syntax error: this comment has no end"},
        {"{{ '\\ud800' }}", "t:1:4: syntax error: half of a surrogate pair is no character"},
        {"{{ 1 }}\n{{ 2\n / 0 }}", "t:2: runtime: division by zero"},
        {"{{ 1 + 'a' }}", "t:1: runtime: '+' does not work with an int and a string"},
        {"{% for i in 5 %}{% endfor %}", "t:1: runtime: iteration does not work with an int"},
        {"{% for i in [1] %}\n\n{{ i.x.y }}{% endfor %}", "t:3: undefined: an int has no 'x'"},
        {"{{ x.y }}", "t:1: undefined: 'x' is undefined"},
        {"{{ [].append(1) }}", "t:1: security: 'append' of a list is not for templates"},
        {"{{ 'a'|replace('b') }}", "t:1: runtime: 'replace' needs the argument 'new'"},
        {"{{ 'a'|upper(1) }}", "t:1: runtime: 'upper' takes at most 0 arguments, but got 1"},
        {"{{ 'a'|trim(x=1) }}", "t:1: runtime: 'trim' takes no argument 'x' here"},
        {"{% macro m() %}\n{{ raise_exception('no') }}{% endmacro %}\n\n{{ m() }}", "t:2: raise: no"},
        {"{{ [1]|random }}", "t:1: runtime: the filter 'random' is not part of chat templates"},
        {"{{ 'a' is upper }}", "t:1: runtime: the test 'upper' is not part of chat templates"},
        {"\n{{ '{}'.format(1) }}", "t:2: runtime: the method 'format' is not part of chat templates"},
        {"{{ '%s' % 1 }}", "t:1: runtime: the string operator '%' is not part of chat templates"},
        {"{{ lipsum() }}", "t:1: runtime: the function 'lipsum' is not part of chat templates"},
        {"{% autoescape true %}", "t:1:4: syntax error: the tag 'autoescape' is not part of chat templates"},
        {"{% for i in l recursive %}", "t:1:15: syntax error: the word 'recursive' is not part of chat templates"},
        {"{% macro m() %}{{ caller() }}",
         "t:1:19: syntax error: the macro variable 'caller' is not part of chat templates"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Result res = render(cases[i].source, NULL);
        CHECK_FAILS(res.text != NULL, res.e, cases[i].message);
        CHECK_STR(res.e.text, cases[i].message);
        result_free(&res);
    }
    Err e;
    CHECK_FAILS(template_parse("a\xFF", 2, "file.jinja", &e), e, "file.jinja: invalid UTF-8 at byte 1");
}

static void test_output(void)
{
    Err e;
    Buf out = {0};
    Spans spans = {0};
    cJSON *vars = parse("{'ok':true}"), *none = parse("{}");
    const char *source = "b{% generation %}c{% endgeneration %}{{ '' if ok else raise_exception('stop') }}";
    Template *t = template_parse(source, strlen(source), "t", &e);
    CHECK(template_has_generation(t));
    buf_adds(&out, "before ");
    CHECK(template_render(t, vars, &out, &spans, &e));
    CHECK_STR(out.data, "before bc");
    CHECK(spans.n == 1 && spans.spans[0].begin == 1 && spans.spans[0].end == 2);
    CHECK(!template_render(t, none, &out, &spans, &e));         // leaves what was there as it was
    CHECK_STR(out.data, "before bc");
    CHECK(spans.n == 1);
    CHECK(template_render(t, vars, &out, NULL, &e));
    CHECK_STR(out.data, "before bcbc");
    template_free(t);
    t = template_parse("plain", 5, "t", &e);
    CHECK(!template_has_generation(t));
    template_free(t);
    buf_free(&out);
    spans_free(&spans);
    cJSON_Delete(vars);
    cJSON_Delete(none);
}

// A block inside captured text is placed where the capture began, with as many characters as it printed.
static void test_spans_in_bytes(void)
{
    static const struct { const char *source, *spans; } cases[] = {
        {"é{% generation %}日本{% endgeneration %}é", "[[2,8]]"},
        {"{% generation %}{% endgeneration %}x{% generation %}y{% endgeneration %}", "[[0,0],[1,2]]"},
        {"a{% set x %}bé{% generation %}cd{% endgeneration %}{% endset %}{{ x }}", "[[1,4]]"},
        {"a{% set x %}{% generation %}never{% endgeneration %}{% endset %}bc", "[[1,3]]"},
        {"{% macro m() %}{% generation %}x{% endgeneration %}{% endmacro %}{% set x = m() %}", "[[0,0]]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Result res = render(cases[i].source, NULL);
        cJSON *want = parse(cases[i].spans);
        CHECK_MSG(res.text && are_spans(&res.spans, want), "%s", cases[i].source);
        cJSON_Delete(want);
        result_free(&res);
    }
}

static void test_limits(void)
{
    static const char *const hostile[] = {
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x='a') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson }}",
        "{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}",
        "{{ 'a' * 100000000000 }}", "{{ [1] * 100000000000 }}", "{{ 2 ** 63 }}", "{{ 2 ** 62 * -3 }}",
        "{{ -9223372036854775807 - 2 }}", "{{ (-9223372036854775807 - 1) // -1 }}", "{{ 1e19|int }}",
        "{{ -(-9223372036854775807 - 1) }}", "{{ [1]|tojson(indent=100000000000) }}",
        "{{ 'a'|indent(100000000000) }}", "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set n = s|length %}{% endfor %}",
        "{{ range(100000)|unique|list }}",
    };
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        Result res = render(hostile[i], NULL);
        if (!CHECK_FAILS(res.text != NULL, res.e, "t:1: limit: ")) fprintf(stderr, "by %s\n", hostile[i]);
        result_free(&res);
    }
}

static void check_nested(const char *open, const char *middle, const char *close, const char *message)
{
    Err e;
    Buf deep = {0};
    for (int i = 0; i < 5000; i++) buf_adds(&deep, open);
    buf_adds(&deep, middle);
    for (int i = 0; i < 5000; i++) buf_adds(&deep, close);
    CHECK_FAILS(template_parse(deep.data, deep.len, "t", &e), e, message);
    buf_free(&deep);
}

static void test_nesting(void)
{
    check_nested("{% if x %}", "", "{% endif %}", "nested deeper than 200 levels");
    check_nested("{{ (((((((((", "", "", "nested deeper than 200 levels");
    check_nested("{{ not not ", "x", "}}", "nested deeper than 200 levels");
    check_nested("{{ - - ", "x", "}}", "nested deeper than 200 levels");
    check_nested("{{ 1 if 1 else 1 if 1 else ", "x", "}}", "nested deeper than 200 levels");
    Err e;
    Buf chain = {0};
    buf_adds(&chain, "{{ 1");
    for (int i = 0; i < 5000; i++) buf_adds(&chain, " + 1");
    buf_adds(&chain, " }}");
    Result res = render(chain.data, NULL);
    CHECK_FAILS(res.text != NULL, res.e, "t:1: limit: nested deeper than 2000 levels");
    result_free(&res);
    buf_clear(&chain);
    for (int i = 0; i < 9999; i++) buf_addf(&chain, "{{ name%d }}", i);
    CHECK_FAILS(template_parse(chain.data, chain.len, "t", &e), e, "more than 5000 different names");
    buf_free(&chain);
}

// The time and memory of parsing must not grow with the square of a chain's length, nor a call's with its parameters.
static void test_long_sources(void)
{
    static const struct { const char *begin, *each, *end; int n; } cases[] = {
        {"{{ 1", "+1", " }}", 100000}, {"{{ 1", " and 1", " }}", 100000},
        {"{{ x", "[0]", " }}", 100000}, {"{{ ", "'a' ", " }}", 100000},
        {"{% macro m(z", ", a%d=1", ") %}{% endmacro %}{% for i in range(9999) %}{{ m() }}{% endfor %}", 4900},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Buf source = {0};
        buf_adds(&source, cases[i].begin);
        for (int k = 0; k < cases[i].n; k++) {
            const char *number = strstr(cases[i].each, "%d");
            if (number) buf_addf(&source, "%.*s%d%s", (int)(number - cases[i].each), cases[i].each, k, number + 2);
            else buf_adds(&source, cases[i].each);
        }
        buf_adds(&source, cases[i].end);
        Result res = render(source.data, NULL);
        CHECK(res.text || strstr(res.e.text, "limit: "));
        result_free(&res);
        buf_free(&source);
    }
}

// Broken pieces of a template must fail or print, and never reach outside of it: the sanitizers watch.
static void test_cut_templates(void)
{
    const char *source = "{% for m in l if m -%}{{ m['a'][1:2]|join(',', attribute=\"b\") ~ '\\u00e9\\n' }}{# é #}"
                         "{%- endfor +%}{% raw %} x {%- endraw %}"
                         "{{ 'a b'.split(' ', maxsplit=1)[::-1] ~ 1.5e3 if l is not none else {1: (2,)} }}";
    cJSON *vars = parse("{'l':[{'a':['x','y']}]}");
    size_t len = strlen(source);
    for (size_t from = 0; from < len; from += 7)
        for (size_t to = from; to <= len; to++) {
            char *piece = mem_strndup(source + from, to - from);
            Result res = render(piece, vars);
            CHECK(res.text || res.e.text[0]);
            result_free(&res);
            free(piece);
        }
    cJSON_Delete(vars);
}

// ---- vectors that lie beside the checkout -------------------------------------------------------------------------

// A vector's error has a kind in the oracle's words: "runtime:TypeError", "SecurityError", "syntax".
static bool vector_error(const char *what, const Result *res, const cJSON *error)
{
    const char *kind = json_string(error, "kind"), *why = json_string(error, "message");
    if (strncmp(kind, "runtime", 7) == 0) kind = "runtime";
    if (strcmp(kind, "SecurityError") == 0) kind = "security";
    if (strcmp(kind, "syntax") == 0) kind = "syntax error";
    return check_error(what, res, 0, kind, why);
}

// Is this a refusal of something that the engine has no code for, and that the template uses? Only these are accepted.
static bool is_dropped(const Result *res, const char *source)
{
    static const struct { const char *what, *names; } dropped[] = {
        {"filter", "abs attr batch center filesizeformat format groupby max min pprint random round slice striptags "
                   "sum truncate urlencode urlize wordcount wordwrap xmlattr"},
        {"test", "escaped filter lower test upper"},
        {"method", "casefold center clear copy count encode expandtabs format index isalnum isalpha isascii isdecimal "
                   "isdigit islower isnumeric isspace istitle isupper ljust partition rjust rpartition swapcase zfill"},
        {"function", "cycler joiner lipsum"},
        {"tag", "autoescape block call extends from import include print"},
        {"macro variable", "caller kwargs varargs"},
        {"string operator", "%"}, {"argument", "base"}, {"number prefix", "0b 0o 0x"}, {"word", "recursive"},
    };
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
        for (const char *p = dropped[i].names; *p; p += strcspn(p, " "), p += *p == ' ') {
            char name[32], what[64];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(p, " "), p);
            snprintf(what, sizeof what, "%s '%s'", dropped[i].what, name);
            if (is_refused(res, what) && strstr(source, name)) return true;
        }
    return false;
}

// Spans of the jinja vectors are in characters.
static cJSON *bytes_of(const cJSON *spans, const char *text)
{
    cJSON *bytes = spans ? cJSON_CreateArray() : NULL;
    const cJSON *span;
    cJSON_ArrayForEach(span, spans) {
        double at[2] = {span->child->valuedouble, span->child->next->valuedouble};
        for (int i = 0; i < 2; i++) {
            double n = at[i];
            size_t p = 0;
            for (; text[p] && n > 0; n--)
                do p++;
                while (((unsigned char)text[p] & 0xC0) == 0x80);
            at[i] = (double)p;
        }
        cJSON_AddItemToArray(bytes, cJSON_CreateDoubleArray(at, 2));
    }
    return bytes;
}

// `with` counts the rows that are refused by name.
static bool jinja_row(const cJSON *header, const cJSON *row, void *with)
{
    cJSON *vars = cJSON_Duplicate(header, true), *more = cJSON_DetachItemFromObjectCaseSensitive(vars, "variables");
    while (more->child) {
        cJSON *item = cJSON_DetachItemViaPointer(more, more->child);
        cJSON_AddItemToObject(vars, item->string, item);
    }
    const char *source = json_string(row, "template"), *text = json_string(row, "text");
    Result res = render(source, vars);
    cJSON *spans = text ? bytes_of(json_get(row, "spans"), text) : NULL;
    bool refused = is_dropped(&res, source);
    bool ok = refused || (text ? check_text(source, &res, text, spans)
                               : vector_error(source, &res, json_get(row, "error")));
    *(int *)with += refused;
    result_free(&res);
    cJSON_Delete(spans);
    cJSON_Delete(more);
    cJSON_Delete(vars);
    return ok;
}

static void test_vectors_jinja(void)
{
    FOLDER_OR_SKIP("../shared/vectors/jinja");
    int passed = 0, total = 0, refused = 0;
    each_row("../shared/vectors/jinja/cases.jsonl", jinja_row, &refused, &passed, &total);
    printf("     jinja cases: %d of %d, %d of them refused by name\n", passed, total, refused);
}

typedef struct { const char *name; Template *t; cJSON *conversations; } Chat;   // conversations: an object by id

static cJSON *chat_vars(const cJSON *header, const cJSON *conversation, bool prompt)
{
    cJSON *vars = cJSON_Duplicate(json_get(header, "variables"), true);
    const cJSON *tools = json_get(conversation, "tools"), *option;
    cJSON_AddItemToObject(vars, "messages", cJSON_Duplicate(json_get(conversation, "messages"), true));
    cJSON_AddItemToObject(vars, "tools", tools ? cJSON_Duplicate(tools, true) : cJSON_CreateNull());
    cJSON_AddNullToObject(vars, "documents");
    cJSON_AddBoolToObject(vars, "add_generation_prompt", prompt);
    cJSON_ArrayForEach(option, json_get(conversation, "kwargs"))
        cJSON_AddItemToObject(vars, option->string, cJSON_Duplicate(option, true));
    return vars;
}

// One rendering: `text`, or `tail` behind what the first rendering gave, or an error.
static bool chat_case(const Chat *chat, const cJSON *vars, const char *head, const char *tail, const cJSON *error,
                      const cJSON *spans, const char *id)
{
    Result res = {0};
    Buf out = {0}, want = {0}, what = {0};
    bool rendered = template_render(chat->t, vars, &out, &res.spans, &res.e);
    if (rendered) res.text = out.data;
    buf_addf(&what, "%s on %s", chat->name, id);
    buf_addf(&want, "%s%s", head, tail);
    bool ok = error ? vector_error(what.data, &res, error) : check_text(what.data, &res, want.data, spans);
    buf_free(&out);
    buf_free(&want);
    buf_free(&what);
    spans_free(&res.spans);
    return ok;
}

static bool chat_row(const cJSON *header, const cJSON *row, void *with)
{
    const Chat *chat = with;
    const char *id = json_string(row, "conv"), *text = json_string(row, "text"), *gp = json_string(row, "gp");
    const char *whole = json_string(row, "gp_text");
    const cJSON *conversation = json_get(chat->conversations, id), *spans = json_get(row, "spans_utf8");
    const cJSON *prompt_error = json_get(row, "gp_error") ? json_get(row, "gp_error") : json_get(row, "error");
    if (!CHECK_MSG(conversation, "no conversation %s", id)) return false;
    cJSON *plain = chat_vars(header, conversation, false), *prompt = chat_vars(header, conversation, true);
    bool ok = chat_case(chat, plain, text ? text : "", "", json_get(row, "error"), spans, id);
    if (whole) ok &= chat_case(chat, prompt, whole, "", NULL, NULL, id);
    else ok &= chat_case(chat, prompt, text ? text : "", gp ? gp : "", gp ? NULL : prompt_error, NULL, id);
    cJSON_Delete(plain);
    cJSON_Delete(prompt);
    return ok;
}

// conversations.jsonl has no header: its first row comes as one, with every other row.
static bool conversation_row(const cJSON *first, const cJSON *row, void *with)
{
    cJSON *all = with;
    if (!all->child) cJSON_AddItemToObject(all, json_string(first, "id"), cJSON_Duplicate(first, true));
    cJSON_AddItemToObject(all, json_string(row, "id"), cJSON_Duplicate(row, true));
    return true;
}

static void test_vectors_chat(void)
{
    static const char *const names[] = {
        "chatml", "chatml_multiline", "gemma", "gemma3", "gemma_training", "llama2_chat", "llama2_training", "llama3",
        "llama3_1", "llama3_2", "llama3_training", "minimind", "mistral_v0_1", "phi3", "phi3_training", "qwen2_5",
        "qwen2_5_training", "qwen3", "qwen3_training", "smollm2", "smollm2_training", "tinyllama", "tinyllama_training",
        "zephyr_multiline",
    };
    FOLDER_OR_SKIP("../shared/vectors/chat");
    Chat chat = {.conversations = cJSON_CreateObject()};
    int passed = 0, total = 0;
    each_row("../shared/vectors/chat/conversations.jsonl", conversation_row, chat.conversations, &passed, &total);
    passed = total = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char source[256], cases[256];
        File f;
        Err e;
        snprintf(source, sizeof source, "../shared/vectors/templates/%s.jinja", names[i]);
        snprintf(cases, sizeof cases, "../shared/vectors/chat/%s.jsonl", names[i]);
        if (!CHECK_MSG(file_map(&f, source, &e), "%s", e.text)) continue;
        chat.name = names[i];
        chat.t = template_parse((const char *)f.data, f.size, "t", &e);
        if (CHECK_MSG(chat.t, "%s", e.text)) each_row(cases, chat_row, &chat, &passed, &total);
        template_free(chat.t);
        file_unmap(&f);
    }
    cJSON_Delete(chat.conversations);
    printf("     chat cases: %d of %d\n", passed, total);
}

int main(void)
{
    setenv("SOURCE_DATE_EPOCH", "1761739200", 1);       // noon of 29 October 2025, as in the fixture and the vectors
    RUN(test_language);
    RUN(test_values_from_json);
    RUN(test_numbers_as_written);
    RUN(test_where_errors_are);
    RUN(test_output);
    RUN(test_spans_in_bytes);
    RUN(test_limits);
    RUN(test_nesting);
    RUN(test_long_sources);
    RUN(test_cut_templates);
    RUN(test_vectors_jinja);
    RUN(test_vectors_chat);
    return check_report();
}

// Templates that do much with their variables, which are any JSON object.
#include "fuzz.h"

#include "../../data/template/template.h"

static const char *const templates[] = {
    "{% for m in messages %}{{ m.role ~ m['content'] | trim }}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% endfor %}",
    "{{ v }}{{ v | tojson }}{{ v | tojson(indent=2) }}{{ v | tojson(true, w, sort_keys=true) }}{{ v | string }}",
    "{{ v | upper | title | capitalize | reverse | list }}{{ v | escape }}{{ (v | safe) + w }}{{ v.title() }}",
    "{{ v | sort | unique | join(w) }}{{ v | map(attribute=k) | list }}{{ v | selectattr(k, 'equalto', n) | list }}",
    "{{ v[n] }}{{ v[n:w] }}{{ v[::n] }}{{ v[w:n:k] }}",
    "{{ v * n }}{{ n ** w }}",
    "{{ n // w }}{{ n % w }}{{ n * w }}{{ n - w }}{{ -n }}{{ n | int }}{{ w | int }}{{ w | float }}",
    "{% for i in range(n, w, k) %}{{ i }}{% endfor %}",
    "{% for a, b in v.items() %}{{ a }}={{ b }}{% else %}none{% endfor %}{{ v | dictsort | tojson }}",
    "{{ v.split(w) }}{{ v.split(w, n) }}{{ v.rsplit(none, n) }}{{ v.replace(w, k) }}{{ v.strip(w) }}{{ v.find(w, n) }}",
    "{{ v.startswith(w, n) }}{{ v.removesuffix(w) }}{{ v.splitlines() }}{{ v | indent(n) }}{{ v | trim(w) }}",
    "{% set ns = namespace(x=v) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% macro walk(x) %}{% if x is mapping %}{% for k in x %}{{ k }}{{ walk(x[k]) }}{% endfor %}"
    "{% elif x is iterable and x is not string %}{% for i in x %}{{ walk(i) }}{% endfor %}{% else %}{{ x }}{% endif %}"
    "{% endmacro %}{{ walk(v) }}",
    "{% for x in v if x != w %}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.changed(x) }}{% endfor %}{{ v.pop(n) }}",
    "{{ v == w }}{{ v < w }}{{ v in w }}{{ v and w }}{{ v is sameas w }}{{ [v, w, n] | sort }}",
    "{{ strftime_now(w) }}",
};

void fuzz_jinja_values(const char *data, size_t size);
void fuzz_jinja_values(const char *data, size_t size)
{
    Err e;
    cJSON *vars = json_parse(data, size, "input", 0, &e);
    if (!cJSON_IsObject(vars)) {
        cJSON_Delete(vars);
        return;
    }
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        Template *t = template_parse(templates[i], strlen(templates[i]), "fuzz", &e);
        if (!t) abort();
        Buf out = {0};
        Spans spans = {0};
        template_render(t, vars, &out, &spans, &e);
        if (out.len && utf8_valid(out.data, out.len) != out.len) abort();
        spans_free(&spans);
        buf_free(&out);
        template_free(t);
    }
    cJSON_Delete(vars);
}

HARNESS(fuzz_jinja_values)

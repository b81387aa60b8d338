// peft: see peft.h.
#include "peft.h"

#include "checkpoint.h"

#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

// What PEFT writes for keys that are not given.
extern const char adapter_config_json[];                              // model/adapter_config.json
// Keys that are read here, or that say nothing about numbers.
static const char *const read_keys[] = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "layers_to_transform", "lora_alpha", "lora_dropout",
    "peft_version", "r", "rank_pattern", "revision", "target_modules", "trainable_token_indices", "use_rslora"};

bool adapter_is(const char *path) { return file_exists(path_in(path, ADAPTER_CONFIG).text); }

cJSON *adapter_config(const char *folder, Err *e)
{
    cJSON *json = json_load(path_in(folder, ADAPTER_CONFIG).text, e);
    if (!json || !e->text[0]) return json;
    cJSON_Delete(json);                                    // a key that is there twice
    fail_prefix(e, "%s/" ADAPTER_CONFIG ": ", folder);
    return NULL;
}

char *adapter_base(const char *folder, const char *given, Err *e)
{
    cJSON *json = adapter_config(folder, e);
    const char *name = given ? given : json_string(json, "base_model_name_or_path");
    char *path = name && !given && !file_exists(name) ? path_join(folder, name) : mem_strdup(name ? name : "");
    bool ok = json && (file_exists(path) ||
                       fail(e, "%s: base_model_name_or_path: expected the folder or file of the adapter's base, found "
                               "%s: give base_model_name_or_path; a model of the Hub must be downloaded first",
                            folder, name ? name : "none"));
    if (ok && adapter_is(path))
        ok = fail(e, "%s: base_model_name_or_path: %s is an adapter: export it, and give the result", folder, name);
    cJSON_Delete(json);
    if (ok) return path;
    free(path);
    return NULL;
}

// ---- what an adapter is like --------------------------------------------------------------------------------------

// A key that is not read must be off: null, false, empty or as PEFT writes it when it is not given. (PEFT changes the
// base for other init_lora_weights than these, also when it loads the adapter.)
static bool check_keys(const cJSON *json, Err *e)
{
    cJSON *initial = cJSON_Parse(adapter_config_json);
    bool ok = cJSON_IsObject(json) || fail(e, "expected an object, found %s", json_kind(json));
    for (const cJSON *v = ok ? json->child : NULL; v && ok; v = v->next) {
        const char *text = cJSON_GetStringValue(v);
        bool off = json_is_absent(v) || cJSON_IsFalse(v) || cJSON_Compare(v, json_get(initial, v->string), true);
        off |= (cJSON_IsObject(v) || cJSON_IsArray(v)) && !v->child;
        off |= text && strcmp(text, "gaussian") == 0 && strcmp(v->string, "init_lora_weights") == 0;
        for (size_t i = 0; i < sizeof read_keys / sizeof *read_keys; i++) off |= strcmp(v->string, read_keys[i]) == 0;
        ok = off || fail(e, "%s: %s is not supported", v->string, text ? text : json_kind(v));
    }
    if (ok && !json_string(json, "peft_type")) ok = fail(e, "peft_type: expected \"LORA\", found nothing");
    cJSON_Delete(initial);
    return ok;
}

// Does the regular expression match the name, whole or (any_start) from any dot on? PEFT takes Python's: what POSIX
// does not have, or has with another meaning, is refused. So are many '+': glibc copies what stands before each.
static bool matches(bool *yes, const char *of, const char *pattern, const char *name, bool any_start, Err *e)
{
    int n_plus = 0;
    for (const char *p = pattern; *p; p++) {
        bool repeats = strchr("*+?", *p), again = p[1] && strchr("*+?", p[1]);
        if ((*p == '\\' && isalnum((unsigned char)p[1])) || *p == '{' || (repeats && again) ||
            (*p == '(' && p[1] == '?') || (*p == '+' && n_plus++ == 4) || p - pattern > 1000)
            return fail(e, "%s: \"%.80s\": \"%.2s\" in a regular expression is not supported", of, pattern, p);
        if (*p == '\\' && p[1]) p++;
    }
    regex_t regex;
    Buf b = {0};
    buf_addf(&b, any_start ? "^(.*\\.)?(%s)$" : "^(%s)$", pattern);
    bool ok = regcomp(&regex, b.data, REG_EXTENDED | REG_NOSUB) == 0 ||
              fail(e, "%s: \"%s\" is not a regular expression", of, pattern);
    *yes = ok && regexec(&regex, name, 0, NULL, 0) == 0;
    if (ok) regfree(&regex);
    buf_free(&b);
    return ok;
}

// Is the module a target? target_modules is a regular expression, or a list of names or their ends, of which `used`
// gets those that the module has.
static bool is_target(bool *yes, const cJSON *targets, const char *module, bool *used, Err *e)
{
    const cJSON *v;
    bool one;
    if (cJSON_IsString(targets)) return matches(yes, "target_modules", targets->valuestring, module, false, e);
    cJSON_ArrayForEach(v, targets) {
        const char *name = cJSON_GetStringValue(v);
        if (!name || !*name || strpbrk(name, "\\()[]|*+?^$"))
            return fail(e, "target_modules: expected names, found %s", name ? name : json_kind(v));
        if (!matches(&one, "target_modules", name, module, true, e)) return false;
        *used++ |= one, *yes |= one;
    }
    return true;
}

// The number of the first key of `patterns` that matches the module; else *value stays.
static bool take_pattern(double *value, const cJSON *json, const char *patterns, const char *module, Err *e)
{
    const cJSON *all = json_get(json, patterns);
    bool yes = false;
    if (!json_is_absent(all) && !cJSON_IsObject(all))
        return fail(e, "%s: expected an object, found %s", patterns, json_kind(all));
    for (const cJSON *v = all ? all->child : NULL; v && !yes; v = v->next) {
        if (!matches(&yes, patterns, v->string, module, true, e)) return false;
        if (yes && !(cJSON_IsNumber(v) && v->valuedouble > 0))
            return fail(e, "%s: %s: expected a number above 0", patterns, v->string);
        if (yes) *value = v->valuedouble;
    }
    return true;
}

static bool has_layer(const cJSON *layers, size_t layer)
{
    bool has = json_is_absent(layers) || (cJSON_IsArray(layers) && !layers->child);
    const cJSON *v;
    if (cJSON_IsNumber(layers)) return layers->valuedouble == (double)layer;
    cJSON_ArrayForEach(v, layers) has |= cJSON_IsNumber(v) && v->valuedouble == (double)layer;
    return has;
}

static bool plan_branches(Adapter *a, const Config *c, const cJSON *json, double r, double alpha, bool rslora, Err *e)
{
    const cJSON *targets = json_get(json, "target_modules"), *layers = json_get(json, "layers_to_transform");
    bool ok = cJSON_IsString(targets) || (cJSON_IsArray(targets) && targets->child) ||
              fail(e, "target_modules: expected a list of names, found %s", json_kind(targets));
    bool *used = mem_alloc((size_t)cJSON_GetArraySize(targets), sizeof *used);
    for (size_t i = 0; ok && i < (size_t)c->n_layers * N_TENSORS; i++) {
        TensorId id = i % N_TENSORS;
        char module[96];
        double rank = r, its_alpha = alpha;
        bool yes = false;
        if (!tensor_table[id].per_layer || tensor_table[id].rows == SIZE_ONE) continue;        // only linears
        tensor_hf_name(id, i / N_TENSORS, module);
        module[strlen(module) - strlen(".weight")] = 0;
        ok = is_target(&yes, targets, module, used, e) && take_pattern(&rank, json, "rank_pattern", module, e) &&
             take_pattern(&its_alpha, json, "alpha_pattern", module, e);
        if (ok && (rank > 1 << 16 || rank != floor(rank))) ok = fail(e, "rank_pattern: %g is no rank", rank);
        if (!ok || !yes || !has_layer(layers, i / N_TENSORS)) continue;
        a->lora[i].r = (size_t)rank;
        a->lora[i].scale = (float)(its_alpha / (rslora ? sqrt(rank) : rank));
    }
    const cJSON *v;
    int t = 0;
    cJSON_ArrayForEach(v, targets)
        if (ok && !used[t++]) ok = fail(e, "target_modules: no linear of the model is a \"%s\"", v->valuestring);
    free(used);
    return ok;
}

// A list of ids, or an object that gives one for embed_tokens.
static bool plan_tokens(Adapter *a, const Config *c, const cJSON *json, Err *e)
{
    static const char key[] = "trainable_token_indices";
    const cJSON *all = json_get(json, key), *ids = cJSON_IsObject(all) ? json_get(all, "embed_tokens") : all, *v;
    if (json_is_absent(all)) return true;
    if (!cJSON_IsArray(ids) || (cJSON_IsObject(all) && all->child->next))
        return fail(e, "%s: expected a list of ids, or an object with one for embed_tokens", key);
    a->tokens = mem_alloc((size_t)cJSON_GetArraySize(ids), sizeof *a->tokens);
    cJSON_ArrayForEach(v, ids) {
        bool new = json_is_int(v, 0, c->vocab_size - 1);
        for (size_t j = 0; j < a->n_tokens; j++) new &= a->tokens[j] != v->valueint;
        if (!new) return fail(e, "%s: expected different ids from 0 to %d", key, c->vocab_size - 1);
        a->tokens[a->n_tokens++] = v->valueint;
    }
    return true;
}

Adapter *adapter_plan(const Config *c, const cJSON *json, const char *where, Err *e)
{
    Adapter *a = mem_alloc(1, sizeof *a);
    int r = 0;
    double alpha = 0, dropout = 0;
    bool rslora = false;
    a->lora = mem_alloc((size_t)c->n_layers * N_TENSORS + 1, sizeof *a->lora);
    a->json = cJSON_Duplicate(json, true);
    bool ok = check_keys(json, e) && json_get_int(&r, json, NULL, "r", 1, 1 << 16, JSON_REQUIRED, e) &&
              json_get_number(&alpha, json, NULL, "lora_alpha", NAN, e) &&
              json_get_number(&dropout, json, NULL, "lora_dropout", 0, e) &&
              json_get_flag(&rslora, json, NULL, "use_rslora", false, e) &&
              (alpha > 0 || fail(e, "lora_alpha: expected a number above 0, found %g", alpha)) &&
              ((dropout >= 0 && dropout < 1) || fail(e, "lora_dropout: expected 0 to below 1, found %g", dropout)) &&
              plan_tokens(a, c, json, e) && plan_branches(a, c, json, r, alpha, rslora, e);
    a->dropout = (float)dropout;
    adapter_lay_out(a, c);
    if (ok && !a->token_rows) ok = fail(e, "target_modules, layers_to_transform: they select no linear of the model");
    if (ok) return a;
    adapter_free(a);
    fail_prefix(e, "%s: ", where);
    return NULL;
}

// ---- the file -----------------------------------------------------------------------------------------------------

static Entries adapter_entries(const Adapter *a, const Config *c)
{
    Entries p = {0};
    for (size_t i = 0; i < (size_t)c->n_layers * N_TENSORS; i++) {
        const TensorInfo *t = &tensor_table[i % N_TENSORS];
        const Lora *l = &a->lora[i];
        if (!l->r) continue;
        lora_name(i, 'A', entries_add(&p, l->r, config_size(c, t->columns), l->a, 0));
        size_t head_dim = t->heads_of_pairs ? (size_t)c->head_dim : 0;
        lora_name(i, 'B', entries_add(&p, config_size(c, t->rows), l->r, l->b, head_dim));
    }
    if (a->n_tokens) strcpy(entries_add(&p, a->n_tokens, (size_t)c->dim, a->token_rows, 0), TOKEN_ROWS);
    return p;
}

static const char *base_sha256(const Model *m)
{
    Adapter *a = m->adapter;
    if (!a->base_sha256[0]) sha256_hex(m->params, m->n_params * sizeof(float), a->base_sha256);
    return a->base_sha256;
}

// Is the adapter of this base? And are its numbers finite?
static bool check_adapter(const Model *m, const SafeTensors *st, bool any_base, Err *e)
{
    const char *then = json_string(json_get(st->header, "__metadata__"), "base_sha256"), *path = st->file.path;
    char name[128];
    if (then && strspn(then, "0") == 64) then = NULL;      // a place for a hash, not filled in
    if (!then) fprintf(stderr, "train: %s: it does not say which base it was trained on: this is not checked\n", path);
    if (then && strcmp(then, base_sha256(m)) != 0) {
        fail(e, "%s: it was trained on another base: expected base_sha256 %s, found %s (on_base_mismatch)", path, then,
             base_sha256(m));
        if (!any_base) return false;
        fprintf(stderr, "train: warning: %s\n", e->text);
    }
    return adapter_finite(m, m->trained, name) ||
           fail(e, "%s: %s: expected finite numbers, found NaN or Inf", path, name);
}

bool adapter_load(Model *m, const char *folder, bool any_base, Err *e)
{
    cJSON *json = adapter_config(folder, e);
    Adapter *a = json ? adapter_plan(&m->config, json, folder, e) : NULL;
    cJSON_Delete(json);
    if (!a) return false;
    Entries p = adapter_entries(a, &m->config);
    Shards s = {0};
    bool ok = shards_add(&s, folder, "adapter_model.safetensors", e) && entries_check(&s, &p, folder, e);
    if (!ok && strstr(e->text, TOKEN_ROWS)) fail_prefix(e, "trainable_token_indices: ");
    if (!ok) adapter_free(a);
    ok = ok && model_adapt(m, a, e);
    if (ok) {
        entries_read(&s, &p, m->trained);
        adapter_changed(m);
        ok = check_adapter(m, s.files, any_base, e);
    }
    shards_close(&s);
    free(p.items);
    return ok;
}

bool adapter_save(const Model *m, const char *folder, const char *base, Err *e)
{
    const Adapter *a = m->adapter;
    Entries p = adapter_entries(a, &m->config);
    cJSON *json = cJSON_Parse(adapter_config_json);
    for (const cJSON *v = a->json->child; v; v = v->next)
        if (json_get(json, v->string) && strcmp(v->string, "inference_mode") != 0)
            cJSON_ReplaceItemInObjectCaseSensitive(json, v->string, cJSON_Duplicate(v, true));
    cJSON_ReplaceItemInObjectCaseSensitive(json, "base_model_name_or_path", cJSON_CreateString(base));
    char more[96];
    snprintf(more, sizeof more, ",\"base_sha256\":\"%s\"", base_sha256(m));
    bool ok = json_save(json, path_in(folder, ADAPTER_CONFIG).text, e) &&
              entries_save(&p, m->trained, folder, "adapter_model.safetensors", more, e);
    free(p.items);
    cJSON_Delete(json);
    return ok;
}

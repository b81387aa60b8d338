// The adapter of a run, declared in inputs.h: which base it has, and what it is like.
#include "inputs.h"

#include "../rows/turn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool run_find_model(Run *r, const char *model, Err *e)
{
    const Options *o = &r->options;
    bool is = model && adapter_is(model);
    if (!is && o->base_model_name_or_path)
        return fail(e, "base_model_name_or_path: expected an adapter's folder as model_name_or_path, found %s",
                    model ? model : "model_init");
    if (!model) return true;
    if (is && !o->use_peft && options_named(o, "use_peft"))
        return fail(e, "use_peft: expected true, found false: %s is an adapter; to train its numbers and the base's "
                       "together, export it first", model);
    r->peft = is ? adapter_config(model, e) : NULL;
    r->base_path = is ? adapter_base(model, o->base_model_name_or_path, e) : mem_strdup(model);
    return r->base_path && (!is || r->peft);
}

bool run_load_model(const Run *r, Model *m, const char *adapter, Err *e)
{
    return checkpoint_load(m, r->base_path, e) &&
           (!adapter || adapter_load(m, adapter, strcmp(r->options.on_base_mismatch, "warn") == 0, e));
}

// Adds the ids of lora_trainable_tokens to a list.
static bool add_tokens(cJSON *ids, const Run *r, Err *e)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, r->options.lora_trainable_tokens) {
        const char *token = cJSON_GetStringValue(v);
        int id = token ? tokenizer_id(r->tokenizer, token) : json_is_int(v, 0, INT_MAX) ? v->valueint : -1;
        if (token && strcmp(token, "template") == 0 ? turn_add_tokens(ids, &r->recipe) : turn_add_id(ids, id)) continue;
        return fail(e, "lora_trainable_tokens: expected tokens or ids, or template for a chat template with special "
                       "tokens, found %s", token ? token : json_kind(v));
    }
    return true;
}

// The keys that describe an adapter, and their names in adapter_config.json.
static const char *const keys[][2] = {
    {"lora_r", "r"}, {"lora_alpha", "lora_alpha"}, {"lora_dropout", "lora_dropout"}, {"use_rslora", "use_rslora"},
    {"lora_target_modules", "target_modules"}, {"lora_trainable_tokens", "trainable_token_indices"}};
enum { N_KEYS = sizeof keys / sizeof *keys };

// What the options say of an adapter, as adapter_config.json says it; owned by the caller.
static cJSON *described(const Run *r, Err *e)
{
    static const char *const linears[] = {"q_proj", "v_proj", "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
    const Options *o = &r->options;
    cJSON *json = cJSON_CreateObject(), *names = o->lora_target_modules;
    const char *name = names ? cJSON_GetStringValue(names->child) : NULL;
    int n = !names ? 2 : name && strcmp(name, "all-linear") == 0 ? 7 : 0;
    cJSON_AddStringToObject(json, "peft_type", "LORA");
    cJSON_AddNumberToObject(json, "r", (double)o->lora_r);
    cJSON_AddNumberToObject(json, "lora_alpha", o->lora_alpha);
    cJSON_AddNumberToObject(json, "lora_dropout", o->lora_dropout);
    cJSON_AddBoolToObject(json, "use_rslora", (int)o->use_rslora);
    cJSON_AddItemToObject(json, "target_modules",
                          n ? cJSON_CreateStringArray(linears, n) : cJSON_Duplicate(names, true));
    if (!o->lora_trainable_tokens || add_tokens(cJSON_AddArrayToObject(json, "trainable_token_indices"), r, e))
        return json;
    cJSON_Delete(json);
    return NULL;
}

// Lists are the same in any order.
static bool same(const cJSON *a, const cJSON *b)
{
    const cJSON *v, *w;
    int found = 0;
    if (cJSON_IsObject(b)) b = b->child;                   // {"embed_tokens": list}
    if (!cJSON_IsArray(a) || !cJSON_IsArray(b)) return cJSON_Compare(a, b, true);
    cJSON_ArrayForEach(v, a) cJSON_ArrayForEach(w, b) found += cJSON_Compare(v, w, true);
    return found == cJSON_GetArraySize(a) && found == cJSON_GetArraySize(b);
}

bool run_open_adapter(Run *r, const Config *c, Err *e)
{
    Options *o = &r->options;
    cJSON *mine = described(r, e);
    bool ok = mine, is = r->peft;
    for (size_t k = 0; ok && k < N_KEYS; k++) {
        const char *key = keys[k][0];
        const cJSON *v = json_get(mine, keys[k][1]), *its = json_get(r->peft, keys[k][1]);
        if (is ? !options_named(o, key) || same(v, its) : !options_given(o, key)) continue;
        if (!is && !o->use_peft) ok = fail(e, "%s: it describes an adapter, and use_peft is not true", key);
        if (!is) continue;
        char *has = cJSON_PrintUnformatted(its), *wants = cJSON_PrintUnformatted(v);
        ok = fail(e, "%s: expected %s, as the adapter %s has it, found %s", key, has ? has : "nothing",
                  o->model_name_or_path, wants);
        cJSON_free(has);
        cJSON_free(wants);
    }
    if (ok && o->use_peft && o->model_init)
        ok = fail(e, "use_peft: expected model_name_or_path, a base that is trained already, found model_init");
    if (ok && !is && o->use_peft && !o->lora_target_modules && c->family == SMOLLM3)        // as in PEFT
        ok = fail(e, "lora_target_modules: there is no default for model_type %s: give a list of names, or all-linear",
                  families[c->family].model_type);
    if (ok && !is && o->use_peft) r->peft = mine;
    else cJSON_Delete(mine);
    Adapter *a = ok && r->peft ? adapter_plan(c, r->peft, is ? o->model_name_or_path : "use_peft", e) : NULL;
    ok = ok && (!r->peft || a);
    if (a && is) {                                         // what the run is like, for its records
        o->use_peft = 1;
        o->lora_r = (int64_t)json_get(r->peft, "r")->valuedouble;
        o->lora_alpha = json_get(r->peft, "lora_alpha")->valuedouble;
        const cJSON *dropout = json_get(r->peft, "lora_dropout");
        o->lora_dropout = dropout ? dropout->valuedouble : 0;
        o->use_rslora = cJSON_IsTrue(json_get(r->peft, "use_rslora"));
    }
    adapter_free(a);
    return ok;
}

// The loss of the tokens that end a turn, in the batch that was just computed. Embeddings are not trained by LoRA: a
// token that the base has never seen stays unknown.
void run_warn_end(const Run *r)
{
    const Batch *b = &r->room.batch;
    const Adapter *a = r->model.adapter;
    double loss = 0, n = 0, guess = log(r->model.config.vocab_size);
    int end = a ? turn_end(&r->recipe) : -1;
    for (size_t j = 0; a && j < a->n_tokens; j++)
        if (a->tokens[j] == end) return;
    for (size_t i = 0; i < b->M; i++)
        if (b->target[i] == end) loss += (double)r->room.losses[i].nll, n++;
    const char *piece = end >= 0 ? tokenizer_piece(r->tokenizer, end) : "";
    piece += strspn(piece, "\n");                          // llama2.c's is "\n</s>\n"
    if (n && loss / n > guess)
        fprintf(stderr, "train: warning: the token that ends a turn, %.*s, has a loss of %.2f, worse than a guess "
                "(%.2f). LoRA does not train embeddings: if the base does not know the token, answers will not end. "
                "lora_trainable_tokens=template trains it\n", (int)strcspn(piece, "\n"), piece, loss / n, guess);
}

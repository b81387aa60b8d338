// beside: what lies beside a tokenizer.json: the chat templates, the names of the special tokens, and tokens that
// tokenizer.json lacks. The rules are transformers 5's (PreTrainedTokenizerBase and TokenizersBackend there).
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

// ---- templates -----------------------------------------------------------------------------------------------------

static void add_template(Tokenizer *t, const char *name, const char *text)
{
    if (!name || !text) return;
    json_set(t->templates, name, cJSON_CreateString(text));
}

static bool read_template(Tokenizer *t, const char *dir, const char *file, const char *name, Err *e)
{
    Path path = path_in(dir, file);
    File f;
    if (!file_exists(path.text)) return true;
    if (!file_map(&f, path.text, e)) return false;
    char *text = mem_strndup((const char *)f.data, f.size);
    size_t bad = utf8_valid(text, f.size);
    bool ok = bad == f.size || fail(e, "%s: invalid UTF-8 at byte %zu", path.text, bad);
    add_template(t, name, text);
    file_unmap(&f);
    free(text);
    return ok;
}

// Each NAME.jinja of a folder.
static bool read_template_folder(Tokenizer *t, const char *dir, Err *e)
{
    DIR *folder = opendir(dir);
    if (!folder) return fail(e, "%s: cannot open: %s", dir, strerror(errno));
    bool ok = true;
    for (struct dirent *d; ok && (d = readdir(folder));) {
        char *name = mem_strdup(d->d_name), *end = strstr(name, ".jinja");
        if (end) *end = 0, ok = read_template(t, dir, d->d_name, name, e);
        free(name);
    }
    closedir(folder);
    return ok;
}

// chat_template of a config: a string, or a list of {name, template}.
static void add_templates(Tokenizer *t, const cJSON *field)
{
    const cJSON *item;
    add_template(t, "default", cJSON_GetStringValue(field));
    cJSON_ArrayForEach(item, field) add_template(t, json_string(item, "name"), json_string(item, "template"));
}

// chat_template.jinja; else the config's. And each NAME.jinja
// of the folder additional_chat_templates.
bool tokenizer_read_templates(Tokenizer *t, const char *dir, const cJSON *config, Err *e)
{
    Path more = path_in(dir, MORE_TEMPLATES);
    bool ok = read_template(t, dir, "chat_template.jinja", "default", e);
    if (ok && !t->templates->child) add_templates(t, json_get(config, "chat_template"));
    return ok && (!file_exists(more.text) || read_template_folder(t, more.text, e));
}

// ---- tokens --------------------------------------------------------------------------------------------------------

typedef struct {
    const char *text;
    const cJSON *flags;                    // the object that has them, or NULL
    int id;                                // as the file says: for the order only
    bool special, named;                   // special: if no flag says it; named: eos_token and its like, always special
} Declared;
typedef struct { Declared *items; size_t n, cap; } DeclaredList;

// A token's text: a string, or an object with "content" (an AddedToken). NULL for anything else.
static const char *token_text(const cJSON *value)
{
    return cJSON_IsObject(value) ? json_string(value, "content") : cJSON_GetStringValue(value);
}

// Templates know a token by its name; its first one counts. NULL: a token without a name.
static void list_token(Tokenizer *t, DeclaredList *list, const char *name, const cJSON *token, bool special)
{
    const char *text = token_text(token);
    if (name && (!token || json_get(t->special_tokens, name))) return;
    if (name && text) cJSON_AddStringToObject(t->special_tokens, name, text);
    if (!text || !*text) return;
    special |= cJSON_IsString(token);
    ARRAY_ROOM(list->items, list->n, list->cap);
    list->items[list->n++] = (Declared){text, cJSON_IsObject(token) ? token : NULL, 0, special, name != NULL};
}

// bos_token and its like, in transformers' order: the seven that it knows, then others, of which the config's objects
// come before its strings. What special_tokens_map.json says comes before what the config says, even null.
static void list_named(Tokenizer *t, DeclaredList *list, const cJSON *config, const cJSON *map)
{
    static const char *const known[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token",
                                        "mask_token"};
    const cJSON *v, *others[] = {config, map, config, json_get(config, "extra_special_tokens")};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        v = json_get(map, known[i]);
        list_token(t, list, known[i], v ? v : json_get(config, known[i]), v != NULL);
    }
    for (size_t i = 0; i < 4; i++)
        cJSON_ArrayForEach(v, others[i]) {
            size_t n = v->string ? strlen(v->string) : 0;
            bool is_name = i == 3 ? n > 0 : n > 6 && strcmp(v->string + n - 6, "_token") == 0;
            if (i == 0) is_name &= json_get(v, "__type") != NULL;
            if (i == 2) is_name &= cJSON_IsString(v);
            if (i % 2 == 0) is_name &= !json_get(map, v->string);
            if (is_name) list_token(t, list, v->string, v, i == 1);
        }
}

// The tokens without a name: extra_special_tokens, which older files call additional_special_tokens.
static void list_extra(Tokenizer *t, DeclaredList *list, const cJSON *config, const cJSON *map)
{
    static const char now[] = "extra_special_tokens", before[] = "additional_special_tokens";
    const cJSON *extra = json_get(config, now), *old = json_get(config, before), *more = json_get(map, now), *v;
    const cJSON *lists[] = {extra && extra->child ? extra : old, extra || old || more ? more : json_get(map, before)};
    cJSON *texts = cJSON_CreateArray();
    for (size_t i = 0; i < 2; i++) {
        if (!cJSON_IsArray(lists[i])) continue;
        cJSON_ArrayForEach(v, lists[i]) {
            list_token(t, list, NULL, v, i == 1);
            if (token_text(v)) cJSON_AddItemToArray(texts, cJSON_CreateString(token_text(v)));
        }
    }
    if (cJSON_GetArraySize(texts)) cJSON_AddItemToObject(t->special_tokens, before, texts);
    else cJSON_Delete(texts);
}

static int by_id(const void *a, const void *b) { return ((const Declared *)a)->id - ((const Declared *)b)->id; }

static bool is_in(const Trie *texts, const char *text, int *value)
{
    size_t n = strlen(text), len = 0;
    *value = texts->n ? trie_match(texts, text, text + n, &len) : -1;
    return *value >= 0 && len == n;
}

// added_tokens_decoder {"512": {"content": ...}}, or added_tokens.json {"<|turn|>": 512}.
static bool list_by_id(DeclaredList *list, const cJSON *decoder, const cJSON *added, const Trie *special, Err *e)
{
    const cJSON *from = decoder ? decoder : added, *v;
    int unused;
    cJSON_ArrayForEach(v, from) {
        char *end = "";
        double id = decoder ? (double)strtol(v->string, &end, 10) : cJSON_IsNumber(v) ? v->valuedouble : -1;
        const char *text = decoder ? cJSON_IsObject(v) ? token_text(v) : NULL : v->string;
        if (!text || *end || !(id >= 0 && id <= MAX_ID))
            return fail(e, decoder ? "added_tokens_decoder: \"%s\": expected an id, with an object that has a content"
                                   : "added_tokens.json: \"%s\": expected an id", v->string);
        if (!*text) continue;
        ARRAY_ROOM(list->items, list->n, list->cap);
        bool is_special = !decoder && is_in(special, text, &unused);
        list->items[list->n++] = (Declared){text, decoder ? v : NULL, (int)id, is_special, false};
    }
    if (list->n) qsort(list->items, list->n, sizeof *list->items, by_id);
    return true;
}

// A new token gets the id of its piece, else the next one. `anew`: the flags of a known one are replaced.
static bool declare(Tokenizer *t, const Declared *d, bool anew, Trie *known, Err *e)
{
    size_t n = strlen(d->text);
    int at, id = vocab_find(&t->vocab, d->text, n);
    bool is_known = is_in(known, d->text, &at);
    if (!is_known) {
        if (id < 0) id = t->next_id;
        if (n > MAX_ADDED || id > MAX_ID)
            return fail(e, "\"%.40s\": expected at most %d bytes, and ids up to %d", d->text, MAX_ADDED, MAX_ID);
        vocab_grow(&t->vocab, (size_t)id + 1);
        if (t->vocab.at[id] == NO_PIECE) vocab_spell(&t->vocab, id, d->text, n);
        if (strcmp(tokenizer_piece(t, id), d->text) != 0)
            return fail(e, "\"%s\" would get the id %d, which \"%s\" has", d->text, id, tokenizer_piece(t, id));
        if (id >= t->next_id) t->next_id = id + 1;
        at = (int)t->n_added++;
        t->added = mem_grow(t->added, t->n_added, sizeof *t->added);
        t->added[at] = (AddedToken){.content = mem_strdup(d->text), .id = id};
        trie_add(known, d->text, n, at);
    }
    bool ok = (is_known && !anew) || read_flags(&t->added[at], d->flags, d->text, d->special, e);
    t->added[at].special |= d->named;
    return ok;
}

enum { MAX_KEYS = 1000 };              // of an object that is searched once for each of its keys

static bool declare_all(Tokenizer *t, const cJSON *config, const cJSON *map, const cJSON *added, Err *e)
{
    DeclaredList rest = {0}, first = {0};
    Trie special = {0}, known = {0};
    const cJSON *extra = json_get(config, "extra_special_tokens");
    int n = cJSON_GetArraySize(config) + cJSON_GetArraySize(map);
    if (cJSON_IsObject(extra)) n += cJSON_GetArraySize(extra);
    if (n > MAX_KEYS) return fail(e, "expected at most %d keys, found %d", MAX_KEYS, n);
    list_named(t, &rest, config, map);
    list_extra(t, &rest, config, map);
    for (size_t i = 0; i < rest.n; i++) trie_add(&special, rest.items[i].text, strlen(rest.items[i].text), 0);
    for (size_t i = 0; i < t->n_added; i++) trie_add(&known, t->added[i].content, strlen(t->added[i].content), (int)i);
    bool ok = list_by_id(&first, json_get(config, "added_tokens_decoder"), added, &special, e);
    for (size_t i = 0; ok && i < first.n; i++) ok = declare(t, &first.items[i], true, &known, e);
    for (size_t i = 0; ok && i < rest.n; i++) ok = declare(t, &rest.items[i], false, &known, e);
    free(rest.items);
    free(first.items);
    free(special.nodes);
    free(known.nodes);
    return ok;
}

// ---- other ids -----------------------------------------------------------------------------------------------------

// Two classes of transformers 5 take the vocabulary and merges of a tokenizer.json, but split texts in their own way.
// They also have names for tokens that no file names.
typedef struct { const char *name, *bos, *eos, *unk; } Class;
static const Class classes[] = {{"LlamaTokenizer", "<s>", "</s>", "<unk>"},
                                {"GPT2Tokenizer", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>"}};

// The class that is taken, NULL if it is another: LlamaTokenizer is not for a byte-level file, nor beside a Mistral.
static const Class *find_class(const Tokenizer *t, const char *dir, const cJSON *config)
{
    const char *name = json_string(config, "tokenizer_class");
    bool llama = name && strncmp(name, classes[0].name, strlen(classes[0].name)) == 0;
    if (name && strncmp(name, classes[1].name, strlen(classes[1].name)) == 0) return &classes[1];
    if (!llama || t->byte_level) return NULL;
    Err none;
    Path path = path_in(dir, "config.json");
    cJSON *model = file_exists(path.text) ? json_load(path.text, &none) : NULL;
    const char *type = json_string(model, "model_type");
    bool mistral = type && strcmp(type, "mistral") == 0;
    cJSON_Delete(model);
    return mistral ? NULL : &classes[0];
}

static void name_tokens(const Class *class, cJSON *config)
{
    const char *const names[] = {"bos_token", class->bos, "eos_token", class->eos, "unk_token", class->unk};
    for (size_t i = 0; i < 6; i += 2)
        if (!json_get(config, names[i])) cJSON_AddStringToObject(config, names[i], names[i + 1]);
}

// Is the way of the class that of the tokenizer.json?
static void compare_with_class(Tokenizer *t, const Class *class, const char *dir, const cJSON *config)
{
    const char *texts = "numbers, or words that it splits differently";
    bool llama = class == &classes[0];
    const cJSON *key = json_get(config, "add_prefix_space");
    bool prefix = cJSON_IsBool(key) ? cJSON_IsTrue(key) : llama, legacy = cJSON_IsTrue(json_get(config, "legacy"));
    bool prefix_here = false, same = t->normalizers.n == 0 && t->splitters.n == (prefix ? 2 : 1);
    for (size_t i = 0; i < t->normalizers.n; i++) prefix_here |= t->normalizers.items[i].kind == STEP_PREPEND;
    for (size_t i = 0; i < t->splitters.n; i++) {
        const Step *s = &t->splitters.items[i];
        prefix_here |= s->kind == STEP_PREPEND;
        if (s->kind == STEP_PREPEND) same &= !llama || s->when == (legacy ? PREPEND_IF_MISSING : PREPEND_AT_START);
        else same &= llama ? s->kind == STEP_REPLACE
                           : s->kind == STEP_PATTERN && s->pattern == pattern_find(pattern_gpt2);
    }
    if (same) return;
    if (prefix != prefix_here) texts = "the first word of a text";
    else if (llama && legacy) texts = "text that begins with a space";
    else if (llama) texts = "text that begins with a space or stands behind a special token";
    Buf b = {0};
    buf_addf(&b, "%s/tokenizer_config.json: %s%s: transformers 5 does not follow tokenizer.json here, and gives other "
             "ids to %s (with \"tokenizer_class\": \"PreTrainedTokenizerFast\" it follows)", dir,
             key && prefix != prefix_here ? "add_prefix_space of " : "", class->name, texts);
    t->warning = b.data;
}

// ---- the whole -----------------------------------------------------------------------------------------------------

// The object in the file of this name; NULL if it is not there.
static bool read_object(cJSON **json, const char *dir, const char *name, Err *e)
{
    Path path = path_in(dir, name);
    *json = NULL;
    if (!file_exists(path.text)) return true;
    *json = json_load(path.text, e);
    return *json && (cJSON_IsObject(*json) ||
                     fail(e, "%s: expected an object, found %s", path.text, json_kind(*json)));
}

// The id of the token that the variable names, else of the one that the post-processor adds there.
static int special_id(const Tokenizer *t, const char *variable, const int *added, size_t n_added)
{
    const char *token = json_string(t->special_tokens, variable);
    return token ? tokenizer_id(t, token) : n_added ? added[0] : -1;
}

static void find_ends(Tokenizer *t)
{
    t->bos = special_id(t, "bos_token", t->before, t->n_before);
    t->eos = special_id(t, "eos_token", t->after, t->n_after);
}

bool tokenizer_read_config(Tokenizer *t, const cJSON *config, Err *e)
{
    add_templates(t, json_get(config, "chat_template"));
    bool ok = declare_all(t, config, NULL, NULL, e);
    find_ends(t);
    return ok;
}

bool tokenizer_read_beside(Tokenizer *t, const char *dir, Err *e)
{
    cJSON *config, *map = NULL, *added = NULL;
    bool ok = read_object(&config, dir, "tokenizer_config.json", e);
    if (ok && !json_get(config, "added_tokens_decoder"))   // where it is there, transformers reads no other file
        ok = read_object(&map, dir, "special_tokens_map.json", e) && read_object(&added, dir, "added_tokens.json", e);
    const Class *class = ok ? find_class(t, dir, config) : NULL;
    if (class) name_tokens(class, config);
    ok = ok && tokenizer_read_templates(t, dir, config, e) &&
         (declare_all(t, config, map, added, e) || fail_prefix(e, "%s/tokenizer_config.json or beside it: ", dir));
    if (ok && class) compare_with_class(t, class, dir, config);
    find_ends(t);
    cJSON_Delete(config);
    cJSON_Delete(map);
    cJSON_Delete(added);
    return ok;
}

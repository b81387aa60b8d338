// gguf: the tokenizer in a GGUF file, under the keys that llama.cpp reads. On the way in the keys become a
// tokenizer.json and a tokenizer_config.json, which are then read as any others, and which an exported folder gets.
//
// llama.cpp knows two kinds. "gpt2" is byte-level BPE; tokenizer.ggml.pre names the way in which a text is split into
// words. "llama" is SentencePiece's: any two neighbours that together are a piece are merged, the piece of the highest
// score first. So its merges must be all the ways to cut a piece in two, as in a tokenizer.bin.
#include "internal.h"

#include <stdlib.h>
#include <string.h>

// What a name stands for in llama.cpp. Of rows that are the same, the first is written.
typedef struct { const char *name, *regex; bool digits, nfc, ignore_merges; } Pre;
static const Pre pres[] = {
    {"gpt-2", pattern_gpt2, false, false, false},    {"smollm", pattern_gpt2, true, false, false},
    {"llama-bpe", pattern_llama3, false, false, true}, {"llama3", pattern_llama3, false, false, true},
    {"llama-v3", pattern_llama3, false, false, true},  {"smaug-bpe", pattern_llama3, false, false, false},
    {"dbrx", pattern_llama3, false, false, false},     {"qwen2", pattern_qwen2, false, true, false},
};
enum { N_PRES = sizeof pres / sizeof *pres };
enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };     // tokenizer.ggml.token_type
#define KEY(name) "tokenizer.ggml." name
#define TEMPLATE "tokenizer.chat_template"
#define HOLE "[PAD%d]"                                                 // the text of an id without a piece
#define PRES "gpt-2, smollm, llama-bpe, llama3, llama-v3, smaug-bpe, dbrx or qwen2"

// ---- reading ------------------------------------------------------------------------------------------------------

// The tokens that have a name, and llama.cpp's ids of them where a "llama" has no key; -1: none.
static const struct { const char *name, *key; int absent; } named[] = {
    {"bos_token", KEY("bos_token_id"), 1}, {"eos_token", KEY("eos_token_id"), 2},
    {"unk_token", KEY("unknown_token_id"), 0}, {"pad_token", KEY("padding_token_id"), -1},
    {"eot_token", KEY("eot_token_id"), -1}};
enum { N_NAMED = sizeof named / sizeof *named };

// Puts what a text of JSON says into an object.
static void put(cJSON *object, const char *key, const char *json) { json_set(object, key, cJSON_Parse(json)); }
static cJSON *member(cJSON *object, const char *key) { return cJSON_GetObjectItemCaseSensitive(object, key); }

#define BYTE_LEVEL(regex) \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" regex "}"
#define SPLIT "{\"type\":\"Split\",\"pattern\":{},\"behavior\":\"Isolated\",\"invert\":false},"
#define SEQUENCE(letter, type) "{\"Sequence\":{\"id\":\"" letter "\",\"type_id\":" type "}}"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true},"

// Makes of a tokenizer.json of Llama 2's kind one that is byte-level.
static void put_pre(cJSON *root, const Pre *pre)
{
    cJSON *model = member(root, "model"), *steps;
    bool gpt2 = pre->regex == pattern_gpt2;                // ByteLevel itself splits so
    put(root, "normalizer", pre->nfc ? "{\"type\":\"NFC\"}" : "null");
    put(root, "decoder", BYTE_LEVEL("true"));
    put(root, "pre_tokenizer", "{\"type\":\"Sequence\"}");
    put(member(root, "pre_tokenizer"), "pretokenizers", !gpt2 ? "[" SPLIT BYTE_LEVEL("false") "]"
        : pre->digits ? "[" DIGITS BYTE_LEVEL("true") "]" : "[" BYTE_LEVEL("true") "]");
    steps = member(member(root, "pre_tokenizer"), "pretokenizers");
    if (!gpt2) cJSON_AddStringToObject(member(steps->child, "pattern"), "Regex", pre->regex);
    put(model, "unk_token", "null");
    put(model, "fuse_unk", "false");
    put(model, "byte_fallback", "false");
    put(model, "ignore_merges", pre->ignore_merges ? "true" : "false");
}

// Makes the post-processor add a token before or behind a text.
static void add_special(cJSON *processor, const char *text, int id, bool before)
{
    cJSON *lists[] = {member(processor, "single"), member(processor, "pair")}, *tokens;
    for (int i = 0; i < 2; i++) {
        cJSON *item = cJSON_CreateObject(), *token = cJSON_AddObjectToObject(item, "SpecialToken");
        cJSON_AddStringToObject(token, "id", text);
        cJSON_AddNumberToObject(token, "type_id", 0);
        if (before) cJSON_InsertItemInArray(lists[i], 0, item);
        else cJSON_AddItemToArray(lists[i], item);
    }
    put(tokens = member(processor, "special_tokens"), text, "{}");
    cJSON_AddStringToObject(member(tokens, text), "id", text);
    cJSON_AddItemToObject(member(tokens, text), "ids", cJSON_CreateIntArray(&id, 1));
    cJSON_AddItemToObject(member(tokens, text), "tokens", cJSON_CreateStringArray(&text, 1));
}

static bool get_list(const cJSON **list, const cJSON *k, const char *key, const cJSON *as_long_as, Err *e)
{
    *list = json_get(k, key);
    int n = cJSON_GetArraySize(as_long_as), found = cJSON_GetArraySize(*list);
    if (!cJSON_IsArray(*list)) return fail(e, "%s: expected a list, found %s", key, json_kind(*list));
    return !as_long_as || n == found || fail(e, "%s: expected %d items, one for each token, found %d", key, n, found);
}

// Spells all pieces; lists those that a text may hold whole as added tokens, and those that have a score.
static bool read_tokens(Vocab *v, cJSON *added, Scored *scored, size_t *n_scored, const cJSON *k, Err *e)
{
    const cJSON *tokens, *types, *scores = NULL;
    if (!get_list(&tokens, k, KEY("tokens"), NULL, e) || !get_list(&types, k, KEY("token_type"), tokens, e) ||
        (scored && !get_list(&scores, k, KEY("scores"), tokens, e))) return false;
    size_t n = (size_t)cJSON_GetArraySize(tokens);
    vocab_init(v, n, n);
    const cJSON *token = tokens->child, *type = types->child, *score = scores ? scores->child : NULL;
    for (int id = 0; token; token = token->next, type = type->next, score = score ? score->next : NULL, id++) {
        const char *text = cJSON_GetStringValue(token);
        char hole[32];
        snprintf(hole, sizeof hole, HOLE, id);
        if (!text || !json_is_int(type, NORMAL, BYTE) || (scored && !cJSON_IsNumber(score)))
            return fail(e, KEY("tokens") "[%d]: expected a string, a type from 1 to 6 and, for a llama, a score", id);
        int kind = (int)type->valuedouble;
        if (!*text || (kind == UNUSED && strcmp(text, hole) == 0)) continue;
        vocab_spell(v, id, text, strlen(text));
        int other = vocab_add(v, id);
        if (other >= 0) return fail(e, KEY("tokens") "[%d]: \"%s\" is token %d already", id, text, other);
        if (scored && score && kind == NORMAL) scored[(*n_scored)++] = (Scored){(float)score->valuedouble, id};
        if (kind != UNKNOWN && kind != CONTROL && kind != USER_DEFINED) continue;
        cJSON *item = cJSON_Parse("{\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false}");
        cJSON_AddNumberToObject(item, "id", id);
        cJSON_AddStringToObject(item, "content", text);
        cJSON_AddBoolToObject(item, "special", kind != USER_DEFINED);
        cJSON_AddItemToArray(added, item);
    }
    return true;
}

// bos_token and its like, what is added to a text, and the templates.
static bool read_config(cJSON *root, cJSON *config, const Vocab *v, const cJSON *k, bool spm, bool add_bos, Err *e)
{
    cJSON *processor = member(root, "post_processor"), *list = cJSON_AddArrayToObject(config, "chat_template");
    static const char *const flags[] = {KEY("add_bos_token"), KEY("add_eos_token"), KEY("add_space_prefix")};
    bool add[3];
    for (int i = 0; i < 3; i++)
        if (!json_get_flag(&add[i], k, NULL, flags[i], i == 0 ? add_bos : i == 2, e)) return false;
    for (int i = 0; i < N_NAMED; i++) {
        int n = (int)v->n_ids, id, absent = spm && named[i].absent < n ? named[i].absent : -1;
        if (!json_get_int(&id, k, NULL, named[i].key, 0, n - 1, absent, e)) return false;
        const char *text = id >= 0 && v->at[id] != NO_PIECE ? v->text.data + v->at[id] : NULL;
        if (i < 2 && add[i] && !text)
            return fail(e, "%s: expected a token, as it is to be added to a text, found none", named[i].key);
        if (i < 2 && add[i]) add_special(processor, text, id, i == 0);
        if (text) cJSON_AddStringToObject(config, named[i].name, text);
    }
    if (spm) json_set(member(root, "model"), "unk_token", cJSON_Duplicate(member(config, "unk_token"), true));
    if (spm && !add[2]) {
        cJSON_DeleteItemFromArray(member(member(root, "normalizer"), "normalizers"), 0);
        cJSON_DeleteItemFromArray(member(member(root, "decoder"), "decoders"), 3);
    }
    for (const cJSON *t = k->child; t; t = t->next) {
        const char *name = t->string + strnlen(t->string, strlen(TEMPLATE));
        bool on = cJSON_IsTrue(t) && strncmp(t->string, KEY(""), strlen(KEY(""))) == 0;
        for (size_t i = 0; i < 3; i++) on &= strcmp(t->string, flags[i]) != 0;
        if (on) return fail(e, "%s: true is not supported", t->string);
        bool is = strncmp(t->string, TEMPLATE, strlen(TEMPLATE)) == 0 && (!*name || *name == '.');
        if (!is || !cJSON_IsString(t)) continue;
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", *name ? name + 1 : "default");
        cJSON_AddStringToObject(item, "template", t->valuestring);
        cJSON_AddItemToArray(list, item);
    }
    return true;
}

// The two files that the keys stand for; owned by the caller, on failure too.
static bool files_of(const cJSON *k, cJSON **root, cJSON **config, Err *e)
{
    const char *kind, *name = json_string(k, KEY("pre"));
    const Pre *pre = pres;
    if (!json_get_string(&kind, k, NULL, KEY("model"), e)) return false;
    bool spm = strcmp(kind, "llama") == 0;
    if (!spm && strcmp(kind, "gpt2") != 0) return fail(e, KEY("model") ": expected gpt2 or llama, found %s", kind);
    while (!spm && pre < pres + N_PRES && (!name || strcmp(name, pre->name) != 0)) pre++;
    if (pre == pres + N_PRES) return fail(e, KEY("pre") ": expected " PRES ", found %s", name ? name : "nothing");

    *root = cJSON_Parse(tokenizer_json);
    *config = cJSON_CreateObject();
    put(*root, "added_tokens", "[]");
    put(*root, "post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[" SEQUENCE("A", "0") "],\"pair\":["
        SEQUENCE("A", "0") "," SEQUENCE("B", "1") "],\"special_tokens\":{}}");
    if (!spm) put_pre(*root, pre);
    Tokenizer pieces = {0};
    size_t n_scored = 0;
    const cJSON *merges = NULL;
    cJSON *model = member(*root, "model");
    Scored *scored = spm ? mem_alloc((size_t)cJSON_GetArraySize(json_get(k, KEY("tokens"))), sizeof *scored) : NULL;
    bool ok = read_tokens(&pieces.vocab, member(*root, "added_tokens"), scored, &n_scored, k, e) &&
              (spm || get_list(&merges, k, KEY("merges"), NULL, e));
    if (ok) merges_from_scores(&pieces, scored, n_scored);
    ok = ok && add_vocab_and_merges(model, &pieces, &pieces.vocab, e) &&
         read_config(*root, *config, &pieces.vocab, k, spm, spm || pre->ignore_merges, e);
    if (ok && !spm) json_set(model, "merges", cJSON_Duplicate(merges, true));
    free(scored);
    vocab_free(&pieces.vocab);
    free(pieces.merges.slots);
    return ok;
}

// Into t, or (NULL) into a folder.
static bool convert(const char *path, Tokenizer *t, const char *folder, Err *e)
{
    SafeTensors g;
    cJSON *root = NULL, *config = NULL;
    if (!gguf_open(&g, path, e)) return false;
    bool ok = (files_of(g.header, &root, &config, e) &&
               (!t || (tokenizer_read_root(t, root, e) && tokenizer_read_config(t, config, e)))) ||
              fail_prefix(e, "%s: ", path);
    safetensors_close(&g);
    ok = ok && (t || (json_save(root, path_in(folder, "tokenizer.json").text, e) &&
                      json_save(config, path_in(folder, "tokenizer_config.json").text, e)));
    cJSON_Delete(root);
    cJSON_Delete(config);
    return ok;
}

bool tokenizer_read_gguf(Tokenizer *t, const char *path, Err *e)
{
    t->gguf = mem_strdup(path);
    return convert(path, t, NULL, e);
}

bool tokenizer_gguf_to_folder(const Tokenizer *t, const char *folder, Err *e)
{
    return convert(t->gguf, NULL, folder, e);
}

// ---- writing ------------------------------------------------------------------------------------------------------

bool tokenizer_is_gguf(const Tokenizer *t) { return t->gguf; }

static const Pre *find_pre(const Tokenizer *t)
{
    const Step *s = t->splitters.items;
    size_t n = t->splitters.n;
    bool digits = n == 2 && s[0].kind == STEP_DIGITS && !s[0].whole;
    bool nfc = t->normalizers.n == 1 && t->normalizers.items[0].kind == STEP_NFC;
    bool known = n == 1 + (size_t)digits && s[n - 1].kind == STEP_PATTERN && t->normalizers.n == nfc;
    for (const Pre *p = pres; known && p < pres + N_PRES; p++)
        if (p->digits == digits && p->nfc == nfc && p->ignore_merges == t->ignore_merges &&
            pattern_find(p->regex) == s[n - 1].pattern) return p;
    return NULL;
}

// Is it of SentencePiece's kind, as llama.cpp has it? *prefix: does a text get a space in front? *other_ids: in what
// llama.cpp differs, NULL: nothing.
static bool is_spm(const Tokenizer *t, bool *prefix, const char **other_ids)
{
    bool marks = t->llama2c, others = t->ignore_merges;
    for (size_t i = 0; i < t->normalizers.n + t->splitters.n; i++) {
        bool splits = i >= t->normalizers.n;
        const Step *s = splits ? &t->splitters.items[i - t->normalizers.n] : &t->normalizers.items[i];
        if (s->kind == STEP_REPLACE) marks = strcmp(s->from, " ") == 0 && strcmp(s->to, SPACE_MARK) == 0;
        else if (s->kind == STEP_PREPEND) *prefix = true;
        else if (s->kind != STEP_SPLIT_BEFORE) others = true;
        if (splits && s->kind == STEP_PREPEND)
            *other_ids = "Metaspace: llama.cpp puts a space before each text between special tokens";
    }
    for (int b = 0; b < 256; b++) others |= t->byte_id[b] < 0;
    return marks && !others;
}

static void add_types(GgufKeys *k, const Tokenizer *t, const Vocab *v, int n_ids, bool spm)
{
    int unk = t->llama2c ? 0 : t->unk_id, *types = mem_alloc((size_t)n_ids, sizeof *types);
    for (int id = 0; id < n_ids; id++) {
        bool hole = id >= (int)v->n_ids || v->at[id] == NO_PIECE;
        types[id] = hole ? UNUSED : !t->is_added[id] ? NORMAL : t->is_special[id] ? CONTROL : USER_DEFINED;
    }
    for (int b = 0; spm && b < 256; b++) types[t->byte_id[b]] = BYTE;
    if (spm && unk >= 0) types[unk] = UNKNOWN;
    gguf_add_list(k, KEY("token_type"), GGUF_I32, (size_t)n_ids);
    for (int id = 0; id < n_ids; id++) gguf_item(k, GGUF_I32, types[id]);
    free(types);
}

static bool add_merges(GgufKeys *k, const Tokenizer *t, Err *e)
{
    MadeList list = merges_in_order(t);
    Buf text = {0};
    bool ok = true;
    gguf_add_list(k, KEY("merges"), GGUF_STRING, list.n);
    for (const Made *m = list.items; ok && m < list.items + list.n; m++) {
        buf_clear(&text);
        buf_addf(&text, "%s %s", tokenizer_piece(t, m->left), tokenizer_piece(t, m->right));
        gguf_item_text(k, text.data);
        if (strchr(strchr(text.data, ' ') + 1, ' ')) ok = fail(e, "the merge \"%s\" has a space in a piece", text.data);
    }
    free(list.items);
    buf_free(&text);
    return ok;
}

static bool add_scores(GgufKeys *k, const Tokenizer *t, const Vocab *v, int n_ids, Err *e)
{
    float *scores = mem_alloc((size_t)n_ids, sizeof *scores);
    bool ok = scores_of_merges(t, v, scores, e);
    gguf_add_list(k, KEY("scores"), GGUF_F32, (size_t)n_ids);
    for (int id = 0; id < n_ids; id++) {
        gguf_item(k, GGUF_F32, (double)scores[id]);
        if (ok && scores[id] == NEVER_MERGED && !t->is_added[id])
            ok = fail(e, "\"%s\" has no merge, and llama.cpp would make it of two pieces", tokenizer_piece(t, id));
    }
    free(scores);
    return ok;
}

// config.json may name a token that is none of the tokenizer's special ones: the vocabulary is another by now.
static int special_id(const Tokenizer *t, int id)
{
    return id >= 0 && t->is_added[id] && t->is_special[id] ? id : -1;
}

// All but the templates. v: the pieces as a GGUF file spells them.
static bool add_keys(GgufKeys *k, const Tokenizer *t, const Vocab *v, int n_ids, const int others[3], Err *e)
{
    bool spm = !t->byte_level, prefix = t->llama2c;
    const char *other_ids = NULL, *text;
    const Pre *pre = spm ? NULL : find_pre(t);
    if (spm ? !is_spm(t, &prefix, &other_ids) : !pre)
        return fail(e, "its normalizer, pre_tokenizer, byte_fallback and ignore_merges are neither Llama 2's nor those "
                    "of " PRES);
    if ((int)v->n_ids > n_ids)
        return fail(e, "expected at most %d ids, the model's vocab_size, found %zu", n_ids, v->n_ids);
    if (t->n_before > 1 || t->n_after > 1 || (t->n_before && *t->before != t->bos) ||
        (t->n_after && *t->after != t->eos))
        return fail(e, "expected a post_processor that adds at most bos_token in front and eos_token behind");
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].lstrip || t->added[i].rstrip || t->added[i].single_word)
            other_ids = "lstrip, rstrip or single_word of an added token: llama.cpp does not know of it";
    if (pre && pre->nfc) other_ids = "NFC: llama.cpp does not compose letters and their marks";
    static bool warned;                                    // a run saves more than once
    if (other_ids && !warned)
        fprintf(stderr, "train: warning: some texts get other ids in llama.cpp, because of %s\n", other_ids);
    warned |= other_ids != NULL;
    int ids[N_NAMED] = {t->bos < 0 ? special_id(t, others[0]) : t->bos,
                        t->eos < 0 ? special_id(t, others[1]) : t->eos, -1, -1, -1};
    for (int i = 2; i < N_NAMED; i++)
        if ((text = json_string(t->special_tokens, named[i].name))) ids[i] = tokenizer_id(t, text);
    if (others[2] >= 0 && others[2] != ids[1]) ids[4] = others[2];
    if (ids[1] < 0 && (ids[1] = ids[4]) < 0)
        return fail(e, "expected an eos_token, or a chat template with a token that ends a turn, found neither: "
                       "llama.cpp would take token %d", spm ? 2 : 11);
    gguf_add_text(k, KEY("model"), spm ? "llama" : "gpt2");
    gguf_add_text(k, KEY("pre"), spm ? "default" : pre->name);
    gguf_add_list(k, KEY("tokens"), GGUF_STRING, (size_t)n_ids);
    for (int id = 0; id < n_ids; id++) {
        char hole[32];
        snprintf(hole, sizeof hole, HOLE, id);
        gguf_item_text(k, id < (int)v->n_ids && v->at[id] != NO_PIECE ? v->text.data + v->at[id] : hole);
    }
    add_types(k, t, v, n_ids, spm);
    if (!(spm ? add_scores(k, t, v, n_ids, e) : add_merges(k, t, e))) return false;
    if (spm) gguf_add(k, KEY("add_space_prefix"), GGUF_BOOL, prefix);
    for (int i = 0; i < N_NAMED; i++)
        if (ids[i] >= 0) gguf_add(k, named[i].key, GGUF_U32, ids[i]);
    gguf_add(k, KEY("add_bos_token"), GGUF_BOOL, t->n_before);
    gguf_add(k, KEY("add_eos_token"), GGUF_BOOL, t->n_after);
    return true;
}

// Copies the keys of the .gguf that it comes from. False: there is none, or it has another number of tokens.
static bool copy_keys(GgufKeys *k, const Tokenizer *t, int n_ids)
{
    static const char *const template[] = {TEMPLATE};
    SafeTensors g;
    Err none;
    if (!t->gguf || !gguf_open(&g, t->gguf, &none)) return false;
    bool same = cJSON_GetArraySize(json_get(g.header, KEY("tokens"))) == n_ids;
    if (same) gguf_copy(k, &g, "tokenizer.", template, 1);
    safetensors_close(&g);
    return same;
}

bool tokenizer_export_gguf(const Tokenizer *t, GgufKeys *k, int n_ids, const char *chat_template, const int ids[3],
                           Err *e)
{
    Vocab names = {0};
    bool copied = copy_keys(k, t, n_ids);
    if (!copied && !((!t->llama2c || names_init(&names, t, e)) &&
                     add_keys(k, t, t->llama2c ? &names : &t->vocab, n_ids, ids, e))) {
        fail_prefix(e, "this tokenizer cannot go into a GGUF file: ");
        err_one_line(e);
        vocab_free(&names);
        return false;
    }
    vocab_free(&names);
    if (!chat_template) chat_template = tokenizer_chat_template(t);
    if (chat_template) gguf_add_text(k, TEMPLATE, chat_template);
    for (const cJSON *v = t->templates->child; v && !copied; v = v->next) {
        Buf key = {0};
        buf_addf(&key, TEMPLATE ".%s", v->string);
        if (strcmp(v->string, "default") != 0) gguf_add_text(k, key.data, v->valuestring);
        buf_free(&key);
    }
    return true;
}

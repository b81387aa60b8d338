// load_json: reads a Hugging Face tokenizer.json of type BPE. Every part that shapes the ids is either understood in
// full or refused by name; truncation and padding are left to the caller. Messages name the place inside the file.
#include "internal.h"

#include <stdlib.h>
#include <string.h>

// ---- fields --------------------------------------------------------------------------------------------------------

// The String pattern of a Replace.
static bool get_replace(const char **pattern, const char **content, const cJSON *node, const char *where, Err *e)
{
    const cJSON *value = json_get(node, "pattern");
    *pattern = json_string(value, "String");
    const char *regex = json_string(value, "Regex");
    if (regex) return fail(e, "%s Replace: expected a String pattern, found the Regex %s", where, regex);
    if (!*pattern || !**pattern)
        return fail(e, "%s Replace: expected a pattern with a String that is not empty", where);
    return json_get_string(content, node, where, "content", e);
}

static bool get_char(const char **out, const cJSON *node, const char *where, const char *key, Err *e)
{
    uint32_t code;
    if (!json_get_string(out, node, where, key, e)) return false;
    size_t len = strlen(*out);
    return (len > 0 && (size_t)utf8_decode(*out, *out + len, &code) == len) ||
           fail(e, "%s.%s: expected one character, found \"%s\"", where, key, *out);
}

// One element of a pipeline, read into t; `where` names the pipeline.
typedef bool ReadStep(Tokenizer *t, const cJSON *node, const char *where, const char *type, Err *e);

// The most that a file may ask for, so that time and memory stay in proportion. Real files stay far below.
#define MAX_STEPS 16               // in a pipeline
#define MAX_GROWTH 64              // of a text that passes through it
#define MAX_INSERT 256             // bytes of an inserted string
#define MAX_TEMPLATE_IDS 64        // that a post-processor adds
#define MAX_TEMPLATE_ITEMS 256     // of the post-processor's template
#define MAX_HOLES 65536            // ids without a piece

// Has the pipeline few steps, and is the text that leaves it not much longer than the one that enters?
static bool check_growth(const Steps *steps, const char *where, Err *e)
{
    size_t growth = 1;
    if (steps->n > MAX_STEPS) return fail(e, "%s: expected at most %d steps", where, MAX_STEPS);
    for (size_t i = 0; i < steps->n; i++) {
        const Step *s = &steps->items[i];
        if (s->kind == STEP_PREPEND && s->n_to > MAX_INSERT)
            return fail(e, "%s: expected at most %d bytes to prepend, found %zu", where, MAX_INSERT, s->n_to);
        if (s->kind == STEP_REPLACE && s->n_to > s->n_from) growth *= s->n_to / s->n_from + (s->n_to % s->n_from > 0);
        if (growth > MAX_GROWTH)
            return fail(e, "%s: expected to make a text at most %d times longer", where, MAX_GROWTH);
    }
    return true;
}

// The pipeline: nothing, one element, or a Sequence that holds elements in its field `list`.
static bool read_steps(Tokenizer *t, const cJSON *node, const char *where, const char *list, ReadStep *read, Err *e)
{
    if (json_is_absent(node)) return true;
    const char *type = json_string(node, "type");
    if (!type) return fail(e, "%s: expected an object with a type, found %s", where, json_kind(node));
    if (strcmp(type, "Sequence") != 0) return read(t, node, where, type, e);
    const cJSON *items = json_get(node, list), *item;
    if (!cJSON_IsArray(items)) return fail(e, "%s.%s: expected a list, found %s", where, list, json_kind(items));
    cJSON_ArrayForEach(item, items)
        if (!read_steps(t, item, where, list, read, e)) return false;
    return true;
}

// ---- normalizer, decoder -------------------------------------------------------------------------------------------

// To add a row: see StepKind in internal.h.
typedef struct { const char *type; StepKind kind; } StepType;
static const StepType normalizers[] = {{"NFC", STEP_NFC}, {"Prepend", STEP_PREPEND}, {"Replace", STEP_REPLACE}, {0}};
static const StepType decoders[] = {
    {"ByteLevel", STEP_BYTE_LEVEL}, {"ByteFallback", STEP_BYTE_FALLBACK}, {"Fuse", STEP_FUSE},
    {"Replace", STEP_REPLACE}, {"Strip", STEP_STRIP}, {"Metaspace", STEP_METASPACE}, {0},
};

static bool fail_type(Err *e, const StepType *types, const char *where, const char *found)
{
    Buf names = {0};
    for (; types->type; types++) buf_addf(&names, "%s%s", names.len ? ", " : "", types->type);
    fail(e, "%s: expected %s or Sequence, found %s", where, names.data, found);
    buf_free(&names);
    return false;
}

static bool read_step(Steps *steps, const StepType *types, const cJSON *node, const char *where, const char *type,
                      Err *e)
{
    const StepType *known = types;
    while (known->type && strcmp(known->type, type) != 0) known++;
    if (!known->type) return fail_type(e, types, where, type);
    Step *step = steps_add(steps, known->kind);
    const char *from = NULL, *to = NULL, *scheme = json_string(node, "prepend_scheme");
    bool ok = true, prefix = true;
    if (step->kind == STEP_PREPEND) ok = json_get_string(&to, node, where, "prepend", e);
    if (step->kind == STEP_REPLACE) ok = get_replace(&from, &to, node, where, e);
    if (step->kind == STEP_STRIP)
        ok = get_char(&from, node, where, "content", e) &&
             json_get_int(&step->start, node, where, "start", 0, INT_MAX, JSON_REQUIRED, e) &&
             json_get_int(&step->stop, node, where, "stop", 0, INT_MAX, JSON_REQUIRED, e);
    if (step->kind == STEP_METASPACE)
        ok = get_char(&from, node, where, "replacement", e) &&
             json_get_flag(&prefix, node, where, "add_prefix_space", true, e);
    step->whole = scheme ? strcmp(scheme, "never") == 0 : !prefix;    // read for Metaspace only
    if (ok) step_set(step, from, to);
    return ok;
}

static bool read_normalizer(Tokenizer *t, const cJSON *node, const char *where, const char *type, Err *e)
{
    return read_step(&t->normalizers, normalizers, node, where, type, e);
}

static bool read_decoder(Tokenizer *t, const cJSON *node, const char *where, const char *type, Err *e)
{
    return read_step(&t->decoders, decoders, node, where, type, e);
}

// ---- pre_tokenizer -------------------------------------------------------------------------------------------------

static bool read_split(Tokenizer *t, const cJSON *node, const char *where, Err *e)
{
    const cJSON *value = json_get(node, "pattern");
    const char *regex = json_string(value, "Regex"), *text = json_string(value, "String"), *behavior;
    bool invert;
    const Pattern *pattern = regex ? pattern_find(regex) : NULL;
    if (!pattern)
        return fail(e, "%s Split: expected the Regex of GPT-2, Llama 3 or Qwen 2, found %s %s", where,
                    regex ? "the Regex" : text ? "the String" : "no pattern", regex ? regex : text ? text : "");
    if (!json_get_string(&behavior, node, where, "behavior", e) ||
        !json_get_flag(&invert, node, where, "invert", false, e)) return false;
    if (strcmp(behavior, "Isolated") != 0 || invert)
        return fail(e, "%s Split: expected behavior Isolated, not inverted, found %s%s", where, behavior,
                    invert ? ", inverted" : "");
    steps_add(&t->splitters, STEP_PATTERN)->pattern = pattern;
    return true;
}

static bool read_byte_level(Tokenizer *t, const cJSON *node, const char *where, Err *e)
{
    bool prefix, regex;
    if (!json_get_flag(&prefix, node, where, "add_prefix_space", true, e) ||
        !json_get_flag(&regex, node, where, "use_regex", true, e)) return false;
    if (prefix) step_set(steps_add(&t->splitters, STEP_PREPEND), NULL, " ")->when = PREPEND_IF_MISSING;
    if (regex) steps_add(&t->splitters, STEP_PATTERN)->pattern = pattern_find(pattern_gpt2);
    t->byte_level = true;
    return true;
}

static bool read_metaspace(Tokenizer *t, const cJSON *node, const char *where, Err *e)
{
    const char *letter, *scheme = json_string(node, "prepend_scheme");
    bool prefix, split;
    if (!get_char(&letter, node, where, "replacement", e) || !json_get_flag(&split, node, where, "split", true, e) ||
        !json_get_flag(&prefix, node, where, "add_prefix_space", true, e)) return false;
    if (!scheme) scheme = prefix ? "always" : "never";
    bool first = strcmp(scheme, "first") == 0;
    if (!first && strcmp(scheme, "always") != 0 && strcmp(scheme, "never") != 0)
        return fail(e, "%s.prepend_scheme: expected first, always or never, found %s", where, scheme);
    step_set(steps_add(&t->splitters, STEP_REPLACE), " ", letter);
    PrependWhen when = first ? PREPEND_AT_START : PREPEND_IF_MISSING;
    if (strcmp(scheme, "never") != 0) step_set(steps_add(&t->splitters, STEP_PREPEND), NULL, letter)->when = when;
    if (split) step_set(steps_add(&t->splitters, STEP_SPLIT_BEFORE), letter, NULL);
    return true;
}

static bool read_pre_tokenizer(Tokenizer *t, const cJSON *node, const char *where, const char *type, Err *e)
{
    // Behind ByteLevel the Rust library goes on in the byte alphabet, where no other pre-tokenizer makes sense.
    if (t->byte_level) return fail(e, "%s: expected ByteLevel to be the last, found %s after it", where, type);
    if (strcmp(type, "Split") == 0) return read_split(t, node, where, e);
    if (strcmp(type, "ByteLevel") == 0) return read_byte_level(t, node, where, e);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(t, node, where, e);
    if (strcmp(type, "Digits") != 0)
        return fail(e, "%s: expected Split, Digits, ByteLevel, Metaspace or Sequence, found %s", where, type);
    bool individual;
    if (!json_get_flag(&individual, node, where, "individual_digits", false, e)) return false;
    steps_add(&t->splitters, STEP_DIGITS)->whole = !individual;
    return true;
}

// ---- post_processor ------------------------------------------------------------------------------------------------

// The ids that one {"SpecialToken": {"id": NAME}} of a template stands for, appended to `before` or `after`.
static bool read_template_ids(Tokenizer *t, const cJSON *node, const char *name, bool after, Err *e)
{
    const cJSON *token = json_get(json_get(node, "special_tokens"), name), *ids = json_get(token, "ids"), *id;
    if (!cJSON_IsArray(ids))
        return fail(e, "post_processor.special_tokens: expected ids of \"%s\", found %s", name, json_kind(ids));
    int **list = after ? &t->after : &t->before;
    size_t *n = after ? &t->n_after : &t->n_before;
    cJSON_ArrayForEach(id, ids) {
        if (*n == MAX_TEMPLATE_IDS)
            return fail(e, "post_processor.single: expected at most %d ids on each side", MAX_TEMPLATE_IDS);
        if (!json_is_int(id, 0, (int64_t)t->vocab.n_ids - 1))
            return fail(e, "post_processor.special_tokens: expected ids of \"%s\" from 0 to %zu", name,
                        t->vocab.n_ids - 1);
        *list = mem_grow(*list, *n + 1, sizeof **list);
        (*list)[(*n)++] = (int)id->valuedouble;
    }
    return true;
}

static bool read_template(Tokenizer *t, const cJSON *node, Err *e)
{
    const cJSON *single = json_get(node, "single"), *item;
    if (!cJSON_IsArray(single))
        return fail(e, "post_processor.single: expected a list, found %s", json_kind(single));
    if (cJSON_GetArraySize(single) > MAX_TEMPLATE_ITEMS)   // each is looked for in special_tokens
        return fail(e, "post_processor.single: expected at most %d items, found %d", MAX_TEMPLATE_ITEMS,
                    cJSON_GetArraySize(single));
    bool seen = false;
    cJSON_ArrayForEach(item, single) {
        const char *name = json_string(json_get(item, "SpecialToken"), "id");
        const char *sequence = json_string(json_get(item, "Sequence"), "id");
        bool is_text = sequence && strcmp(sequence, "A") == 0;
        if (!(name || is_text) || (is_text && seen))
            return fail(e, "post_processor.single: expected SpecialTokens and one Sequence A");
        if (is_text) seen = true;
        else if (!read_template_ids(t, node, name, seen, e)) return false;
    }
    return seen || fail(e, "post_processor.single: expected a Sequence A, found none");
}

static bool read_post_processor(Tokenizer *t, const cJSON *node, const char *where, const char *type, Err *e)
{
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(t, node, e);
    if (strcmp(type, "ByteLevel") != 0)
        return fail(e, "%s: expected ByteLevel, TemplateProcessing or Sequence, found %s", where, type);
    return json_get_flag(&t->trim_offsets, node, where, "trim_offsets", true, e) &&
           json_get_flag(&t->trim_keeps_one, node, where, "add_prefix_space", true, e);
}

// ---- model, added_tokens -------------------------------------------------------------------------------------------

// The number of entries of a vocabulary or of added_tokens, and how many ids they make necessary.
static bool count_ids(const cJSON *list, const char *where, bool added, size_t *n, size_t *n_ids, Err *e)
{
    const cJSON *item;
    *n = 0;
    cJSON_ArrayForEach(item, list) {
        const cJSON *id = added ? json_get(item, "id") : item;
        const char *name = added ? json_string(item, "content") : item->string;
        if (!name)
            return fail(e, "%s[%zu].content: expected a string, found %s", where, *n,
                        json_kind(json_get(item, "content")));
        char room[32];
        if (!json_is_int(id, 0, MAX_ID))
            return fail(e, "%s: \"%s\": expected an id from 0 to %d, found %s", where, name, MAX_ID,
                        json_found(id, room));
        if ((size_t)id->valuedouble >= *n_ids) *n_ids = (size_t)id->valuedouble + 1;
        (*n)++;
    }
    return true;
}

static bool read_vocab(Tokenizer *t, const cJSON *vocab, Err *e)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, vocab) {
        int id = (int)item->valuedouble;
        if (t->vocab.at[id] != NO_PIECE)
            return fail(e, "model.vocab: \"%s\" and \"%s\" both have the id %d", tokenizer_piece(t, id), item->string,
                        id);
        vocab_spell(&t->vocab, id, item->string, strlen(item->string));
        vocab_add(&t->vocab, id);
    }
    return true;
}

// Cuts a merge, "a b" or ["a", "b"], in two.
static bool merge_parts(const cJSON *merge, const char **a, size_t *n_a, const char **b)
{
    *a = cJSON_GetStringValue(merge);
    if (*a) {
        const char *space = strchr(*a, ' ');
        if (!space || strchr(space + 1, ' ')) return false;
        *n_a = (size_t)(space - *a);
        *b = space + 1;
        return true;
    }
    *a = cJSON_GetStringValue(cJSON_GetArrayItem(merge, 0));
    *b = cJSON_GetStringValue(cJSON_GetArrayItem(merge, 1));
    if (!cJSON_IsArray(merge) || cJSON_GetArraySize(merge) != 2 || !*a || !*b) return false;
    *n_a = strlen(*a);
    return true;
}

static bool read_merge(Tokenizer *t, const cJSON *merge, uint32_t rank, Buf *whole, MergeList *list, Err *e)
{
    const char *a, *b;
    size_t n_a;
    if (!merge_parts(merge, &a, &n_a, &b))
        return fail(e, "model.merges[%u]: expected \"a b\" or [\"a\", \"b\"], found %s %s", rank, json_kind(merge),
                    cJSON_IsString(merge) ? merge->valuestring : "");
    buf_clear(whole);
    buf_add(whole, a, n_a);
    buf_adds(whole, b);
    size_t n = whole->len;
    Merge m = {vocab_find(&t->vocab, a, n_a), vocab_find(&t->vocab, b, n - n_a), vocab_find(&t->vocab, whole->data, n),
               rank};
    if (m.left < 0 || m.right < 0 || m.id < 0) {
        size_t from = m.left >= 0 && m.right < 0 ? n_a : 0, to = m.left < 0 ? n_a : n;
        return fail(e, "model.merges[%u]: \"%.*s\" is not in model.vocab", rank, (int)(to - from), whole->data + from);
    }
    list->items[list->n++] = m;
    return true;
}

static bool read_merges(Tokenizer *t, const cJSON *merges, Err *e)
{
    MergeList list = {.items = mem_alloc((size_t)cJSON_GetArraySize(merges), sizeof(Merge))};
    Buf whole = {0};
    bool ok = true;
    const cJSON *merge;
    cJSON_ArrayForEach(merge, merges)
        if (!(ok = read_merge(t, merge, (uint32_t)list.n, &whole, &list, e))) break;
    if (ok) merges_build(&t->merges, &list);
    free(list.items);
    buf_free(&whole);
    return ok;
}

bool read_flags(AddedToken *a, const cJSON *token, const char *where, bool special, Err *e)
{
    return json_get_flag(&a->special, token, where, "special", special, e) &&
           json_get_flag(&a->normalized, token, where, "normalized", !a->special, e) &&
           json_get_flag(&a->lstrip, token, where, "lstrip", false, e) &&
           json_get_flag(&a->rstrip, token, where, "rstrip", false, e) &&
           json_get_flag(&a->single_word, token, where, "single_word", false, e);
}

static bool read_added(Tokenizer *t, const cJSON *list, size_t n, Err *e)
{
    t->added = mem_alloc(n, sizeof *t->added);
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        const char *content = json_string(item, "content");
        size_t len = strlen(content);
        if (len == 0) continue;
        if (len > MAX_ADDED)
            return fail(e, "added_tokens: expected a content of at most %d bytes, found %zu", MAX_ADDED, len);
        AddedToken a = {.id = (int)json_get(item, "id")->valuedouble};
        if (!read_flags(&a, item, "added_tokens", false, e)) return false;
        if (!json_get(item, "normalized")) a.normalized = false;
        int known = vocab_find(&t->vocab, content, len);
        if (known >= 0 && known != a.id)
            return fail(e, "added_tokens: \"%s\" has two ids, %d in model.vocab and %d", content, known, a.id);
        if (known < 0 && t->vocab.at[a.id] != NO_PIECE)
            return fail(e, "added_tokens: \"%s\" and \"%s\" both have the id %d", tokenizer_piece(t, a.id), content,
                        a.id);
        if (known < 0) vocab_spell(&t->vocab, a.id, content, len);
        a.content = mem_strdup(content);
        t->added[t->n_added++] = a;
        if (a.id >= t->next_id) t->next_id = a.id + 1;
    }
    return true;
}

// Ids of single characters and of byte fallbacks, ready for bpe_word.
static bool read_letters(Tokenizer *t, const cJSON *model, Err *e)
{
    bool fallback;
    if (!json_get_flag(&fallback, model, "model", "byte_fallback", false, e) ||
        !json_get_flag(&t->fuse_unk, model, "model", "fuse_unk", false, e) ||
        !json_get_flag(&t->ignore_merges, model, "model", "ignore_merges", false, e)) return false;
    const char *unk = json_string(model, "unk_token");
    if (unk && (t->unk_id = tokenizer_id(t, unk)) < 0)
        return fail(e, "model.unk_token: \"%s\" is not in model.vocab", unk);
    for (int b = 0; b < 256; b++) {
        char letter[4] = {(char)b}, name[8];
        size_t n = t->byte_level ? byte_alphabet((unsigned char)b, letter) : 1;
        t->single[b] = vocab_find(&t->vocab, letter, n);
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        if (fallback) t->byte_id[b] = vocab_find(&t->vocab, name, strlen(name));
    }
    return true;
}

// What the model must be, and what it must not have.
static bool check_model(const cJSON *model, Err *e)
{
    if (!cJSON_IsObject(model)) return fail(e, "model: expected an object, found %s", json_kind(model));
    const cJSON *type = json_get(model, "type"), *dropout = json_get(model, "dropout");
    const char *name = cJSON_GetStringValue(type);
    if (!json_is_absent(type) && (!name || strcmp(name, "BPE") != 0))           // old files leave it out
        return fail(e, "model.type: expected BPE, found %s", name ? name : json_kind(type));
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const char *affix = json_string(model, affixes[i]);
        if (affix && *affix) return fail(e, "model.%s: expected none, found \"%s\"", affixes[i], affix);
    }
    if (!json_is_absent(dropout) && (!cJSON_IsNumber(dropout) || dropout->valuedouble != 0))
        return fail(e, "model.dropout: expected null or 0: dropout gives the same text other ids each time");
    const cJSON *vocab = json_get(model, "vocab"), *merges = json_get(model, "merges");
    if (!cJSON_IsObject(vocab) || !vocab->child)
        return fail(e, "model.vocab: expected an object of pieces and ids, found %s",
                    cJSON_IsObject(vocab) ? "none" : json_kind(vocab));
    return cJSON_IsArray(merges) || fail(e, "model.merges: expected a list, found %s", json_kind(merges));
}

bool tokenizer_read_root(Tokenizer *t, const cJSON *root, Err *e)
{
    const cJSON *model = json_get(root, "model"), *added = json_get(root, "added_tokens");
    if (!cJSON_IsObject(root)) return fail(e, "expected an object, found %s", json_kind(root));
    if (!check_model(model, e)) return false;
    if (!json_is_absent(added) && !cJSON_IsArray(added))
        return fail(e, "added_tokens: expected a list, found %s", json_kind(added));
    const cJSON *vocab = json_get(model, "vocab");
    size_t n_pieces, n_added, n_ids = 0;
    if (!count_ids(vocab, "model.vocab", false, &n_pieces, &n_ids, e) ||
        !count_ids(added, "added_tokens", true, &n_added, &n_ids, e)) return false;
    if (n_ids > n_pieces + n_added + MAX_HOLES)
        return fail(e, "expected ids up to about %zu for as many pieces, found %zu", n_pieces + n_added, n_ids - 1);
    vocab_init(&t->vocab, n_ids, n_pieces);
    t->next_id = (int)n_pieces;
    bool ok = read_vocab(t, vocab, e) && read_merges(t, json_get(model, "merges"), e) &&
              read_added(t, added, n_added, e) &&
              read_steps(t, json_get(root, "normalizer"), "normalizer", "normalizers", read_normalizer, e) &&
              read_steps(t, json_get(root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers", read_pre_tokenizer, e) &&
              read_steps(t, json_get(root, "post_processor"), "post_processor", "processors", read_post_processor, e) &&
              read_steps(t, json_get(root, "decoder"), "decoder", "decoders", read_decoder, e) &&
              check_growth(&t->normalizers, "normalizer", e) && check_growth(&t->splitters, "pre_tokenizer", e) &&
              check_growth(&t->decoders, "decoder", e) && read_letters(t, model, e);
    if (ok && !t->byte_level) bpe_find_border(t, SPACE_MARK);
    return ok;
}

bool tokenizer_read_json(Tokenizer *t, const char *path, Err *e)
{
    cJSON *root = json_load(path, e);
    if (!root) return false;
    bool ok = (!e->text[0] && tokenizer_read_root(t, root, e)) || fail_prefix(e, "%s: ", path);     // a key twice
    cJSON_Delete(root);
    return ok;
}

// load_json: reads a Hugging Face tokenizer.json of type BPE. Every part that shapes the ids is either understood in
// full or refused by name; truncation and padding are left to the caller. Messages name the place inside the file.
#include "internal.h"

#include <stdlib.h>
#include <string.h>

size_t byte_alphabet(unsigned char byte, char out[4])
{
    uint32_t code = byte;
    if (byte <= 0x20) code = 0x100u + byte;
    else if (byte >= 0x7F && byte <= 0xA0) code = 0x121u + byte - 0x7F;
    else if (byte == 0xAD) code = 0x143;
    return (size_t)utf8_encode(code, out);
}

// ---- fields --------------------------------------------------------------------------------------------------------

static bool is_absent(const cJSON *value) { return !value || cJSON_IsNull(value); }

static bool get_bool(const cJSON *object, const char *where, const char *key, bool absent, bool *out, Err *e)
{
    const cJSON *value = json_get(object, key);
    if (!is_absent(value) && !cJSON_IsBool(value))
        return fail(e, "%s.%s: expected true or false, found %s", where, key, json_kind(value));
    *out = is_absent(value) ? absent : cJSON_IsTrue(value);
    return true;
}

static bool get_string(const cJSON *object, const char *where, const char *key, const char **out, Err *e)
{
    *out = json_string(object, key);
    return *out || fail(e, "%s.%s: expected a string, found %s", where, key, json_kind(json_get(object, key)));
}

static bool get_count(const cJSON *object, const char *where, const char *key, size_t *out, Err *e)
{
    const cJSON *value = json_get(object, key);
    if (!json_is_int(value, 0, INT32_MAX))
        return fail(e, "%s.%s: expected a count, found %s", where, key, json_kind(value));
    *out = (size_t)value->valuedouble;
    return true;
}

// The String pattern of a Replace.
static bool get_replace(const cJSON *node, const char *where, const char **pattern, const char **content, Err *e)
{
    const cJSON *value = json_get(node, "pattern");
    *pattern = json_string(value, "String");
    const char *regex = json_string(value, "Regex");
    if (regex) return fail(e, "%s Replace: expected a String pattern, found the Regex %s", where, regex);
    if (!*pattern || !**pattern)
        return fail(e, "%s Replace: expected a pattern with a String that is not empty", where);
    return get_string(node, where, "content", content, e);
}

static bool is_one_char(const char *text)
{
    uint32_t code;
    size_t len = strlen(text);
    return len > 0 && (size_t)utf8_decode(text, text + len, &code) == len;
}

static bool get_char(const cJSON *node, const char *where, const char *key, const char **out, Err *e)
{
    if (!get_string(node, where, key, out, e)) return false;
    return is_one_char(*out) || fail(e, "%s.%s: expected one character, found \"%s\"", where, key, *out);
}

// One element of a pipeline, read into t; `where` names the pipeline.
typedef bool ReadStep(Tokenizer *t, const cJSON *node, const char *where, const char *type, Err *e);

// What a file may ask for, so that neither time nor memory grows out of proportion: real ones stay far below.
#define MAX_STEPS 16               // in a pipeline
#define MAX_GROWTH 64              // of a text that passes through it
#define MAX_INSERT 256             // bytes of an inserted string
#define MAX_TEMPLATE_IDS 64        // that a post-processor adds
#define MAX_TEMPLATE_ITEMS 256     // that say so
#define MAX_HOLES 65536            // ids without a piece
#define MAX_ADDED 4096             // bytes of an added token: each place of a text is compared with it

// Is a pipeline short, and does it make texts only so much longer?
static bool check_growth(const Steps *steps, const char *where, Err *e)
{
    size_t growth = 1;
    if (steps->n > MAX_STEPS) return fail(e, "%s: expected at most %d steps", where, MAX_STEPS);
    for (size_t i = 0; i < steps->n; i++) {
        const Step *s = &steps->items[i];
        if (s->kind == STEP_PREPEND && s->n_to > MAX_INSERT)
            return fail(e, "%s: expected at most %d bytes to prepend, found %zu", where, MAX_INSERT, s->n_to);
        if (s->kind == STEP_REPLACE && s->n_to > s->n_from) growth *= s->n_to / s->n_from + (s->n_to % s->n_from > 0);
        if (growth > MAX_GROWTH) return fail(e, "%s: expected to make a text at most %d times longer", where, MAX_GROWTH);
    }
    return true;
}

// The pipeline: nothing, one element, or a Sequence that holds elements in its field `list`.
static bool read_steps(Tokenizer *t, const cJSON *node, const char *where, const char *list, ReadStep *read, Err *e)
{
    if (is_absent(node)) return true;
    const char *type = json_string(node, "type");
    if (!type) return fail(e, "%s: expected an object with a type, found %s", where, json_kind(node));
    if (strcmp(type, "Sequence") != 0) return read(t, node, where, type, e);
    const cJSON *items = json_get(node, list), *item;
    if (!cJSON_IsArray(items)) return fail(e, "%s.%s: expected a list, found %s", where, list, json_kind(items));
    cJSON_ArrayForEach(item, items)
        if (!read_steps(t, item, where, list, read, e)) return false;
    return true;
}

// ---- normalizer, pre_tokenizer -------------------------------------------------------------------------------------

static bool read_normalizer(Tokenizer *t, const cJSON *node, const char *where, const char *type, Err *e)
{
    const char *from, *to;
    if (strcmp(type, "NFC") == 0) {
        steps_add(&t->normalizers, STEP_NFC);
    } else if (strcmp(type, "Prepend") == 0) {
        if (!get_string(node, where, "prepend", &to, e)) return false;
        step_set(steps_add(&t->normalizers, STEP_PREPEND), NULL, to);
    } else if (strcmp(type, "Replace") == 0) {
        if (!get_replace(node, where, &from, &to, e)) return false;
        step_set(steps_add(&t->normalizers, STEP_REPLACE), from, to);
    } else {
        return fail(e, "%s: expected NFC, Prepend, Replace or Sequence, found %s", where, type);
    }
    return true;
}

static bool read_split(Tokenizer *t, const cJSON *node, const char *where, Err *e)
{
    const cJSON *value = json_get(node, "pattern");
    const char *regex = json_string(value, "Regex"), *text = json_string(value, "String"), *behavior;
    bool invert;
    const Pattern *pattern = regex ? pattern_find(regex) : NULL;
    if (!pattern)
        return fail(e, "%s Split: expected the Regex of GPT-2, Llama 3 or Qwen 2, found %s %s", where,
                    regex ? "the Regex" : text ? "the String" : "no pattern", regex ? regex : text ? text : "");
    if (!get_string(node, where, "behavior", &behavior, e) || !get_bool(node, where, "invert", false, &invert, e))
        return false;
    if (strcmp(behavior, "Isolated") != 0 || invert)
        return fail(e, "%s Split: expected behavior Isolated, not inverted, found %s%s", where, behavior,
                    invert ? ", inverted" : "");
    steps_add(&t->splitters, STEP_PATTERN)->pattern = pattern;
    return true;
}

static bool read_byte_level(Tokenizer *t, const cJSON *node, const char *where, Err *e)
{
    bool prefix, regex;
    if (!get_bool(node, where, "add_prefix_space", true, &prefix, e) ||
        !get_bool(node, where, "use_regex", true, &regex, e)) return false;
    if (prefix) {
        Step *step = steps_add(&t->splitters, STEP_PREPEND);
        step_set(step, NULL, " ");
        step->when = PREPEND_IF_MISSING;
    }
    if (regex) steps_add(&t->splitters, STEP_PATTERN)->pattern = pattern_find(pattern_gpt2);
    t->byte_level = true;
    return true;
}

static bool read_metaspace(Tokenizer *t, const cJSON *node, const char *where, Err *e)
{
    const char *letter, *scheme = json_string(node, "prepend_scheme");
    bool prefix, split;
    if (!get_char(node, where, "replacement", &letter, e) || !get_bool(node, where, "split", true, &split, e) ||
        !get_bool(node, where, "add_prefix_space", true, &prefix, e)) return false;
    if (!scheme) scheme = prefix ? "always" : "never";
    bool first = strcmp(scheme, "first") == 0;
    if (!first && strcmp(scheme, "always") != 0 && strcmp(scheme, "never") != 0)
        return fail(e, "%s.prepend_scheme: expected first, always or never, found %s", where, scheme);
    step_set(steps_add(&t->splitters, STEP_REPLACE), " ", letter);
    if (strcmp(scheme, "never") != 0) {
        Step *step = steps_add(&t->splitters, STEP_PREPEND);
        step_set(step, NULL, letter);
        step->when = first ? PREPEND_AT_START : PREPEND_IF_MISSING;
    }
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
    if (!get_bool(node, where, "individual_digits", false, &individual, e)) return false;
    steps_add(&t->splitters, STEP_DIGITS)->whole = !individual;
    return true;
}

// ---- post_processor, decoder ---------------------------------------------------------------------------------------

// The ids that one {"SpecialToken": {"id": NAME}} of a template stands for, appended to `before` or `after`.
static bool read_template_ids(Tokenizer *t, const cJSON *node, const char *name, bool after, Err *e)
{
    const cJSON *token = json_get(json_get(node, "special_tokens"), name), *ids = json_get(token, "ids"), *id;
    if (!cJSON_IsArray(ids))
        return fail(e, "post_processor.special_tokens: expected ids of \"%s\", found %s", name, json_kind(ids));
    int **list = after ? &t->after : &t->before;
    size_t *n = after ? &t->n_after : &t->n_before;
    cJSON_ArrayForEach(id, ids) {
        if (*n == MAX_TEMPLATE_IDS) return fail(e, "post_processor.single: expected at most %d ids on each side", MAX_TEMPLATE_IDS);
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
        return fail(e, "post_processor.single: expected at most %d items, found %d", MAX_TEMPLATE_ITEMS, cJSON_GetArraySize(single));
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
    return get_bool(node, where, "trim_offsets", true, &t->trim_offsets, e) &&
           get_bool(node, where, "add_prefix_space", true, &t->trim_keeps_one, e);
}

static bool read_decoder(Tokenizer *t, const cJSON *node, const char *where, const char *type, Err *e)
{
    const char *from, *to = NULL;
    Step step = {0};
    if (strcmp(type, "ByteLevel") == 0 || strcmp(type, "ByteFallback") == 0 || strcmp(type, "Fuse") == 0) {
        steps_add(&t->decoders, type[0] == 'F' ? STEP_FUSE : type[4] == 'L' ? STEP_BYTE_LEVEL : STEP_BYTE_FALLBACK);
        return true;
    }
    if (strcmp(type, "Replace") == 0) {
        if (!get_replace(node, where, &from, &to, e)) return false;
        step.kind = STEP_REPLACE;
    } else if (strcmp(type, "Strip") == 0) {
        if (!get_char(node, where, "content", &from, e) || !get_count(node, where, "start", &step.start, e) ||
            !get_count(node, where, "stop", &step.stop, e)) return false;
        step.kind = STEP_STRIP;
    } else if (strcmp(type, "Metaspace") == 0) {
        const char *scheme = json_string(node, "prepend_scheme");
        bool prefix;
        if (!get_char(node, where, "replacement", &from, e) ||
            !get_bool(node, where, "add_prefix_space", true, &prefix, e)) return false;
        step.kind = STEP_METASPACE;
        step.whole = scheme ? strcmp(scheme, "never") == 0 : !prefix;
    } else {
        return fail(e, "%s: expected ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace or Sequence, found %s",
                    where, type);
    }
    step_set(&step, from, to);
    *steps_add(&t->decoders, step.kind) = step;
    return true;
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
        if (!json_is_int(id, 0, MAX_ID))
            return fail(e, "%s: \"%s\": expected an id from 0 to %d, found %s%.15g", where, name, MAX_ID,
                        cJSON_IsNumber(id) ? "" : json_kind(id), cJSON_IsNumber(id) ? id->valuedouble : 0);
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
        int other = vocab_add(&t->vocab, id);
        if (other >= 0) return fail(e, "model.vocab: \"%s\" has two ids, %d and %d", item->string, other, id);
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

static bool read_added(Tokenizer *t, const cJSON *list, size_t n, Err *e)
{
    t->added = mem_alloc(n, sizeof *t->added);
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        const char *content = json_string(item, "content");
        size_t len = strlen(content);
        if (len == 0) continue;
        if (len > MAX_ADDED) return fail(e, "added_tokens: expected a content of at most %d bytes, found %zu", MAX_ADDED, len);
        AddedToken a = {.id = (int)json_get(item, "id")->valuedouble};
        if (!get_bool(item, "added_tokens", "special", false, &a.special, e) ||
            !get_bool(item, "added_tokens", "normalized", false, &a.normalized, e) ||
            !get_bool(item, "added_tokens", "lstrip", false, &a.lstrip, e) ||
            !get_bool(item, "added_tokens", "rstrip", false, &a.rstrip, e) ||
            !get_bool(item, "added_tokens", "single_word", false, &a.single_word, e)) return false;
        int known = vocab_find(&t->vocab, content, len);
        if (known >= 0 && known != a.id)
            return fail(e, "added_tokens: \"%s\" has two ids, %d in model.vocab and %d", content, known, a.id);
        if (known < 0 && t->vocab.at[a.id] != NO_PIECE)
            return fail(e, "added_tokens: \"%s\" and \"%s\" both have the id %d", tokenizer_piece(t, a.id), content,
                        a.id);
        if (known < 0) vocab_spell(&t->vocab, a.id, content, len);
        a.content = mem_strdup(content);
        t->added[t->n_added++] = a;
    }
    return true;
}

// Ids of single characters and of byte fallbacks, ready for bpe_word.
static bool read_letters(Tokenizer *t, const cJSON *model, Err *e)
{
    bool fallback;
    if (!get_bool(model, "model", "byte_fallback", false, &fallback, e) ||
        !get_bool(model, "model", "fuse_unk", false, &t->fuse_unk, e) ||
        !get_bool(model, "model", "ignore_merges", false, &t->ignore_merges, e)) return false;
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
    if (!is_absent(type) && (!name || strcmp(name, "BPE") != 0))           // old files leave it out
        return fail(e, "model.type: expected BPE, found %s", name ? name : json_kind(type));
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const char *affix = json_string(model, affixes[i]);
        if (affix && *affix) return fail(e, "model.%s: expected none, found \"%s\"", affixes[i], affix);
    }
    if (!is_absent(dropout) && (!cJSON_IsNumber(dropout) || dropout->valuedouble != 0))
        return fail(e, "model.dropout: expected null or 0: with it the same text has ever other ids");
    const cJSON *vocab = json_get(model, "vocab"), *merges = json_get(model, "merges");
    if (!cJSON_IsObject(vocab) || !vocab->child)
        return fail(e, "model.vocab: expected an object of pieces and ids, found %s",
                    cJSON_IsObject(vocab) ? "none" : json_kind(vocab));
    return cJSON_IsArray(merges) || fail(e, "model.merges: expected a list, found %s", json_kind(merges));
}

static bool read_root(Tokenizer *t, const cJSON *root, Err *e)
{
    const cJSON *model = json_get(root, "model"), *added = json_get(root, "added_tokens");
    if (!cJSON_IsObject(root)) return fail(e, "expected an object, found %s", json_kind(root));
    if (!check_model(model, e)) return false;
    if (!is_absent(added) && !cJSON_IsArray(added))
        return fail(e, "added_tokens: expected a list, found %s", json_kind(added));
    const cJSON *vocab = json_get(model, "vocab");
    size_t n_pieces, n_added, n_ids = 0;
    if (!count_ids(vocab, "model.vocab", false, &n_pieces, &n_ids, e) ||
        !count_ids(added, "added_tokens", true, &n_added, &n_ids, e)) return false;
    if (n_ids > n_pieces + n_added + MAX_HOLES)
        return fail(e, "expected ids up to about %zu for %zu pieces, found %zu", n_pieces + n_added, n_pieces + n_added, n_ids - 1);
    vocab_init(&t->vocab, n_ids, n_pieces);
    bool ok = read_vocab(t, vocab, e) && read_merges(t, json_get(model, "merges"), e) &&
              read_added(t, added, n_added, e) &&
              read_steps(t, json_get(root, "normalizer"), "normalizer", "normalizers", read_normalizer, e) &&
              read_steps(t, json_get(root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers", read_pre_tokenizer, e) &&
              read_steps(t, json_get(root, "post_processor"), "post_processor", "processors", read_post_processor, e) &&
              read_steps(t, json_get(root, "decoder"), "decoder", "decoders", read_decoder, e) &&
              check_growth(&t->normalizers, "normalizer", e) && check_growth(&t->splitters, "pre_tokenizer", e) &&
              check_growth(&t->decoders, "decoder", e) && read_letters(t, model, e);
    if (ok && !t->byte_level) bpe_find_border(t, SPACE_MARK);
    if (ok) tokenizer_index(t);
    return ok;
}

bool load_json(Tokenizer *t, const char *path, Err *e)
{
    cJSON *root = json_load(path, e);
    if (!root) return false;
    bool ok = read_root(t, root, e) || fail_prefix(e, "%s: ", path);
    cJSON_Delete(root);
    return ok;
}

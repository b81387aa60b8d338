// export: writes a tokenizer that came from a tokenizer.bin as the files of a Hugging Face folder, and the other way.
//
// A tokenizer.json lists merges, each with a rank of its own. A tokenizer.bin gives every piece one score, which ranks
// all the ways to make the piece of two others. So:
// - To JSON, merges are listed by the score of the piece they make; under equal scores the longest piece comes first.
//   run.c would take the leftmost of equals. For runs of spaces that gives the same ids, and in what SentencePiece
//   makes only runs of spaces have equal scores.
// - To .bin, the merges of a piece must stand together and be all the ways to cut it in two. The file does not hold the
//   scores; they are -(id - 259) if that is the order of the merges, as SentencePiece makes it. Runs of spaces that
//   come last get -1e9, as in Llama 2's own file: all of them, if the longest come first or if their merges are mixed,
//   as transformers leaves equals.
#include "internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SPACES_LAST (-1e9f)

// What transformers writes for a Llama 2 tokenizer; model.vocab and model.merges are added later.
#define ADDED(id, text) "{\"id\":" #id ",\"content\":\"" text "\",\"single_word\":false,\"lstrip\":false," \
                        "\"rstrip\":false,\"normalized\":false,\"special\":true}"
#define REPLACE(from, to) "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" from "\"},\"content\":\"" to "\"}"
#define BOS_AND(letter, id) "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":" #id "}}," \
                            "{\"Sequence\":{\"id\":\"" letter "\",\"type_id\":" #id "}}"
const char tokenizer_json[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
    "\"added_tokens\":[" ADDED(0, "<unk>") "," ADDED(1, "<s>") "," ADDED(2, "</s>") "],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
    "{\"type\":\"Prepend\",\"prepend\":\"" SPACE_MARK "\"}," REPLACE(" ", SPACE_MARK) "]},\"pre_tokenizer\":null,"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" BOS_AND("A", 0) "],"
    "\"pair\":[" BOS_AND("A", 0) "," BOS_AND("B", 1) "],"
    "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" REPLACE(SPACE_MARK, " ") ",{\"type\":\"ByteFallback\"},"
    "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
    "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":\"<unk>\",\"continuing_subword_prefix\":null,"
    "\"end_of_word_suffix\":null,\"fuse_unk\":true,\"byte_fallback\":true,\"ignore_merges\":false}}";

static const char tokenizer_config_json[] =
    "{\"add_bos_token\":true,\"add_eos_token\":false,"
    "\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"unk_token\":\"<unk>\","
    "\"clean_up_tokenization_spaces\":false,\"tokenizer_class\":\"PreTrainedTokenizerFast\"}\n";

// ---- both ways -----------------------------------------------------------------------------------------------------

bool tokenizer_is_bin(const Tokenizer *t) { return t->llama2c; }

// The first 259 pieces. <s> and </s> may have a line end on both sides, as llama2.c writes them.
static bool check_fixed_pieces(const Tokenizer *t, Err *e)
{
    static const char *const first[] = {"<unk>", "<s>", "</s>"};
    for (int id = 0; id < N_FIXED; id++) {
        char want[16], framed[16];
        if (id < FIRST_BYTE) snprintf(want, sizeof want, "%s", first[id]);
        else snprintf(want, sizeof want, "<0x%02X>", (unsigned)(id - FIRST_BYTE));
        snprintf(framed, sizeof framed, "\n%.8s\n", want);
        const char *piece = id < tokenizer_vocab_size(t) ? tokenizer_piece(t, id) : "";
        if (strcmp(piece, want) != 0 && !((id == BOS || id == EOS) && strcmp(piece, framed) == 0))
            return fail(e, "expected piece %d to be %s, found \"%s\"", id, want, piece);
    }
    return true;
}

bool names_init(Vocab *names, const Tokenizer *t, Err *e)
{
    const char *from = t->llama2c ? " " : SPACE_MARK, *to = t->llama2c ? SPACE_MARK : " ";
    const char *bos = t->llama2c ? "<s>" : "\n<s>\n", *eos = t->llama2c ? "</s>" : "\n</s>\n";
    Buf name = {0};
    bool ok = true;
    vocab_init(names, t->vocab.n_ids, t->vocab.n_ids);
    for (int id = 0; ok && id < tokenizer_vocab_size(t); id++) {
        if (t->vocab.at[id] == NO_PIECE) continue;
        const char *piece = id == BOS ? bos : id == EOS ? eos : tokenizer_piece(t, id);
        size_t len = strlen(piece), bad = utf8_valid(piece, len);
        buf_clear(&name);
        for (const char *hit; (hit = strstr(piece, from)); piece = hit + strlen(from)) {
            buf_add(&name, piece, (size_t)(hit - piece));
            buf_adds(&name, to);
        }
        buf_adds(&name, piece);
        vocab_spell(names, id, name.data, name.len);
        int other = vocab_add(names, id);
        piece = tokenizer_piece(t, id);
        if (bad < len) ok = fail(e, "piece %d is not UTF-8: byte 0x%02X", id, (unsigned char)piece[bad]);
        else if (strstr(piece, to))
            ok = fail(e, "piece %d, \"%s\": its \"%s\" would mean \"%s\" there", id, piece, to, from);
        else if (other >= 0) ok = fail(e, "pieces %d and %d would both be spelled \"%s\"", other, id, name.data);
    }
    buf_free(&name);
    return ok;
}

static int by_rank(const void *a, const void *b)
{
    const Made *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->len != y->len) return x->len > y->len ? -1 : 1;
    if (x->id != y->id) return x->id - y->id;
    return x->left != y->left ? x->left - y->left : x->right - y->right;
}

MadeList merges_in_order(const Tokenizer *t)
{
    MadeList list = {0};
    for (size_t i = 0; i <= SIZE_MAX >> t->merges.shift; i++) {
        const Merge *m = &t->merges.slots[i];
        if (m->left < 0) continue;
        ARRAY_ROOM(list.items, list.n, list.cap);
        list.items[list.n++] = (Made){m->left, m->right, m->id, m->rank, t->vocab.len[m->id]};
    }
    if (list.n) qsort(list.items, list.n, sizeof *list.items, by_rank);
    return list;
}

static bool put_in(const char *folder, const char *name, const char *text, Err *e)
{
    return file_put(path_in(folder, name).text, text, strlen(text), e);
}

bool put_template(const Tokenizer *t, const char *folder, Err *e)
{
    const char *template = tokenizer_chat_template(t);
    return !template || put_in(folder, "chat_template.jinja", template, e);
}

// ---- to a folder ---------------------------------------------------------------------------------------------------

bool add_vocab_and_merges(cJSON *model, const Tokenizer *t, const Vocab *names, Err *e)
{
    cJSON *vocab = cJSON_AddObjectToObject(model, "vocab"), *merges = cJSON_AddArrayToObject(model, "merges");
    for (size_t id = 0; id < names->n_ids; id++)
        if (names->at[id] != NO_PIECE) cJSON_AddNumberToObject(vocab, names->text.data + names->at[id], (double)id);
    MadeList list = merges_in_order(t);
    Buf text = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < list.n; i++) {
        const Made *m = &list.items[i];
        const char *left = names->text.data + names->at[m->left], *right = names->text.data + names->at[m->right];
        buf_clear(&text);
        buf_addf(&text, "%s%s", left, right);
        if (strcmp(text.data, names->text.data + names->at[m->id]) != 0)       // one of the three is "\n<s>\n"
            ok = fail(e, "the merge of pieces %d and %d would not make piece %d", m->left, m->right, m->id);
        buf_clear(&text);
        buf_addf(&text, "%s %s", left, right);
        cJSON_AddItemToArray(merges, cJSON_CreateString(text.data));
    }
    buf_free(&text);
    free(list.items);
    return ok;
}

bool tokenizer_export_folder(const Tokenizer *t, const char *folder, Err *e)
{
    assert(t->llama2c || t->gguf);
    if (t->gguf) return tokenizer_gguf_to_folder(t, folder, e);
    Vocab names = {0};
    cJSON *root = cJSON_Parse(tokenizer_json);
    assert(root);
    bool ok = check_fixed_pieces(t, e) && names_init(&names, t, e) &&
              add_vocab_and_merges(cJSON_GetObjectItemCaseSensitive(root, "model"), t, &names, e);
    if (!ok) {
        fail_prefix(e, "this tokenizer.bin cannot become a tokenizer.json: ");
        err_one_line(e);
    }
    ok = ok && json_save(root, path_in(folder, "tokenizer.json").text, e) &&
         put_in(folder, "tokenizer_config.json", tokenizer_config_json, e) && put_template(t, folder, e);
    cJSON_Delete(root);
    vocab_free(&names);
    return ok;
}

// ---- to a tokenizer.bin --------------------------------------------------------------------------------------------

// Pieces and merges apart: does everything that shapes the ids work as in run.c?
static bool check_kind(const Tokenizer *t, Err *e)
{
    const Step *s = t->normalizers.items;
    if (t->byte_level) return fail(e, "it is byte-level (pre_tokenizer ByteLevel)");
    if (t->splitters.n || t->normalizers.n != 2 || s[0].kind != STEP_PREPEND || s[1].kind != STEP_REPLACE ||
        strcmp(s[0].to, SPACE_MARK) != 0 || strcmp(s[1].from, " ") != 0 || strcmp(s[1].to, SPACE_MARK) != 0)
        return fail(e, "expected the normalizers Prepend \"" SPACE_MARK "\" and Replace \" \" by \"" SPACE_MARK
                       "\", and no pre_tokenizer");
    if (t->ignore_merges) return fail(e, "it has ignore_merges");
    if (t->n_before != 1 || t->before[0] != BOS || t->n_after)
        return fail(e, "expected a post_processor that adds <s> in front and nothing else");
    if (t->bos != BOS || (t->eos >= 0 && t->eos != EOS))
        return fail(e, "expected <s> and </s> as bos_token and eos_token");
    int n = 0;
    for (size_t i = 0; i < t->n_added; i++) {
        const AddedToken *a = &t->added[i];
        if (a->id > EOS) return fail(e, "it has an added token \"%s\"", a->content);
        if (!a->special || a->normalized || a->lstrip || a->rstrip || a->single_word)
            return fail(e, "the added token %s is normalized, lstrip, rstrip, single_word or not special", a->content);
        n += a->id != 0;
    }
    if (n != 2) return fail(e, "expected the added tokens <s> and </s>");
    return check_fixed_pieces(t, e) && (t->byte_id[0] == FIRST_BYTE || fail(e, "it has no byte_fallback"));
}

static bool is_ascending(const int *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < (i ? ids[i - 1] : N_FIXED)) return false;
    return true;
}

static bool is_spaces(const Vocab *names, int id)
{
    const char *p = names->text.data + names->at[id];
    while (*p == ' ' || strncmp(p, SPACE_MARK, strlen(SPACE_MARK)) == 0) p += *p == ' ' ? 1 : strlen(SPACE_MARK);
    return !*p;
}

// The scores that make run.c merge in the order of the list; n_merges (n_ids) gets how many merges make each piece.
static bool scores_from_merges(const Vocab *names, const MadeList *list, float *scores, int *n_merges, Err *e)
{
    int *order = mem_alloc(names->n_ids, sizeof *order);             // pieces, by their first merge
    size_t n_order = 0, n_front;
    for (size_t i = 0; i < list->n; i++)
        if (n_merges[list->items[i].id]++ == 0) order[n_order++] = list->items[i].id;
    for (n_front = n_order; n_front > 0 && is_spaces(names, order[n_front - 1]);) n_front--;
    bool by_id = is_ascending(order, n_front);
    if (is_ascending(order, n_order)) n_front = n_order;

    for (int id = 0; id < (int)names->n_ids; id++) {
        scores[id] = id < N_FIXED ? 0 : -(float)(id - N_FIXED);
        if (n_front < n_order && n_merges[id] == 0 && names->len[id] && is_spaces(names, id)) scores[id] = SPACES_LAST;
    }
    for (size_t i = 0; i < n_order; i++)
        if (i >= n_front) scores[order[i]] = SPACES_LAST;
        else if (!by_id) scores[order[i]] = -(float)i;
    bool ok = true, mixed = false, longest_first = true;
    size_t n_begun = 0;
    for (size_t i = 0; ok && i < list->n; i++) {
        int id = list->items[i].id;
        if (n_begun < n_order && id == order[n_begun]) n_begun++;
        else if (id == order[n_begun - 1]) continue;
        else if (scores[id] == SPACES_LAST) mixed = true;
        else ok = fail(e, "the merges that make \"%s\" do not stand together", names->text.data + names->at[id]);
    }
    for (size_t i = n_front + 1; i < n_order; i++)
        if (names->len[order[i]] >= names->len[order[i - 1]]) longest_first = false;
    for (size_t i = n_front; i < n_order && !mixed && !longest_first; i++)
        scores[order[i]] = SPACES_LAST - 64 * (float)(i - n_front);   // 64: what a float of that size can tell apart
    free(order);
    return ok;
}

// For run.c every way to cut a piece in two is a merge. So all of them must be in the list, or none. If none is, the
// piece gets the score of a piece that is never made.
static bool check_cuts(const Tokenizer *t, const Vocab *names, float *scores, const int *n_merges, Err *e)
{
    for (int id = 0; id < (int)names->n_ids; id++) {
        const char *text = names->len[id] ? names->text.data + names->at[id] : "";
        int n_cuts = 0, n_found = 0;
        for (size_t cut = 1; cut < names->len[id]; cut++) {
            int left = vocab_find(names, text, cut);
            int right = left < 0 ? -1 : vocab_find(names, text + cut, names->len[id] - cut);
            if (right < 0) continue;
            n_cuts++;
            n_found += merges_find(&t->merges, left, right) != NULL;
        }
        if (n_found != n_merges[id] || (n_found && n_found != n_cuts))
            return fail(e, "expected merges of all %d cuts of \"%s\" into two pieces, found %d", n_cuts, text,
                        n_merges[id]);
        if (n_cuts && !n_found) scores[id] = NEVER_MERGED;
    }
    return true;
}

bool scores_of_merges(const Tokenizer *t, const Vocab *names, float *scores, Err *e)
{
    MadeList list = merges_in_order(t);
    int *n_merges = mem_alloc(t->vocab.n_ids, sizeof *n_merges);
    bool ok = scores_from_merges(names, &list, scores, n_merges, e) && check_cuts(t, names, scores, n_merges, e);
    free(n_merges);
    free(list.items);
    return ok;
}

static bool put_bin(const char *path, const Vocab *names, const float *scores, Err *e)
{
    Buf b = {0};
    int32_t longest = 0;
    for (size_t id = 0; id < names->n_ids; id++)
        if ((int32_t)names->len[id] > longest) longest = (int32_t)names->len[id];
    buf_add(&b, &longest, sizeof longest);
    for (size_t id = 0; id < names->n_ids; id++) {
        bool hole = names->at[id] == NO_PIECE;             // run.c takes no empty piece, and prints nothing for a NUL
        BinPiece p = {scores[id], hole ? 1 : (int32_t)names->len[id]};
        buf_add(&b, &p, sizeof p);
        buf_add(&b, hole ? "" : names->text.data + names->at[id], (size_t)p.len);
    }
    bool ok = file_put(path, b.data, b.len, e);
    buf_free(&b);
    return ok;
}

bool tokenizer_export_bin(const Tokenizer *t, const char *path, Err *e)
{
    assert(!t->llama2c);
    Vocab names = {0};
    float *scores = mem_alloc(t->vocab.n_ids, sizeof *scores);
    bool ok = check_kind(t, e) && names_init(&names, t, e) && scores_of_merges(t, &names, scores, e);
    if (!ok) {
        fail_prefix(e, "this tokenizer cannot become a tokenizer.bin: ");
        err_one_line(e);
    }
    char *folder = path_dir(path);
    ok = ok && put_bin(path, &names, scores, e) && put_template(t, folder, e);
    free(folder);
    free(scores);
    vocab_free(&names);
    return ok;
}

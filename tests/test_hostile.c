// Files made to do harm: keys that crowd a hash table, counts that would make loading quadratic, checkpoints with a
// wrong place in the data. Work is counted, never timed.
#include "../model/checkpoint.h"
#include "../tokenizer/internal.h"
#include "program.h"

enum { N_CROWD = 5000, CROWD_SLOTS = 64 };

// How many slots are looked at to find each of a vocabulary's pieces once.
static size_t vocab_work(const Vocab *v)
{
    size_t work = 0;
    for (size_t i = 0; i <= v->mask; i++)
        if (v->slots[i].id >= 0) work += ((i - v->slots[i].hash) & v->mask) + 1;
    return work;
}

static size_t merges_work(const MergeTable *m)
{
    size_t work = 0, mask = SIZE_MAX >> m->shift;
    for (size_t i = 0; i <= mask; i++)
        if (m->slots[i].left >= 0) work += ((i - merges_place(m, m->slots[i].left, m->slots[i].right)) & mask) + 1;
    return work;
}

// With the key of one table all pieces belong into its first few slots. There it takes N^2 / 2 looks to find them, but
// 1.5 looks each in a table with another key. A file cannot know the key.
static void test_pieces_cannot_crowd(void)
{
    Vocab known = {0}, other = {0};
    vocab_init(&known, N_CROWD, N_CROWD);
    vocab_init(&other, N_CROWD, N_CROWD);
    int id = 0;
    for (uint64_t i = 0; id < N_CROWD; i++) {
        char piece[16];
        int n = snprintf(piece, sizeof piece, "%llx", (unsigned long long)i * 0x9E3779B97F4A7C15u);
        if ((vocab_hash(&known, piece, (size_t)n) & known.mask) >= CROWD_SLOTS) continue;
        vocab_spell(&known, id, piece, (size_t)n);
        vocab_spell(&other, id, piece, (size_t)n);
        vocab_add(&known, id);
        vocab_add(&other, id++);
    }
    CHECK_MSG(vocab_work(&known) > (size_t)N_CROWD * N_CROWD / 3,
              "%zu looks: the pieces do not crowd the table that they were made for", vocab_work(&known));
    CHECK_MSG(vocab_work(&other) < 3 * N_CROWD, "%zu looks for %d pieces", vocab_work(&other), N_CROWD);
    vocab_free(&known);
    vocab_free(&other);
}

static void test_merges_cannot_crowd(void)
{
    MergeList any = {.items = mem_alloc(N_CROWD, sizeof(Merge)), .n = N_CROWD}, list = {0};
    MergeTable known = {0}, other = {0};
    for (int i = 0; i < N_CROWD; i++) any.items[i] = (Merge){i, i, 0, 0};
    merges_build(&known, &any);
    for (int left = 0; list.n < N_CROWD; left++)
        for (int right = 0; right < 1000 && list.n < N_CROWD; right++) {
            if (merges_place(&known, left, right) >= CROWD_SLOTS) continue;
            ARRAY_ROOM(list.items, list.n, list.cap);
            list.items[list.n++] = (Merge){left, right, 0, 0};
        }
    merges_build(&other, &list);
    CHECK_MSG(merges_work(&other) < 3 * N_CROWD, "%zu looks for %d merges", merges_work(&other), N_CROWD);
    free(any.items);
    free(list.items);
    free(known.slots);
    free(other.slots);
}

// ---- counts --------------------------------------------------------------------------------------------------------

static void refuse_tokenizer(const Buf *json, const char *message)
{
    Err e = {""};
    Tokenizer *t = tokenizer_load(temp_write("tokenizer.json", json->data, json->len), &e);
    CHECK_FAILS(t != NULL, e, message);
    tokenizer_free(t);
}

static void test_tokenizer_counts(void)
{
    Buf b = {0};
    buf_adds(&b, quoted("{'model': {'vocab': {'a': 0}, 'merges': []}, 'post_processor': {'type': 'TemplateProcessing',"
                        " 'special_tokens': {'s': {'ids': []}}, 'single': ["));
    for (int i = 0; i < 300; i++) buf_adds(&b, quoted("{'SpecialToken': {'id': 's'}}, "));
    buf_adds(&b, quoted("{'Sequence': {'id': 'A'}}]}}"));
    refuse_tokenizer(&b, "post_processor.single: expected at most 256 items, found 301");
    buf_clear(&b);
    buf_adds(&b, quoted("{'model': {'vocab': {'a': 0}, 'merges': []}, 'added_tokens': [{'id': 1, 'content': '"));
    for (int i = 0; i < 5000; i++) buf_addc(&b, 'a');
    buf_adds(&b, quoted("'}]}"));
    refuse_tokenizer(&b, "added_tokens: expected a content of at most 4096 bytes, found 5000");
    buf_free(&b);
}

static void test_number_of_shards(void)
{
    static const char header[] = "\2\0\0\0\0\0\0\0{}";
    Err e;
    Model m;
    Buf index = {0};
    if (!CHECK(dir_make(temp_path("folder"), &e))) return;
    temp_text("folder/config.json", quoted("{'hidden_size': 2, 'intermediate_size': 2, 'num_hidden_layers': 1,"
                                           " 'num_attention_heads': 1, 'vocab_size': 8}"));
    buf_adds(&index, quoted("{'weight_map': {"));
    for (int i = 0; i < 1001; i++) {
        char name[32];
        snprintf(name, sizeof name, "folder/%d", i);
        FILE *f = fopen(temp_path(name), "wb");
        if (!CHECK(f && fwrite(header, sizeof header - 1, 1, f) == 1 && fclose(f) == 0)) break;
        buf_addf(&index, quoted("%s't%d': '%d'"), i ? ", " : "", i, i);
    }
    buf_adds(&index, "}}");
    temp_text("folder/model.safetensors.index.json", index.data);
    CHECK_FAILS(checkpoint_load(&m, temp_path("folder"), &e), e, "weight_map: expected at most 1000 files, found more");
    buf_free(&index);
    remove_tree(temp_path("folder"));
}

// ---- checkpoints ---------------------------------------------------------------------------------------------------

static void test_place_of_a_checkpoint(void)
{
    static const char RESUME[] = "%s --resume_from_checkpoint=latest";
    Err e = {""};
    temp_run("rows.jsonl", quoted("{'text': 'abc'}\n{'text': 'abd'}\n{'text': 'xyz'}\n"),
             "'model_init': {'hidden_size': 4, 'intermediate_size': 4, 'num_hidden_layers': 1,"
             " 'num_attention_heads': 1, 'max_position_embeddings': 8},"
             " 'per_device_train_batch_size': 1, 'max_steps': 4, 'save_steps': 2");
    if (!CHECK_MSG(run("%s", temp_path("config.json")) == 0, "%s", output)) return;
    char *path = path_join(temp_path("out"), "checkpoint-4/resume.json");
    static const struct { const char *key; double value; } places[] = {
        {"next", 1e9}, {"next", 0}, {"epoch", 7}, {"step", 1e15}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        cJSON *state = json_load(path, &e), *changed = state ? cJSON_Duplicate(state, true) : NULL;
        if (!CHECK_MSG(state, "%s", e.text)) break;
        cJSON_SetNumberValue(cJSON_GetObjectItemCaseSensitive(changed, places[i].key), places[i].value);
        CHECK_MSG(json_save(changed, path, &e), "%s", e.text);
        bool ran = run(RESUME, temp_path("config.json")) == 0;
        snprintf(e.text, sizeof e.text, "%.2000s", output);
        CHECK_FAILS(ran, e, "checkpoint-4/resume.json: expected epoch ");
        CHECK(json_save(state, path, &e));
        cJSON_Delete(state);
        cJSON_Delete(changed);
    }
    CHECK_MSG(run(RESUME, temp_path("config.json")) == 0, "%s", output);
    free(path);
}

int main(void)
{
    temp_begin();
    RUN(test_pieces_cannot_crowd);
    RUN(test_merges_cannot_crowd);
    RUN(test_tokenizer_counts);
    RUN(test_number_of_shards);
    RUN(test_place_of_a_checkpoint);
    temp_end();
    return check_report();
}

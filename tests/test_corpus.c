// Runs every input of tests/corpus through its harness, without libFuzzer: the seeds, and inputs that once failed.
#include "fixture.h"

#include "fuzz/adapter.c"
#include "fuzz/checkpoint_folder.c"
#include "fuzz/gguf.c"
#include "fuzz/hf_folder.c"
#include "fuzz/jinja_source.c"
#include "fuzz/jinja_values.c"
#include "fuzz/llama2_bin.c"
#include "fuzz/options.c"
#include "fuzz/rows.c"
#include "fuzz/safetensors.c"
#include "fuzz/tokenizer_bin.c"
#include "fuzz/tokenizer_json.c"

static int replay(const char *name, void (*harness)(const char *, size_t))
{
    Err e;
    int n = 0;
    char *folder = path_join("tests/corpus", name);
    DIR *dir = opendir(folder);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        if (d->d_name[0] == '.') continue;
        char *path = path_join(folder, d->d_name);
        File f;
        if (CHECK_MSG(file_map_any(&f, path, &e), "%s", e.text)) {
            char *bytes = mem_strndup((const char *)f.data, f.size);
            harness(bytes, f.size);
            free(bytes);
            file_unmap(&f);
            n++;
        }
        free(path);
    }
    if (dir) closedir(dir);
    CHECK_MSG(n > 0, "%s: no inputs", folder);
    free(folder);
    return n;
}

static void test_corpus(void)
{
    static const struct { const char *name; void (*harness)(const char *, size_t); } all[] = {
        {"adapter", fuzz_adapter},                     {"gguf", fuzz_gguf},
        {"checkpoint_folder", fuzz_checkpoint_folder}, {"hf_folder", fuzz_hf_folder},
        {"jinja_source", fuzz_jinja_source},           {"jinja_values", fuzz_jinja_values},
        {"llama2_bin", fuzz_llama2_bin},               {"options", fuzz_options},
        {"rows", fuzz_rows},                           {"safetensors", fuzz_safetensors},
        {"tokenizer_bin", fuzz_tokenizer_bin},         {"tokenizer_json", fuzz_tokenizer_json},
    };
    int n = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) n += replay(all[i].name, all[i].harness);
    printf("     inputs replayed: %d\n", n);
}

int main(void)
{
    RUN(test_corpus);
    return check_report();
}

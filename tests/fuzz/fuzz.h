// fuzz.h: what the harnesses share. A harness is one function that hands any bytes to one reader of this program; it
// must return, whatever the bytes are, without a fault, a leak or memory that the bytes do not justify. libFuzzer calls
// it (make fuzz), and so does tests/test_corpus.c, with every file of tests/corpus.
#ifndef FUZZ_H
#define FUZZ_H

#include "../quoted.h"

#include <sys/stat.h>
#include <unistd.h>

#ifdef FUZZING
#define HARNESS(function)                                                  \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);          \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)           \
    {                                                                      \
        function((const char *)data, size);                                \
        return 0;                                                          \
    }
#else
#define HARNESS(function)
#endif

// The folder for the readers' files, made in FUZZ_DIR if that is set. It is removed when the program ends.
static char fuzz_folder[256];

static inline void fuzz_remove(void)
{
    static const char *const names[] = {"input", "config.json", "model.safetensors", "model.safetensors.index.json",
                                        "part.safetensors", "out.bin", "input.gguf", "out.gguf", "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json", "added_tokens.json", "adapter_config.json",
                                        "adapter_model.safetensors",
                                        "chat_template.jinja", "generation_config.json", "log.jsonl",
                                        "checkpoint-2/resume.json", "checkpoint-2/optimizer.safetensors",
                                        "checkpoint-2/model.bin", "checkpoint-2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[320];
        snprintf(path, sizeof path, "%s/%s", fuzz_folder, names[i]);
        remove(path);
    }
    rmdir(fuzz_folder);
}

static inline const char *fuzz_path(const char *name)
{
    static char paths[4][320];
    static int next;
    if (!*fuzz_folder) {
        const char *dir = getenv("FUZZ_DIR");
        if (!dir) dir = file_is_dir("/dev/shm") ? "/dev/shm" : "/tmp";
        snprintf(fuzz_folder, sizeof fuzz_folder, "%s/sft-fuzz-XXXXXX", dir);
        if (!mkdtemp(fuzz_folder)) abort();
        atexit(fuzz_remove);
    }
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_folder, name);
    return path;
}

// Writes a file of these bytes, without the care for crashes that file_put takes.
static inline const char *fuzz_file(const char *name, const char *bytes, size_t n)
{
    const char *path = fuzz_path(name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) abort();
    return path;
}

// An input of several parts is cut at lines of "---". Takes the next part; false when there is none.
typedef struct { const char *data; size_t len; } Part;

static inline bool fuzz_part(Part *rest, Part *part)
{
    if (!rest->data) return false;
    const char *cut = rest->len ? mem_find(rest->data, rest->len, "\n---\n", 5) : NULL;
    *part = (Part){rest->data, cut ? (size_t)(cut - rest->data) : rest->len};
    *rest = cut ? (Part){cut + 5, rest->len - part->len - 5} : (Part){0};
    return true;
}

#endif

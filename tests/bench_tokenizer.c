// bench_tokenizer: how fast a tokenizer encodes, on one thread.
//     bench_tokenizer TOKENIZER FILE...
// A .jsonl file is read as chats, in which each message is a text; any other file is one text.
#include "../tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

typedef struct { char **items; size_t n, cap, bytes; } Texts;

static void texts_add(Texts *texts, const char *text, size_t len)
{
    ARRAY_ROOM(texts->items, texts->n, texts->cap);
    texts->items[texts->n++] = mem_strndup(text, len);
    texts->bytes += len;
}

static bool texts_read(Texts *texts, const char *path, Err *e)
{
    File f;
    if (!file_map(&f, path, e)) return false;
    const char *p = (const char *)f.data, *end = p + f.size;
    bool jsonl = strlen(path) > 6 && strcmp(path + strlen(path) - 6, ".jsonl") == 0, ok = true;
    if (!jsonl) texts_add(texts, p, f.size);
    for (size_t line = 1; jsonl && ok && p < end; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) stop = end;
        cJSON *row = json_parse(p, (size_t)(stop - p), path, line, e);
        const cJSON *message;
        ok = row != NULL;
        cJSON_ArrayForEach(message, json_get(row, "messages")) {
            const char *content = json_string(message, "content");
            if (content) texts_add(texts, content, strlen(content));
        }
        cJSON_Delete(row);
        p = stop + 1;
    }
    file_unmap(&f);
    return ok;
}

static bool bench_file(const Tokenizer *t, const char *path, Err *e)
{
    Texts texts = {0};
    Encoding enc = {0};
    bool ok = texts_read(&texts, path, e);
    double best = 1e9, total = 0;
    size_t n_tokens = 0;
    for (int rounds = 0; ok && (rounds < 3 || total < 0.5); rounds++) {
        double start = now_seconds();
        n_tokens = 0;
        for (size_t i = 0; ok && i < texts.n; i++) {
            ok = tokenizer_encode(t, texts.items[i], strlen(texts.items[i]), PARSE_SPECIAL, &enc, e);
            n_tokens += enc.n;
        }
        double seconds = now_seconds() - start;
        total += seconds;
        if (seconds < best) best = seconds;
    }
    double speed = (double)texts.bytes / best / 1e6;
    if (ok) printf("%8.2f MB/s %8zu tokens %6zu texts  %s\n", speed, n_tokens, texts.n, path);
    for (size_t i = 0; i < texts.n; i++) free(texts.items[i]);
    free(texts.items);
    encoding_free(&enc);
    return ok;
}

int main(int argc, char **argv)
{
    Err e;
    if (argc < 3) {
        fprintf(stderr, "usage: bench_tokenizer TOKENIZER FILE...\n");
        return 2;
    }
    double start = now_seconds();
    Tokenizer *t = tokenizer_load(argv[1], &e);
    bool ok = t != NULL;
    if (ok) printf("%8.1f ms to load %s\n", 1e3 * (now_seconds() - start), argv[1]);
    for (int i = 2; ok && i < argc; i++) ok = bench_file(t, argv[i], &e);
    if (!ok) fprintf(stderr, "%s\n", e.text);
    tokenizer_free(t);
    return ok ? 0 : 1;
}

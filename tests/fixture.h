// fixture.h: a temporary folder and a tokenizer simple enough to read labels by eye. It has no merges, so that every
// byte of the text is one token: the id of byte b is b + 3, of a space 259, of <s> 1 and of </s> 2.
#ifndef FIXTURE_H
#define FIXTURE_H

#include "check.h"

#include <dirent.h>

enum { BYTE_TOKENIZER_SIZE = 260 };

static char temp_dir[64];

// Paths into the temporary folder; four live at a time.
static inline const char *temp_path(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", temp_dir, name);
    return path;
}

static inline const char *temp_write(const char *name, const void *bytes, size_t n)
{
    Err e;
    const char *path = temp_path(name);
    if (!CHECK_MSG(file_put(path, bytes, n, &e), "%s", e.text)) exit(1);
    return path;
}

static inline const char *temp_text(const char *name, const char *text) { return temp_write(name, text, strlen(text)); }

static inline void add_piece(Buf *b, const void *bytes, int32_t len)
{
    float score = 0;
    buf_add(b, &score, 4);
    buf_add(b, &len, 4);
    buf_add(b, bytes, (size_t)len);
}

static inline const char *temp_byte_tokenizer(void)
{
    Buf b = {0};
    int32_t longest = 8;
    buf_add(&b, &longest, 4);
    add_piece(&b, "<unk>", 5);
    add_piece(&b, "\n<s>\n", 5);
    add_piece(&b, "\n</s>\n", 6);
    for (int i = 0; i < 256; i++) {
        char piece[8];
        snprintf(piece, sizeof piece, "<0x%02X>", i);
        add_piece(&b, piece, 6);
    }
    add_piece(&b, " ", 1);
    const char *path = temp_write("tokenizer.bin", b.data, b.len);
    buf_free(&b);
    return path;
}

static inline void temp_begin(void)
{
    strcpy(temp_dir, "/tmp/sft-test-XXXXXX");
    if (!mkdtemp(temp_dir)) { perror("mkdtemp"); exit(1); }
}

static inline void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) continue;
        char *child = path_join(path, d->d_name);
        if (file_is_dir(child)) remove_tree(child);
        else unlink(child);
        free(child);
    }
    if (dir) closedir(dir);
    rmdir(path);
}

static inline void temp_end(void) { remove_tree(temp_dir); }

#endif

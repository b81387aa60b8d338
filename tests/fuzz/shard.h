// shard.h: a safetensors file whose data is not in the input.
#ifndef SHARD_H
#define SHARD_H

#include "fuzz.h"

// "SIZE{header}" as a file: the header's length, the header, and SIZE bytes of data.
static inline void put_shard(const char *name, Part text)
{
    size_t size = 0, at = 0;
    for (; at < text.len && text.data[at] >= '0' && text.data[at] <= '9' && size < 100000; at++)
        size = 10 * size + (size_t)(text.data[at] - '0');
    uint64_t length = text.len - at;
    char *bytes = mem_alloc(8 + length + size, 1);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, text.data + at, length);
    fuzz_file(name, bytes, 8 + length + size);
    free(bytes);
}

#endif

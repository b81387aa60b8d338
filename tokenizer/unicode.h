// unicode: the generated tables of unicode.c, and the search in them. The template engine reads them, too.
#ifndef TOKENIZER_UNICODE_H
#define TOKENIZER_UNICODE_H

#include <stddef.h>
#include <stdint.h>

enum {
    CLASS_LETTER = 1,      // \p{L}
    CLASS_NUMBER = 2,      // \p{N}
    CLASS_SPACE = 4,       // \s
    CLASS_WORD = 8,        // \w
    CLASS_UNSTABLE = 16    // NFC may change it or join it with the character before
};
typedef struct { uint32_t first, last, value; } UnicodeRange;
typedef struct { uint32_t code, first, second; } Decomposition;       // second is 0 for a singleton

extern const UnicodeRange unicode_classes[], unicode_combining[];
extern const Decomposition unicode_decomposition[];                   // in the order of their codes
extern const uint16_t unicode_composition[];                          // rows of it, in the order of (first, second)
extern const size_t n_unicode_classes, n_unicode_combining, n_unicode_decomposition, n_unicode_composition;

uint32_t unicode_value(const UnicodeRange *ranges, size_t n, uint32_t code);      // split.c; 0 outside all ranges
// The row of a code or, if `second` is not 0, of the two parts of one; NULL if there is none. In normalize.c.
const Decomposition *unicode_row(uint32_t first, uint32_t second);

#endif

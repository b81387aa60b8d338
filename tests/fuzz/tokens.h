// tokens.h: what both tokenizer harnesses do with a tokenizer that loads: encode and decode, then export it.
#ifndef TOKENS_H
#define TOKENS_H

#include "fuzz.h"

#include "../../tokenizer/tokenizer.h"

static inline void check_ranges(const Encoding *enc, size_t len, int vocab_size)
{
    for (size_t i = 0; i < enc->n; i++)
        if (enc->ids[i] < 0 || enc->ids[i] >= vocab_size || enc->begin[i] > enc->end[i] || enc->end[i] > len) abort();
}

static inline void use_tokenizer(const Tokenizer *t, const char *text, size_t len)
{
    Encoding enc = {0};
    Buf out = {0};
    Err e;
    for (unsigned flags = 0; flags <= (ADD_SPECIAL_TOKENS | PARSE_SPECIAL); flags++)
        if (tokenizer_encode(t, text, len, flags, &enc, &e)) {
            check_ranges(&enc, len, tokenizer_vocab_size(t));
            tokenizer_decode(t, enc.ids, enc.n, flags & ADD_SPECIAL_TOKENS, &out);
            for (size_t i = 0; i < enc.n; i++) (void)strlen(tokenizer_piece(t, enc.ids[i]));
        }
    int all[256], n = 0;
    for (; n < 256 && n < tokenizer_vocab_size(t); n++) all[n] = n;
    tokenizer_decode(t, all, (size_t)n, false, &out);
    encoding_free(&enc);
    buf_free(&out);
}

static inline void use_tokenizer_in_every_way(const Tokenizer *t, const char *data, size_t size)
{
    static const char text[] = "Hello,  w\xC3\xB6rld! It's 123456 e\xCC\x81\xCC\xA7 \xEA\xB0\x80\xE1\x86\xA8"
                               " <s>a b</s>\n\n \t\xE2\x96\x81x \xF0\x9F\x98\x80 <0x0A> user\r\n";
    use_tokenizer(t, text, sizeof text - 1);
    use_tokenizer(t, data, size < 300 ? size : 300);
    use_tokenizer(t, "", 0);
    Err e;
    if (tokenizer_is_bin(t)) tokenizer_export_folder(t, (fuzz_path(""), fuzz_folder), &e);
    else tokenizer_export_bin(t, fuzz_path("out.bin"), &e);
}

#endif

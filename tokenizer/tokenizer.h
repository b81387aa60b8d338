// tokenizer: text <-> token ids. Three formats fill one struct: llama2.c's tokenizer.bin, Hugging Face's tokenizer.json
// (BPE, byte-level or SentencePiece-style), and the tokenizer in a GGUF file. Opaque; read-only once loaded, so that
// any number of threads may encode with one Tokenizer.
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include "../model/gguf.h"

typedef struct Tokenizer Tokenizer;

// The ids of a text. Token i stands for the bytes text[begin[i] .. end[i]), widened to whole UTF-8 characters, as
// Hugging Face's offsets are: two tokens that share one character overlap, and an inserted space (the dummy prefix)
// has the range of the character it stands before. Tokens added by the post-processor (BOS) have an empty range.
// The range is that of the text as it was given: a character that NFC composed has the range of all that went into it.
// A post-processor ByteLevel with trim_offsets takes the spaces out of the ranges.
typedef struct {
    int *ids;
    size_t *begin, *end;
    size_t n, cap;
} Encoding;
void encoding_free(Encoding *enc);                        // accepts {0}

// `path` is a tokenizer.bin, a tokenizer.json, a folder that holds tokenizer.json, or a .gguf. What lies beside it is
// read, but for a .gguf, as transformers 5 reads it (beside.c). The format is told by the content, not the name. NULL
// and e on failure. Owned by the caller.
Tokenizer *tokenizer_load(const char *path, Err *e);
void tokenizer_free(Tokenizer *t);                        // accepts NULL

int tokenizer_vocab_size(const Tokenizer *t);             // one more than the largest id, added tokens included
// Ids up to n_ids - 1 exist from now on, as those of a model whose vocabulary is padded: text of no characters.
void tokenizer_pad(Tokenizer *t, int n_ids);
// Why transformers 5 gives some texts other ids than this tokenizer, for the user; NULL if nothing is known. Borrowed.
const char *tokenizer_warning(const Tokenizer *t);

// Flags of tokenizer_encode.
enum {
    ADD_SPECIAL_TOKENS = 1,   // add what the post-processor adds (BOS). Not for a chat template, which prints its own
    PARSE_SPECIAL = 2         // a special token in the text becomes its id; without this it is text like any other
};

// Encodes `len` bytes of valid UTF-8 (tokenizer.bin takes any bytes). Replaces what `out` held.
// tokenizer.bin: <s> and </s> are its specials, and each stretch of text between them is encoded as llama2.c encodes a
// text of its own, with its own dummy space. So "<s>Once" is what llama2.c makes of "Once" after BOS, and the ids are
// those of the same vocabulary converted to a tokenizer.json (normalizer Prepend).
bool tokenizer_encode(const Tokenizer *t, const char *text, size_t len, unsigned flags, Encoding *out, Err *e);

// Appends the text of n ids to `out`, as the file's decoders make it; for tokenizer.bin as llama2.c does: no space at
// the start and after BOS. Ids out of range are the caller's mistake (assert). skip_special drops tokens
// that are marked special.
void tokenizer_decode(const Tokenizer *t, const int *ids, size_t n, bool skip_special, Buf *out);

// The piece as the vocabulary spells it, for tables ("Ġthe", "▁the", "<0x0A>"), "" for an id without one; borrowed.
const char *tokenizer_piece(const Tokenizer *t, int id);
// The bytes that the token stands for, also where they are no whole character. Appends. A space may be one that the
// tokenizer put before the text.
void tokenizer_bytes(const Tokenizer *t, int id, Buf *out);
int tokenizer_id(const Tokenizer *t, const char *piece);  // -1 if there is none; "<s>" and "</s>" of tokenizer.bin too
bool tokenizer_is_special(const Tokenizer *t, int id);
bool tokenizer_is_added(const Tokenizer *t, int id);      // found whole in a text; may be special or not

// The id of bos_token / eos_token; where the configuration names none, what the post-processor puts first / last; -1 if
// there is none.
int tokenizer_bos(const Tokenizer *t);
int tokenizer_eos(const Tokenizer *t);
int tokenizer_eot(const Tokenizer *t);                     // of eot_token, which ends a turn; -1 if there is none

// What a chat template may use: an object with bos_token, eos_token, unk_token, pad_token, ... as strings (only those
// that are defined; additional_special_tokens as a list of strings). From special_tokens_map.json, where transformers
// reads that, and what it does not mention from tokenizer_config.json. Borrowed.
const cJSON *tokenizer_special_tokens(const Tokenizer *t);

// The tokenizer's own chat template: chat_template.jinja beside it, else chat_template of tokenizer_config.json (a
// string, or the one named "default" of a list of named templates). tokenizer_named_template gives one of another name,
// of that list or of the folder additional_chat_templates: transformers takes "tool_use" for a conversation that has
// tools. NULL if there is none. Borrowed.
const char *tokenizer_chat_template(const Tokenizer *t);
const char *tokenizer_named_template(const Tokenizer *t, const char *name);
const cJSON *tokenizer_templates(const Tokenizer *t);     // all of them: an object of names and texts
#define MORE_TEMPLATES "additional_chat_templates"

// A model that is exported takes its tokenizer along (export.c says what each format can and cannot hold). Files are
// written one by one, each atomically; a chat template of the tokenizer's own becomes chat_template.jinja beside them.
// Which way to go: from a tokenizer.bin only to a folder, from a tokenizer.json only to a tokenizer.bin (assert), from
// a .gguf to both; to a .gguf from all.
// The ids of a text are the same on both sides, but for a literal "▁" and "<unk>" in it: the one is a space and the
// other the unknown token in a tokenizer.json only.
bool tokenizer_is_bin(const Tokenizer *t);                // does it come from a tokenizer.bin?
// Writes tokenizer.json, and a tokenizer_config.json with which transformers follows it. The folder must be there.
bool tokenizer_export_folder(const Tokenizer *t, const char *folder, Err *e);
// Writes a tokenizer.bin. Fails and says why if the tokenizer is not of Llama 2's kind.
bool tokenizer_export_bin(const Tokenizer *t, const char *path, Err *e);
bool tokenizer_is_gguf(const Tokenizer *t);
// Adds the tokenizer to the keys of a .gguf: n_ids tokens, the chat template (NULL: the tokenizer's own), and ids (-1:
// none): BOS and EOS, where the tokenizer names none, and what ends a turn. The keys of another .gguf of as many tokens
// are copied. Fails if llama.cpp has no name for the way it splits texts; warns on stderr of what llama.cpp does in
// another way.
bool tokenizer_export_gguf(const Tokenizer *t, GgufKeys *k, int n_ids, const char *chat_template, const int ids[3],
                           Err *e);

#endif

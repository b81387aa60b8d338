// internal: what the files of the tokenizer share, grouped by the file that defines it. Each file calls only those
// before it: unicode, vocab, split, normalize, bpe, tokenizer, decode, load_json, beside, load, export, gguf. (But load
// calls gguf.) Loaders fill a
// Tokenizer; encoding and decoding only read it. A text passes through
//
//     added tokens (tokenizer.c) -> normalizers (normalize.c) -> pre-tokenizers (split.c) -> merges (bpe.c)
//
// as Segments, which remember the range of the original text that each of their bytes stands for.
#ifndef TOKENIZER_INTERNAL_H
#define TOKENIZER_INTERNAL_H

#include "tokenizer.h"
#include "unicode.h"

// ---- vocab.c: lookup tables and spellings; tokenizer_piece and tokenizer_id of tokenizer.h -------------------------
#define MAX_ID ((1 << 22) - 1)
#define NO_PIECE SIZE_MAX

typedef struct { uint64_t add, multiply; } HashKey;                   // random, each table's own
typedef struct { uint32_t hash; int id; } VocabSlot;                  // id -1: empty
typedef struct {
    Buf text;                                                         // the spellings, a NUL after each
    size_t *at, *len;                                                 // (n_ids); at[id] is NO_PIECE for a hole
    size_t n_ids, mask;
    HashKey key;
    VocabSlot *slots;                                                 // the model's own pieces, not the added tokens
} Vocab;
void vocab_init(Vocab *v, size_t n_ids, size_t n_pieces);             // {0} before
void vocab_grow(Vocab *v, size_t n_ids);                              // the new ids are holes
void vocab_free(Vocab *v);                                            // accepts {0}
void vocab_spell(Vocab *v, int id, const char *text, size_t len);
int vocab_add(Vocab *v, int id);                                      // the id that had this spelling before, else -1
int vocab_find(const Vocab *v, const char *text, size_t len);         // -1 if there is none
uint32_t vocab_hash(const Vocab *v, const char *text, size_t len);    // the search begins at slot (hash & mask)
size_t byte_alphabet(unsigned char byte, char out[4]);                // the character that stands for a byte

typedef struct { int left, right, id; uint32_t rank; } Merge;         // left -1: empty
typedef struct { Merge *items; size_t n, cap; } MergeList;
typedef struct { Merge *slots; int shift; HashKey key; } MergeTable;
void merges_build(MergeTable *m, const MergeList *list);              // the last of equal pairs counts
const Merge *merges_find(const MergeTable *m, int left, int right);
size_t merges_place(const MergeTable *m, int left, int right);        // the slot where the search begins

// Finds the longest of many strings that stands at a place.
typedef struct { int child, sibling, value; unsigned char byte; } TrieNode;
typedef struct { TrieNode *nodes; size_t n, cap; bool starts[256]; } Trie;
void trie_add(Trie *t, const char *text, size_t len, int value);
int trie_match(const Trie *t, const char *p, const char *end, size_t *len);       // where starts[*p]; -1: none

// ---- the steps of normalizers (normalize.c), pre-tokenizers (split.c) and decoders (decode.c) ----------------------
// One element of a tokenizer.json may become several steps: Metaspace is REPLACE, PREPEND and SPLIT_BEFORE.
// ORDER STEP: the kinds that change a text come first, REPLACE last of them (step_changes_text in normalize.c).
// To add a kind: a line here; its row in normalizers[] or decoders[] of load_json.c, and a line in read_step there if
// it has fields (a pre-tokenizer: a line in read_pre_tokenizer); the code in step_apply, step_split or decode_step; a
// case in test_bad_json. Is the text longer afterwards? check_growth in load_json.c must know.
typedef enum {
    STEP_NFC,
    STEP_PREPEND,          // `to`, on condition `when`
    STEP_REPLACE,          // `from` by `to`
    STEP_PATTERN,          // split: each match of `pattern` on its own
    STEP_DIGITS,           // split: each \p{N} (each run of them, if `whole`) on its own
    STEP_SPLIT_BEFORE,     // split: before each `from`
    STEP_BYTE_LEVEL,       // decode: from the byte alphabet
    STEP_BYTE_FALLBACK,    // decode: <0x0A>
    STEP_FUSE,             // decode: all pieces become one
    STEP_STRIP,            // decode: up to `start` times `from` at the start of a piece, `stop` times at its end
    STEP_METASPACE         // decode: `from` becomes a space; in the first piece it is dropped, unless `whole`
} StepKind;
typedef enum { PREPEND_ALWAYS, PREPEND_IF_MISSING, PREPEND_AT_START } PrependWhen;
typedef struct Pattern Pattern;

typedef struct {
    StepKind kind;
    char *from, *to;
    size_t n_from, n_to;
    int start, stop;
    PrependWhen when;
    bool whole;
    const Pattern *pattern;
} Step;
typedef struct { Step *items; size_t n, cap; } Steps;

// ---- split.c -------------------------------------------------------------------------------------------------------
unsigned char_class(const char *p, const char *end, size_t *n);       // n: its bytes; an invalid byte is class 0, n = 1
size_t step_split(const Step *step, const char *p, const char *end);  // p < end: length of the first part
const Pattern *pattern_find(const char *regex);                       // NULL if it is not a known one
extern const char pattern_gpt2[], pattern_llama3[], pattern_qwen2[];

// ---- normalize.c: texts with a memory, and the steps that change them ----------------------------------------------
typedef struct { uint32_t begin, end; } ByteRange;                    // of the original text

// Without a map the segment is a part of the original text, from byte `base` on.
typedef struct { const char *text; size_t len; const ByteRange *map; size_t base; } Segment;
typedef struct { Buf text; ByteRange *map; size_t cap; } MappedText;  // map[i] for text.data[i]

Segment segment_part(Segment s, size_t at, size_t len);
ByteRange segment_range(Segment s, size_t begin, size_t end);         // begin < end; widened to whole characters
void mapped_free(MappedText *m);

Step *steps_add(Steps *steps, StepKind kind);
Step *step_set(Step *step, const char *from, const char *to);         // copies both, NULL: none; returns the step
void steps_free(Steps *steps);
bool step_changes_text(const Step *step);
Segment step_apply(const Step *step, Segment s, MappedText *out);     // `s` itself if nothing changes
Segment steps_apply(const Steps *steps, Segment s, MappedText out[2]);

// ---- the tokenizer -------------------------------------------------------------------------------------------------
typedef struct {
    char *content;
    int id;
    bool special, normalized, lstrip, rstrip, single_word;
} AddedToken;

struct Tokenizer {
    Vocab vocab;
    MergeTable merges;
    int single[256];                 // byte-level: id of each byte; else of each ASCII character; -1: none
    int byte_id[256];                // byte fallback; -1: none
    int unk_id;                      // -1: characters that are not in the vocabulary vanish
    bool byte_level, fuse_unk, ignore_merges;
    char border[4];                  // words may be cut before it; n_border 0: never
    size_t n_border;

    AddedToken *added;
    size_t n_added;
    int next_id;                     // of a token that another file declares
    Trie raw, normalized;            // values are indices of added
    bool *is_added, *is_special;     // (n_ids)

    Steps normalizers, splitters, decoders;
    bool llama2c;                    // decode as run.c does
    int *before, *after;             // ids that the post-processor adds
    size_t n_before, n_after;
    bool trim_offsets, trim_keeps_one;

    int bos, eos;
    cJSON *special_tokens, *templates;   // templates: name to text
    char *warning;
    char *gguf;                      // the path of the .gguf that it was read from; NULL: another format
};

// tokenizer.bin: the pieces that every one begins with, <unk>, <s>, </s> and the bytes, and the score of no merge.
enum { BOS = 1, EOS = 2, FIRST_BYTE = 3, N_FIXED = FIRST_BYTE + 256 };
typedef struct { float score; int32_t len; } BinPiece;                // as the file has it; then come the bytes
typedef struct { float score; int id; } Scored;
#define NEVER_MERGED (-1e10f)                                         // run.c takes no merge of this score or less
#define SPACE_MARK "\xE2\x96\x81"                                     // "▁", a space in a tokenizer.json of that kind

// ---- bpe.c; encoding_free of tokenizer.h ---------------------------------------------------------------------------
typedef struct { int id, merged; uint32_t begin, end, prev, next, rank; } Symbol;

// What one call of tokenizer_encode works with.
typedef struct {
    const Tokenizer *t;
    bool parse_special;
    MappedText normal[2], *split;    // split: one for each splitter
    Symbol *symbols;
    uint64_t *heap;
    size_t n_heap, cap_symbols, cap_heap;
    Buf spelling;
    Encoding *out;
} Encoder;
void encoding_add(Encoding *enc, int id, ByteRange r);
void bpe_word(Encoder *en, Segment word);
void bpe_find_border(Tokenizer *t, const char *border);               // once vocab and merges are there

// ---- load_json.c, beside.c, load.c ---------------------------------------------------------------------------------
#define MAX_ADDED 4096           // bytes of an added token, which is compared with the text at every place
bool tokenizer_read_json(Tokenizer *t, const char *path, Err *e);
bool tokenizer_read_root(Tokenizer *t, const cJSON *root, Err *e);    // of a tokenizer.json
bool read_flags(AddedToken *a, const cJSON *token, const char *where, bool special, Err *e);         // if absent
bool tokenizer_read_beside(Tokenizer *t, const char *dir, Err *e);
bool tokenizer_read_config(Tokenizer *t, const cJSON *config, Err *e);           // a tokenizer_config.json alone
bool tokenizer_read_templates(Tokenizer *t, const char *dir, const cJSON *config, Err *e);       // config NULL: none
void merges_from_scores(Tokenizer *t, Scored *pieces, size_t n);
void err_one_line(Err *e);                                            // pieces may hold line ends, a message may not

// ---- export.c, gguf.c ----------------------------------------------------------------------------------------------
typedef struct { int left, right, id; uint32_t rank; size_t len; } Made;       // a merge; len: of the piece it makes
typedef struct { Made *items; size_t n, cap; } MadeList;
MadeList merges_in_order(const Tokenizer *t);
bool names_init(Vocab *names, const Tokenizer *t, Err *e);            // the pieces as the other format spells them
bool add_vocab_and_merges(cJSON *model, const Tokenizer *t, const Vocab *names, Err *e);
bool scores_of_merges(const Tokenizer *t, const Vocab *names, float *scores, Err *e);        // (n_ids)
bool put_template(const Tokenizer *t, const char *folder, Err *e);
extern const char tokenizer_json[];                                   // of Llama 2's kind, without its pieces
bool tokenizer_read_gguf(Tokenizer *t, const char *path, Err *e);
bool tokenizer_gguf_to_folder(const Tokenizer *t, const char *folder, Err *e);

#endif

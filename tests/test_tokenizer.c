// test_tokenizer: the tokenizers against goldens of the Rust library (tests/fixtures/tokenizer_cases.json, written by
// tests/oracle/tokenizer_fixtures.mjs), hand-made files, bad files, and the vectors in ../shared when they are there.
#include "../tokenizer/internal.h"
#include "fixture.h"

#define SHARED "../shared/"

enum { BOTH = ADD_SPECIAL_TOKENS | PARSE_SPECIAL };

static Tokenizer *load_bytes(const char *name, const void *bytes, size_t n, Err *e)
{
    const char *path = temp_write(name, bytes, n);
    Tokenizer *t = tokenizer_load(path, e);
    unlink(path);
    return t;
}

static Tokenizer *load_or_report(const char *path)
{
    Err e;
    Tokenizer *t = tokenizer_load(path, &e);
    CHECK_MSG(t, "%s", e.text);
    return t;
}

// "12 34 5" for messages and expectations.
static const char *ids_text(Buf *b, const int *ids, size_t n)
{
    buf_clear(b);
    buf_add(b, "", 0);
    for (size_t i = 0; i < n; i++) buf_addf(b, "%s%d", i ? " " : "", ids[i]);
    return b->data;
}

static bool same_ids(const int *ids, size_t n, const cJSON *want)
{
    const cJSON *item = want ? want->child : NULL;
    for (size_t i = 0; i < n; i++, item = item->next)
        if (!item || item->valuedouble != ids[i]) return false;
    return !item;
}

static bool decodes_to(const Tokenizer *t, const int *ids, size_t n, bool skip, const char *want, size_t len)
{
    Buf b = {0};
    tokenizer_decode(t, ids, n, skip, &b);
    bool same = b.len == len && memcmp(b.data, want, len) == 0;
    buf_free(&b);
    return same;
}

static void check_encode(const Tokenizer *t, const char *text, size_t len, unsigned flags, const char *want)
{
    Err e;
    Encoding enc = {0};
    Buf b = {0};
    CHECK_MSG(tokenizer_encode(t, text, len, flags, &enc, &e), "%s", e.text);
    CHECK_STR(ids_text(&b, enc.ids, enc.n), want);
    buf_free(&b);
    encoding_free(&enc);
}

// ---- tokenizer.bin -------------------------------------------------------------------------------------------------

static void bin_piece(Buf *b, float score, const char *text)
{
    int32_t len = (int32_t)strlen(text);
    buf_add(b, &score, 4);
    buf_add(b, &len, 4);
    buf_adds(b, text);
}

// 259 fixed pieces, then: 259 " ", 260.. letters, and pieces to merge.
static void make_bin(Buf *b)
{
    static const struct { const char *text; float score; } more[] = {
        {" ", -9}, {"a", -9}, {"b", -9}, {"c", -9}, {"\xC3\xA9", -9},                         // 259 .. 263
        {" a", -1}, {"ab", -2}, {"bc", -2}, {"abc", -3}, {" ab", -4}, {"cc", -1e10f},         // 264 .. 269
    };
    int32_t longest = 8;
    char byte[8];
    buf_add(b, &longest, 4);
    bin_piece(b, 0, "<unk>");
    bin_piece(b, 0, "\n<s>\n");
    bin_piece(b, 0, "\n</s>\n");
    for (unsigned i = 0; i < 256; i++) {
        snprintf(byte, sizeof byte, "<0x%02X>", i);
        bin_piece(b, 0, byte);
    }
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) bin_piece(b, more[i].score, more[i].text);
}

static void test_bin(void)
{
    Buf file = {0};
    Err e;
    make_bin(&file);
    Tokenizer *t = load_bytes("tokenizer.bin", file.data, file.len, &e);
    buf_free(&file);
    if (!CHECK_MSG(t, "%s", e.text)) return;
    CHECK(tokenizer_vocab_size(t) == 270);
    CHECK(tokenizer_bos(t) == 1 && tokenizer_eos(t) == 2 && tokenizer_id(t, "<s>") == 1 && tokenizer_id(t, "zz") == -1);
    CHECK(tokenizer_is_special(t, 0) && tokenizer_is_special(t, 2) && !tokenizer_is_special(t, 3));
    CHECK_STR(tokenizer_piece(t, 13), "<0x0A>");
    CHECK_STR(json_string(tokenizer_special_tokens(t), "eos_token"), "</s>");
    CHECK(tokenizer_chat_template(t) == NULL);

    check_encode(t, "", 0, PARSE_SPECIAL, "");
    check_encode(t, "", 0, BOTH, "1");
    check_encode(t, "b", 1, BOTH, "1 259 261");
    check_encode(t, "a", 1, PARSE_SPECIAL, "264");                    // the dummy space merges
    check_encode(t, "babc", 4, PARSE_SPECIAL, "259 261 267");         // "ab" and "bc" are equal: leftmost first
    check_encode(t, "ab", 2, PARSE_SPECIAL, "268");                   // " a" is better than "ab", then " ab"
    check_encode(t, "cc", 2, PARSE_SPECIAL, "259 262 262");           // a score of -1e10 is never merged
    check_encode(t, "\xC3\xA9", 2, PARSE_SPECIAL, "259 263");
    check_encode(t, "\xE4\xBD\xA0", 3, PARSE_SPECIAL, "259 231 192 163");
    check_encode(t, "a\0\xFF", 3, PARSE_SPECIAL, "264 3 258");
    check_encode(t, "b\x80\xC3", 3, PARSE_SPECIAL, "259 101 131 198");  // a stray byte hides the letter before it
    check_encode(t, "<s>b</s>a</s>", 13, PARSE_SPECIAL, "1 259 261 2 264 2");
    check_encode(t, "<s>", 3, 0, "259 63 118 65");
    CHECK(decodes_to(t, (int[]){1, 259, 261, 13, 2, 264}, 6, false, "\n<s>\nb\n\n</s>\n a", 15));
    CHECK(decodes_to(t, (int[]){1, 264, 2, 258}, 4, true, "a\xFF", 2));

    Encoding enc = {0};
    CHECK(tokenizer_encode(t, "<s>b\xC3\xA9" "c\xE4\xBD\xA0", 10, PARSE_SPECIAL, &enc, &e));
    static const size_t begin[] = {0, 3, 3, 4, 6, 7, 7, 7}, end[] = {3, 4, 4, 6, 7, 10, 10, 10};
    CHECK(enc.n == 8 && memcmp(enc.begin, begin, sizeof begin) == 0 && memcmp(enc.end, end, sizeof end) == 0);
    encoding_free(&enc);
    tokenizer_free(t);
}

static void test_bad_bin(void)
{
    Buf good = {0}, bad = {0};
    Err e;
    make_bin(&good);
    static const struct { size_t at; const char *bytes; size_t n, keep; const char *message; } cases[] = {
        {0, "", 0, 0, "found 0 bytes"},
        {0, "", 0, 3, "found 3 bytes"},
        {0, "\0\0\0\0", 4, SIZE_MAX, "found max_token_length 0"},
        {0, "\xFF\xFF\xFF\xFF", 4, SIZE_MAX, "found max_token_length -1"},
        {0, "\1\20\0\0", 4, SIZE_MAX, "found max_token_length 4097"},
        {0, "\3\0\0\0", 4, SIZE_MAX, "piece 0: expected a length from 1 to 3, found 5"},
        {0, "", 0, 9, "piece 0: expected 8 bytes of score and length, found 5"},
        {0, "", 0, 14, "piece 0: expected 5 bytes, the file ends after 2"},
        {0, "", 0, 17, "expected 259 pieces (<unk>, <s>, </s>, 256 bytes) or more, up to 4194303, found 1"},
        {4, "\0\0\xC0\x7F", 4, SIZE_MAX, "piece 0: expected a finite score, found nan"},
        {8, "\xFF\xFF\xFF\xFF", 4, SIZE_MAX, "piece 0: expected a length from 1 to 8, found -1"},
        {12, "\0", 1, SIZE_MAX, "piece 0 has a NUL byte"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_clear(&bad);
        buf_add(&bad, good.data, good.len < cases[i].keep ? good.len : cases[i].keep);
        if (cases[i].n) memcpy(bad.data + cases[i].at, cases[i].bytes, cases[i].n);
        Tokenizer *t = load_bytes("bad.bin", bad.data, bad.len, &e);
        CHECK_FAILS(t, e, cases[i].message);
        CHECK_MSG(strstr(e.text, "bad.bin: ") && !strchr(e.text, '\n'), "%s", e.text);
        tokenizer_free(t);
    }
    CHECK_FAILS(tokenizer_load("/nonexistent/tokenizer.bin", &e), e, "cannot open");
    buf_free(&good);
    buf_free(&bad);
}

// ---- goldens -------------------------------------------------------------------------------------------------------

// A tokenizer of the fixture: its own parts, with the shared model it names put in.
static Tokenizer *load_case(const cJSON *fixture, const cJSON *item, Err *e)
{
    cJSON *json = cJSON_Duplicate(json_get(item, "tokenizer"), true);
    cJSON *model = cJSON_Duplicate(json_get(json_get(fixture, "models"), json_string(item, "model")), true);
    const cJSON *change;
    cJSON_ArrayForEach(change, json_get(item, "change")) {
        cJSON_DeleteItemFromObjectCaseSensitive(model, change->string);
        cJSON_AddItemToObject(model, change->string, cJSON_Duplicate(change, true));
    }
    cJSON_AddItemToObject(json, "model", model);
    char *text = cJSON_PrintUnformatted(json);
    Tokenizer *t = load_bytes("tokenizer.json", text, strlen(text), e);
    free(text);
    cJSON_Delete(json);
    return t;
}

// Goldens know the ranges of NFC texts only by their first character (see tokenizer.h for ours).
static bool check_row(const Tokenizer *t, const cJSON *row, bool check_ranges)
{
    Err e;
    Encoding enc = {0};
    const char *text = json_string(row, "text"), *dec = json_string(row, "dec"), *skip = json_string(row, "skip");
    unsigned flags = cJSON_IsTrue(json_get(row, "add")) ? BOTH : PARSE_SPECIAL;
    bool ok = tokenizer_encode(t, text, strlen(text), flags, &enc, &e) &&
              same_ids(enc.ids, enc.n, json_get(row, "ids")) &&
              decodes_to(t, enc.ids, enc.n, false, dec, strlen(dec)) &&
              decodes_to(t, enc.ids, enc.n, true, skip, strlen(skip));
    const cJSON *offset = json_get(row, "offsets")->child;
    for (size_t i = 0; ok && check_ranges && i < enc.n; i++, offset = offset->next->next)
        ok = offset->valuedouble == (double)enc.begin[i] && offset->next->valuedouble == (double)enc.end[i];
    encoding_free(&enc);
    return ok;
}

static void test_goldens(void)
{
    Err e;
    cJSON *fixture = json_load("tests/fixtures/tokenizer_cases.json", &e);
    if (!CHECK_MSG(fixture, "%s", e.text)) return;
    const cJSON *item, *row;
    int n = 0;
    cJSON_ArrayForEach(item, json_get(fixture, "cases")) {
        const char *name = json_string(item, "name");
        Tokenizer *t = load_case(fixture, item, &e);
        if (!CHECK_MSG(t, "%s: %s", name, e.text)) continue;
        cJSON_ArrayForEach(row, json_get(item, "rows")) {
            bool is_nfc = strcmp(name, "qwen") != 0 || !strstr(json_string(row, "text"), "e\xCC\x81");
            n += CHECK_MSG(check_row(t, row, is_nfc), "%s: \"%s\"", name, json_string(row, "text"));
        }
        tokenizer_free(t);
    }
    printf("     goldens: %d\n", n);
    cJSON_Delete(fixture);
}

// ---- parts ---------------------------------------------------------------------------------------------------------

#define LLAMA3 "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" \
               " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" \
             "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static void test_split(void)
{
    static const struct { const char *regex, *text, *parts; } cases[] = {
        {pattern_gpt2, "it's IT'S  a1b 2 !?\n\nx ", "it|'s| IT|'|S| | a|1|b| 2| !?|\n|\n|x| "},
        {pattern_gpt2, "'ll'x ''re", "'ll|'|x| ''|re"},
        {LLAMA3, "it's IT'S  a1b 12345!\n\n \nx", "it|'s| IT|'S| | a|1|b| |123|45|!\n\n| \n|x"},
        {LLAMA3, "'\xC5\xBFt \xC2\xA0x   y\t\tz", "'\xC5\xBF|t| |\xC2\xA0x|  | y|\t|\tz"},
        {LLAMA3, "_foo(bar) \r\n\r\n  q  ", "_foo|(bar|)| \r\n\r\n| | q|  "},
        {QWEN, "12 \xC2\xBD\xE2\x85\xA7!", "1|2| |\xC2\xBD|\xE2\x85\xA7|!"},
        {QWEN, "e\xCC\x81x \xCC\x81!", "e|\xCC\x81x| \xCC\x81!"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Step step = {.kind = STEP_PATTERN, .pattern = pattern_find(cases[i].regex)};
        if (!CHECK(step.pattern)) continue;
        Buf b = {0};
        const char *end = cases[i].text + strlen(cases[i].text);
        for (const char *p = cases[i].text; p < end;) {
            size_t n = step_split(&step, p, end);
            if (p != cases[i].text) buf_addc(&b, '|');
            buf_add(&b, p, n);
            p += n;
        }
        CHECK_STR(b.data, cases[i].parts);
        buf_free(&b);
    }
    CHECK(!pattern_find("\\s+"));
}

static void test_nfc(void)
{
    // ranges: begin-end of the original bytes, for each character of the result
    static const struct { const char *text, *nfc, *ranges; } cases[] = {
        {"abc", "abc", "0-1 1-2 2-3"},
        {"xe\xCC\x81y", "x\xC3\xA9y", "0-1 1-4 4-5"},
        {"x\xCC\x81y", "x\xCC\x81y", "0-1 1-3 3-4"},  // nothing to compose
        {"o\xCC\x82\xCC\xA3", "\xE1\xBB\x99", "0-5"},                            // reordered, then one character
        {"q\xCC\x87\xCC\xA3!", "q\xCC\xA3\xCC\x87!", "0-5 0-5 0-5 5-6"},         // reordered only
        {"a\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB\xEA\xB0\x80\xE1\x86\xA8", "a\xED\x95\x9C\xEA\xB0\x81",
         "0-1 1-10 10-16"},                                                    // Hangul: L V T, LV T
        {"\xE1\x84\x92\xE1\x85\xA1\xE1\x85\xA1", "\xED\x95\x98\xE1\x85\xA1", "0-6 6-9"},
        {"b\xEF\xA4\x80", "b\xE8\xB1\x88", "0-1 1-4"},  // a singleton
        {"\xCD\x84", "\xCC\x88\xCC\x81", "0-2 0-2"},
        {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC", "0-3 0-3"},                 // excluded from composition
        {"\xE0\xAD\x87\xCC\x80\xE0\xAC\xBE", "\xE0\xAD\x87\xCC\x80\xE0\xAC\xBE", "0-3 3-5 5-8"},  // blocked
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Step step = {.kind = STEP_NFC};
        MappedText out = {.cap = 0};
        Segment s = step_apply(&step, (Segment){cases[i].text, strlen(cases[i].text), NULL, 0}, &out);
        char *text = mem_strndup(s.text, s.len);
        Buf ranges = {0};
        for (size_t at = 0, n; at < s.len; at += n) {
            char_class(s.text + at, s.text + s.len, &n);
            ByteRange r = segment_range(s, at, at + n);
            buf_addf(&ranges, "%s%u-%u", at ? " " : "", r.begin, r.end);
        }
        CHECK_STR(text, cases[i].nfc);
        CHECK_STR(ranges.data, cases[i].ranges);
        free(text);
        buf_free(&ranges);
        mapped_free(&out);
    }
}

// ---- tokenizer.json by hand ----------------------------------------------------------------------------------------

#define VOCAB "{'a':0,'b':1,'c':2,'ab':3,'bc':4,' ':5}"
#define MODEL "'model':{'type':'BPE','vocab':" VOCAB ",'merges':['a b',['b','c']]}"

static Tokenizer *load_text(const char *json, Err *e) { return load_bytes("tokenizer.json", json, strlen(json), e); }

#define X16 "xxxxxxxxxxxxxxxx"
#define X129 X16 X16 X16 X16 X16 X16 X16 X16 "x"
#define R9 "{'type':'Replace','pattern':{'String':'x'},'content':'xxxxxxxxx'}"
#define DIGITS "{'type':'Digits'}"
#define D4 DIGITS "," DIGITS "," DIGITS "," DIGITS

static void test_bad_json(void)
{
    static const struct { const char *json, *message; } cases[] = {
        {"{", "broken JSON"},
        {"{}", "model: expected an object, found nothing"},
        {"{'model':3}", "model: expected an object, found a number"},
        {"{'model':{'type':'Unigram','vocab':[]}}", "model.type: expected BPE, found Unigram"},
        {"{'model':{'type':'BPE'}}", "model.vocab: expected an object of pieces and ids, found nothing"},
        {"{'model':{'vocab':{}}}", "model.vocab: expected an object of pieces and ids, found none"},
        {"{'model':{'vocab':{'a':0}}}", "model.merges: expected a list, found nothing"},
        {"{'model':{'vocab':{'a':-1},'merges':[]}}", "model.vocab: 'a': expected an id from 0 to 4194303, found -1"},
        {"{'model':{'vocab':{'a':1e9},'merges':[]}}", "'a': expected an id from 0 to 4194303, found 1000000000"},
        {"{'model':{'vocab':{'a':0.5},'merges':[]}}", "'a': expected an id from 0 to 4194303, found 0.5"},
        {"{'model':{'vocab':{'a':'x'},'merges':[]}}", "'a': expected an id from 0 to 4194303, found a string"},
        {"{'model':{'vocab':{'a':0,'b':0},'merges':[]}}", "model.vocab: 'a' and 'b' both have the id 0"},
        {"{'model':{'vocab':{'a':0,'a':1},'merges':[]}}", "the key 'a' stands twice in an object"},
        {"{'model':{'vocab':" VOCAB ",'merges':['ab']}}",
         "model.merges[0]: expected 'a b' or ['a', 'b'], found a string ab"},
        {"{'model':{'vocab':" VOCAB ",'merges':['a b c']}}", "model.merges[0]: expected"},
        {"{'model':{'vocab':" VOCAB ",'merges':['a b',['a']]}}", "model.merges[1]: expected"},
        {"{'model':{'vocab':" VOCAB ",'merges':[7]}}", "found a number"},
        {"{'model':{'vocab':" VOCAB ",'merges':['a x']}}", "model.merges[0]: 'x' is not in model.vocab"},
        {"{'model':{'vocab':" VOCAB ",'merges':['a c']}}", "model.merges[0]: 'ac' is not in model.vocab"},
        {"{'model':{'vocab':" VOCAB ",'merges':[],'unk_token':'?'}}", "model.unk_token: '?' is not in model.vocab"},
        {"{'model':{'vocab':" VOCAB ",'merges':[],'dropout':0.1}}", "model.dropout: expected null or 0"},
        {"{'model':{'vocab':" VOCAB ",'merges':[],'end_of_word_suffix':'</w>'}}",
         "model.end_of_word_suffix: expected none, found '</w>'"},
        {"{'model':{'vocab':" VOCAB ",'merges':[],'fuse_unk':1}}", "model.fuse_unk: expected true or false, found 1"},
        {"{" MODEL ",'added_tokens':{}}", "added_tokens: expected a list, found an object"},
        {"{" MODEL ",'added_tokens':[{'id':9}]}", "added_tokens[0].content: expected a string, found nothing"},
        {"{" MODEL ",'added_tokens':[{'content':'x'}]}",
         "added_tokens: 'x': expected an id from 0 to 4194303, found nothing"},
        {"{" MODEL ",'added_tokens':[{'id':0,'content':'x'}]}", "added_tokens: 'a' and 'x' both have the id 0"},
        {"{" MODEL ",'added_tokens':[{'id':9,'content':'a'}]}",
         "added_tokens: 'a' has two ids, 0 in model.vocab and 9"},
        {"{" MODEL ",'added_tokens':[{'id':9,'content':'x','lstrip':0}]}",
         "added_tokens.lstrip: expected true or false"},
        {"{" MODEL ",'normalizer':{'type':'NFKC'}}",
         "normalizer: expected NFC, Prepend, Replace or Sequence, found NFKC"},
        {"{" MODEL ",'normalizer':[]}", "normalizer: expected an object with a type, found a list"},
        {"{" MODEL ",'normalizer':{'type':'Sequence'}}", "normalizer.normalizers: expected a list, found nothing"},
        {"{" MODEL ",'normalizer':{'type':'Prepend'}}", "normalizer.prepend: expected a string, found nothing"},
        {"{" MODEL ",'normalizer':{'type':'Replace','pattern':{'Regex':' +'},'content':'x'}}", "found the Regex  +"},
        {"{" MODEL ",'normalizer':{'type':'Replace','pattern':{'String':''},'content':'x'}}",
         "a String that is not empty"},
        {"{" MODEL ",'normalizer':{'type':'Replace','pattern':{'String':'ab'},'content':'" X129 "'}}",
         "normalizer: expected to make a text at most 64 times longer"},
        {"{" MODEL ",'decoder':{'type':'Sequence','decoders':[" R9 "," R9 "," R9 "]}}",
         "decoder: expected to make a text at most 64 times longer"},
        {"{" MODEL ",'normalizer':{'type':'Prepend','prepend':'" X129 X129 "'}}",
         "normalizer: expected at most 256 bytes to prepend, found 258"},
        {"{" MODEL ",'pre_tokenizer':{'type':'Sequence','pretokenizers':[" D4 "," D4 "," D4 "," D4 "," D4 "]}}",
         "pre_tokenizer: expected at most 16 steps"},
        {"{" MODEL ",'added_tokens':[{'id':4000000,'content':'x'}]}",
         "expected ids up to about 7 for as many pieces, found 4000000"},
        {"{" MODEL ",'pre_tokenizer':{'type':'Whitespace'}}",
         "pre_tokenizer: expected Split, Digits, ByteLevel, Metaspace or Sequence, found Whitespace"},
        {"{" MODEL ",'pre_tokenizer':{'type':'Split','pattern':{'Regex':'\\\\w+'}}}", "found the Regex \\w+"},
        {"{" MODEL ",'pre_tokenizer':{'type':'Split','pattern':{'String':' '}}}",
         "pre_tokenizer Split: expected the Regex of GPT-2, Llama 3 or Qwen 2, found the String  "},
        {"{" MODEL ",'pre_tokenizer':{'type':'Sequence','pretokenizers':"
         "[{'type':'ByteLevel'},{'type':'Digits'}]}}",
         "expected ByteLevel to be the last, found Digits after it"},
        {"{" MODEL ",'pre_tokenizer':{'type':'Metaspace','replacement':'__'}}",
         "pre_tokenizer.replacement: expected one character, found '__'"},
        {"{" MODEL ",'pre_tokenizer':{'type':'Metaspace','replacement':'_','prepend_scheme':'last'}}",
         "expected first, always or never, found last"},
        {"{" MODEL ",'post_processor':{'type':'BertProcessing'}}",
         "post_processor: expected ByteLevel, TemplateProcessing or Sequence, found BertProcessing"},
        {"{" MODEL ",'post_processor':{'type':'TemplateProcessing','single':[]}}",
         "post_processor.single: expected a Sequence A, found none"},
        {"{" MODEL ",'post_processor':{'type':'TemplateProcessing','single':[{'Sequence':{'id':'B'}}]}}",
         "expected SpecialTokens and one Sequence A"},
        {"{" MODEL ",'post_processor':{'type':'TemplateProcessing','single':"
         "[{'SpecialToken':{'id':'x'}}]}}",
         "post_processor.special_tokens: expected ids of 'x', found nothing"},
        {"{" MODEL ",'post_processor':{'type':'TemplateProcessing','single':"
         "[{'SpecialToken':{'id':'x'}}],'special_tokens':{'x':{'ids':[6]}}}}",
         "expected ids of 'x' from 0 to 5"},
        {"{" MODEL ",'decoder':{'type':'WordPiece'}}",
         "decoder: expected ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace or Sequence, found WordPiece"},
        {"{" MODEL ",'decoder':{'type':'Strip','content':' ','start':-1}}",
         "decoder.start: expected a whole number from 0 to 2147483647, found -1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Err e = {""};
        Tokenizer *t = load_text(quoted(cases[i].json), &e);
        CHECK_FAILS(t, e, quoted(cases[i].message));
        CHECK_MSG(strstr(e.text, "tokenizer.json:") && !strchr(e.text, '\n'), "%s", e.text);
        tokenizer_free(t);
    }
}

static void test_json(void)
{
    Err e;
    Tokenizer *t = load_text(quoted("{" MODEL ",'added_tokens':[{'id':8,'content':'<x>','special':true}],"
                                    "'truncation':{'max_length':2}}"), &e);
    if (!CHECK_MSG(t, "%s", e.text)) return;
    CHECK(tokenizer_vocab_size(t) == 9);
    CHECK(tokenizer_bos(t) == -1 && tokenizer_eos(t) == -1);
    CHECK_STR(tokenizer_piece(t, 7), "");                             // a hole
    check_encode(t, "abcz<x>bc", 9, BOTH, "3 2 8 4");                 // "z" is not in the vocabulary and vanishes
    check_encode(t, "a<x>", 4, ADD_SPECIAL_TOKENS, "0");
    CHECK(decodes_to(t, (int[]){3, 7, 8, 2}, 4, false, "ab <x> c", 8));
    CHECK(decodes_to(t, (int[]){3, 8, 2}, 3, true, "ab c", 4));
    CHECK_STR(json_kind(tokenizer_special_tokens(t)->child), "nothing");
    Encoding enc = {0};
    CHECK_FAILS(tokenizer_encode(t, "ab\xFF", 3, PARSE_SPECIAL, &enc, &e), e, "invalid UTF-8: byte 0xFF at offset 2");
    encoding_free(&enc);
    tokenizer_free(t);
}

static void test_config(void)
{
    temp_text("tokenizer.json", quoted("{" MODEL ",'added_tokens':[{'id':6,'content':'<s>','special':true}]}"));
    temp_text("tokenizer_config.json", quoted("{'bos_token':{'content':'<s>','special':true},'eos_token':'ab',"
        "'unk_token':null,'add_bos_token':true,'image_token':'<i>',"
        "'additional_special_tokens':['x',{'content':'y'}],"
        "'chat_template':[{'name':'tool_use','template':'T'},{'name':'default','template':'D'}]}"));
    temp_text("special_tokens_map.json", quoted("{'bos_token':'c','unk_token':'c','pad_token':{'content':'b'}}"));
    Tokenizer *t = load_or_report(temp_dir);
    if (!t) return;
    const cJSON *tokens = tokenizer_special_tokens(t), *more = json_get(tokens, "additional_special_tokens");
    CHECK_STR(json_string(tokens, "bos_token"), "c");     // transformers 5: the map comes first
    CHECK_STR(json_string(tokens, "eos_token"), "ab");
    CHECK_STR(json_string(tokens, "pad_token"), "b");
    CHECK_STR(json_string(tokens, "image_token"), "<i>");
    CHECK_STR(json_string(tokens, "unk_token"), "c");
    CHECK(!json_get(tokens, "add_bos_token"));
    CHECK(cJSON_GetArraySize(more) == 2 && strcmp(more->child->next->valuestring, "y") == 0);
    CHECK(tokenizer_bos(t) == tokenizer_id(t, "c") && tokenizer_eos(t) == 3);
    CHECK_STR(tokenizer_chat_template(t), "D");
    CHECK_STR(tokenizer_named_template(t, "tool_use"), "T");
    tokenizer_free(t);

    temp_text("chat_template.jinja", "{{ messages }}\n");
    t = load_or_report(temp_path("tokenizer.json"));
    if (t) CHECK_STR(tokenizer_chat_template(t), "{{ messages }}\n");
    tokenizer_free(t);
    Err e;
    temp_text("chat_template.jinja", "\xFF");
    CHECK_FAILS(tokenizer_load(temp_path("tokenizer.json"), &e), e, "chat_template.jinja: invalid UTF-8 at byte 0");
    temp_text("tokenizer_config.json", "[]");
    temp_text("chat_template.jinja", "");
    CHECK_FAILS(tokenizer_load(temp_path("tokenizer.json"), &e), e,
                "tokenizer_config.json: expected an object, found a list");
    temp_end();
    temp_begin();
}

// Long texts that would be quadratic for a naive merge loop, NFC or search; they only have to come to an end.
static void test_long(void)
{
    Err e;
    Buf file = {0}, text = {0};
    make_bin(&file);
    Tokenizer *bin = load_bytes("tokenizer.bin", file.data, file.len, &e);
    Tokenizer *json = load_text(quoted("{" MODEL ",'normalizer':{'type':'NFC'},'added_tokens':"
                                       "[{'id':6,'content':'\\n','lstrip':true,'rstrip':true}]}"), &e);
    if (!CHECK(bin && json)) return;
    Encoding enc = {0};
    for (int kind = 0; kind < 4; kind++) {
        buf_clear(&text);
        for (int i = 0; text.len < 1000000; i++)
            buf_adds(&text, kind == 0 ? "abc" : kind == 1 ? " " : kind == 2 ? "\n" : i % 2 ? "\xCC\xA3" : "\xCC\x81");
        CHECK(tokenizer_encode(bin, text.data, text.len, BOTH, &enc, &e) && enc.n > 300000);
        CHECK(tokenizer_encode(json, text.data, text.len, BOTH, &enc, &e));
    }
    tokenizer_free(bin);
    tokenizer_free(json);
    encoding_free(&enc);
    buf_free(&file);
    buf_free(&text);
}

// ---- export --------------------------------------------------------------------------------------------------------

static bool same_bytes(const char *path, const void *bytes, size_t n)
{
    Err e;
    File f;
    bool same = file_map(&f, path, &e) && f.size == n && memcmp(f.data, bytes, n) == 0;
    file_unmap(&f);
    return same;
}

static void check_same_ids(const Tokenizer *a, const Tokenizer *b)
{
    static const char *const texts[] = {"", "a", "b", "babc", "ab", "cc", "abcabc ab", "bcab  bc   a", "<s>b</s>a\n",
                                        "\xC3\xA9\xE4\xBD\xA0\t\"\\", "     ", "a      abc"};
    Err e;
    Encoding x = {0}, y = {0};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t len = strlen(texts[i]);
        bool ok = tokenizer_encode(a, texts[i], len, BOTH, &x, &e) &&
                  tokenizer_encode(b, texts[i], len, BOTH, &y, &e);
        CHECK_MSG(ok && x.n == y.n && (x.n == 0 || memcmp(x.ids, y.ids, x.n * sizeof *x.ids) == 0), "\"%s\"", texts[i]);
    }
    encoding_free(&x);
    encoding_free(&y);
}

// Writes a tokenizer in its other format (the folder is the temporary one) and reads that; NULL and e on failure.
static Tokenizer *convert(const Tokenizer *t, Err *e)
{
    const char *path = tokenizer_is_bin(t) ? temp_dir : temp_path("out.bin");
    bool ok = tokenizer_is_bin(t) ? tokenizer_export_folder(t, path, e) : tokenizer_export_bin(t, path, e);
    return ok ? tokenizer_load(path, e) : NULL;
}

// tokenizer.bin -> folder -> tokenizer.bin: the same ids everywhere; the same bytes if the scores can be told.
static void check_there_and_back(const void *bin, size_t n, bool same)
{
    Err e;
    Tokenizer *t = load_bytes("in.bin", bin, n, &e), *there = t ? convert(t, &e) : NULL;
    Tokenizer *back = there ? convert(there, &e) : NULL;
    if (CHECK_MSG(back, "%s", e.text)) {
        CHECK(!tokenizer_is_bin(there) && tokenizer_is_bin(back));
        CHECK_STR(json_string(tokenizer_special_tokens(there), "eos_token"), "</s>");
        CHECK(tokenizer_bos(there) == 1 && tokenizer_eos(there) == 2);
        check_same_ids(t, there);
        check_same_ids(t, back);
        CHECK(same_bytes(temp_path("out.bin"), bin, n) == same);
    }
    tokenizer_free(t);
    tokenizer_free(there);
    tokenizer_free(back);
}

// Scores as SentencePiece gives them, with runs of spaces as in Llama 2.
static void make_spaces_bin(Buf *b)
{
    static const char *const more[] = {"  ", "ab", "   ", "a", " ", "b", "\"\\\n\x01"};
    make_bin(b);
    b->len = 4 + 259 * 8 + 5 + 5 + 6 + 256 * 6;                       // the fixed pieces alone
    b->data[0] = 6;                                                   // the longest of them
    for (int i = 0; i < 7; i++) bin_piece(b, i == 0 || i == 2 || i == 4 ? -1e9f : -(float)i, more[i]);
}

// The bin as a tokenizer.json with its merges in another order, and that as a tokenizer.bin again; "_" is a space.
static void check_merge_order(const void *bin, size_t n, const char *merges)
{
    Err e;
    Buf list = {0};
    for (; *merges; merges++) buf_adds(&list, *merges == '_' ? SPACE_MARK : (char[]){*merges, 0});
    Tokenizer *t = load_bytes("in.bin", bin, n, &e);
    tokenizer_free(convert(t, &e));
    cJSON *root = json_load(temp_path("tokenizer.json"), &e), *model = cJSON_GetObjectItemCaseSensitive(root, "model");
    cJSON_ReplaceItemInObjectCaseSensitive(model, "merges", cJSON_Parse(list.data));
    char *text = cJSON_Print(root);
    Tokenizer *there = load_text(text, &e), *back = there ? convert(there, &e) : NULL;
    if (CHECK_MSG(back, "%s", e.text)) check_same_ids(there, back);
    tokenizer_free(t);
    tokenizer_free(there);
    tokenizer_free(back);
    cJSON_Delete(root);
    buf_free(&list);
    free(text);
}

static void test_export(void)
{
    Err e;
    Buf file = {0};
    File f;
    make_bin(&file);
    check_there_and_back(file.data, file.len, false);                 // scores of its own, ties among them
    if (CHECK(file_map(&f, temp_path("out.bin"), &e))) check_there_and_back(f.data, f.size, true);
    file_unmap(&f);
    buf_clear(&file);
    make_spaces_bin(&file);
    check_there_and_back(file.data, file.len, true);

    check_merge_order(file.data, file.len, quoted("['_ _','_ __','__ _','a b']"));
    check_merge_order(file.data, file.len, quoted("['a b','_ _','_ __','__ _']"));
    check_merge_order(file.data, file.len, quoted("['_ __','__ _','_ _','a b']"));
    check_merge_order(file.data, file.len, quoted("['a b']"));

    temp_text("chat_template.jinja", "{{ messages }}\n");                   // goes along both ways
    Tokenizer *t = load_bytes("in.bin", file.data, file.len, &e);
    temp_text("chat_template.jinja", "another");
    Tokenizer *there = convert(t, &e);
    temp_text("chat_template.jinja", "another");
    Tokenizer *back = convert(there, &e);
    if (CHECK(there && back)) {
        CHECK_STR(tokenizer_chat_template(there), "{{ messages }}\n");
        CHECK_STR(tokenizer_chat_template(back), "{{ messages }}\n");
    }
    CHECK_FAILS(tokenizer_export_folder(t, "/nonexistent", &e), e, "/nonexistent/tokenizer.json: cannot write");
    CHECK_FAILS(tokenizer_export_bin(there, "/nonexistent/t.bin", &e), e, "/nonexistent/t.bin: cannot write");
    tokenizer_free(t);
    tokenizer_free(there);
    tokenizer_free(back);
    buf_free(&file);
    temp_end();
    temp_begin();
}

static void test_bad_export(void)
{
    static const struct { const char *piece, *second, *message; } bins[] = {
        {"x\xFF", NULL, "this tokenizer.bin cannot become a tokenizer.json: piece 270 is not UTF-8: byte 0xFF"},
        {"\xE2\x96\x81", NULL, "piece 270, '\xE2\x96\x81': its '\xE2\x96\x81' would mean ' ' there"},
        {"ab", NULL, "pieces 265 and 270 would both be spelled 'ab'"},
        {"</s>", NULL, "pieces 2 and 270 would both be spelled '</s>'"},
        {"\n<s>", "\n", "the merge of pieces 270 and 271 would not make piece 1"},
    };
    static const struct { const char *parent, *key, *value, *message; } jsons[] = {
        {NULL, "pre_tokenizer", "{'type':'ByteLevel'}", "cannot become a tokenizer.bin: it is byte-level"},
        {NULL, "pre_tokenizer", "{'type':'Digits'}", "expected the normalizers Prepend"},
        {NULL, "normalizer", "null", "expected the normalizers Prepend"},
        {NULL, "post_processor", "null", "expected a post_processor that adds <s> in front and nothing else"},
        {NULL, "added_tokens", "[{'id':270,'content':'<pad>','special':true}]", "it has an added token '<pad>'"},
        {NULL, "added_tokens", "[{'id':2,'content':'</s>','special':true,'rstrip':true}]",
         "the added token </s> is normalized, lstrip, rstrip, single_word or not special"},
        {"model", "ignore_merges", "true", "it has ignore_merges"},
        {"model", "byte_fallback", "false", "it has no byte_fallback"},
        {"model", "vocab", "{'<unk>':0,'<s>':1,'</s>':2,'a\\n':3}", "expected piece 3 to be <0x00>, found 'a '"},
        {"model", "merges", "['a b','b c','ab c']", "expected merges of all 2 cuts of 'abc' into two pieces, found 1"},
        {"model", "merges", "['a b','b c','ab c','c c','a bc']", "the merges that make 'abc' do not stand together"},
        {"vocab", " ", "270", "piece 270, ' ': its ' ' would mean '\xE2\x96\x81' there"},
    };
    Err e;
    Buf file = {0};
    for (size_t i = 0; i < sizeof bins / sizeof *bins; i++) {
        buf_clear(&file);
        make_bin(&file);
        bin_piece(&file, -20, bins[i].piece);
        if (bins[i].second) bin_piece(&file, -21, bins[i].second);
        Tokenizer *t = load_bytes("in.bin", file.data, file.len, &e);
        CHECK_FAILS(t && tokenizer_export_folder(t, temp_dir, &e), e, quoted(bins[i].message));
        tokenizer_free(t);
    }
    buf_clear(&file);
    make_bin(&file);
    Tokenizer *good = load_bytes("in.bin", file.data, file.len, &e);
    CHECK_MSG(tokenizer_export_folder(good, temp_dir, &e), "%s", e.text);
    cJSON *root = json_load(temp_path("tokenizer.json"), &e);
    for (size_t i = 0; i < sizeof jsons / sizeof *jsons; i++) {
        cJSON *copy = cJSON_Duplicate(root, true), *model = cJSON_GetObjectItemCaseSensitive(copy, "model");
        cJSON *parent = !jsons[i].parent ? copy : strcmp(jsons[i].parent, "model") == 0 ? model
                                                : cJSON_GetObjectItemCaseSensitive(model, "vocab");
        cJSON_DeleteItemFromObjectCaseSensitive(parent, jsons[i].key);
        cJSON_AddItemToObject(parent, jsons[i].key, cJSON_Parse(quoted(jsons[i].value)));
        if (strcmp(jsons[i].key, "vocab") == 0) {
            cJSON_DeleteItemFromObjectCaseSensitive(model, "merges");
            cJSON_AddArrayToObject(model, "merges");
        }
        char *text = cJSON_Print(copy);
        Tokenizer *t = load_text(text, &e);
        CHECK_FAILS(t && tokenizer_export_bin(t, temp_path("out.bin"), &e), e, quoted(jsons[i].message));
        CHECK_MSG(!strchr(e.text, '\n'), "%s", e.text);
        tokenizer_free(t);
        free(text);
        cJSON_Delete(copy);
    }
    temp_text("tokenizer_config.json", quoted("{'bos_token':'<s>','eos_token':'a'}"));
    char *text = cJSON_Print(root);
    Tokenizer *t = load_text(text, &e);
    CHECK_FAILS(t && tokenizer_export_bin(t, temp_path("out.bin"), &e), e,
                "expected <s> and </s> as bos_token and eos_token");
    tokenizer_free(t);
    tokenizer_free(good);
    free(text);
    cJSON_Delete(root);
    buf_free(&file);
    temp_end();
    temp_begin();
}

// ---- vectors -------------------------------------------------------------------------------------------------------

// The lines of a JSONL file as one list.
static cJSON *load_lines(const char *path)
{
    Err e;
    File f;
    cJSON *list = cJSON_CreateArray();
    if (!CHECK_MSG(file_map(&f, path, &e), "%s", e.text)) return list;
    const char *p = (const char *)f.data, *end = p + f.size;
    for (size_t line = 1; p < end; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) stop = end;
        cJSON *row = json_parse(p, (size_t)(stop - p), path, line, &e);
        if (CHECK_MSG(row, "%s", e.text)) cJSON_AddItemToArray(list, row);
        p = stop + 1;
    }
    file_unmap(&f);
    return list;
}

static const cJSON *find_row(const cJSON *list, const char *key, const char *value)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, list) {
        const char *found = json_string(row, key);
        if (found && strcmp(found, value) == 0) return row;
    }
    return NULL;
}

static void add_hex(Buf *b, const char *hex)
{
    for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2) buf_addc(b, (char)byte);
}

// The text of a vector, and what decoding must give.
static void vector_texts(const cJSON *row, const cJSON *strings, Buf *text, Buf *dec)
{
    const char *hex = json_string(row, "text_hex"), *dec_hex = json_string(row, "dec_hex");
    const char *plain_dec = json_string(row, "dec");
    buf_clear(text);
    buf_clear(dec);
    buf_add(text, "", 0);
    if (hex) add_hex(text, hex);
    else buf_adds(text, json_string(find_row(strings, "id", json_string(row, "id")), "text"));
    buf_add(dec, "", 0);
    if (dec_hex) add_hex(dec, dec_hex);
    else if (plain_dec) buf_adds(dec, plain_dec);
    else buf_add(dec, text->data, text->len);
}

static bool check_vector(const Tokenizer *t, const cJSON *row, const cJSON *strings, bool bin)
{
    Err e;
    Buf text = {0}, dec = {0};
    Encoding enc = {0}, plain = {0};
    vector_texts(row, strings, &text, &dec);
    const cJSON *ids = json_get(row, "ids"), *plain_ids = json_get(row, "plain");
    const char *skip = json_string(row, "skip"), *id = json_string(row, "id");
    bool ok = tokenizer_encode(t, text.data, text.len, bin ? 0 : PARSE_SPECIAL, &enc, &e) &&
              same_ids(enc.ids, enc.n, ids) &&
              decodes_to(t, enc.ids, enc.n, false, dec.data, dec.len) &&
              decodes_to(t, enc.ids, enc.n, true, skip ? skip : dec.data, skip ? strlen(skip) : dec.len) &&
              tokenizer_encode(t, text.data, text.len, 0, &plain, &e);
    // The oracle made "plain" by taking the special tokens out of the file, which renumbered Qwen's <think>.
    bool renumbered = strcmp(id, "specials-46") == 0 && plain.n && tokenizer_vocab_size(t) > 151643;
    ok = ok && (renumbered || same_ids(plain.ids, plain.n, plain_ids ? plain_ids : ids));
    encoding_free(&enc);
    encoding_free(&plain);
    buf_free(&text);
    buf_free(&dec);
    return ok;
}

static void check_vectors(const char *name, const char *path, bool bin, const cJSON *strings, int *n_ok, int *n)
{
    Buf file = {0};
    buf_addf(&file, SHARED "vectors/tokenization/%s.jsonl", name);
    Tokenizer *t = load_or_report(path);
    cJSON *rows = load_lines(file.data);
    for (const cJSON *row = t && rows->child ? rows->child->next : NULL; row; row = row->next) {
        (*n)++;
        *n_ok += CHECK_MSG(check_vector(t, row, strings, bin), "%s: %s", name, json_string(row, "id"));
    }
    cJSON_Delete(rows);
    tokenizer_free(t);
    buf_free(&file);
}

static void test_vectors(void)
{
    FOLDER_OR_SKIP(SHARED "vectors/tokenization");
    FOLDER_OR_SKIP(SHARED "tokenizers");
    static const char *const names[] = {"gpt2", "llama2", "llama2_metaspace", "llama3_1", "minimind", "mistral_v01",
                                        "phi3_like", "qwen3", "smollm2", "tok512_hf"};
    cJSON *strings = load_lines(SHARED "vectors/tokenization/strings.jsonl");
    int n_ok = 0, n = 0;
    check_vectors("tok512_llama2c", SHARED "models/tok512.bin", true, strings, &n_ok, &n);
    check_vectors("llama2_llama2c", SHARED "models/tokenizer.bin", true, strings, &n_ok, &n);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Buf path = {0};
        buf_addf(&path, SHARED "tokenizers/%s", names[i]);
        check_vectors(names[i], path.data, false, strings, &n_ok, &n);
        buf_free(&path);
    }
    printf("     tokenization vectors: %d of %d\n", n_ok, n);
    cJSON_Delete(strings);
}

// llama2.c's own files there and back, and what Hugging Face has of the same vocabularies.
static void test_export_shared(void)
{
    FOLDER_OR_SKIP(SHARED "vectors/tokenization");
    FOLDER_OR_SKIP(SHARED "models");
    FOLDER_OR_SKIP(SHARED "tokenizers");
    static const struct { const char *bin, *folder, *vectors; } cases[] = {
        {SHARED "models/tok512.bin", SHARED "tokenizers/tok512_hf", "tok512_hf"},
        {SHARED "models/tokenizer.bin", SHARED "tokenizers/llama2", "llama2"},
    };
    Err e;
    cJSON *strings = load_lines(SHARED "vectors/tokenization/strings.jsonl");
    int n_ok = 0, n = 0;
    for (size_t i = 0; i < 2; i++) {
        File f;
        if (!CHECK_MSG(file_map(&f, cases[i].bin, &e), "%s", e.text)) continue;
        check_there_and_back(f.data, f.size, true);
        check_vectors(cases[i].vectors, temp_dir, false, strings, &n_ok, &n);
        Tokenizer *t = load_or_report(cases[i].folder), *bin = t ? convert(t, &e) : NULL;
        CHECK_MSG(bin && same_bytes(temp_path("out.bin"), f.data, f.size), "%s is not %s", cases[i].folder,
                  cases[i].bin);
        tokenizer_free(t);
        tokenizer_free(bin);
        file_unmap(&f);
    }
    Tokenizer *t = load_or_report(SHARED "tokenizers/mistral_v01"), *bin = t ? convert(t, &e) : NULL;
    if (CHECK_MSG(bin, "%s", e.text)) check_same_ids(t, bin);
    tokenizer_free(t);
    tokenizer_free(bin);
    printf("     exported tokenizers: %d of %d\n", n_ok, n);
    cJSON_Delete(strings);
}

// First token whose range contains the byte; enc->n if there is none.
static size_t token_at(const Encoding *enc, size_t byte)
{
    size_t i = 0;
    while (i < enc->n && !(enc->begin[i] <= byte && byte < enc->end[i])) i++;
    return i;
}

// The mask that transformers makes of generation spans: from the first token of a span to the first one that covers the
// first byte of its last character.
static bool check_label(const Tokenizer *t, const cJSON *label, const cJSON *chat)
{
    Err e;
    Encoding enc = {0};
    const char *text = json_string(chat, "text");
    if (!tokenizer_encode(t, text, strlen(text), PARSE_SPECIAL, &enc, &e)) return false;
    char *mask = mem_alloc(enc.n + 1, 1);
    memset(mask, '0', enc.n);
    const cJSON *span;
    cJSON_ArrayForEach(span, json_get(chat, "spans_utf8")) {
        size_t begin = (size_t)span->child->valuedouble, last = (size_t)span->child->next->valuedouble - 1;
        while (last > begin && ((unsigned char)text[last] & 0xC0) == 0x80) last--;
        for (size_t i = token_at(&enc, begin), stop = token_at(&enc, last); i < enc.n && i <= stop; i++) mask[i] = '1';
    }
    bool ok = same_ids(enc.ids, enc.n, json_get(label, "ids")) && strcmp(mask, json_string(label, "mask")) == 0;
    free(mask);
    encoding_free(&enc);
    return ok;
}

static void check_labels(const char *template, const char *name, const char *path, int *n_ok, int *n)
{
    Buf file = {0};
    Tokenizer *t = load_or_report(path);
    buf_addf(&file, SHARED "vectors/labels/assistant_only__%s__%s.jsonl", template, name);
    cJSON *labels = load_lines(file.data);
    buf_clear(&file);
    buf_addf(&file, SHARED "vectors/chat/%s.jsonl", template);
    cJSON *chats = load_lines(file.data);
    for (const cJSON *label = t && labels->child ? labels->child->next : NULL; label; label = label->next) {
        const cJSON *chat = find_row(chats, "conv", json_string(label, "conv"));
        if (!json_get(label, "mask") || !json_string(chat, "text")) continue;
        (*n)++;
        *n_ok += CHECK_MSG(check_label(t, label, chat), "%s %s: %s", template, path, json_string(label, "conv"));
    }
    cJSON_Delete(labels);
    cJSON_Delete(chats);
    tokenizer_free(t);
    buf_free(&file);
}

static void test_labels(void)
{
    FOLDER_OR_SKIP(SHARED "vectors/labels");
    FOLDER_OR_SKIP(SHARED "tokenizers");
    static const struct { const char *template, *name, *path; } cases[] = {
        {"llama2_training", "llama2", "tokenizers/llama2"},
        {"llama3_training", "llama3_1", "tokenizers/llama3_1"},
        {"phi3_training", "phi3_like", "tokenizers/phi3_like"},
        {"qwen2_5_training", "qwen3", "tokenizers/qwen3"},
        {"qwen3_training", "qwen3", "tokenizers/qwen3"},
        {"smollm2_training", "smollm2", "tokenizers/smollm2"},
        {"tinyllama_training", "tinyllama", "tokenizers/llama2"},     // the same vocabulary
        {"tinyllama_training", "tok512_hf", "tokenizers/tok512_hf"},
        {"tinyllama_training", "tok512_hf", "models/tok512.bin"},     // and llama2.c's form of it
    };
    int n_ok = 0, n = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Buf path = {0};
        buf_addf(&path, SHARED "%s", cases[i].path);
        check_labels(cases[i].template, cases[i].name, path.data, &n_ok, &n);
        buf_free(&path);
    }
    printf("     assistant masks: %d of %d\n", n_ok, n);
}

// Every text of up to 7 letters a and b, and every part of up to 4: the first place where all bytes are equal.
static void parts_are_found_where_they_first_stand(void)
{
    char text[7], part[4];
    for (unsigned t = 0; t < 8 << 7; t++)
        for (unsigned p = 0; p < 5 << 4; p++) {
            size_t len = t >> 7, n = p >> 4, at = 0;
            for (size_t i = 0; i < len; i++) text[i] = "ab"[t >> i & 1];
            for (size_t i = 0; i < n; i++) part[i] = "ab"[p >> i & 1];
            while (at + n <= len && memcmp(text + at, part, n) != 0) at++;
            const char *want = at + n <= len ? text + at : NULL;
            if (!CHECK_MSG(mem_find(text, len, part, n) == want, "%.*s in %.*s", (int)n, part, (int)len, text)) return;
        }
    CHECK(!mem_find(NULL, 0, "a", 1));
}

int main(void)
{
    temp_begin();
    RUN(parts_are_found_where_they_first_stand);
    RUN(test_bin);
    RUN(test_bad_bin);
    RUN(test_goldens);
    RUN(test_split);
    RUN(test_nfc);
    RUN(test_json);
    RUN(test_bad_json);
    RUN(test_config);
    RUN(test_long);
    RUN(test_export);
    RUN(test_bad_export);
    RUN(test_vectors);
    RUN(test_export_shared);
    RUN(test_labels);
    temp_end();
    return check_report();
}

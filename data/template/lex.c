// jinja_lex: template text -> tokens, one at a time, as the parser asks for them.
// Owns white space control: trim_blocks (the newline after a block tag goes), lstrip_blocks (blanks before a block tag
// that begins its line go), and the signs - and + at a tag's ends, which override both.
#include "jinja.h"

#include "../../tokenizer/unicode.h"

#include <stdlib.h>

static const char *const token_names[] = {
    [T_EOF] = "the end of the template", [T_DATA] = "text", [T_PRINT_BEGIN] = "{{", [T_PRINT_END] = "}}",
    [T_BLOCK_BEGIN] = "{%", [T_BLOCK_END] = "%}", [T_NAME] = "a name", [T_STRING] = "a string",
    [T_INTEGER] = "an int", [T_FLOAT] = "a float", [T_ADD] = "+", [T_SUB] = "-", [T_DIV] = "/", [T_FLOORDIV] = "//",
    [T_MUL] = "*", [T_MOD] = "%", [T_POW] = "**", [T_TILDE] = "~", [T_LBRACKET] = "[", [T_RBRACKET] = "]",
    [T_LPAREN] = "(", [T_RPAREN] = ")", [T_LBRACE] = "{", [T_RBRACE] = "}", [T_EQ] = "==", [T_NE] = "!=", [T_GT] = ">",
    [T_GE] = ">=", [T_LT] = "<", [T_LE] = "<=", [T_ASSIGN] = "=", [T_DOT] = ".", [T_COLON] = ":", [T_PIPE] = "|",
    [T_COMMA] = ",",
};

const char *token_name(TokenType type) { return token_names[type]; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool starts(const Lexer *x, size_t at, const char *text)
{
    size_t n = strlen(text);
    return at + n <= x->len && memcmp(x->src + at, text, n) == 0;
}

static size_t skip_space(const Lexer *x, size_t at)
{
    for (size_t n; (n = space_at(x->src + at, x->src + x->len)) > 0; at += n) continue;
    return at;
}

// If a tag's end (a '%' or '#' and then '}', with its sign before) stands at `at`: the offset behind it and behind what
// it swallows. Otherwise 0, which no tag can end at.
static size_t tag_end(const Lexer *x, size_t at, char mark)
{
    char plain[] = {mark, '}', 0}, minus[] = {'-', mark, '}', 0}, plus[] = {'+', mark, '}', 0};
    if (starts(x, at, minus)) return skip_space(x, at + 3);
    if (mark != '}' && starts(x, at, plus)) return at + 3;
    if (!starts(x, at, plain)) return 0;
    return at + 2 + (mark != '}' && starts(x, at + 2, "\n"));
}

// The text before a tag, less what the tag's sign and lstrip_blocks take from its end.
static Token data_before(const Lexer *x, size_t from, size_t to, char sign, bool is_print)
{
    const char *begin = x->src + from, *end = x->src + to, *p = end;
    for (size_t n; p > begin && (n = space_before(begin, p)) > 0; p -= n)
        if (sign != '-' && p[-1] == '\n') break;
    bool at_line_start = p == x->src || p[-1] == '\n';
    if (sign == '-' || (sign != '+' && !is_print && at_line_start)) end = p;
    return (Token){T_DATA, from, v_str(begin, (size_t)(end - begin))};
}

static char sign_at(const Lexer *x, size_t at) { return starts(x, at, "-") ? '-' : starts(x, at, "+") ? '+' : 0; }

// {% raw %}: the offset behind the tag if one stands at `at`, else 0. Unlike other tags it keeps the newline behind it.
static size_t raw_begin(const Lexer *x, size_t at)
{
    size_t p = skip_space(x, at + 2 + (sign_at(x, at + 2) != 0));
    if (!starts(x, at, "{%") || !starts(x, p, "raw")) return 0;
    p = skip_space(x, p + 3);
    return starts(x, p, "-%}") ? skip_space(x, p + 3) : starts(x, p, "%}") ? p + 2 : 0;
}

static size_t comment_end(Lexer *x, size_t at)
{
    for (size_t p = at, end; p < x->len; p++)
        if ((end = tag_end(x, p, '#')) > 0) return end;
    fail_syntax(x, x->tag_at, "this comment has no end");
}

static void go_on(Lexer *x, size_t pos, LexState state)
{
    x->pos = pos;
    x->state = state;
}

// Up to the next tag. The data token may be empty.
static Token lex_text(Lexer *x)
{
    size_t from = x->pos, at = from;
    while (at < x->len && !(starts(x, at, "{%") || starts(x, at, "{{") || starts(x, at, "{#"))) at++;
    if (at == x->len) {
        go_on(x, at, IN_TEXT);
        return (Token){T_DATA, from, v_str(x->src + from, at - from)};
    }
    char sign = sign_at(x, at + 2);
    size_t raw = raw_begin(x, at), inside = at + 2 + (sign != 0);
    x->tag_at = at;
    if (raw) go_on(x, raw, IN_RAW);
    else if (x->src[at + 1] == '#') go_on(x, comment_end(x, inside), IN_TEXT);
    else go_on(x, inside, AT_TAG);
    return data_before(x, from, at, sign, x->src[at + 1] == '{');
}

static Token lex_raw(Lexer *x)
{
    size_t from = x->pos;
    for (size_t at = from; at < x->len; at++) {
        if (!starts(x, at, "{%")) continue;
        char sign = sign_at(x, at + 2);
        size_t p = skip_space(x, at + 2 + (sign != 0));
        if (!starts(x, p, "endraw")) continue;
        size_t end = tag_end(x, skip_space(x, p + 6), '%');
        if (!end) continue;
        go_on(x, end, IN_TEXT);
        return data_before(x, from, at, sign, false);
    }
    fail_syntax(x, x->tag_at, "this raw block has no end");
}

// ---- inside a tag -------------------------------------------------------------------------------------------------

// Digits with single underscores between them.
static size_t scan_digits(const Lexer *x, size_t at)
{
    size_t begin = at;
    while (is_digit(x->src[at]) || (x->src[at] == '_' && at > begin && is_digit(x->src[at + 1]))) at++;
    return at;
}

static Token lex_number(Lexer *x)
{
    size_t at = x->pos, end = scan_digits(x, at), whole = end;
    if (at == 0 || x->src[at - 1] != '.') {     // x.0.5 is two subscripts
        if (x->src[end] == '.' && is_digit(x->src[end + 1])) end = scan_digits(x, end + 1);
        size_t exp = end + 1 + (x->src[end] && (x->src[end + 1] == '+' || x->src[end + 1] == '-'));
        if ((x->src[end] | 32) == 'e' && is_digit(x->src[exp])) end = scan_digits(x, exp);
    }
    Value text = v_str(x->src + at, end - at);
    Token t = {end > whole ? T_FLOAT : T_INTEGER, at, v_float(0)};
    x->pos = end;
    if (end > whole && text_to_float(x->arena, text, &t.value.f)) return t;
    char mark = x->src[at] == '0' && whole == at + 1 && x->src[end] ? (char)(x->src[end] | 32) : 0;
    if (mark && strchr("xob", mark)) fail_syntax(x, at, "the number prefix '0%c' " NOT_HERE, mark);
    if (text.s[0] == '0' && strspn(text.s, "0_") < text.len) fail_syntax(x, at, "an int does not begin with 0");
    t.value = text_to_int(x->arena, text);
    return t;
}

// The code that `n` hexadecimal digits at p stand for, or -1.
static int64_t hex_code(const char *p, const char *end, int n)
{
    char digits[9] = "";
    if (end - p >= n) memcpy(digits, p, (size_t)n);
    return strspn(digits, "0123456789abcdefABCDEF") == (size_t)n ? strtoll(digits, NULL, 16) : -1;
}

// The escape behind a backslash at p: writes its bytes to *d, returns where it ends.
static const char *lex_escape(Lexer *x, const char *p, const char *end, char **d)
{
    static const char plain[] = "\\\\\'\'\"\"a\ab\bf\fn\nr\rt\tv\v";
    for (const char *q = plain; *q; q += 2)
        if (*q == *p) { *(*d)++ = q[1]; return p + 1; }
    if (*p == '\n') return p + 1;
    int n = *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
    if (*p == 'N' || (*p >= '0' && *p <= '7')) fail_syntax(x, x->pos, "the escape '\\%c' " NOT_HERE, *p);
    if (n == 0) { *(*d)++ = '\\'; return p; }
    int64_t code = hex_code(p + 1, end, n);
    if (code < 0 || code > 0x10FFFF) fail_syntax(x, x->pos, "this string holds a broken \\%c escape", *p);
    if (code >= 0xD800 && code <= 0xDFFF) fail_syntax(x, x->pos, "half of a surrogate pair is no character");
    *d += utf8_encode((uint32_t)code, *d);
    return p + 1 + n;
}

static Token lex_string(Lexer *x)
{
    size_t at = x->pos, end = at + 1;
    while (end < x->len && x->src[end] != x->src[at]) end += x->src[end] == '\\' ? 2 : 1;
    if (end >= x->len) fail_syntax(x, at, "this string has no end");
    char *text = arena_take(x->arena, end - at), *d = text;     // no escape is shorter than what it stands for
    const char *p = x->src + at + 1, *stop = x->src + end;
    while (p < stop)
        if (*p == '\\') p = lex_escape(x, p + 1, stop, &d);
        else *d++ = *p++;
    x->pos = end + 1;
    return (Token){T_STRING, at, v_str(text, (size_t)(d - text))};
}

// Of the operators that stand here the longest: all with two characters are longer than those with one.
static Token lex_operator(Lexer *x)
{
    size_t at = x->pos, len = char_len(x->src + at, x->src + x->len);
    TokenType type = T_EOF;
    for (TokenType t = T_ADD; t <= T_COMMA; t++)
        if (starts(x, at, token_names[t]) && (!type || strlen(token_names[t]) == 2)) type = t;
    if (!type) fail_syntax(x, at, "the character '%.*s' has no meaning here", (int)len, x->src + at);
    bool closes = type == T_RBRACKET || type == T_RPAREN || type == T_RBRACE;
    if (closes && x->n_open == 0) fail_syntax(x, at, "this '%s' closes nothing", token_names[type]);
    x->n_open -= closes;
    x->n_open += type == T_LBRACKET || type == T_LPAREN || type == T_LBRACE;
    x->pos += strlen(token_names[type]);
    return (Token){type, at, v_none()};
}

// Bytes of the character of a name that stands at `at`; 0 if none does.
static size_t name_char(const Lexer *x, size_t at)
{
    const char *p = x->src + at, *end = x->src + x->len;
    return p < end && code_class(char_code(p, end)) & CLASS_WORD ? char_len(p, end) : 0;
}

static Token lex_tag(Lexer *x)
{
    x->pos = skip_space(x, x->pos);
    size_t at = x->pos;
    if (at >= x->len) return (Token){T_EOF, at, v_none()};
    size_t end = x->n_open ? 0 : tag_end(x, at, x->state == IN_BLOCK ? '%' : '}');
    if (end) {
        TokenType type = x->state == IN_BLOCK ? T_BLOCK_END : T_PRINT_END;
        go_on(x, end, IN_TEXT);
        return (Token){type, at, v_none()};
    }
    if (is_digit(x->src[at])) return lex_number(x);
    if (x->src[at] == '"' || x->src[at] == '\'') return lex_string(x);
    end = at;
    for (size_t n; (n = name_char(x, end)) > 0; end += n) continue;
    if (end == at) return lex_operator(x);
    x->pos = end;
    return (Token){T_NAME, at, v_str(x->src + at, end - at)};
}

Token lex_next(Lexer *x)
{
    for (;;) {
        if (x->state == IN_BLOCK || x->state == IN_PRINT) return lex_tag(x);
        if (x->state == AT_TAG) {
            bool block = x->src[x->tag_at + 1] == '%';
            x->state = block ? IN_BLOCK : IN_PRINT;
            return (Token){block ? T_BLOCK_BEGIN : T_PRINT_BEGIN, x->tag_at, v_none()};
        }
        if (x->state != IN_RAW && x->pos == x->len) return (Token){T_EOF, x->len, v_none()};
        Token t = x->state == IN_RAW ? lex_raw(x) : lex_text(x);
        if (t.value.len > 0) return t;
    }
}

// jinja_parse: what the two halves of the parser share: its state, tokens, nodes, and the way into expressions.
#ifndef JINJA_PARSE_H
#define JINJA_PARSE_H

#include "jinja.h"

#define MAX_TAGS (MAX_PARSE_DEPTH + 1)

typedef struct {
    Lexer *lex;
    Template *t;
    Token tok, ahead;                           // ahead is only read after `look`
    bool has_ahead;
    size_t depth;                               // of statements and expressions
    size_t loop_depth;                          // loops that a break here would leave
    bool soft;                                  // inside an if, where an unknown filter matters only when it runs
    Value tags[MAX_TAGS];                       // the statements open now, for messages
    size_t n_tags;
    const char *const *ends[MAX_TAGS];          // the tags that each open body waits for
    size_t n_ends;
    bool saw_caller, saw_kwargs, saw_varargs;   // names read since the macro began
    Nodes blocks;
    Nodes unknown;                              // filters and tests that nobody offers
} Parser;

Token token_next(Parser *p);
const Token *token_ahead(Parser *p);
bool token_is(const Token *t, const char *word);
bool at_name(const Parser *p, const char *word);
bool token_skip(Parser *p, TokenType type);
bool name_skip(Parser *p, const char *word);
Token token_expect(Parser *p, TokenType type);
void name_expect(Parser *p, const char *word);
Node *node_new(Parser *p, NodeType type, size_t at);
Node *node_with(Parser *p, NodeType type, size_t at, Node *a, Node *b);
void nodes_add(Parser *p, Nodes *list, Node *n);
size_t symbol_of(Parser *p, Value name);
void parse_deeper(Parser *p);
Node *parse_expression(Parser *p);
Node *parse_tuple(Parser *p, bool simple, bool with_cond, bool in_parens);
Node *parse_filter(Parser *p, Node *node, bool inline_start);

#endif

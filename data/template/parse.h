// jinja_parse: what the two halves of the parser share: its state, tokens, nodes, and the way into expressions.
#ifndef JINJA_PARSE_H
#define JINJA_PARSE_H

#include "jinja.h"

// What the statements around say of what stands in them.
typedef struct {
    size_t depth;                               // of statements and expressions
    size_t loops;                               // that a break here would leave
    bool soft;                                  // inside an if, where an unknown filter matters only when it runs
    bool macro;
} Surroundings;

typedef struct {
    Lexer *lex;
    Template *t;
    Token tok, ahead;                           // ahead is there if has_ahead
    bool has_ahead;
    Surroundings in;
    const Node *unknown;                        // the first filter or test that nobody offers
} Parser;

Token token_next(Parser *p);
const Token *token_ahead(Parser *p);
bool token_is(const Token *t, const char *word);
bool at_name(const Parser *p, const char *word);
bool token_skip(Parser *p, TokenType type);
bool name_skip(Parser *p, const char *word);
Token token_expect(Parser *p, TokenType type);
_Noreturn void fail_expected(Parser *p, const char *what);
Node *node_new(Parser *p, NodeType type, size_t at, Node *a, Node *b);
void nodes_add(Parser *p, Nodes *list, Node *n);
size_t symbol_of(Parser *p, Value name);
void parse_deeper(Parser *p);
Node *parse_expression(Parser *p);
typedef enum { TUPLE_PLAIN, TUPLE_NO_IF, TUPLE_IN_PARENS, TUPLE_TARGET } TupleRule;
Node *parse_tuple(Parser *p, TupleRule rule);
Node *parse_filter(Parser *p, Node *node, bool inline_start);

#endif

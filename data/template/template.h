// template: a Jinja chat template -> the bytes it prints and the spans of its {% generation %} blocks.
// The language is the one that transformers' chat templates run in: Jinja2's sandboxed environment with trim_blocks,
// lstrip_blocks, loop controls, tojson, raise_exception, strftime_now and {% generation %}. Of it the engine has what
// chat templates use; the rest is refused by its name.
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include "../../model/base.h"

typedef struct Template Template;

// Bytes [begin, end) of the rendered text that one run of a {% generation %} block printed.
typedef struct { size_t begin, end; } Span;
typedef struct { Span *spans; size_t n, cap; } Spans;
void spans_free(Spans *s);                                // accepts {0}

// Compiles `source`; `name` (a file's path, say) goes into messages. The text is copied. Messages read
// "NAME:LINE:COLUMN: syntax error: WHY". NULL and e on failure.
Template *template_parse(const char *source, size_t len, const char *name, Err *e);
void template_free(Template *t);                          // accepts NULL

bool template_has_generation(const Template *t);

// Renders with the members of the object `vars` as variables (only read). Appends to `out` and `spans` (NULL: not
// wanted); span offsets count from where this render began. Messages read "NAME:LINE: KIND: WHY", KIND being one of
//   raise       the template called raise_exception; WHY is the template's own text
//   undefined   an undefined value was used where a value is needed
//   runtime     a wrong type, a division by zero, an unknown filter, something that is refused, ...
//   security    what Jinja's sandbox forbids
//   limit       the template ran for too many steps, too deep, or printed too much
// May be called from several threads at once. A number of `vars` that carries its text in valuestring is an int or a
// float as that text says, and prints as Python prints it; without a text, whole numbers are ints.
bool template_render(const Template *t, const cJSON *vars, Buf *out, Spans *spans, Err *e);

#endif

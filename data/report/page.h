// page: report.html: what was run and what came of it, as one file that needs nothing else: no network, no script.
#ifndef PAGE_H
#define PAGE_H

#include "compare.h"
#include "../run/options.h"
#include "showcase.h"

typedef struct {
    const char *command;                                   // what was run: "./train compare"
    const Options *options;
    const Comparison *comparison;                          // of one arm: a training run
    const Showcase *showcase;                              // model 1 + a is that of arm a
    Summary train, eval;
    size_t n_params;
} Page;

// Draws the curves with gnuplot; where that is not installed the page says so and keeps its tables.
bool page_write(const char *path, const Page *p, Err *e);

// Appends text as HTML: markup is escaped; characters that would turn or hide text are named instead (U+202E); invalid
// UTF-8 becomes U+FFFD. Safe as content and between double quotes.
void html_escape(Buf *out, const char *text);

#endif

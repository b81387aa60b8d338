// page: report.html: what was run and what came of it, as one file that loads nothing and is complete without a script.
#ifndef PAGE_H
#define PAGE_H

#include "compare.h"
#include "../run/inputs.h"
#include "showcase.h"

// Writes output_dir/report.html of a run (a comparison of one arm) or of a comparison. `command`: what was run, as
// "./train compare". In the showcase, model 1 + a is that of arm a. And output_dir/curves.svg: the curves of the page's
// first screen.
bool page_report(const Run *r, const Config *c, const char *command, const Comparison *comparison, const Showcase *show,
                 Err *e);

// Appends text as HTML: markup is escaped; characters that would turn or hide text are named instead (U+202E); invalid
// UTF-8 becomes U+FFFD. Safe as content and between double quotes.
void html_escape(Buf *out, const char *text);

#endif

// plot: curves as SVG, drawn by gnuplot (the program, if it is installed) and made fit to stand inside an HTML page.
#ifndef PLOT_H
#define PLOT_H

#include "compare.h"

// How an arm is drawn: told apart by dashes as well as by colour. Colours have a contrast of 3:1 on white and on black.
const char *plot_colour(size_t arm);
const char *plot_dashes(size_t arm);                       // a stroke-dasharray, "none" for a solid line

// Appends one <svg> with each arm's mean and, for several seeds, a band of one standard deviation to each side. `title`
// and `description` are what a screen reader says (HTML already). False, and nothing added, if there is nothing to draw
// or no gnuplot to do it.
bool plot_svg(Buf *out, const Comparison *c, Metric metric, const char *title, const char *description);

#endif

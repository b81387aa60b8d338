// plot: curves as SVG. Lines are told apart by dashes as well as by colour. A plot is readable without a script; the
// page's script finds the numbers in attributes: data-points of a line has "x y deviation" of each point, data-range of
// the plot the lowest and highest y, and whether the scale is logarithmic, and whether y is a share.
#ifndef PLOT_H
#define PLOT_H

#include "../../model/base.h"

enum { N_STYLES = 8, MAX_LINES = 9 };                      // of a plot: MAX_ARMS, and a mark

// A stroke for each style. Colours have a contrast of 3:1 on white and on black.
const char *plot_colour(size_t style);
const char *plot_dashes(size_t style);                     // a stroke-dasharray, "none" for a solid line

typedef struct { double x, y, deviation; } PlotPoint;      // deviation: half of the band's height, NAN for no band
typedef struct {
    const char *id, *name;                                 // id: of what the line shows, in all plots: "arm0", "user"
    size_t style, n, cap;
    PlotPoint *points;                                     // points that are not finite interrupt the line
} PlotLine;

typedef struct {
    const char *id, *prefix, *title, *x_title;             // prefix (NULL: none): what comes before the id in the page
    bool percent;                                          // y is a share, and its axis begins at 0
    const char *const *ticks;                              // names of x = 0, 1, ...; NULL: x is a number
    double mark;                                           // a height with a thin line, if it is among the lines,
    const char *mark_name;                                 // and what it is
    double low, high;                                      // what the y axis holds; 0, 0: what the lines need
    PlotLine lines[MAX_LINES];
    size_t n_lines;
} Plot;
void plot_free(Plot *p);                                   // accepts {0}
PlotLine *plot_line(Plot *p, const char *id, const char *name, size_t style);  // a new line without points
void plot_point(PlotLine *line, double x, double y, double deviation);

bool plot_is_drawn(const Plot *p);                         // some line has two points to connect
void plot_range(const Plot *p, double *low, double *high); // of all lines; low > high: they have no points
// Does y fall so far that the differences at its end show on a logarithmic scale only? Such a plot has one.
bool plot_is_log(const Plot *p);

// Appends one <svg>: its lines and, where points have a deviation, a band of one deviation to each side. `at`: NULL on
// the page; else the attributes of its place in a larger picture, which has no title for a screen reader.
void plot_svg(Buf *out, const Plot *p, const char *at);
// The plot as text for a terminal. Each line has a letter of its own (A, B, ...); where two meet there is a *. It
// prints nothing if a point is not finite, or all are equal.
void plot_print(FILE *out, const Plot *p);
// A picture that stands alone, of `n` plots beside each other with the names of the first one's lines above.
void plot_picture(Buf *out, const Plot *plots, size_t n);

#endif

// plot: see plot.h.
#include "plot.h"

#include "page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

extern const char picture_css[];                           // the file of this name as a string: the Makefile makes it

enum { WIDTH = 350, HEIGHT = 215, LEFT = 50, RIGHT = 338, TOP = 8, BOTTOM = 180 };

static const struct { const char *colour, *dashes; } styles[N_STYLES] = {
    {"#0072b2", "none"}, {"#d55e00", "7 4"}, {"#008a64", "2 3"}, {"#b0619a", "9 3 2 3"},
    {"#5a6fd6", "none"}, {"#6b7a85", "7 4"}, {"#96591f", "2 3"}, {"#7a6a00", "9 3 2 3"}};

const char *plot_colour(size_t style) { return styles[style % N_STYLES].colour; }
const char *plot_dashes(size_t style) { return styles[style % N_STYLES].dashes; }

void plot_free(Plot *p)
{
    for (size_t i = 0; i < p->n_lines; i++) free(p->lines[i].points);
    *p = (Plot){0};
}

PlotLine *plot_line(Plot *p, const char *id, const char *name, size_t style)
{
    PlotLine *line = &p->lines[p->n_lines++];
    *line = (PlotLine){.id = id, .name = name, .style = style};
    return line;
}

void plot_point(PlotLine *line, double x, double y, double deviation)
{
    ARRAY_ROOM(line->points, line->n, line->cap);
    line->points[line->n++] = (PlotPoint){x, y, deviation};
}

// ---- scales -------------------------------------------------------------------------------------------------------

static double band(const PlotPoint *p) { return isnan(p->deviation) ? 0 : p->deviation; }

bool plot_is_drawn(const Plot *p)
{
    for (size_t i = 0; i < p->n_lines; i++)
        for (size_t k = 1; k < p->lines[i].n; k++)
            if (isfinite(p->lines[i].points[k - 1].y) && isfinite(p->lines[i].points[k].y)) return true;
    return false;
}

void plot_range(const Plot *p, double *low, double *high)
{
    *low = INFINITY, *high = -INFINITY;
    for (size_t i = 0; i < p->n_lines; i++)
        for (size_t k = 0; k < p->lines[i].n; k++) {
            double y = p->lines[i].points[k].y;
            if (isfinite(y)) *low = fmin(*low, y), *high = fmax(*high, y);
        }
}

bool plot_is_log(const Plot *p)
{
    double low = p->low, high = p->high;
    if (low == high) plot_range(p, &low, &high);
    return !p->percent && low > 0 && high > 8 * low;
}

typedef struct { double x0, x1, y0, y1; bool log; } Scale;

// Bands are inside too, but of shares and on a logarithmic scale not what reaches below 0.
static Scale scale_of(const Plot *p)
{
    Scale s = {INFINITY, -INFINITY, p->low, p->high, plot_is_log(p)};
    bool given = p->low != p->high;
    if (!given) plot_range(p, &s.y0, &s.y1);
    for (size_t i = 0; i < p->n_lines; i++)
        for (size_t k = 0; k < p->lines[i].n; k++) {
            const PlotPoint *at = &p->lines[i].points[k];
            s.x0 = fmin(s.x0, at->x), s.x1 = fmax(s.x1, at->x);
            if (given || !isfinite(at->y)) continue;
            if (at->y > band(at) || (!s.log && !p->percent)) s.y0 = fmin(s.y0, at->y - band(at));
            s.y1 = fmax(s.y1, at->y + band(at));
        }
    if (s.x1 <= s.x0) s.x1 = s.x0 + 1;
    double room = s.y1 > s.y0 ? 0.06 * (s.y1 - s.y0) : s.y1 != 0 ? 0.1 * fabs(s.y1) : 0.01;
    if (s.log) s.y0 = log(s.y0 / 1.1), s.y1 = log(s.y1 * 1.1);
    else if (p->percent) s.y0 = fmin(s.y0, 0), s.y1 = s.y1 > 1 ? s.y1 : fmin(s.y1 + room, 1);
    else s.y0 = s.y0 >= 0 ? fmax(s.y0 - room, 0) : s.y0 - room, s.y1 += room;
    return s;
}

static double x_of(const Scale *s, double x) { return LEFT + (RIGHT - LEFT) * (x - s->x0) / (s->x1 - s->x0); }

static double y_of(const Scale *s, double y)
{
    double v = s->log ? log(fmax(y, 1e-300)) : y;
    return fmin(fmax(BOTTOM - (BOTTOM - TOP) * (v - s->y0) / (s->y1 - s->y0), TOP), BOTTOM);
}

// 1, 2 or 5 times a power of ten: the least that makes at most five steps of the range.
static double nice_step(double range)
{
    double power = pow(10, floor(log10(range / 5))), part = range / 5 / power;
    return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

static void add_y_tick(Buf *b, const Scale *s, const Plot *p, double v)
{
    double y = y_of(s, v);
    buf_addf(b, "<path class=\"gridline\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g%s</text>",
             LEFT, y, RIGHT, LEFT - 5, y + 4, (p->percent ? 100 : 1) * (fabs(v) < 1e-12 ? 0 : v),
             p->percent ? "%" : "");
}

// On a logarithmic scale: 1, 2 and 5 times the powers of ten, or the powers alone if these are many.
static void add_axes(Buf *b, const Scale *s, const Plot *p)
{
    static const double parts[] = {1, 2, 5};
    buf_adds(b, "<g class=\"y\">");
    if (s->log) {
        int first = (int)floor(s->y0 / log(10)), last = (int)ceil(s->y1 / log(10));
        for (int i = first; i <= last; i++)
            for (int k = 0; k < (last - first > 3 ? 1 : 3); k++) {
                double v = parts[k] * pow(10, i);
                if (log(v) >= s->y0 && log(v) <= s->y1) add_y_tick(b, s, p, v);
            }
    } else {
        double step = nice_step(s->y1 - s->y0);
        for (int i = (int)ceil(s->y0 / step); i * step <= s->y1 + 1e-9 * step; i++) add_y_tick(b, s, p, i * step);
    }
    buf_adds(b, "</g>\n<g>");
    double step = p->ticks ? 1 : fmax(nice_step(s->x1 - s->x0), 1);
    for (int i = (int)ceil(s->x0 / step); i * step <= s->x1 + 1e-9 * step; i++) {
        double v = i * step;
        buf_addf(b, "<text class=\"x\" data-x=\"%g\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", v, x_of(s, v),
                 BOTTOM + 15);
        if (p->ticks) buf_addf(b, "%s</text>", p->ticks[(size_t)v]);
        else buf_addf(b, "%g</text>", v);
    }
    buf_addf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text><path class=\"axis\" d=\"M%d %dV%dH%d\"/>",
             (LEFT + RIGHT) / 2, BOTTOM + 31, p->x_title, LEFT, TOP, BOTTOM, RIGHT);
    double mark = s->log ? log(p->mark) : p->mark, y = y_of(s, p->mark);
    if (p->mark_name && mark > s->y0 && mark < s->y1)
        buf_addf(b, "<path class=\"mark\" data-y=\"%g\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                    "text-anchor=\"end\">%s</text>", p->mark, LEFT, y, RIGHT, RIGHT, y - 4, p->mark_name);
    buf_adds(b, "</g>\n");
}

static void add_band(Buf *b, const Scale *s, const PlotLine *line)
{
    bool any = false;
    for (size_t i = 0; i < line->n; i++) any = any || !isnan(line->points[i].deviation);
    if (!any) return;
    buf_addf(b, "<polygon fill=\"%s\" points=\"", plot_colour(line->style));
    for (size_t i = 0; i < 2 * line->n; i++) {             // along the upper edge, and back along the lower one
        const PlotPoint *p = &line->points[i < line->n ? i : 2 * line->n - 1 - i];
        double y = p->y + (i < line->n ? band(p) : -band(p));
        if (isfinite(p->y)) buf_addf(b, "%.1f,%.1f ", x_of(s, p->x), y_of(s, y));
    }
    buf_adds(b, "\"/>");
}

static void add_line(Buf *b, const Scale *s, const PlotLine *line)
{
    bool pen = false;
    buf_addf(b, "<g data-line=\"%s\" data-name=\"", line->id);
    html_escape(b, line->name);
    buf_adds(b, "\" data-points=\"");
    for (size_t i = 0; i < line->n; i++) {
        const PlotPoint *p = &line->points[i];
        if (isfinite(p->y)) buf_addf(b, "%.6g %.6g %.4g%s", p->x, p->y, band(p), i + 1 < line->n ? "," : "");
    }
    buf_adds(b, "\">");
    add_band(b, s, line);
    buf_adds(b, "<path class=\"curve\" d=\"");
    for (size_t i = 0; i < line->n; i++) {
        const PlotPoint *p = &line->points[i];
        if (isfinite(p->y)) buf_addf(b, "%c%.1f %.1f", pen ? 'L' : 'M', x_of(s, p->x), y_of(s, p->y));
        pen = isfinite(p->y);
    }
    buf_addf(b, "\" stroke=\"%s\" stroke-dasharray=\"%s\"/></g>\n", plot_colour(line->style), plot_dashes(line->style));
}

void plot_svg(Buf *out, const Plot *p, const char *at)
{
    Scale s = scale_of(p);
    double unit = p->percent ? 100 : 1;
    char id[80];
    snprintf(id, sizeof id, "%s%s", p->prefix ? p->prefix : "", p->id);
    if (at) buf_addf(out, "<svg %s viewBox=\"0 0 %d %d\">\n", at, WIDTH, HEIGHT);
    else {
        buf_addf(out, "<svg class=\"plot\" viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"%s-title %s-text\" "
                      "data-x=\"%s\" data-range=\"%.9g %.9g %d %d\">\n<title id=\"%s-title\">", WIDTH, HEIGHT, id, id,
                 p->x_title, s.log ? exp(s.y0) : s.y0, s.log ? exp(s.y1) : s.y1, s.log, p->percent, id);
        html_escape(out, p->title);
        buf_addf(out, "</title><desc id=\"%s-text\">", id);
        for (size_t i = 0; i < p->n_lines; i++) {
            const PlotLine *line = &p->lines[i];
            html_escape(out, line->name);
            if (line->n)
                buf_addf(out, ": from %.4g to %.4g%s; ", unit * line->points[0].y, unit * line->points[line->n - 1].y,
                         p->percent ? " %" : "");
        }
        buf_adds(out, "</desc>\n");
    }
    add_axes(out, &s, p);
    for (size_t i = 0; i < p->n_lines; i++) add_line(out, &s, &p->lines[i]);
    buf_adds(out, "</svg>\n");
}

void plot_picture(Buf *out, const Plot *plots, size_t n)
{
    enum { GAP = 20, HEAD = 62 };
    size_t width = n * WIDTH + (n + 1) * GAP, height = HEAD + HEIGHT + GAP, x = GAP;
    buf_addf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %zu %zu\" width=\"%zu\" "
                  "height=\"%zu\">\n<style>%s</style>\n<rect width=\"%zu\" height=\"%zu\" rx=\"8\"/>\n",
             width, height, width, height, picture_css, width, height);
    for (size_t i = 0; i < plots->n_lines; i++) {
        const PlotLine *line = &plots->lines[i];
        buf_addf(out, "<path class=\"curve\" d=\"M%zu 24h28\" stroke=\"%s\" stroke-dasharray=\"%s\"/><text x=\"%zu\" "
                      "y=\"28\">", x, plot_colour(line->style), plot_dashes(line->style), x + 34);
        html_escape(out, line->name);
        buf_adds(out, "</text>\n");
        x += 60 + 7 * strlen(line->name);
    }
    for (size_t i = 0; i < n; i++) {
        char at[80];
        x = GAP + i * (WIDTH + GAP);
        snprintf(at, sizeof at, "x=\"%zu\" y=\"%d\" width=\"%d\" height=\"%d\"", x, HEAD, WIDTH, HEIGHT);
        buf_addf(out, "<text class=\"name\" x=\"%zu\" y=\"%d\">%s</text>\n", x, HEAD - 8, plots[i].title);
        plot_svg(out, &plots[i], at);
    }
    buf_adds(out, "</svg>\n");
}

// ---- for the terminal ---------------------------------------------------------------------------------------------

enum { COLUMNS = 60, ROWS = 10 };

// The height of a line at a column, between its points; on a logarithmic scale its logarithm.
static double height_at(const PlotLine *line, int column, bool is_log)
{
    double at = (double)column / (COLUMNS - 1) * (double)(line->n - 1);
    size_t i = (size_t)at, next = i + 1 < line->n ? i + 1 : i;
    double left = line->points[i].y, right = line->points[next].y;
    if (is_log) left = log(left), right = log(right);
    return left + (at - (double)i) * (right - left);
}

void plot_print(FILE *out, const Plot *p)
{
    char grid[ROWS][COLUMNS + 1];
    double low, high;
    bool is_log = plot_is_log(p);
    plot_range(p, &low, &high);
    for (size_t i = 0; i < p->n_lines; i++)
        for (size_t k = 0; k < p->lines[i].n; k++)
            if (!isfinite(p->lines[i].points[k].y)) return;
    if (low >= high) return;
    if (is_log) low = log(low), high = log(high);
    memset(grid, ' ', sizeof grid);
    for (size_t i = 0; i < p->n_lines; i++)
        for (int x = 0; x < COLUMNS; x++) {
            double share = fmin(fmax((high - height_at(&p->lines[i], x, is_log)) / (high - low), 0), 1);
            char *cell = &grid[(int)lround(share * (ROWS - 1))][x];
            *cell = *cell == ' ' ? (char)('A' + i) : '*';
        }
    fprintf(out, "\n%s%s\n", p->title, is_log ? " (log scale)" : "");
    for (int y = 0; y < ROWS; y++) {
        double v = high - (high - low) * y / (ROWS - 1);
        int n = COLUMNS;
        while (n > 0 && grid[y][n - 1] == ' ') n--;
        fprintf(out, "%8.3f |%.*s\n", is_log ? exp(v) : v, n, grid[y]);
    }
    fprintf(out, "%8s +", "");
    for (int x = 0; x < COLUMNS; x++) fputc('-', out);
    const PlotLine *first = &p->lines[0];
    fprintf(out, "\n%10s%-*.0f%.0f %s;", "", COLUMNS - 4, first->points[0].x, first->points[first->n - 1].x,
            p->x_title);
    for (size_t i = 0; i < p->n_lines; i++) fprintf(out, "  %c: %s", (char)('A' + i), p->lines[i].name);
    fprintf(out, "\n");
}

// plot: see plot.h. gnuplot reads a script from its stdin and writes SVG to its stdout. A page does not need what comes
// before the end of its <defs> (an XML prologue, symbols that are not used): that is left out.
#include "plot.h"

#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { WIDTH = 350, HEIGHT = 215, N_COLOURS = 4, N_DASHES = 4 };

static const char *const colours[N_COLOURS] = {"#0072b2", "#d55e00", "#008a64", "#b0619a"};
static const char *const dashes[N_DASHES] = {"none", "7 4", "2 3", "9 3 2 3"};
static const char *const gnuplot_dashes[N_DASHES] = {"1", "(14,8)", "(4,6)", "(18,6,4,6)"};   // half pixels, at lw 2

const char *plot_colour(size_t arm) { return colours[arm % N_COLOURS]; }
const char *plot_dashes(size_t arm) { return dashes[arm % N_DASHES]; }

// ---- the script ---------------------------------------------------------------------------------------------------

// A mean and the ends of its band, in the plot's units.
typedef struct { double low, mean, high; } Stroke;

static Stroke stroke_at(const Comparison *c, size_t arm, size_t point, Metric metric)
{
    Spread s = comparison_spread(c, arm, point, metric);
    double d = isnan(s.deviation) ? 0 : s.deviation;
    if (!metric_table[metric].as_percent) return (Stroke){s.mean - d, s.mean, s.mean + d};
    return (Stroke){100 * fmax(s.mean - d, 0), 100 * s.mean, 100 * fmin(s.mean + d, 1)};       // per cent
}

static void add_data(Buf *script, const Comparison *c, size_t arm, Metric metric)
{
    buf_addf(script, "$arm%zu << EOD\n", arm);
    for (size_t i = 0; i < c->n_points; i++) {
        Stroke s = stroke_at(c, arm, i, metric);
        buf_addf(script, "%lld %.9g %.9g %.9g\n", (long long)c->steps[i], s.mean, s.low, s.high);
    }
    buf_adds(script, "EOD\n");
}

// The y axis holds lines and bands. A share has an axis that begins at 0.
static void add_range(Buf *script, const Comparison *c, Metric metric)
{
    double low = INFINITY, high = -INFINITY;
    for (size_t a = 0; a < c->n_arms; a++)
        for (size_t i = 0; i < c->n_points; i++) {
            Stroke s = stroke_at(c, a, i, metric);
            low = fmin(low, s.low);
            high = fmax(high, s.high);
        }
    double room = high > low ? 0.06 * (high - low) : 1;
    if (comparison_is_steep(c, metric) && low > 0)
        buf_addf(script, "set logscale y\nset ytics (0.001,0.002,0.005,0.01,0.02,0.05,0.1,0.2,0.5,1,2,5,10,20,50)\n"
                         "set yrange [%.9g:%.9g]\n", low / 1.1, high * 1.1);
    else if (metric_table[metric].as_percent)
        buf_addf(script, "set yrange [0:%.9g]\nset format y \"%%g %%%%\"\n", high > 0 ? fmin(high + room, 100) : 100);
    else buf_addf(script, "set yrange [%.9g:%.9g]\n", fmax(low - room, 0), high + room);
}

static void add_script(Buf *script, const Comparison *c, Metric metric)
{
    buf_addf(script,
             "set terminal svg name \"%s\" size %d,%d dynamic font \"sans-serif,12\"\n"
             "set border 3 lc rgb \"#808080\"\nset tics nomirror out scale 0.5\n"
             "set grid ytics lt 1 lc rgb \"#808080\"\nunset key\n"
             "set xrange [%lld:%lld]\nset xlabel \"steps\" offset 0,0.4\n"
             "set lmargin 7\nset rmargin 2.5\nset tmargin 0.7\nset bmargin 3\n",
             metric_table[metric].key, WIDTH, HEIGHT, (long long)c->steps[0], (long long)c->steps[c->n_points - 1]);
    add_range(script, c, metric);
    for (size_t a = 0; a < c->n_arms; a++) add_data(script, c, a, metric);
    buf_adds(script, "plot ");
    for (size_t a = 0; comparison_whole_seeds(c) > 1 && a < c->n_arms; a++)
        buf_addf(script, "$arm%zu using 1:3:4 with filledcurves fs transparent solid 0.22 noborder lc rgb \"%s\" "
                         "title \"%s\", ", a, plot_colour(a), c->arms[a].slug);
    for (size_t a = 0; a < c->n_arms; a++)
        buf_addf(script, "%s$arm%zu using 1:2 with lines lw 2 dt %s lc rgb \"%s\" title \"%s\"", a ? ", " : "", a,
                 gnuplot_dashes[a % N_DASHES], plot_colour(a), c->arms[a].slug);
    buf_adds(script, "\n");
}

// ---- gnuplot ------------------------------------------------------------------------------------------------------

static pid_t start_gnuplot(int input, int output)
{
    char *arguments[] = {"gnuplot", "-d", NULL};           // -d: no settings of the user's own
    posix_spawn_file_actions_t files;
    pid_t child = -1;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (posix_spawnp(&child, arguments[0], &files, NULL, arguments, environ) != 0) child = -1;
    posix_spawn_file_actions_destroy(&files);
    return child;
}

// The script goes in and the picture comes out through files without a name, so that neither waits for the other.
static bool run_gnuplot(Buf *svg, const Buf *script)
{
    FILE *input = tmpfile(), *output = tmpfile();
    bool ok = input && output && fwrite(script->data, 1, script->len, input) == script->len && fflush(input) == 0;
    int status = -1;
    if (ok) {
        rewind(input);
        pid_t child = start_gnuplot(fileno(input), fileno(output));
        ok = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    if (ok) rewind(output);
    char part[4096];
    for (size_t n; ok && (n = fread(part, 1, sizeof part, output)) > 0;) buf_add(svg, part, n);
    if (input) fclose(input);
    if (output) fclose(output);
    return ok;
}

bool plot_svg(Buf *out, const Comparison *c, Metric metric, const char *title, const char *description)
{
    double low, high;
    if (c->n_points < 2 || !comparison_range(c, metric, &low, &high)) return false;
    Buf script = {0}, svg = {0};
    add_script(&script, c, metric);
    bool ok = run_gnuplot(&svg, &script);
    const char *begin = ok && svg.data ? strstr(svg.data, "</defs>") : NULL;
    const char *end = begin ? strstr(begin, "</svg>") : NULL;
    if (end) {
        const char *name = metric_table[metric].key;
        buf_addf(out, "<svg class=\"plot\" viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"%s-title %s-text\">\n"
                      "<title id=\"%s-title\">%s</title><desc id=\"%s-text\">%s</desc>\n<g>\n",
                 WIDTH, HEIGHT, name, name, name, title, name, description);
        begin += strlen("</defs>");
        buf_add(out, begin, (size_t)(end - begin));        // closes the <g>: gnuplot opened its own before <defs>
        buf_adds(out, "</svg>\n");
    }
    buf_free(&script);
    buf_free(&svg);
    return end != NULL;
}

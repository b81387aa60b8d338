// program.h: for tests that run ./train itself: the files a run begins with, commands, and what a run leaves behind.
// $TRAIN is the program under test.
#ifndef PROGRAM_H
#define PROGRAM_H

#include "fixture.h"
#include "records.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static char output[1 << 16];                               // of the last command, stdout and stderr

static inline void nap(void) { nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL); }       // 10 ms

static inline const char *program(void) { return getenv("TRAIN") ? getenv("TRAIN") : "./train"; }

// A shell's background job begins with some signals ignored, and so would the programs that it starts.
__attribute__((constructor)) static void heed_signals(void)
{
    static const int signals[] = {SIGINT, SIGQUIT, SIGHUP, SIGPIPE, SIGTERM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], SIG_DFL);
}

// Runs "<before> $TRAIN <arguments>" in a shell; returns its exit status.
static inline int run_with(const char *before, const char *arguments)
{
    Buf command = {0};
    buf_addf(&command, "{ %s %s %s; } 2>&1 </dev/null", before, program(), arguments);
    FILE *pipe = popen(command.data, "r");
    size_t n = fread(output, 1, sizeof output - 1, pipe);
    output[n] = 0;
    int status = pclose(pipe);
    buf_free(&command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Runs "$TRAIN <arguments>"; returns its exit status.
static inline int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline int run(const char *fmt, ...)
{
    char arguments[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(arguments, sizeof arguments, fmt, args);
    va_end(args);
    return run_with("", arguments);
}

// The files a run begins with: the byte tokenizer, the rows, and config.json. That one has the paths of these files, an
// output_dir, and `keys`: JSON without its braces, with ' for ".
static inline void temp_run(const char *rows_name, const char *rows, const char *keys)
{
    Buf config = {0};
    temp_byte_tokenizer();
    temp_text(rows_name, rows);
    buf_addf(&config, quoted("{'tokenizer_name_or_path': '%s/tokenizer.bin', 'dataset_name': '%s/%s',"
                             " 'chat_template_path': 'configs/templates/plain.jinja', 'output_dir': '%s/out', %s}"),
             temp_dir, temp_dir, rows_name, temp_dir, quoted(keys));
    temp_text("config.json", config.data);
    buf_free(&config);
}

static inline const char *in_output(const char *dir, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return temp_path(path);
}

static inline bool same_files(const char *a, const char *b)
{
    File x = {0}, y = {0};
    Err e;
    bool same = file_map_any(&x, a, &e) && file_map_any(&y, b, &e) && x.size == y.size &&
                memcmp(x.data, y.data, x.size) == 0;
    file_unmap(&x);
    file_unmap(&y);
    return same;
}

// The log of a run without the numbers that depend on the clock.
static inline void log_without_times(const char *dir, Buf *out)
{
    static const char *const times[] = {"tokens_per_second", "train_runtime", "train_samples_per_second",
                                        "train_tokens_per_second"};
    char line[4096];
    FILE *f = fopen(in_output(dir, "log.jsonl"), "r");
    buf_clear(out);
    while (f && fgets(line, sizeof line, f)) {
        cJSON *json = cJSON_Parse(line);
        for (size_t i = 0; i < sizeof times / sizeof *times; i++)
            cJSON_DeleteItemFromObjectCaseSensitive(json, times[i]);
        char *text = cJSON_PrintUnformatted(json);
        buf_adds(out, text);
        buf_addc(out, '\n');
        cJSON_free(text);
        cJSON_Delete(json);
    }
    if (f) fclose(f);
}

static const char *weights = "model.bin";                  // the file that a run's weights are in

// Two runs have the same logs, times left out, the same traces, if any, and the same weights.
static inline void check_same_run(const char *want, const char *got)
{
    Buf a = {0}, b = {0};
    log_without_times(want, &a);
    log_without_times(got, &b);
    CHECK_STR(b.data, a.data);
    CHECK(same_files(in_output(want, weights), in_output(got, weights)));
    bool traced = file_exists(in_output(want, "traces.jsonl"));
    CHECK(traced ? same_files(in_output(want, "traces.jsonl"), in_output(got, "traces.jsonl"))
                 : !file_exists(in_output(got, "traces.jsonl")));
    check_records(temp_path(got));
    buf_free(&a);
    buf_free(&b);
}

#endif

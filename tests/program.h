// program.h: for tests that run ./train itself. $TRAIN is the program under test.
#ifndef PROGRAM_H
#define PROGRAM_H

#include "fixture.h"

#include <sys/wait.h>

static char output[1 << 16];                               // of the last command, stdout and stderr

static inline const char *program(void) { return getenv("TRAIN") ? getenv("TRAIN") : "./train"; }

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

#endif

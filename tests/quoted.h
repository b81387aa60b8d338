// quoted.h: JSON that is easy to read in a test.
#ifndef QUOTED_H
#define QUOTED_H

#include "../model/base.h"

#include <stdlib.h>
#include <string.h>

// Every ' becomes a ". The result lives until the eighth call after this one.
static inline const char *quoted(const char *text)
{
    static char *made[8];
    static int next;
    char **slot = &made[next++ % 8];
    free(*slot);
    *slot = mem_strdup(text);
    for (char *p = *slot; (p = strchr(p, '\''));) *p = '"';
    return *slot;
}

#endif

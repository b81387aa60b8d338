// memory: what a run will need and what there is, before anything large is allocated: a system that promises more than
// it has would end the program without a word in the middle of the run.
#ifndef MEMORY_H
#define MEMORY_H

#include "inputs.h"

typedef struct {                                           // in bytes
    size_t weights, gradients, moments, activations;       // still to be allocated
    size_t data;                                           // there already: files and examples
} MemoryPlan;

// For batches of at most `size`, with the options of r. WORK_LOSS: forward only.
MemoryPlan memory_plan(const Run *r, const Config *c, BatchSize size, WorkKind kind);

// Fails if a run needs more than there is, and says which options would make it fit.
bool memory_check(const Run *r, const Config *c, BatchSize size, WorkKind kind, Err *e);

// Bytes that this process can still get, by whatever is tightest: free memory and swap, the limits of its cgroups, that
// of its address space; without /proc the machine's memory; SIZE_MAX if nothing is known. *what names it. `root` comes
// before "/proc" and "/sys" ("": those of this system).
size_t memory_available(const char *root, const char **what);

#endif

// processor: what the program asks of the processor that it runs on, and sets up on it. processor.c is compiled for any
// processor, all else for the one that it is built on.
#ifndef PROCESSOR_H
#define PROCESSOR_H

// The widest vectors. x86 only: on another processor it is VECTORS_ANY.
typedef enum { VECTORS_ANY, VECTORS_AVX2, VECTORS_AVX512 } Vectors;
Vectors processor_vectors(void);
const char *vectors_name(Vectors v);

// Those that the program is compiled for. Before main, a processor without them ends the program with one line.
extern const Vectors processor_needs;

// The OPENBLAS_CORETYPE that makes OpenBLAS use the processor's vectors, if `kernel`, which it picked, does not (NULL:
// not known which). NULL if all is well, if the kernel is not known here, or if the user wants one.
const char *processor_coretype(const char *kernel, Vectors v, const char *wanted);

// From now on numbers below the normal range (1.2e-38) are 0 for the calling thread. The processor takes some hundred
// cycles for each of them; softmax and its gradient make many, and none has a weight in a sum. NaN and infinity stay.
void processor_flush_to_zero(void);

#endif

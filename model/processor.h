// processor: what the program sets up, and asks for, according to the processor that it runs on.
#ifndef PROCESSOR_H
#define PROCESSOR_H

// From now on numbers below the normal range (1.2e-38) are 0 for the calling thread. The processor takes some hundred
// cycles for each of them; softmax and its gradient make many, and none has a weight in a sum. NaN and infinity stay.
void processor_flush_to_zero(void);

#endif

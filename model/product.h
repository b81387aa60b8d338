// product: products of matrices. OpenBLAS copies both matrices in each call, into the order in which its loop reads
// them. Here one is copied only if its own order is slow to read, and a weight once for all tiles (tests/bench.md).
#ifndef PRODUCT_H
#define PRODUCT_H

#include <stdbool.h>
#include <stddef.h>

// c (M, N) = a b: is c wide enough?
bool product_can(size_t N);
// Does product_gradient pay for a weight (M, N)? If not, OpenBLAS is faster: the weight is large, its rows are long.
bool product_gradient_pays(size_t M, size_t N);

enum { PRODUCT_ROWS = 6 };                                 // so many rows of c at a time: a multiple is best

typedef enum {
    PLAIN,                                                 // b (K, N), read where it is
    TRANSPOSED,                                            // of b (N, K): copied, a part at a time
    PACKED                                                 // what product_pack made of b (N, K)
} ProductB;

// c = add + a b, without `add` where it is NULL; `add` may be c. From one row to the next of c and add, and of a: c_row
// and a_row floats. Each number is summed in the order of k, in parts that depend on K alone: M changes no bit of it.
void product(float *c, const float *add, size_t c_row,               // (M, N)
             const float *a, size_t a_row,                           // (M, K)
             const float *b, ProductB form, size_t M, size_t N, size_t K);

// Copies rows n .. n + PRODUCT_COLUMNS - 1 of b (N, K), or those up to N, into `packed`: (N + PRODUCT_PADDING) * K
// floats. n is a multiple of PRODUCT_COLUMNS.
enum { PRODUCT_COLUMNS = 64, PRODUCT_PADDING = 16 };
void product_pack(float *packed, const float *b, size_t N, size_t K, size_t n);

// The gradient of a weight: c (M, N) = add + a^T b, as above.
size_t product_rows(size_t M, size_t N);                   // of c: so many at a time; a multiple of a block's
void product_gradient(float *c, const float *add,                    // (M, N), without gaps
                      const float *a, size_t a_row, const float *b,  // (K, M), (K, N)
                      size_t M, size_t N, size_t K);

#endif

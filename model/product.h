// product: products of matrices that are small enough to stay in the cache. OpenBLAS first copies both matrices into
// the order in which its loop reads them. That pays for large ones; for small ones it takes as long as the product.
#ifndef PRODUCT_H
#define PRODUCT_H

#include <stdbool.h>
#include <stddef.h>

// Is c (M, N) = a b a product for here? b is (K, N). Whatever M is: a number of c then has the same bits in each.
bool product_is_small(size_t N, size_t K);

// c = add + a b, without `add` where it is NULL; `add` may be c. a's number (i, k) is a[i * a_row + k * a_step]; from
// one row to the next of c and add, and of b: c_row, b_row floats. N is at least 64. Each number is summed in the order
// of k, in parts of PRODUCT_PART.
enum { PRODUCT_PART = 64, PRODUCT_ROWS = 48 };             // PRODUCT_ROWS: a good number of rows for one thread
void product(float *c, const float *add, size_t c_row,               // (M, N)
             const float *a, size_t a_row, size_t a_step,            // (M, K)
             const float *b, size_t b_row,                           // (K, N)
             size_t M, size_t N, size_t K);

// y (N, out) = add + x w^T, for a small w (out, in): it is transposed first. From one row to the next of y and add:
// y_row floats.
void product_transposed(float *y, const float *add, size_t y_row, const float *x, const float *w,
                        size_t N, size_t in, size_t out);

#endif

// product: see product.h. A block of c, ROWS rows and up to VECTORS vectors, is summed in the processor's registers:
//
//                      b   | . . . . | . . . . |    row k: VECTORS vectors, read where they are
//          a               +---------+---------+
//        | . |             | s s s s | s s s s |    s += a_ik * b_k:  one number of a, times each vector
//        | . |   row i     | s s s s | s s s s |
//
// AVX-512 has 32 registers: 24 sums, 4 vectors of b and one number of a. AVX2 has 16: 12 sums, 2 and one.
#include "product.h"

#include "lanes.h"

enum { ROWS = 6, VECTORS = LANES == 16 ? 4 : 2, PANEL = VECTORS * LANES };
enum { SMALL = 1 << 17, FEWEST = 64, DEEPEST = 512 };      // numbers of b; columns of b; rows of b

bool product_is_small(size_t N, size_t K) { return N * K <= SMALL && N >= FEWEST && K <= DEEPEST; }

// One block; of each row, the first `skip` numbers are done already. rows and vectors are constants where it is called.
static inline __attribute__((always_inline)) void block(float *c, const float *add, size_t c_row, const float *a,
                                                        size_t a_row, size_t a_step, const float *b, size_t b_row,
                                                        size_t K, size_t rows, size_t vectors, size_t skip)
{
    Lanes sum[ROWS][VECTORS] = {0};
    for (size_t k = 0; k < K; k++) {
        __builtin_prefetch(a + (k + PRODUCT_PART) * a_step);           // a column of a: each number is on another line
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < vectors; j++)
                sum[i][j] += a[i * a_row + k * a_step] * *(const Lanes *)(b + k * b_row + j * LANES);
    }
    for (size_t i = 0; i < rows; i++, c += c_row) {
        const float *add_i = add ? add + i * c_row : NULL;
        for (size_t n = skip; skip && n < LANES; n++) c[n] = (add ? add_i[n] : 0) + sum[i][0][n];
        for (size_t j = skip > 0; j < vectors; j++) {
            if (add) sum[i][j] += *(const Lanes *)(add_i + j * LANES);
            *(Lanes *)(c + j * LANES) = sum[i][j];
        }
    }
}

// A panel: all rows of up to VECTORS vectors of c.
static inline __attribute__((always_inline)) void rows_of(float *c, const float *add, size_t c_row, const float *a,
                                                          size_t a_row, size_t a_step, const float *b, size_t b_row,
                                                          size_t M, size_t K, size_t vectors, size_t skip)
{
    for (size_t rows; M > 0; M -= rows, c += rows * c_row, add += add ? rows * c_row : 0, a += rows * a_row) {
        rows = M >= ROWS ? ROWS : M >= 2 ? 2 : 1;
        if (rows == ROWS) block(c, add, c_row, a, a_row, a_step, b, b_row, K, ROWS, vectors, skip);
        else if (rows == 2) block(c, add, c_row, a, a_row, a_step, b, b_row, K, 2, vectors, skip);
        else block(c, add, c_row, a, a_row, a_step, b, b_row, K, 1, vectors, skip);
    }
}

static void panel(float *c, const float *add, size_t c_row, const float *a, size_t a_row, size_t a_step,
                  const float *b, size_t b_row, size_t M, size_t K, size_t vectors, size_t skip)
{
    if (vectors == VECTORS && skip == 0) rows_of(c, add, c_row, a, a_row, a_step, b, b_row, M, K, VECTORS, 0);
    else if (vectors == VECTORS) rows_of(c, add, c_row, a, a_row, a_step, b, b_row, M, K, VECTORS, skip);
    else if (vectors == 1) rows_of(c, add, c_row, a, a_row, a_step, b, b_row, M, K, 1, skip);
    else if (vectors == 2) rows_of(c, add, c_row, a, a_row, a_step, b, b_row, M, K, 2, skip);
    else rows_of(c, add, c_row, a, a_row, a_step, b, b_row, M, K, VECTORS - 1, skip);
}

// The panel of N columns that begins at or before column n: the last one has whole vectors too, and overlaps.
typedef struct { size_t n, vectors, skip; } Panel;

static Panel panel_at(size_t n, size_t N)
{
    size_t left = N - n, vectors = left >= PANEL ? VECTORS : (left + LANES - 1) / LANES;
    size_t skip = left >= PANEL ? 0 : vectors * LANES - left;
    return (Panel){n - skip, vectors, skip};
}

void product(float *c, const float *add, size_t c_row, const float *a, size_t a_row, size_t a_step, const float *b,
             size_t b_row, size_t M, size_t N, size_t K)
{
    for (size_t k = 0; k < K; k += PRODUCT_PART, add = c) {
        size_t part = K - k < PRODUCT_PART ? K - k : PRODUCT_PART;
        for (size_t n = 0; n < N; n += PANEL) {
            Panel p = panel_at(n, N);
            panel(c + p.n, add ? add + p.n : NULL, c_row, a + k * a_step, a_row, a_step, b + k * b_row + p.n, b_row, M,
                  part, p.vectors, p.skip);
        }
    }
}

// to (in, width) = from (width, in), transposed; width is a multiple of CHUNK
static void transpose(float *to, const float *from, size_t in, size_t width)
{
    size_t whole = in / CHUNK * CHUNK;
    for (size_t o = 0; o < width; o += CHUNK, from += CHUNK * in, to += CHUNK) {
        for (size_t i = 0; i < whole; i += CHUNK) {
            Chunk v[CHUNK];
            for (size_t k = 0; k < CHUNK; k++) v[k] = *(const Chunk *)(from + k * in + i);
            transpose_chunks(v);
            for (size_t k = 0; k < CHUNK; k++) *(Chunk *)(to + (i + k) * width) = v[k];
        }
        for (size_t i = whole; i < in; i++)
            for (size_t k = 0; k < CHUNK; k++) to[i * width + k] = from[k * in + i];
    }
}

void product_transposed(float *y, const float *add, size_t y_row, const float *x, const float *w, size_t N, size_t in,
                        size_t out)
{
    float columns[DEEPEST * PANEL] __attribute__((aligned(64)));
    for (size_t o = 0; o < out; o += PANEL) {
        Panel p = panel_at(o, out);
        transpose(columns, w + p.n * in, in, p.vectors * LANES);
        panel(y + p.n, add ? add + p.n : NULL, y_row, x, in, 1, columns, p.vectors * LANES, N, in, p.vectors, p.skip);
    }
}

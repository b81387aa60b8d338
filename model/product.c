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
enum { FEWEST = 64, DEEPEST = 512, SMALL = LANES == 16 ? 1 << 19 : 1 << 17 };    // columns of b; its rows; both

bool product_is_small(size_t N, size_t K) { return N * K <= SMALL && N >= FEWEST && K <= DEEPEST; }

// c (M, vectors * LANES) = add + a b, with the sizes and steps of product.h
typedef struct {
    float *c;
    const float *add, *a, *b;
    size_t c_row, a_row, a_step, b_row, M, K;
} Panel;

// Some rows of a panel; the first `skip` numbers of each are done already. rows and vectors are constants.
static inline __attribute__((always_inline)) void block(const Panel p, size_t rows, size_t vectors, size_t skip)
{
    Lanes sum[ROWS][VECTORS] = {0};
    for (size_t k = 0; k < p.K; k++) {
        __builtin_prefetch(p.a + (k + PRODUCT_PART) * p.a_step);       // a column of a: each number is on another line
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < vectors; j++)
                sum[i][j] += p.a[i * p.a_row + k * p.a_step] * *(const Lanes *)(p.b + k * p.b_row + j * LANES);
    }
    for (size_t i = 0; i < rows; i++) {
        float *c = p.c + i * p.c_row;
        const float *add = p.add ? p.add + i * p.c_row : NULL;
        for (size_t n = skip; skip && n < LANES; n++) c[n] = (add ? add[n] : 0) + sum[i][0][n];
        for (size_t j = skip > 0; j < vectors; j++) {
            if (add) sum[i][j] += *(const Lanes *)(add + j * LANES);
            *(Lanes *)(c + j * LANES) = sum[i][j];
        }
    }
}

static inline __attribute__((always_inline)) void rows_of(Panel p, size_t vectors, size_t skip)
{
    for (size_t rows; p.M > 0; p.M -= rows, p.c += rows * p.c_row, p.a += rows * p.a_row) {
        rows = p.M >= ROWS ? ROWS : p.M >= 2 ? 2 : 1;
        if (rows == ROWS) block(p, ROWS, vectors, skip);
        else if (rows == 2) block(p, 2, vectors, skip);
        else block(p, 1, vectors, skip);
        if (p.add) p.add += rows * p.c_row;
    }
}

static void panel(Panel p, size_t vectors, size_t skip)
{
    if (vectors == VECTORS && skip == 0) rows_of(p, VECTORS, 0);
    else if (vectors == VECTORS) rows_of(p, VECTORS, skip);
    else if (vectors == 1) rows_of(p, 1, skip);
    else if (vectors == 2) rows_of(p, 2, skip);
    else rows_of(p, VECTORS - 1, skip);
}

// The panel of N columns that begins at or before column n: the last one has whole vectors too, and overlaps.
typedef struct { size_t n, vectors, skip; } Columns;

static Columns columns_at(size_t n, size_t N)
{
    size_t left = N - n, vectors = left >= PANEL ? VECTORS : (left + LANES - 1) / LANES;
    size_t skip = left >= PANEL ? 0 : vectors * LANES - left;
    return (Columns){n - skip, vectors, skip};
}

void product(float *c, const float *add, size_t c_row, const float *a, size_t a_row, size_t a_step, const float *b,
             size_t b_row, size_t M, size_t N, size_t K)
{
    for (size_t k = 0; k < K; k += PRODUCT_PART, add = c)
        for (size_t n = 0; n < N; n += PANEL) {
            Columns at = columns_at(n, N);
            panel((Panel){.c = c + at.n, .add = add ? add + at.n : NULL, .a = a + k * a_step, .b = b + k * b_row + at.n,
                          .c_row = c_row, .a_row = a_row, .a_step = a_step, .b_row = b_row, .M = M,
                          .K = K - k < PRODUCT_PART ? K - k : PRODUCT_PART}, at.vectors, at.skip);
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
        Columns at = columns_at(o, out);
        transpose(columns, w + at.n * in, in, at.vectors * LANES);
        panel((Panel){.c = y + at.n, .add = add ? add + at.n : NULL, .a = x, .b = columns, .c_row = y_row, .a_row = in,
                      .a_step = 1, .b_row = at.vectors * LANES, .M = N, .K = in}, at.vectors, at.skip);
    }
}

// product: see product.h. A block of c, ROWS rows and up to VECTORS vectors, is summed in the processor's registers:
//
//                      b   | . . . . | . . . . |    row k: VECTORS vectors, neighbours in memory
//          a               +---------+---------+
//        | . |             | s s s s | s s s s |    s += a_ik * b_k:  one number of a, times each vector
//        | . |   row i     | s s s s | s s s s |
//
// AVX-512 has 32 registers: 24 sums, 4 vectors of b and one number of a. AVX2 has 16: 12 sums, 2 and one.
//
// A panel of c is as wide as a block and has all its rows. Its part of b, up to DEEPEST rows, stays in the cache while
// the rows of a pass by. What comes from further away is asked for early (prefetch): it takes as long as a hundred
// multiplications of whole vectors.
#include "product.h"

#include "lanes.h"

enum { ROWS = 6, VECTORS = LANES == 16 ? 4 : 2, PANEL = VECTORS * LANES, LINE = 16 };  // LINE: of the cache, in floats
enum { DEEPEST = 512, AHEAD = 16 };                        // AHEAD: rows
enum { MOST_ROWS = 96, MOST_DEEP = 128, SMALL = 1 << 17 }; // of a gradient; SMALL: numbers

bool product_can(size_t N) { return N >= 64; }
bool product_in_place(size_t M, size_t N) { return product_can(N) && (LANES == 16 || M * N <= SMALL); }
size_t product_rows(size_t M, size_t N) { return M * N <= SMALL ? MOST_ROWS / 2 : SMALL / N + 1; }

// c (M, vectors * LANES) = add + a b. a's number (i, k) is a[i * a_row + k * a_step]; ROWS rows further are a_block
// floats. From one row to the next of c and add, and of b: c_row, b_row floats. Each block asks for some lines of the
// next panel's b.
typedef struct {
    float *c;
    const float *add, *a, *b, *next;
    size_t c_row, a_row, a_block, a_step, b_row, M, K, next_lines;
} Panel;

// Some rows of a panel; the first `skip` numbers of each are done already. rows and vectors are constants.
static inline __attribute__((always_inline)) void block(const Panel p, size_t rows, size_t vectors, size_t skip)
{
    Lanes sum[ROWS][VECTORS] = {0};
    for (size_t i = 0; i < p.next_lines; i++) __builtin_prefetch(p.next + i * LINE, 0, 2);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < vectors * LANES; j += LINE) __builtin_prefetch(p.c + i * p.c_row + j, 1);
    for (size_t k = 0; k < p.K; k++) {
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
    for (size_t rows; p.M > 0; p.M -= rows, p.c += rows * p.c_row, p.next += p.next_lines * LINE) {
        rows = p.M >= ROWS ? ROWS : p.M >= 2 ? 2 : 1;
        if (rows == ROWS) block(p, ROWS, vectors, skip);
        else if (rows == 2) block(p, 2, vectors, skip);
        else block(p, 1, vectors, skip);
        p.a += rows == ROWS ? p.a_block : rows * p.a_row;
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

// The length of about equal parts of n, each of at most `most`
static size_t part_of(size_t n, size_t most)
{
    size_t parts = (n + most - 1) / most;
    return ((n + parts - 1) / parts + CHUNK - 1) / CHUNK * CHUNK;
}

// to (K, width) = b (K, width), or b^T of b (width, K); its rows are b_row floats apart. width is a multiple of CHUNK
static void copy(float *to, const float *b, size_t b_row, bool transposed, size_t K, size_t width)
{
    size_t chunks = transposed ? K / CHUNK * CHUNK : 0;
    for (size_t n = 0; chunks && n < width; n += CHUNK)
        for (size_t k = 0; k < chunks; k += CHUNK) {
            Chunk v[CHUNK];
            for (size_t i = 0; i < CHUNK; i++) v[i] = *(const Chunk *)(b + (n + i) * b_row + k);
            transpose_chunks(v);
            for (size_t i = 0; i < CHUNK; i++) *(Chunk *)(to + (k + i) * width + n) = v[i];
        }
    for (size_t k = chunks; k < K; k++)
        if (!transposed) memcpy(to + k * width, b + k * b_row, width * sizeof *to);
        else for (size_t n = 0; n < width; n++) to[k * width + n] = b[n * b_row + k];
}

void product_pack(float *packed, const float *b, ProductB form, size_t N, size_t K, size_t n)
{
    bool transposed = form == TRANSPOSED;
    for (size_t end = n + PRODUCT_COLUMNS; n < end && n < N; n += PANEL) {
        Columns at = columns_at(n, N);
        copy(packed + n * K, transposed ? b + at.n * K : b + at.n, transposed ? K : N, transposed, K,
             at.vectors * LANES);
    }
}

void product(float *c, const float *add, size_t c_row, const float *a, size_t a_row, const float *b, ProductB form,
             size_t M, size_t N, size_t K)
{
    float copied[DEEPEST * PANEL] __attribute__((aligned(64)));
    bool far = form == PACKED && N * K > SMALL / 2 && M >= ROWS;
    for (size_t k = 0, part = part_of(K, DEEPEST); k < K; k += part, add = c)
        for (size_t n = 0; n < N; n += PANEL) {
            Columns at = columns_at(n, N);
            size_t width = at.vectors * LANES, deep = K - k < part ? K - k : part;
            size_t b_row = form == PLAIN ? N : width;
            const float *from = form == PACKED ? b + n * K + k * width : form == PLAIN ? b + k * N + at.n : copied;
            if (form == TRANSPOSED) copy(copied, b + at.n * K + k, K, true, deep, width);
            panel((Panel){.c = c + at.n, .add = add ? add + at.n : NULL, .a = a + k, .b = from, .c_row = c_row,
                          .a_row = a_row, .a_block = ROWS * a_row, .a_step = 1, .b_row = b_row, .M = M, .K = deep,
                          .next = from + K * width, .next_lines = far ? deep * width / LINE / (M / ROWS) + 1 : 0},
                  at.vectors, at.skip);
        }
}

// to = the columns of a (K, M), ROWS at a time: each (K, ROWS)
static void copy_columns(float *to, const float *a, size_t a_row, size_t M, size_t K)
{
    for (size_t k = 0; k < K; k++, a += a_row, to += ROWS) {
        size_t i = 0;
        for (size_t j = 0; j < M; j += LINE) __builtin_prefetch(a + AHEAD * a_row + j, 0, 2);
        for (; i + ROWS <= M; i += ROWS) memcpy(to + i * K, a + i, ROWS * sizeof *to);
        for (size_t r = i; r < M; r++) to[i * K + r - i] = a[r];
    }
}

void product_gradient(float *c, const float *add, const float *a, size_t a_row, const float *b, size_t M, size_t N,
                      size_t K)
{
    float copied[MOST_ROWS * MOST_DEEP];
    bool copies = N >= 256;                                // of a: each number then serves for many of b
    size_t part = copies ? part_of(K, MOST_DEEP) : MOST_DEEP / 2, rows;
    for (size_t k = 0; k < K; k += part, add = c)
        for (size_t m = 0, deep = K - k < part ? K - k : part; m < M; m += rows) {
            const float *a_m = a + k * a_row + m;
            rows = M - m < MOST_ROWS ? M - m : MOST_ROWS;
            if (copies) copy_columns(copied, a_m, a_row, rows, deep);
            for (size_t n = 0; n < N; n += PANEL) {
                Columns at = columns_at(n, N);
                size_t i = m * N + at.n;
                panel((Panel){.c = c + i, .add = add ? add + i : NULL, .a = copies ? copied : a_m,
                              .b = b + k * N + at.n, .c_row = N, .a_row = 1, .a_block = copies ? ROWS * deep : ROWS,
                              .a_step = copies ? ROWS : a_row, .b_row = N, .M = rows, .K = deep}, at.vectors, at.skip);
            }
        }
}

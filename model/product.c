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
// the rows of a pass by. Rows of b that are far apart share places there, and push each other out: then the first block
// leaves a copy without gaps, which the other blocks read. What comes from further away is asked for early (prefetch):
// it takes as long as hundreds of multiplications of whole vectors. Each block asks for its share of what the next
// panel needs.
#include "product.h"

#include "lanes.h"

enum { ROWS = PRODUCT_ROWS, VECTORS = LANES == 16 ? 4 : 2, PANEL = VECTORS * LANES };
enum { LINE = 16, WIDEST = LANES == 16 ? 640 : 1024 };     // floats: of a line of the cache; of a row read in place
enum { DEEPEST = 512, STEP = 16, SOON = 4 };               // of k
enum { FEW = 48, MOST_ROWS = 96, MOST_DEEP = 128, SMALL = 1 << 17 };   // rows; k of a gradient; numbers

bool product_can(size_t N) { return N >= 64; }

bool product_gradient_pays(size_t M, size_t N) { return product_can(N) && (M * N <= SMALL / 2 || N <= WIDEST); }

size_t product_rows(size_t M, size_t N) { return M * N <= SMALL ? FEW : (SMALL / 2 / N + FEW) / FEW * FEW; }

// What is asked for early: `rows` rows by each block, each row `row` floats after the one before
typedef struct { const float *at; size_t row, rows; } Ahead;

#define INLINE static inline __attribute__((always_inline))

INLINE void ask(const Ahead *next, size_t i, size_t end, size_t width)
{
    for (; i < next->rows && i < end; i++)
        for (size_t j = 0; j < width; j += LINE) __builtin_prefetch(next->at + i * next->row + j, 0, 2);
}

// `rows` rows, a share for each of the blocks
static Ahead ahead(const float *at, size_t row, size_t rows, size_t blocks)
{
    return (Ahead){at, row, (rows + blocks - 1) / blocks};
}

// c (M, vectors * LANES) = add + a b. a's number (i, k) is a[i * a_row + k * a_step]; ROWS rows further are a_block
// floats. From one row to the next of c and add, and of b: c_row, b_row floats.
typedef struct {
    float *c;
    const float *add, *a, *b;
    size_t c_row, a_row, a_block, a_step, b_row, M, K;
    Ahead next_a, next_b;
    float *copy;                                           // NULL, or for b's part: (K, PANEL)
} Panel;

// Some rows of a panel; the first `skip` numbers of each are done already. All but p are constants. A gradient asks for
// one row of each matrix in every STEP of k: its sums are short, and many requests at once hold up the reading of b.
// A product asks for all at the start: each end of the loop over k costs it more.
INLINE void block(const Panel p, size_t rows, size_t vectors, size_t skip, bool gradient, bool copies)
{
    Lanes sum[ROWS][VECTORS] = {0};
    for (size_t k = 0, step = 0; k < p.K; step++) {
        size_t first = gradient ? step : 0, last = gradient ? step + 1 : p.K;
        ask(&(Ahead){p.c, p.c_row, rows}, first, last, vectors * LANES);
        if (gradient) ask(&p.next_a, first, last, MOST_ROWS);
        ask(&p.next_b, first, last, PANEL);
        for (size_t end = !gradient || p.K - k < STEP ? p.K : k + STEP; k < end; k++) {
            const float *b = p.b + k * p.b_row;
            for (size_t j = 0; !gradient && j < vectors * LANES; j += LINE)
                __builtin_prefetch(b + SOON * p.b_row + j, 0, 3);      // into the first cache; behind b's end: no harm
            for (size_t j = 0; copies && j < vectors; j++)
                *(Lanes *)(p.copy + k * PANEL + j * LANES) = *(const Lanes *)(b + j * LANES);
            for (size_t i = 0; i < rows; i++)
                for (size_t j = 0; j < vectors; j++)
                    sum[i][j] += p.a[i * p.a_row + k * p.a_step] * *(const Lanes *)(b + j * LANES);
        }
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

INLINE void rows_of(Panel p, size_t vectors, size_t skip, bool gradient)
{
    bool copies = p.copy && vectors == VECTORS && p.M >= 4 * ROWS;
    for (size_t rows; p.M > 0; p.M -= rows, p.c += rows * p.c_row) {
        rows = p.M >= ROWS ? ROWS : p.M >= 2 ? 2 : 1;
        if (copies) {
            block(p, ROWS, vectors, skip, gradient, true);
            p.b = p.copy, p.b_row = PANEL, copies = false;
        } else if (rows == ROWS) block(p, ROWS, vectors, skip, gradient, false);
        else if (rows == 2) block(p, 2, vectors, skip, gradient, false);
        else block(p, 1, vectors, skip, gradient, false);
        p.a += rows == ROWS ? p.a_block : rows * p.a_row;
        if (p.add) p.add += rows * p.c_row;
        p.next_a.at += p.next_a.rows * p.next_a.row;
        p.next_b.at += p.next_b.rows * p.next_b.row;
    }
}

INLINE void panel(Panel p, size_t vectors, size_t skip, bool gradient)
{
    if (vectors == VECTORS && skip == 0) rows_of(p, VECTORS, 0, gradient);
    else if (vectors == VECTORS) rows_of(p, VECTORS, skip, gradient);
    else if (vectors == 1) rows_of(p, 1, skip, gradient);
    else if (vectors == 2) rows_of(p, 2, skip, gradient);
    else rows_of(p, VECTORS - 1, skip, gradient);
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

// to (K, width) = b^T of b (width, K), whose rows are b_row floats apart. width is a multiple of CHUNK
static void transpose(float *to, const float *b, size_t b_row, size_t K, size_t width)
{
    size_t chunks = K / CHUNK * CHUNK;
    for (size_t n = 0; chunks && n < width; n += CHUNK)
        for (size_t k = 0; k < chunks; k += CHUNK) {
            Chunk v[CHUNK];
            for (size_t i = 0; i < CHUNK; i++) v[i] = *(const Chunk *)(b + (n + i) * b_row + k);
            transpose_chunks(v);
            for (size_t i = 0; i < CHUNK; i++) *(Chunk *)(to + (k + i) * width + n) = v[i];
        }
    for (size_t k = chunks; k < K; k++)
        for (size_t n = 0; n < width; n++) to[k * width + n] = b[n * b_row + k];
}

void product_pack(float *packed, const float *b, size_t N, size_t K, size_t n)
{
    for (size_t end = n + PRODUCT_COLUMNS; n < end && n < N; n += PANEL) {
        Columns at = columns_at(n, N);
        transpose(packed + n * K, b + at.n * K, K, K, at.vectors * LANES);
    }
}

void product(float *c, const float *add, size_t c_row, const float *a, size_t a_row, const float *b, ProductB form,
             size_t M, size_t N, size_t K)
{
    float copied[DEEPEST * PANEL] __attribute__((aligned(64)));
    size_t part = part_of(K, DEEPEST), blocks = M / ROWS;
    bool far = N * K > SMALL / 2 && blocks > 0;
    for (size_t k = 0; k < K; k += part, add = c)
        for (size_t n = 0; n < N; n += PANEL) {
            Columns at = columns_at(n, N);
            size_t width = at.vectors * LANES, deep = K - k < part ? K - k : part;
            size_t next_n = n + PANEL < N ? n + PANEL : 0, next_k = next_n ? k : k + part;
            Panel p = {.c = c + at.n, .add = add ? add + at.n : NULL, .a = a + k, .c_row = c_row, .a_row = a_row,
                       .a_block = ROWS * a_row, .a_step = 1, .b_row = form == PLAIN ? N : width, .M = M, .K = deep};
            p.b = form == PACKED ? b + n * K + k * width : form == PLAIN ? b + k * N + at.n : copied;
            if (form == TRANSPOSED) transpose(copied, b + at.n * K + k, K, deep, width);
            else if (form == PLAIN && far && (LANES < 16 || N > WIDEST)) p.copy = copied;
            if (far && next_k < K)                         // a transposed b has the next rows, if K is one part
                p.next_b = form == PLAIN ? ahead(b + next_k * N + next_n, N, deep, blocks)
                                         : ahead(b + next_n * K + next_k * width, width, deep, blocks);
            panel(p, at.vectors, at.skip, false);
        }
}

// to = the columns of a (K, M), ROWS at a time: each (K, ROWS), and a gap. A Chunk has two numbers too many: what comes
// next overwrites them.
static void copy_columns(float *to, const float *a, size_t a_row, size_t M, size_t K)
{
    for (size_t k = 0; k < K; k++, a += a_row)
        for (size_t i = 0, at = k * ROWS; i < M; i += ROWS, at += ROWS * K + CHUNK) {
            if (i + CHUNK <= M) *(Chunk *)(to + at) = *(const Chunk *)(a + i);
            else for (size_t r = 0; r < ROWS && i + r < M; r++) to[at + r] = a[i + r];
        }
}

void product_gradient(float *c, const float *add, const float *a, size_t a_row, const float *b, size_t M, size_t N,
                      size_t K)
{
    float copied[MOST_ROWS * 2 * MOST_DEEP + MOST_ROWS / ROWS * CHUNK];
    float b_copied[2 * MOST_DEEP * PANEL] __attribute__((aligned(64)));
    bool copies = N >= 256;                                // of a: each number then serves for many of b
    bool apart = LANES < 16 && N >= 512;                   // are rows of b
    size_t part = part_of(K, apart ? 2 * MOST_DEEP : MOST_DEEP), rows;
    for (size_t k = 0; k < K; k += part, add = c)
        for (size_t m = 0, deep = K - k < part ? K - k : part; m < M; m += rows) {
            const float *a_m = a + k * a_row + m;
            rows = M - m < MOST_ROWS ? M - m : MOST_ROWS;
            if (copies) copy_columns(copied, a_m, a_row, rows, deep);
            bool more = k + part < K, last = m + rows == M;
            size_t blocks = (rows + ROWS - 1) / ROWS, panels = (N + PANEL - 1) / PANEL;
            Ahead next_a = ahead(last ? a + (k + part) * a_row : a_m + rows, a_row, deep, blocks * panels);
            for (size_t n = 0; n < N; n += PANEL, next_a.at += blocks * next_a.rows * a_row) {
                Columns at = columns_at(n, N);
                size_t i = m * N + at.n;
                Panel p = {.c = c + i, .add = add ? add + i : NULL, .a = copies ? copied : a_m, .b = b + k * N + at.n,
                           .c_row = N, .a_row = 1, .a_block = copies ? ROWS * deep + CHUNK : ROWS,
                           .a_step = copies ? ROWS : a_row, .b_row = N, .M = rows, .K = deep};
                if (apart) p.copy = b_copied;
                if (!last || more) p.next_a = next_a;
                if (m == 0 && n + PANEL < N) p.next_b = ahead(p.b + PANEL, N, deep, blocks);
                if (last && n + PANEL >= N && more) p.next_b = ahead(b + (k + part) * N, N, deep, blocks);
                panel(p, at.vectors, at.skip, true);
            }
        }
}

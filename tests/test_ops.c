// Each operation alone: the forward against a plain loop in double, the backward against that loop's slope. What beta
// does to sums, what the exponential is worth, and what becomes of inputs that are huge or no number.
#include "check.h"

#include "../model/exp.h"
#include "../model/ops.h"

// ---- helpers ------------------------------------------------------------------------------------------------------

static Rng rng;

// Memory that a test need not give back: free_kept does at its end.
static struct { void **items; size_t n, cap; } kept;

static void *keep(void *p)
{
    ARRAY_ROOM(kept.items, kept.n, kept.cap);
    return kept.items[kept.n++] = p;
}

static void free_kept(void)
{
    while (kept.n) free(kept.items[--kept.n]);
    free(kept.items);
    kept.items = NULL;
    kept.cap = 0;
}

static float *floats(size_t n) { return keep(mem_alloc(n, sizeof(float))); }

static double *doubles(size_t n) { return keep(mem_alloc(n, sizeof(double))); }

static float *random_floats(size_t n)
{
    float *x = floats(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)rng_normal(&rng);
    return x;
}

static float *filled(size_t n, float value)
{
    float *x = floats(n);
    for (size_t i = 0; i < n; i++) x[i] = value;
    return x;
}

static float *copied(const float *x, size_t n) { return memcpy(floats(n), x, n * sizeof *x); }

static void widen(double *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = from[i];
}

static float *narrowed(const double *x, size_t n)
{
    float *y = floats(n);
    for (size_t i = 0; i < n; i++) y[i] = (float)x[i];
    return y;
}

static double inner_product(const double *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

// An operation in double, made one number: the sum of its outputs times dy. Its gradient is what backward should give.
typedef double (*Function)(const double *inputs, const void *op);

// The slope of f along random directions of inputs[from .. from+n), against the gradient's share in each.
static void check_slopes(const char *name, Function f, const void *op, double *inputs, size_t from, size_t n,
                         const float *gradient)
{
    const double h = 1e-5;
    double *x = inputs + from, *v = doubles(n), *old = doubles(n), norm = 0;
    memcpy(old, x, n * sizeof *x);
    for (size_t i = 0; i < n; i++) norm += (double)gradient[i] * gradient[i];
    for (int direction = 0; direction < 5; direction++) {
        for (size_t i = 0; i < n; i++) x[i] = old[i] + h * (v[i] = rng_normal(&rng));
        double up = f(inputs, op);
        for (size_t i = 0; i < n; i++) x[i] = old[i] - h * v[i];
        double slope = (up - f(inputs, op)) / (2 * h), got = inner_product(v, gradient, n);
        memcpy(x, old, n * sizeof *x);
        CHECK_MSG(fabs(got - slope) <= 2e-6 * sqrt(norm), "%s: gradient says %.9g, slope is %.9g", name, got, slope);
    }
}

// With beta 1 a backward adds to `before` what with beta 0 it wrote over NaN.
static void check_added(const char *name, const float *sum, const float *before, const float *assigned, size_t n)
{
    float *want = floats(n);
    for (size_t i = 0; i < n; i++) want[i] = before[i] + assigned[i];
    CHECK_CLOSE(name, sum, want, n, 1e-6);
}

// ---- linear -------------------------------------------------------------------------------------------------------

// c (m, n) = c + a b, by strides: a[i, l] is a[i * a_row + l * a_column], and so for b.
static void product(double *c, const float *a, size_t a_row, size_t a_column, const float *b, size_t b_row,
                    size_t b_column, size_t m, size_t n, size_t k)
{
    for (size_t i = 0; i < m; i++)
        for (size_t l = 0; l < k; l++)
            for (size_t j = 0; j < n; j++)
                c[i * n + j] += (double)a[i * a_row + l * a_column] * b[l * b_row + j * b_column];
}

static void check_linear(size_t N, size_t in, size_t out)
{
    float *x = random_floats(N * in), *w = random_floats(out * in), *dy = random_floats(N * out);
    float *y = filled(N * out, NAN), *dx = filled(N * in, NAN), *dw = filled(out * in, NAN),
          *scratch = filled(linear_scratch(N, in), NAN);
    double *want_y = doubles(N * out), *want_dx = doubles(N * in), *want_dw = doubles(out * in);
    WeightGradient gradient = {dw, dy, x, N, in, out};
    product(want_y, x, in, 1, w, 1, in, N, out, in);                            // y = x w^T
    product(want_dx, dy, out, 1, w, in, 1, N, in, out);                         // dx = dy w
    product(want_dw, dy, 1, out, x, in, 1, out, in, N);                         // dw = dy^T x

    linear_forward(y, NULL, x, w, N, in, out);
    linear_backward_weights(&gradient, 1, 0);
    float *room = filled(linear_packed(in, out), NAN);
    const float *packed = linear_pack(room, w, in, out);
    linear_rows_backward(dx, dy, out, w, N, in, out);
    CHECK_CLOSE("y", y, narrowed(want_y, N * out), N * out, 1e-6);
    CHECK_CLOSE("dx", dx, narrowed(want_dx, N * in), N * in, 1e-6);
    CHECK_CLOSE("dw", dw, narrowed(want_dw, out * in), out * in, 1e-6);

    float *cut = filled(N * in, NAN);
    linear_backward_input(cut, dy, w, N, in, out, scratch);
    CHECK_CLOSE("dx, cut", cut, narrowed(want_dx, N * in), N * in, 1e-6);

    float *sum = copied(dy, N * out), *sum_dw = copied(w, out * in);
    gradient.dw = sum_dw;
    linear_forward(sum, sum, x, w, N, in, out);
    linear_backward_weights(&gradient, 1, 1);
    check_added("y + ", sum, dy, y, N * out);
    check_added("dw + ", sum_dw, w, dw, out * in);

    float *inside = filled(N * out, NAN), *inside_dx = filled(N * in, NAN);
    FOR_EACH_TILE(t, N) linear_rows_backward(inside_dx + t.n * in, dy + t.n * out, out, w, t.R, in, out);
    FOR_EACH_TILE(t, N) linear_rows(inside + t.n * out, dy + t.n * out, x + t.n * in, packed, t.R, in, out);
    check_added("tiles of y + ", inside, dy, y, N * out);
    CHECK_CLOSE("tiles of dx", inside_dx, narrowed(want_dx, N * in), N * in, 1e-6);
}

static void linear(void)
{
    check_linear(1, 1, 1);
    check_linear(2, 40, 33);
    check_linear(700, 19, 530);
    check_linear(33, 530, 2100);                           // more than one piece along `out`, and no whole number
    check_linear(70, 2100, 530);                           // and along `in`, of a dw
    check_linear(2100, 17, 30);
    check_linear(20, 23, 1300);
    check_linear(310, 300, 330);                           // no whole number of columns
    check_linear(1030, 600, 650);                          // sums in more than one part, more than four tiles
    check_linear(250, 172, 64);                            // small: no whole number of panels, or of blocks of rows
    check_linear(40, 1024, 70);                            // rows that share few places in the cache
    check_linear(20, 70, 33);                              // a vocabulary of fewer parts than others
    check_linear(37, 64, 344);
    check_linear(53, 79, 65);
    check_linear(64, 256, 510);
    free_kept();
}

static void tiles_of_fewer_rows_are_not_more(void)
{
    for (size_t N = 1; N < 70000; N++)
        CHECK_MSG((N - 1) / tile_rows(N) + 1 <= tile_count(N) && tile_count(N) <= tile_count(N + 1), "%zu rows", N);
}

// Several weights' gradients in one go are what they are alone.
static void gradients_of_several_weights(void)
{
    static const size_t sizes[3][3] = {{300, 40, 2300}, {300, 70, 30}, {11, 5, 6}};       // N, in, out
    WeightGradient all[3];
    float *alone[3];
    for (size_t i = 0; i < 3; i++) {
        size_t N = sizes[i][0], in = sizes[i][1], out = sizes[i][2];
        all[i] = (WeightGradient){
            alone[i] = filled(out * in, NAN), random_floats(N * out), random_floats(N * in), N, in, out};
        linear_backward_weights(all + i, 1, 0);
        all[i].dw = filled(out * in, NAN);
    }
    linear_backward_weights(all, 3, 0);
    for (size_t i = 0; i < 3; i++) CHECK(memcmp(all[i].dw, alone[i], all[i].in * all[i].out * sizeof(float)) == 0);
    free_kept();
}

static void threads_change_no_bit_of_a_product(void)
{
    enum { N = 700, IN = 130, OUT = 4530 };
    static const int threads[] = {1, 2, 3, 7};
    float *x = random_floats(N * IN), *w = random_floats(OUT * IN), *dy = random_floats(N * OUT),
          *scratch = floats(linear_scratch(N, IN));
    float *y[4], *dx[4], *dw[4], *packed[4];
    for (int i = 0; i < 4; i++) {
        WeightGradient gradient = {dw[i] = floats(OUT * IN), dy, x, N, IN, OUT};
        ops_init(threads[i]);
        CHECK(ops_threads() == threads[i]);
        linear_forward(y[i] = floats(N * OUT), NULL, x, w, N, IN, OUT);
        linear_backward_input(dx[i] = floats(N * IN), dy, w, N, IN, OUT, scratch);
        linear_backward_weights(&gradient, 1, 0);
        linear_pack(packed[i] = filled(linear_packed(IN, OUT), 0), w, IN, OUT);
        CHECK_MSG(memcmp(packed[0], packed[i], linear_packed(IN, OUT) * sizeof *w) == 0, "w, %d threads", threads[i]);
        CHECK_MSG(memcmp(y[0], y[i], N * OUT * sizeof *y[0]) == 0, "y, %d threads", threads[i]);
        CHECK_MSG(memcmp(dx[0], dx[i], N * IN * sizeof *dx[0]) == 0, "dx, %d threads", threads[i]);
        CHECK_MSG(memcmp(dw[0], dw[i], OUT * IN * sizeof *dw[0]) == 0, "dw, %d threads", threads[i]);
    }
    ops_init(0);
    free_kept();
}

// ---- embedding ----------------------------------------------------------------------------------------------------

static void embedding(void)
{
    enum { N = 50, V = 7, C = 37 };
    int ids[N];
    for (int n = 0; n < N; n++) ids[n] = n == 20 ? V - 1 : (int)rng_below(&rng, V - 1);   // the last id comes once
    float *table = random_floats(V * C), *x = filled(N * C, NAN), *dx = random_floats(N * C);
    float *dtable = copied(table, V * C);
    double *want = doubles(V * C);
    embedding_forward(x, ids, table, N, C);
    embedding_backward(dtable, dx, ids, N, C);             // adds: here to the table's own numbers
    widen(want, table, V * C);
    for (size_t n = 0; n < N; n++)
        for (size_t c = 0; c < C; c++) {
            want[(size_t)ids[n] * C + c] += dx[n * C + c];
            CHECK(x[n * C + c] == table[(size_t)ids[n] * C + c]);
        }
    CHECK_CLOSE("dtable", dtable, narrowed(want, V * C), V * C, 1e-6);
    free_kept();
}

// ---- RMSNorm ------------------------------------------------------------------------------------------------------

typedef struct { size_t N, C; double eps; const float *dy; } RmsNorm;

// in: x, then w
static void rmsnorm_reference(double *y, const double *in, const RmsNorm *op)
{
    const double *w = in + op->N * op->C;
    for (size_t n = 0; n < op->N; n++) {
        double sum = 0;
        for (size_t c = 0; c < op->C; c++) sum += in[n * op->C + c] * in[n * op->C + c];
        double r = 1 / sqrt(sum / (double)op->C + op->eps);
        for (size_t c = 0; c < op->C; c++) y[n * op->C + c] = in[n * op->C + c] * r * w[c];
    }
}

static double rmsnorm_objective(const double *in, const void *op_)
{
    const RmsNorm *op = op_;
    double *y = mem_alloc(op->N * op->C, sizeof *y);
    rmsnorm_reference(y, in, op);
    double sum = inner_product(y, op->dy, op->N * op->C);
    free(y);
    return sum;
}

static void check_rmsnorm(size_t N, size_t C, float eps)
{
    float *x = random_floats(N * C), *w = random_floats(C), *dy = random_floats(N * C), *y = filled(N * C, NAN);
    float *rstd = filled(N, NAN), *dx = filled(N * C, NAN), *dw = filled(C, NAN);
    RmsNorm op = {N, C, eps, dy};
    double *in = doubles(N * C + C), *want = doubles(N * C);
    widen(in, x, N * C);
    widen(in + N * C, w, C);
    rmsnorm_reference(want, in, &op);
    rmsnorm_forward(y, rstd, x, w, eps, N, C);
    CHECK_CLOSE("y", y, narrowed(want, N * C), N * C, 1e-6);

    rmsnorm_backward(dx, dw, NULL, dy, x, w, rstd, N, C);
    check_slopes("rmsnorm dx", rmsnorm_objective, &op, in, 0, N * C, dx);
    check_slopes("rmsnorm dw", rmsnorm_objective, &op, in, N * C, C, dw);

    float *sum_dx = copied(y, N * C), *in_place = copied(x, N * C);
    rmsnorm_backward(sum_dx, dw, sum_dx, dy, x, w, rstd, N, C);           // dx may be what is added,
    check_added("rmsnorm dx", sum_dx, y, dx, N * C);
    rmsnorm_backward(in_place, dw, y, dy, in_place, w, rstd, N, C);       // or x
    CHECK(memcmp(in_place, sum_dx, N * C * sizeof *sum_dx) == 0);
    check_slopes("rmsnorm dw", rmsnorm_objective, &op, in, N * C, C, dw);
}

static void rmsnorm(void)
{
    check_rmsnorm(1, 1, 0.5f);                             // with a small eps, one channel has no gradient to speak of
    check_rmsnorm(1, 37, 1e-5f);
    check_rmsnorm(90, 64, 1e-6f);
    check_rmsnorm(5, 33, 0.5f);

    float zero[3] = {0}, w[3] = {1, 2, 3}, y[3], rstd;     // nothing to divide by but eps
    rmsnorm_forward(y, &rstd, zero, w, 1e-5f, 1, 3);
    CHECK(y[0] == 0 && y[1] == 0 && y[2] == 0 && isfinite(rstd));
    free_kept();
}

// The norm of each head is the norm of a row. What is right of the heads stays as it is.
static void check_head_norm(size_t N, size_t heads, size_t D)
{
    size_t stride = heads * D + 5, rows = N * heads;
    float *x = random_floats(N * stride), *dy = random_floats(N * stride), *w = random_floats(D);
    float *in = floats(rows * D), *y = floats(rows * D), *rstd = floats(rows), *dout = floats(rows * D);
    float *dx = floats(rows * D), *dw = floats(D), *got = copied(x, N * stride), *got_dw = filled(D, NAN);
    float *want = copied(x, N * stride), *want_dx = copied(dy, N * stride);
    for (size_t r = 0; r < rows; r++) {
        memcpy(in + r * D, x + r / heads * stride + r % heads * D, D * sizeof *in);
        memcpy(dout + r * D, dy + r / heads * stride + r % heads * D, D * sizeof *in);
    }
    rmsnorm_forward(y, rstd, in, w, 1e-6f, rows, D);
    rmsnorm_backward(dx, dw, NULL, dout, in, w, rstd, rows, D);
    for (size_t r = 0; r < rows; r++) {
        memcpy(want + r / heads * stride + r % heads * D, y + r * D, D * sizeof *y);
        memcpy(want_dx + r / heads * stride + r % heads * D, dx + r * D, D * sizeof *y);
    }
    head_norm_forward(got, x, stride, w, 1e-6f, N, heads, D);
    CHECK(memcmp(got, want, N * stride * sizeof *got) == 0);
    memcpy(got, x, N * stride * sizeof *got);
    head_norm_forward(got, got, stride, w, 1e-6f, N, heads, D);           // y may be x
    CHECK(memcmp(got, want, N * stride * sizeof *got) == 0);
    head_norm_backward(dy, got_dw, x, stride, w, 1e-6f, N, heads, D);
    CHECK_CLOSE("head_norm dx", dy, want_dx, N * stride, 1e-7);
    CHECK_CLOSE("head_norm dw", got_dw, dw, D, 1e-6);
}

static void head_norm(void)
{
    check_head_norm(1, 1, 2);
    check_head_norm(7, 3, 32);
    check_head_norm(90, 2, 10);
    free_kept();
}

// ---- bias ---------------------------------------------------------------------------------------------------------

// Its gradient is that of a weight whose input is 1.
static void bias(void)
{
    enum { N = 70, C = 19 };
    float *y = random_floats(N * C), *b = random_floats(C), *before = copied(y, N * C), *want = floats(N * C);
    float *db = filled(C, NAN), *ones = filled(N, 1), *want_db = floats(C);
    for (size_t i = 0; i < N * C; i++) want[i] = before[i] + b[i % C];
    bias_forward(y, b, N, C);
    CHECK(memcmp(y, want, N * C * sizeof *y) == 0);
    bias_forward(y, NULL, N, C);
    CHECK(memcmp(y, want, N * C * sizeof *y) == 0);
    for (size_t c = 0; c < C; c++) {
        double sum = 0;
        for (size_t n = 0; n < N; n++) sum += (double)y[n * C + c];
        want_db[c] = (float)sum;
    }
    WeightGradient gradient = {db, y, ones, N, 1, C};
    linear_backward_weights(&gradient, 1, 0);
    CHECK_CLOSE("db", db, want_db, C, 1e-6);
    free_kept();
}

// ---- RoPE ---------------------------------------------------------------------------------------------------------

enum { ROPE_N = 9, ROPE_HEADS = 3, ROPE_D = 10, ROPE_STRIDE = 40, ROPE_POSITIONS = 20 };

static void rope_turns_each_pair(void)
{
    static const int position[ROPE_N] = {0, 1, 2, 3, 0, 19, 7, 7, 0};
    float *table = floats(ROPE_POSITIONS * ROPE_D), *x = random_floats(ROPE_N * ROPE_STRIDE);
    float *y = copied(x, ROPE_N * ROPE_STRIDE);
    float *want = copied(x, ROPE_N * ROPE_STRIDE);         // what is right of the heads stays as it is
    for (size_t i = 0; i < ROPE_POSITIONS * ROPE_D / 2; i++) {
        double angle = 6 * rng_uniform(&rng);
        table[2 * i] = (float)cos(angle);
        table[2 * i + 1] = (float)sin(angle);
    }
    for (size_t n = 0; n < ROPE_N; n++)
        for (size_t i = 0; i < ROPE_HEADS * ROPE_D; i += 2) {
            const float *turn = table + (size_t)position[n] * ROPE_D + i % ROPE_D;
            double re = x[n * ROPE_STRIDE + i], im = x[n * ROPE_STRIDE + i + 1];
            want[n * ROPE_STRIDE + i] = (float)(re * turn[0] - im * turn[1]);
            want[n * ROPE_STRIDE + i + 1] = (float)(re * turn[1] + im * turn[0]);
        }
    rope(y, ROPE_STRIDE, table, position, ROPE_N, ROPE_HEADS, ROPE_D, 1);
    CHECK_CLOSE("forward", y, want, ROPE_N * ROPE_STRIDE, 1e-6);

    // A rotation's gradient is the rotation back: <rope(x), dy> = <x, rope back(dy)>, and back after forth is nothing.
    float *dy = random_floats(ROPE_N * ROPE_STRIDE), *dx = copied(dy, ROPE_N * ROPE_STRIDE);
    double forth = 0, back = 0;
    rope(dx, ROPE_STRIDE, table, position, ROPE_N, ROPE_HEADS, ROPE_D, -1);
    for (size_t i = 0; i < ROPE_N * ROPE_STRIDE; i++) {
        forth += (double)y[i] * dy[i];
        back += (double)x[i] * dx[i];
    }
    CHECK_MSG(fabs(forth - back) <= 1e-5, "%.9g, %.9g", forth, back);
    rope(y, ROPE_STRIDE, table, position, ROPE_N, ROPE_HEADS, ROPE_D, -1);
    CHECK_CLOSE("forth and back", y, x, ROPE_N * ROPE_STRIDE, 1e-6);
    free_kept();
}

// ---- attention ----------------------------------------------------------------------------------------------------

typedef struct { AttentionShape shape; size_t N, M; const float *datt; } Attention;

// Attention in plain loops, which model/attention.c does for sixteen queries at once. One query and head, over the keys
// 0 .. position of its row: att = softmax(q k^T / sqrt(D)) v; returns log(sum(exp(scores))).
static double attention_plain(double *att, const double *q, const double *k, size_t stride, size_t position, size_t KD,
                              size_t D)
{
    double *p = mem_alloc(position + 1, sizeof *p), sum = 0;
    for (size_t t = 0; t <= position; t++) {
        for (size_t d = 0; d < D; d++) p[t] += q[d] * k[t * stride + d] / sqrt((double)D);
        sum += exp(p[t]);
    }
    for (size_t d = 0; d < D; d++) {
        att[d] = 0;                                        // v stands KD behind k
        for (size_t t = 0; t <= position; t++) att[d] += exp(p[t]) / sum * k[t * stride + KD + d];
    }
    free(p);
    return log(sum);
}

// in: q, then kv
static void attention_reference(double *att, double *lse, const double *in, const Attention *op)
{
    const AttentionShape *a = &op->shape;
    size_t H = a->H, D = a->D, KD = a->K * D;
    const double *kv = in + op->M * H * D;
    for (size_t s = 0; s < a->S; s++)
        for (size_t m = a->query_starts[s]; m < a->query_starts[s + 1]; m++)
            for (size_t h = 0; h < H; h++)
                lse[m * H + h] = attention_plain(att + (m * H + h) * D, in + (m * H + h) * D,
                                                 kv + a->key_starts[s] * 2 * KD + h / (H / a->K) * D, 2 * KD,
                                                 (size_t)a->query_position[m], KD, D);
}

static double attention_objective(const double *in, const void *op_)
{
    const Attention *op = op_;
    size_t n = op->M * op->shape.H * op->shape.D;
    double *att = mem_alloc(n, sizeof *att), *lse = mem_alloc(n, sizeof *lse);
    attention_reference(att, lse, in, op);
    double sum = inner_product(att, op->datt, n);
    free(att);
    free(lse);
    return sum;
}

// Rows of 1, 70, 150 and 3 tokens; every `every`-th token has a query (1: all), and the first row has none.
static Attention attention_make(size_t H, size_t K, size_t D, size_t every)
{
    static const size_t key_starts[] = {0, 1, 71, 221, 224}, order[] = {2, 1, 3, 0};
    static size_t query_starts[5];
    static int position[224];
    Attention op = {.shape = {4, key_starts, query_starts, position, order, H, K, D, 150, H * D, 2 * K * D}, .N = 224};
    for (size_t s = 0; s < 4; s++) {
        for (size_t n = key_starts[s]; n < key_starts[s + 1]; n++)
            if (every == 1 || (s > 0 && n % every == 0)) position[op.M++] = (int)(n - key_starts[s]);
        query_starts[s + 1] = op.M;
    }
    op.datt = random_floats(op.M * H * D);
    return op;
}

static size_t scratch_floats(size_t D) { return (size_t)ops_threads() * attention_scratch(150, D); }

static void check_attention(size_t H, size_t K, size_t D, size_t every)
{
    Attention op = attention_make(H, K, D, every);
    size_t n_q = op.M * H * D, n_kv = op.N * 2 * K * D, n_lse = op.M * H;
    float *q = random_floats(n_q), *kv = random_floats(n_kv), *att = filled(n_q, NAN), *lse = filled(n_lse, NAN);
    float *dq = filled(n_q, NAN), *dkv = filled(n_kv, NAN), *scratch = filled(scratch_floats(op.shape.D), NAN);
    double *in = doubles(n_q + n_kv), *want = doubles(n_q), *want_lse = doubles(n_lse);
    widen(in, q, n_q);
    widen(in + n_q, kv, n_kv);
    attention_reference(want, want_lse, in, &op);
    attention_forward(att, lse, q, kv, &op.shape, scratch);
    CHECK_CLOSE("att", att, narrowed(want, n_q), n_q, 1e-6);
    CHECK_CLOSE("lse", lse, narrowed(want_lse, n_lse), n_lse, 1e-6);

    attention_backward(dq, dkv, op.datt, att, lse, q, kv, &op.shape, scratch);
    check_slopes("attention dq", attention_objective, &op, in, 0, n_q, dq);
    check_slopes("attention dkv", attention_objective, &op, in, n_q, n_kv, dkv);
    size_t seen = every == 1 ? op.N : 1;                   // nobody sees the first row's token where it has no query
    for (size_t i = 0; seen == 1 && i < 2 * K * D; i++) CHECK(dkv[i] == 0);
}

static void attention(void)
{
    check_attention(4, 2, 6, 1);
    check_attention(3, 3, 10, 1);
    check_attention(4, 1, 8, 3);
    check_attention(4, 2, 6, 50);
    check_attention(2, 1, 24, 3);
    check_attention(2, 1, 320, 1);                         // wide heads: the keys of the longest row are two parts,
    check_attention(1, 1, 640, 5);                         // or four
    free_kept();
}

// ---- SwiGLU -------------------------------------------------------------------------------------------------------

typedef struct { size_t N, F; const float *dy; } SwiGlu;

static void swiglu_reference(double *y, const double *gu, const SwiGlu *op)
{
    for (size_t n = 0; n < op->N; n++)
        for (size_t f = 0; f < op->F; f++) {
            double g = gu[n * 2 * op->F + f], u = gu[n * 2 * op->F + op->F + f];
            y[n * op->F + f] = g / (1 + exp(-g)) * u;
        }
}

static double swiglu_objective(const double *gu, const void *op_)
{
    const SwiGlu *op = op_;
    double *y = mem_alloc(op->N * op->F, sizeof *y);
    swiglu_reference(y, gu, op);
    double sum = inner_product(y, op->dy, op->N * op->F);
    free(y);
    return sum;
}

static void swiglu(void)
{
    enum { N = 13, F = 22 };
    float *gu = random_floats(N * 2 * F), *dy = random_floats(N * F), *y = filled(N * F, NAN);
    SwiGlu op = {N, F, dy};
    double *in = doubles(N * 2 * F), *want = doubles(N * F);
    widen(in, gu, N * 2 * F);
    swiglu_reference(want, in, &op);
    swiglu_forward(y, gu, N, F);
    CHECK_CLOSE("y", y, narrowed(want, N * F), N * F, 1e-6);
    float *dy_then_y = copied(dy, N * F);
    swiglu_backward(gu, dy_then_y, N, F);
    CHECK_CLOSE("y again", dy_then_y, y, N * F, 1e-6);
    check_slopes("swiglu", swiglu_objective, &op, in, 0, N * 2 * F, gu);

    // Far out, silu is 0 on one side and the identity on the other, and so are the gradients.
    float far[] = {-1e30f, -1000, 1000, 1e30f, 1, 1, 1, 1}, far_y[4], ones[] = {1, 1, 1, 1};
    swiglu_forward(far_y, far, 1, 4);
    CHECK(fabsf(far_y[0]) < 1e-7f && fabsf(far_y[1]) < 1e-30f && far_y[2] == 1000 && far_y[3] == 1e30f);
    swiglu_backward(far, ones, 1, 4);
    CHECK(fabsf(far[1]) < 1e-30f && fabsf(far[2] - 1) < 1e-6f && far[6] == 1000);
    free_kept();
}

// ---- cross-entropy ------------------------------------------------------------------------------------------------

// factor[r]: p[target] for dft, where it counts as a constant; else 1.
typedef struct { size_t R, V; const int *target; const float *scale; float smoothing; const double *factor; } Loss;

static void softmax_reference(double *nll, double *mean, double *entropy, const double *logits, int target, size_t V)
{
    double max = logits[0], sum = 0;
    for (size_t i = 0; i < V; i++) max = fmax(max, logits[i]);
    for (size_t i = 0; i < V; i++) sum += exp(logits[i] - max);
    *nll = log(sum) + max - logits[target];
    *entropy = *mean = 0;
    for (size_t i = 0; i < V; i++) *mean += (log(sum) + max - logits[i]) / (double)V;
    for (size_t i = 0; i < V; i++) *entropy += exp(logits[i] - max) / sum * (log(sum) + max - logits[i]);
}

static double loss_objective(const double *logits, const void *op_)
{
    const Loss *op = op_;
    double sum = 0, nll, mean, entropy;
    for (size_t r = 0; r < op->R; r++) {
        softmax_reference(&nll, &mean, &entropy, logits + r * op->V, op->target[r], op->V);
        sum += op->scale[r] * op->factor[r] * ((1 - op->smoothing) * nll + op->smoothing * mean);
    }
    return sum;
}

enum { ROWS = 5 };

static void check_cross_entropy(size_t V, float spread, float offset, Objective o)
{
    int target[ROWS];
    float scale[ROWS] = {1, 0, 0.25f, -2, 1}, nll[ROWS], want_nll[ROWS], entropy[ROWS], want_entropy[ROWS];
    float trained[ROWS], want_trained[ROWS];
    double factor[ROWS];
    float *logits = random_floats(ROWS * V);
    TokenLoss loss[ROWS], loss_only[ROWS];
    Loss op = {ROWS, V, target, scale, o.label_smoothing, factor};
    double *in = doubles(ROWS * V);
    for (size_t i = 0; i < ROWS * V; i++) logits[i] = logits[i] * spread + offset;
    widen(in, logits, ROWS * V);
    for (size_t r = 0; r < ROWS; r++) target[r] = r == 0 ? 0 : r == 1 ? (int)V - 1 : (int)rng_below(&rng, V);

    float *unscaled = copied(logits, ROWS * V);
    cross_entropy(loss_only, unscaled, target, NULL, o, ROWS, V);
    cross_entropy(loss, logits, target, scale, o, ROWS, V);
    for (size_t r = 0; r < ROWS; r++) {
        double n, mean, e, highest = in[r * V];
        softmax_reference(&n, &mean, &e, in + r * V, target[r], V);
        factor[r] = o.dft ? exp(-n) : 1;
        trained[r] = loss[r].loss;
        want_trained[r] = (float)(factor[r] * ((1 - o.label_smoothing) * n + o.label_smoothing * mean));
        for (size_t i = 0; i < V; i++) highest = fmax(highest, in[r * V + i]);
        nll[r] = loss[r].nll;
        want_nll[r] = (float)n;
        entropy[r] = loss[r].entropy;
        want_entropy[r] = (float)e;
        CHECK(loss[r].correct == (in[r * V + (size_t)target[r]] == highest));
        int rank = 1;
        for (size_t v = 0; v < V; v++) rank += in[r * V + v] > in[r * V + (size_t)target[r]];
        CHECK(loss[r].rank == rank);
        CHECK(loss_only[r].nll == loss[r].nll && loss_only[r].entropy == loss[r].entropy);
        CHECK(loss_only[r].loss == loss[r].loss);
    }
    CHECK_CLOSE("loss", trained, want_trained, ROWS, 1e-6);
    CHECK_CLOSE("nll", nll, want_nll, ROWS, 1e-6);
    CHECK_CLOSE("entropy", entropy, want_entropy, ROWS, 1e-6);
    for (size_t i = 0; i < V; i++) CHECK(logits[V + i] == 0);   // scale 0: no gradient, exactly
    check_slopes("cross_entropy", loss_objective, &op, in, 0, ROWS * V, logits);
}

static void cross_entropy_and_its_gradient(void)
{
    const Objective objectives[] = {{0}, {.label_smoothing = 0.1f}, {.label_smoothing = 1}, {.dft = true}};
    for (size_t i = 0; i < sizeof objectives / sizeof *objectives; i++) {
        check_cross_entropy(2, 1, 0, objectives[i]);
        check_cross_entropy(37, 3, 0, objectives[i]);
        check_cross_entropy(1000, 3, 0, objectives[i]);
        check_cross_entropy(37, 3, -5000, objectives[i]);  // softmax does not know an offset
    }
    free_kept();
}

static void cross_entropy_of_extreme_logits(void)
{
    const float far = -1e30f;                              // as good as -infinity
    float logits[3][4] = {{far, 2, far, 2}, {1e30f, 0, 0, 0}, {0, 0, 0, 200}}, scale[] = {1, 1, 1};
    const int target[] = {1, 0, 0};
    TokenLoss loss[3];
    cross_entropy(loss, logits[0], target, scale, (Objective){0}, 3, 4);
    CHECK(fabs(loss[0].nll - log(2)) < 1e-6 && fabs(loss[0].entropy - log(2)) < 1e-6 && !loss[0].correct);    // a tie
    CHECK(logits[0][0] == 0 && fabsf(logits[0][1] + 0.5f) < 1e-6f && logits[0][2] == 0);
    CHECK(loss[1].nll == 0 && loss[1].entropy == 0 && loss[1].correct);
    CHECK(loss[2].nll == 200 && fabsf(loss[2].entropy) < 1e-6f && !loss[2].correct);
    CHECK(logits[2][0] == -1 && logits[2][3] == 1);
    float ruled_out[4] = {-INFINITY, 2, -INFINITY, 2};     // 0 * log 0 is 0; but what is undefined stays so
    cross_entropy(loss, ruled_out, target, scale, (Objective){0}, 1, 4);
    CHECK(fabs(loss[0].nll - log(2)) < 1e-6 && fabs(loss[0].entropy - log(2)) < 1e-6 && ruled_out[0] == 0 &&
          ruled_out[2] == 0);
    float undefined[4] = {0, 2, NAN, 2};
    cross_entropy(loss, undefined, target, scale, (Objective){0}, 1, 4);
    CHECK(isnan(loss[0].nll) && isnan(loss[0].entropy));
}

// ---- the exponential ----------------------------------------------------------------------------------------------

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

// The error in units of the last place of the true value.
static double exp_error(float x)
{
    double want = exp((double)x);
    float nearest = (float)want;
    return fabs(exp_inline(x) - want) / ((double)nextafterf(nearest, INFINITY) - (double)nearest);
}

// Every 500th float there is between -87.3 and 88: some four million, most of them small.
static void exp_is_within_two_ulps(void)
{
    double worst = 0;
    float worst_x = 0;
    for (int negative = 0; negative < 2; negative++)
        for (uint32_t bits = 0; bits <= to_bits(negative ? 87.3f : 88); bits += 500) {
            float x = negative ? -from_bits(bits) : from_bits(bits);
            double error = exp_error(x);
            if (!(error <= worst)) {
                worst = error;
                worst_x = x;
            }
        }
    CHECK_MSG(worst < 2, "%.3f ulps at %.9g", worst, (double)worst_x);
}

static void exp_at_its_ends(void)
{
    CHECK(exp_inline(0) == 1 && exp_inline(-0.0f) == 1);
    CHECK(exp_error(-87.33f) < 2 && exp_error(88) < 2);
    CHECK(exp_inline(-87.7f) == 0 && exp_inline(-1e30f) == 0 && exp_inline(-INFINITY) == 0);
    CHECK(exp_inline(1e30f) == exp_inline(88));            // it saturates: sums of it stay finite
    CHECK(isnan(exp_inline(NAN)) && isnan(exp_inline(-NAN)));
}

// The vectors' exp is the float's: in each lane, at both ends and where no number is.
static void exp_of_a_vector_is_that_of_its_floats(void)
{
    const float ends[] = {0, -0.0f, 88, -87.3f, -87.7f, -1e30f, -INFINITY, NAN};
    for (size_t i = 0; i < 4096; i++) {
        float x[EXPS * LANES], y[EXPS * LANES];
        Lanes all[EXPS];
        for (size_t k = 0; k < EXPS * LANES; k++)
            x[k] = i < 8 ? ends[(i + k) % 8] : (float)(88 - 200 * rng_uniform(&rng));
        memcpy(all, x, sizeof x);
        exp_lanes(all);
        memcpy(y, all, sizeof y);
        for (size_t k = 0; k < EXPS * LANES; k++)
            CHECK(isnan(x[k]) ? isnan(y[k]) : to_bits(y[k]) == to_bits(exp_inline(x[k])));
    }
}

// ---- NaN in, NaN out ----------------------------------------------------------------------------------------------

static void nan_stays_nan(void)
{
    enum { V = 37 };
    TokenLoss loss;
    const int target = 3;
    for (int at = 0; at < V; at++) {                       // wherever it stands, at the target or elsewhere
        float *logits = random_floats(V), *x = random_floats(V), *w = filled(V, 1), y[V], rstd, sum;
        logits[at] = x[at] = NAN;
        cross_entropy(&loss, logits, &target, NULL, (Objective){0}, 1, V);
        rmsnorm_forward(y, &rstd, x, w, 1e-5f, 1, V);
        linear_forward(&sum, NULL, x, w, 1, V, 1);
        CHECK_MSG(isnan(loss.nll) && isnan(loss.entropy) && isnan(rstd) && isnan(y[0]) && isnan(sum), "NaN at %d", at);
    }
    float gu[] = {NAN, 1, 1, NAN}, y[2];
    swiglu_forward(y, gu, 1, 2);
    CHECK(isnan(y[0]) && isnan(y[1]));

    Attention op = attention_make(2, 1, 4, 1);
    float *q = random_floats(op.M * 8), *kv = random_floats(op.N * 8), *att = floats(op.M * 8), *lse = floats(op.M * 2);
    q[8 * 100] = NAN;                                      // query 100, head 0
    attention_forward(att, lse, q, kv, &op.shape, floats(scratch_floats(op.shape.D)));
    for (size_t i = 0; i < op.M * 2; i++) CHECK((isnan(lse[i]) && isnan(att[4 * i])) == (i == 200));
    free_kept();
}

// Scores of 1e8, where the distance to the next number is 8: exp(s - lse) is at most 1 only if both passes round alike.
static void check_huge_scores(size_t D)
{
    Attention op = attention_make(2, 1, D, 1);
    size_t n_q = op.M * 2 * D, n_kv = op.N * 2 * D;
    float *q = random_floats(n_q), *kv = random_floats(n_kv), *att = floats(n_q), *lse = floats(op.M * 2);
    float *dq = filled(n_q, NAN), *dkv = filled(n_kv, NAN), *scratch = floats(scratch_floats(D));
    bool finite = true;
    for (size_t i = 0; i < n_q; i++) q[i] *= 1e4f;
    for (size_t i = 0; i < n_kv; i++) kv[i] *= 1e4f;
    attention_forward(att, lse, q, kv, &op.shape, scratch);
    attention_backward(dq, dkv, op.datt, att, lse, q, kv, &op.shape, scratch);
    for (size_t i = 0; i < n_q; i++) finite = finite && isfinite(dq[i]) && isfinite(att[i]);
    for (size_t i = 0; i < n_kv; i++) finite = finite && fabsf(dkv[i]) < 1e12f;
    CHECK(finite);
    free_kept();
}

static void huge_scores_have_finite_gradients(void)
{
    check_huge_scores(8);
    check_huge_scores(320);                                // in two parts
}

// Numbers below the normal range are zero, as operands and as results, whichever thread computes.
static void numbers_below_the_normal_range_are_zero(void)
{
    volatile float small = 1e-30f;
    const union { uint32_t bits; float x; } below = {1 << 20};         // 1.5e-39
    volatile float operand = below.x;
    int n_zero = 0;
    ops_init(3);
#pragma omp parallel reduction(+ : n_zero)
    n_zero += small * small == 0 && operand * 1e10f == 0;
    CHECK_MSG(n_zero == 3, "on %d of 3 threads", n_zero);
    CHECK(small * small == 0 && operand * 1e10f == 0);                 // after the region too
    ops_init(0);

    float x[] = {1e-30f, 0}, w[] = {1e-12f, 1}, y;                     // and in OpenBLAS
    linear_forward(&y, NULL, x, w, 1, 2, 1);
    CHECK(y == 0);
}

// LLVM's OpenMP runtime loses a little memory of its own when the number of threads grows: no leak of ours.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_options(void);
const char *__lsan_default_suppressions(void) { return "leak:libomp.so"; }
const char *__lsan_default_options(void) { return "print_suppressions=0"; }

int main(void)
{
    ops_init(0);
    rng = rng_seed(1);
    RUN(linear);
    RUN(tiles_of_fewer_rows_are_not_more);
    RUN(gradients_of_several_weights);
    RUN(threads_change_no_bit_of_a_product);
    RUN(embedding);
    RUN(rmsnorm);
    RUN(head_norm);
    RUN(bias);
    RUN(rope_turns_each_pair);
    RUN(attention);
    RUN(swiglu);
    RUN(cross_entropy_and_its_gradient);
    RUN(cross_entropy_of_extreme_logits);
    RUN(exp_is_within_two_ulps);
    RUN(exp_at_its_ends);
    RUN(exp_of_a_vector_is_that_of_its_floats);
    RUN(nan_stays_nan);
    RUN(huge_scores_have_finite_gradients);
    RUN(numbers_below_the_normal_range_are_zero);
    return check_report();
}

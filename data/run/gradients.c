// gradients: eval_add_gradients of evaluate.h: which tokens the gradient of held-out rows comes from.
#include "memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Makes m->grads the part of the gradient that comes from the tokens of one role, or of all (N_ROLES). The batch has
// the arrays of the room's, but neither its objective nor its noise.
static void role_gradient(Model *m, Room *room, const Example *rows, size_t n, int role, size_t divisor)
{
    Batch b = room->batch;
    b.objective = (Objective){0};
    b.noise.values = NULL;
    b.no_dropout = true;
    batch_clear(&b);
    for (size_t i = 0; i < n; i++) {
        size_t N = b.N, S = b.S, M = b.M, kept = M;
        if (rows[i].dropped) continue;
        batch_add(&b, &rows[i], BATCH_EVAL);
        for (size_t k = 1; k < rows[i].n; k++) {
            if (role != N_ROLES && rows[i].roles[k] != role) continue;
            b.at[kept] = b.at[M + k - 1];
            b.target[kept] = b.target[M + k - 1];
            b.weight[kept++] = 1;
        }
        b.M = kept;
        if (kept == M) b.N = N, b.S = S;                   // a row without such a token
    }
    model_gradient(m, &room->work, &b, room->losses, (double)divisor, false);
}

// m->grads is one part of the whole. The rest is the other.
static void add_part(cJSON *json, const Model *m, const float *whole, int role)
{
    double part2 = 0, rest2 = 0, dot = 0;
    char norm[48], share[48];
#pragma omp simd reduction(+ : part2, rest2, dot)
    for (size_t i = 0; i < m->n_trained; i++) {
        double part = (double)m->grads[i], rest = (double)whole[i] - part;
        part2 += part * part;
        rest2 += rest * rest;
        dot += part * rest;
    }
    double its_share = (part2 + dot) / (part2 + 2 * dot + rest2);
    snprintf(norm, sizeof norm, "eval_%s_gradient_norm", role_names[role]);
    snprintf(share, sizeof share, "eval_%s_gradient_share", role_names[role]);
    json_add_numbers(json, (JsonNumber[]){{norm, sqrt(part2)}, {share, its_share}, {NULL, 0}});
    const JsonNumber prompt[] = {{"eval_prompt_gradient_norm", sqrt(rest2)},
                                 {"eval_prompt_gradient_share", 1 - its_share},
                                 {"eval_gradient_cosine", dot / sqrt(part2 * rest2)}, {NULL, 0}};
    if (role == ROLE_ASSISTANT) json_add_numbers(json, prompt);
}

void eval_add_gradients(cJSON *json, Model *m, Room *room, const Example *rows, size_t n, bool by_role)
{
    size_t counts[N_ROLES] = {0}, all = 0, end = 0, used = 0, bytes = m->n_trained * sizeof(float);
    const char *what;
    static bool said;
    for (; end < n && used < room->work.max.rows && used < GRADIENT_ROWS; used += !rows[end++].dropped)
        for (size_t k = 1; k < rows[end].n && !rows[end].dropped; k++) counts[rows[end].roles[k]]++, all++;
    if (!counts[ROLE_ASSISTANT] || counts[ROLE_ASSISTANT] == all) return;
    if (bytes > memory_available("", &what)) {
        if (!said) fprintf(stderr, "train: evaluations leave out the gradient's parts: %.0f MB more than are free\n",
                           (double)bytes / 1e6);
        said = true;
        return;
    }
    float *whole = mem_alloc(m->n_trained, sizeof *whole);
    role_gradient(m, room, rows, end, N_ROLES, all);
    memcpy(whole, m->grads, bytes);
    for (int role = 0; role < N_ROLES; role++) {
        if (!counts[role] || !(by_role || role == ROLE_ASSISTANT)) continue;
        role_gradient(m, room, rows, end, role, all);
        add_part(json, m, whole, role);
    }
    free(whole);
}

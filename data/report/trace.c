// trace: see trace.h.
#include "trace.h"

#include "../run/output.h"
#include "showcase.h"

#include <math.h>

static void add_trace(Buf *out, Run *r, size_t row, size_t first, size_t end, Sampler *sampler, int64_t step)
{
    const Example *ex = &r->eval[row];
    Room *room = &r->room;
    Buf loss = {0}, rank = {0}, answer = {0};
    bool exact = true;
    batch_clear(&room->batch);
    batch_add(&room->batch, ex, BATCH_EVAL);
    model_loss(&r->model, &room->work, &room->batch, room->losses);
    buf_adds(&loss, "[null"), buf_adds(&rank, "[null");
    for (size_t i = 0; i + 1 < ex->n; i++) {
        float nll = room->losses[i].nll;
        buf_addf(&rank, ",%d", room->losses[i].rank);
        buf_addf(&loss, isfinite(nll) ? ",%.9g" : ",null", (double)nll);       // nine digits are the float, to the bit
    }
    buf_adds(&loss, "]"), buf_adds(&rank, "]");
    for (size_t i = first; i < end; i++) exact &= room->losses[i - 1].correct;
    if (exact) showcase_text(&answer, r->tokenizer, ex->ids + first, end - first);       // as it would be generated
    else showcase_answer(&answer, sampler, ex, first, end, end - first + TRACED_MORE, r->tokenizer);
    const JsonNumber numbers[] = {{"step", (double)step}, {"row", (double)row}, {NULL, 0}};
    cJSON *line = json_add_numbers(cJSON_CreateObject(), numbers);
    cJSON_AddRawToObject(line, "loss", loss.data);
    cJSON_AddRawToObject(line, "rank", rank.data);
    cJSON_AddStringToObject(line, "answer", answer.len ? answer.data : "");
    cJSON_AddBoolToObject(line, "exact", exact);
    char *text = cJSON_PrintUnformatted(line);
    buf_addf(out, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(line);
    buf_free(&loss), buf_free(&rank), buf_free(&answer);
}

bool trace_evaluation(Run *r, int64_t step, Err *e)
{
    size_t limit = (size_t)r->model.config.seq_len, capacity = TRACED_TOKENS + TRACED_MORE, n = 0, first, end;
    Sampler sampler;
    Buf lines = {0};
    if (!sampler_init(&sampler, &r->model, capacity < limit ? capacity : limit, e)) return false;
    for (size_t i = 0; i < r->n_eval && n < MAX_TRACED; i++) {
        const Example *ex = &r->eval[i];
        if (ex->dropped || ex->truncated || ex->n > TRACED_TOKENS) continue;
        if (!showcase_find_answer(ex, 1, &first, &end)) continue;
        add_trace(&lines, r, i, first, end, &sampler, step);
        n++;
    }
    bool ok = n == 0 || file_append(path_in(r->options.output_dir, TRACES_FILE).text, lines.data, lines.len, e);
    sampler_free(&sampler);
    buf_free(&lines);
    return ok;
}

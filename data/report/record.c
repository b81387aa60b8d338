// record: see record.h.
#include "record.h"

#include "../run/resume.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// ---- log.csv ------------------------------------------------------------------------------------------------------

// The columns, in this order: every key that a line of log.jsonl may have. What a line has not stays empty.
#define OF(part) ",eval_" part "_loss,eval_" part "_tokens,eval_" part "_accuracy,eval_" part "_entropy"
static const char columns[] =
    "step,epoch,loss,grad_norm,learning_rate,num_tokens,mean_token_accuracy,entropy,supervised_tokens,"
    "tokens_per_second,eval_loss,eval_assistant_loss,eval_prompt_loss,eval_mean_token_accuracy,eval_exact_match"
    OF("system") OF("user") ",eval_assistant_tokens,eval_assistant_accuracy,eval_assistant_entropy"
    OF("tool") OF("template") OF("text") OF("end_of_turn")
    ",eval_assistant_gradient_norm,eval_assistant_gradient_share,eval_prompt_gradient_norm,eval_prompt_gradient_share,"
    "eval_gradient_cosine"
    ",train_loss,train_runtime,train_samples_per_second,train_tokens_per_second";

static void add_row(Buf *out, const cJSON *line)
{
    for (const char *name = columns; *name;) {
        size_t n = strcspn(name, ",");
        char *key = mem_strndup(name, n);
        const cJSON *v = json_get(line, key);
        char *number = cJSON_IsNumber(v) ? cJSON_PrintUnformatted(v) : NULL;
        name += n + (name[n] == ',');
        buf_addf(out, "%s%c", number ? number : "", *name ? ',' : '\n');
        cJSON_free(number);
        free(key);
    }
}

// ---- TensorBoard's event file -------------------------------------------------------------------------------------
// Records of TFRecord: length, checksum of the length, data, checksum of the data. The data is an Event in protobuf's
// encoding: wall_time (field 1), step (2), file_version (3) in the first record, summary (5) in the others. A summary
// has values (1), each with a tag (1) and a number (2).

static uint32_t crc32c(const void *bytes, size_t n)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= ((const unsigned char *)bytes)[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

static void add_checked(Buf *out, const void *bytes, size_t n)
{
    uint32_t crc = crc32c(bytes, n), masked = ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
    buf_add(out, bytes, n);
    buf_add(out, &masked, sizeof masked);
}

static void add_varint(Buf *b, uint64_t v)
{
    for (; v > 127; v >>= 7) buf_addc(b, (char)(v | 128));
    buf_addc(b, (char)v);
}

// `kind` is protobuf's; that of a varint is 0.
enum { DOUBLE = 1, BYTES = 2, FLOAT = 5 };
static void add_field(Buf *b, int field, int kind, const void *bytes, size_t n)
{
    add_varint(b, (uint64_t)(field << 3 | kind));
    if (kind == BYTES) add_varint(b, n);
    buf_add(b, bytes, n);
}

// The tags are those of transformers' TensorBoardCallback: train/loss, eval/loss, ...
static void add_values(Buf *summary, const cJSON *line)
{
    Buf value = {0}, tag = {0};
    for (const cJSON *v = line->child; v; v = v->next) {
        bool eval = strncmp(v->string, "eval_", 5) == 0;
        if (!cJSON_IsNumber(v) || strcmp(v->string, "step") == 0) continue;
        char *text = cJSON_PrintUnformatted(v);
        float number = (float)strtod(text, NULL);          // as it is read from log.jsonl, to the bit
        cJSON_free(text);
        buf_clear(&tag), buf_clear(&value);
        buf_addf(&tag, "%s/%s", eval ? "eval" : "train", v->string + (eval ? 5 : 0));
        add_field(&value, 1, BYTES, tag.data, tag.len);
        add_field(&value, 2, FLOAT, &number, sizeof number);
        add_field(summary, 1, BYTES, value.data, value.len);
    }
    buf_free(&value), buf_free(&tag);
}

// The record of a line; NULL: the first record.
static void add_record(Buf *out, const cJSON *line)
{
    static const char version[] = "brain.Event:2";
    struct timespec now;
    Buf event = {0}, summary = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    double seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    add_field(&event, 1, DOUBLE, &seconds, sizeof seconds);
    if (line) {
        add_values(&summary, line);
        add_varint(&event, 2 << 3);
        add_varint(&event, (uint64_t)json_get(line, "step")->valuedouble);
        add_field(&event, 5, BYTES, summary.data, summary.len);
    } else add_field(&event, 3, BYTES, version, sizeof version - 1);
    uint64_t length = event.len;
    add_checked(out, &length, sizeof length);
    add_checked(out, event.data, event.len);
    buf_free(&event), buf_free(&summary);
}

char *record_events_dir(const char *output_dir, const char *arm, int64_t seed)
{
    Buf b = {0};
    buf_addf(&b, "%s/runs/%s-seed-%lld", output_dir, arm, (long long)seed);
    return b.data;
}

// ---- both ---------------------------------------------------------------------------------------------------------

static bool has_viewer(const Run *r) { return strcmp(r->options.report_to, "tensorboard") == 0; }

// `write` is file_put or file_append.
static bool write_both(const Run *r, const Buf *rows, const Buf *events,
                       bool (*write)(const char *path, const void *bytes, size_t n, Err *e), Err *e)
{
    Path csv = path_in(r->options.output_dir, "log.csv"), file = path_in(r->events_dir, EVENTS_FILE);
    if (!has_viewer(r)) unlink(file.text);                 // of an earlier run
    return write(csv.text, rows->data, rows->len, e) &&
           (!has_viewer(r) || write(file.text, events->data, events->len, e));
}

bool record_open(Run *r, Err *e)
{
    cJSON *lines = run_read_log(r, e);
    const cJSON *line;
    Buf rows = {0}, events = {0};
    buf_addf(&rows, "%s\n", columns);
    add_record(&events, NULL);
    cJSON_ArrayForEach(line, lines) add_row(&rows, line), add_record(&events, line), run_keep_line(r, line);
    run_remove_unfinished(r->events_dir);
    bool ok = lines && (!has_viewer(r) || dir_make(r->events_dir, e)) && write_both(r, &rows, &events, file_put, e);
    buf_free(&rows), buf_free(&events);
    cJSON_Delete(lines);
    return ok;
}

bool record_line(Run *r, cJSON *line, Err *e)
{
    Buf row = {0}, event = {0};
    add_row(&row, line);
    add_record(&event, line);
    bool ok = run_write_log(r, line, e) && write_both(r, &row, &event, file_append, e);
    buf_free(&row), buf_free(&event);
    cJSON_Delete(line);
    return ok;
}

// ---- trainer_state.json -------------------------------------------------------------------------------------------

bool record_state(const Run *r, const Progress *p, const Plan *plan, Err *e)
{
    const JsonNumber numbers[] = {
        {"epoch", progress_epoch(p, plan)}, {"global_step", (double)p->step}, {"max_steps", (double)plan->n_steps},
        {"num_train_epochs", ceil((double)plan->n_steps / (double)plan->steps_per_epoch)},
        {"train_batch_size", (double)plan->batch}, {"num_input_tokens_seen", (double)p->num_tokens},
        {"logging_steps", (double)plan->logging}, {"eval_steps", fmax(0, (double)plan->eval)},
        {"save_steps", fmax(0, (double)plan->save)}, {NULL, 0}};
    const JsonNumber best[] = {{"best_metric", p->best_metric}, {"best_global_step", (double)p->best_step}, {NULL, 0}};
    cJSON *json = json_add_numbers(cJSON_CreateObject(), numbers), *log = run_read_log(r, e);
    if (p->best_step) {
        json_add_numbers(json, best);
        cJSON_AddStringToObject(json, "best_model_checkpoint", resume_path(&r->options, p->best_step).text);
    }
    cJSON_AddItemToObject(json, "log_history", log);
    bool ok = log && json_save(json, path_in(r->options.output_dir, "trainer_state.json").text, e);
    cJSON_Delete(json);
    return ok;
}

// records.h: reads what a run writes for other programs, log.csv, TensorBoard's event file and trainer_state.json, and
// compares it with log.jsonl.
#ifndef RECORDS_H
#define RECORDS_H

#include "fixture.h"

// The objects of a .jsonl file, as a list.
static inline cJSON *read_lines(const char *path)
{
    char line[4096];
    cJSON *list = cJSON_CreateArray();
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) cJSON_AddItemToArray(list, cJSON_Parse(line));
    if (f) fclose(f);
    return list;
}

// ---- event files --------------------------------------------------------------------------------------------------

static inline uint32_t masked_crc32c(const unsigned char *bytes, size_t n)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (((crc ^ (bytes[i] >> bit)) & 1) ? 0x82F63B78u : 0);
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

// A field of a protobuf message: its number, and a varint, or the bytes of its value.
typedef struct { int number; uint64_t varint; const unsigned char *bytes; size_t n; } PbField;

static inline bool read_varint(const unsigned char **p, const unsigned char *end, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; *p < end && shift < 64; shift += 7) {
        *out |= (uint64_t)(**p & 127) << shift;
        if (!(*(*p)++ & 128)) return true;
    }
    return false;
}

static inline bool read_field(const unsigned char **p, const unsigned char *end, PbField *f)
{
    uint64_t key = 0, n = 0;
    *f = (PbField){.bytes = *p};
    if (*p == end || !CHECK(read_varint(p, end, &key))) return false;
    f->number = (int)(key >> 3);
    switch (key & 7) {
    case 0: return CHECK(read_varint(p, end, &f->varint));
    case 1: n = 8; break;
    case 2: if (!CHECK(read_varint(p, end, &n))) return false; break;
    default: n = 4;
    }
    if (!CHECK(n <= (uint64_t)(end - *p))) return false;
    f->bytes = *p, f->n = (size_t)n;
    *p += n;
    return true;
}

static inline void add_scalar(cJSON *event, PbField summary)
{
    PbField value = {0}, f = {0};
    for (const unsigned char *p = summary.bytes; read_field(&p, summary.bytes + summary.n, &value);) {
        char tag[64] = "";
        float number = NAN;
        for (const unsigned char *q = value.bytes; read_field(&q, value.bytes + value.n, &f);) {
            if (f.number == 1) snprintf(tag, sizeof tag, "%.*s", (int)f.n, f.bytes);
            if (f.number == 2 && CHECK(f.n == 4)) memcpy(&number, f.bytes, 4);
        }
        cJSON_AddNumberToObject(event, tag, (double)number);
    }
}

// The events of a file, as a list of {"step": ..., TAG: number, ...}; the checksum of every record is checked.
static inline cJSON *read_events(const char *path)
{
    cJSON *events = cJSON_CreateArray();
    File file = {0};
    Err e;
    bool ok = CHECK_MSG(file_map(&file, path, &e), "%s", e.text);
    for (size_t at = 0; ok && at < file.size;) {
        uint64_t n = 0;
        uint32_t crcs[2];
        if (!CHECK_MSG(file.size - at >= 16, "%s: %zu bytes too many", path, file.size - at)) break;
        memcpy(&n, file.data + at, 8);
        if (!CHECK_MSG(n <= file.size - at - 16, "%s: a record is cut", path)) break;
        const unsigned char *p = file.data + at + 12, *end = p + n;
        memcpy(&crcs[0], file.data + at + 8, 4);
        memcpy(&crcs[1], end, 4);
        CHECK(crcs[0] == masked_crc32c(file.data + at, 8) && crcs[1] == masked_crc32c(p, (size_t)n));
        cJSON *event = cJSON_CreateObject();
        double seconds = 0;
        for (PbField f = {0}; read_field(&p, end, &f);) {
            if (f.number == 1 && CHECK(f.n == 8)) memcpy(&seconds, f.bytes, 8);
            if (f.number == 2) cJSON_AddNumberToObject(event, "step", (double)f.varint);
            if (f.number == 3) CHECK(at == 0 && f.n == 13 && memcmp(f.bytes, "brain.Event:2", 13) == 0);
            if (f.number == 5) add_scalar(event, f);
        }
        CHECK(seconds > 1.7e9);
        if (event->child) cJSON_AddItemToArray(events, event);
        else CHECK(at == 0), cJSON_Delete(event);
        at += 16 + (size_t)n;
    }
    file_unmap(&file);
    return events;
}

// Every number of the log is there, under the tag that transformers gives it, as a float.
static inline void check_events(const char *path, const cJSON *lines)
{
    cJSON *events = read_events(path);
    const cJSON *event = events->child, *line;
    CHECK_MSG(cJSON_GetArraySize(events) == cJSON_GetArraySize(lines), "%s: other lines", path);
    cJSON_ArrayForEach(line, lines) {
        int n = 0;
        for (const cJSON *v = line->child; v && event; v = v->next) {
            char tag[80];
            bool eval = strncmp(v->string, "eval_", 5) == 0, is_step = strcmp(v->string, "step") == 0;
            snprintf(tag, sizeof tag, "%s%s", is_step ? "" : eval ? "eval/" : "train/", v->string + (eval ? 5 : 0));
            const cJSON *got = json_get(event, tag);
            if (!cJSON_IsNumber(v)) continue;
            n++;
            CHECK_MSG(got && (float)got->valuedouble == (float)v->valuedouble, "%s: %s", path, tag);
        }
        CHECK(cJSON_GetArraySize(event) == n);
        event = event ? event->next : NULL;
    }
    cJSON_Delete(events);
}

// ---- log.csv ------------------------------------------------------------------------------------------------------

// Every number of the log is in the column of its name, in full, and the other cells are empty.
static inline void check_csv(const char *path, const cJSON *lines)
{
    char head[4096], row[4096];
    FILE *f = fopen(path, "r");
    const cJSON *line;
    if (!CHECK_MSG(f && fgets(head, sizeof head, f), "%s: nothing there", path)) return;
    cJSON_ArrayForEach(line, lines) {
        int n = 0;
        const char *name = head, *cell = row;
        if (!CHECK_MSG(fgets(row, sizeof row, f), "%s: too few rows", path)) break;
        for (const cJSON *v = line->child; v; v = v->next) n += cJSON_IsNumber(v);
        for (; *name && *cell; name += strcspn(name, ",\n") + 1, cell += strcspn(cell, ",\n") + 1) {
            char key[64];
            snprintf(key, sizeof key, "%.*s", (int)strcspn(name, ",\n"), name);
            const cJSON *v = json_get(line, key);
            bool same = cJSON_IsNumber(v) ? strtod(cell, NULL) == v->valuedouble : strchr(",\n", *cell) != NULL;
            CHECK_MSG(same, "%s: %s: %s", path, key, row);
            n -= cJSON_IsNumber(v);
        }
        CHECK_MSG(n == 0 && !*name && !*cell, "%s: %d numbers have no column", path, n);
    }
    CHECK(!fgets(row, sizeof row, f));
    fclose(f);
}

// ---- all ----------------------------------------------------------------------------------------------------------

// All that the folder of a finished run says is what its log.jsonl says. The event file may be missing.
static inline void check_records(const char *folder)
{
    Err e;
    char *log = path_join(folder, "log.jsonl"), *csv = path_join(folder, "log.csv");
    char *state_path = path_join(folder, "trainer_state.json"), *events = path_join(folder, "runs/train");
    char *event_file = path_join(events, "events.out.tfevents.0");
    cJSON *lines = read_lines(log), *state = json_load(state_path, &e);
    check_csv(csv, lines);
    if (file_exists(event_file)) check_events(event_file, lines);
    if (CHECK_MSG(state, "%s", e.text)) CHECK(cJSON_Compare(json_get(state, "log_history"), lines, true));
    cJSON_Delete(lines);
    cJSON_Delete(state);
    free(log), free(csv), free(state_path), free(events), free(event_file);
}

#endif

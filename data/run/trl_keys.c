// trl_keys: see trl_keys.h.
#include "trl_keys.h"

#include <string.h>

extern const char trl_keys_txt[];                          // made of trl_keys.txt by the Makefile

// A name in the lines of a kind: what follows it (= or a blank, or the line's end), or NULL. *why: the last such line.
static const char *find_name(const char *kind, const char *name, const char **why)
{
    size_t n_kind = strlen(kind), n = strlen(name);
    for (const char *line = trl_keys_txt, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (strncmp(line, "why ", 4) == 0) *why = line + 4;
        if (strncmp(line, kind, n_kind) != 0 || line[n_kind] != ' ') continue;
        for (const char *at = line + n_kind; at < end; at += strcspn(at, " \n")) {
            at += *at == ' ';
            if (strncmp(at, name, n) == 0 && strchr("= \n", at[n])) return at + n;
        }
    }
    return NULL;
}

bool trl_find(const char *kind, const char *name, TrlWord value)
{
    const char *why = "", *at = find_name(kind, name, &why);
    if (at) snprintf(value, sizeof(TrlWord), "%.*s", (int)strcspn(at + 1, " \n"), at + 1);
    return at;
}

Foreign trl_foreign(const char *key, const cJSON *value, Err *e)
{
    const char *why = "", *at = find_name("key", key, &why);
    if (!at) return FOREIGN_UNKNOWN;
    int n_why = (int)strcspn(why, "\n"), n = (int)strcspn(at, " \n") - 1;
    snprintf(e->text, sizeof e->text, "%.*s", *at == '=' ? 0 : n_why, why);
    if (*at != '=' || cJSON_IsNull(value)) return FOREIGN_ACCEPTED;
    char *text = cJSON_IsString(value) ? mem_strdup(value->valuestring) : cJSON_PrintUnformatted(value);
    bool good = false;
    for (const char *v = at; !good && strchr("=|", *v); v += 1 + strcspn(v + 1, "| \n"))
        good = strcspn(v + 1, "| \n") == strlen(text) && strncmp(v + 1, text, strlen(text)) == 0;
    if (!good) fail(e, "%s: expected %.*s, found %.80s: %.*s", key, n ? n : 4, n ? at + 1 : "null", text, n_why, why);
    cJSON_free(text);
    return good ? FOREIGN_ACCEPTED : FOREIGN_REFUSED;
}

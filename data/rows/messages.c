// messages: see messages.h.
#include "messages.h"

#include <string.h>

const char *const role_names[N_ROLES] = {"system", "user", "assistant", "tool", "template", "text"};

Role message_role_of(const char *name)
{
    static const struct { const char *name; Role role; } known[] = {
        {"system", ROLE_SYSTEM}, {"developer", ROLE_SYSTEM}, {"assistant", ROLE_ASSISTANT},
        {"model", ROLE_ASSISTANT}, {"user", ROLE_USER}, {"tool", ROLE_TOOL}, {"function", ROLE_TOOL},
        {"ipython", ROLE_TOOL}, {"tool_response", ROLE_TOOL},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) return known[i].role;
    return ROLE_UNKNOWN;
}

static const char *sharegpt_role(const char *from)
{
    static const char *const map[][2] = {
        {"human", "user"}, {"gpt", "assistant"}, {"function_call", "assistant"}, {"observation", "tool"}};
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (strcmp(from, map[i][0]) == 0) return map[i][1];
    return from;
}

bool message_is_assistant(const cJSON *message)
{
    const char *role = json_string(message, "role"), *from = json_string(message, "from");
    return message_role_of(role ? role : from ? sharegpt_role(from) : "") == ROLE_ASSISTANT;
}

// ShareGPT's {"from", "value"} turns into {"role", "content"}; anything else stays as it is.
static void rename_sharegpt(cJSON *message)
{
    cJSON *from = (cJSON *)json_get(message, "from"), *value = (cJSON *)json_get(message, "value");
    if (!cJSON_IsString(from) || json_get(message, "role")) return;
    cJSON_AddStringToObject(message, "role", sharegpt_role(from->valuestring));
    if (value) cJSON_AddItemToObject(message, "content", cJSON_DetachItemViaPointer(message, value));
    cJSON_Delete(cJSON_DetachItemViaPointer(message, from));
}

const cJSON *row_get(const cJSON *row, const char *key)
{
    const cJSON *v = json_get(row, key);
    return json_is_absent(v) ? NULL : v;
}

bool row_json(cJSON **out, const cJSON *row, const char *key, Err *e)
{
    const cJSON *v = row_get(row, key);
    const char *text = cJSON_GetStringValue(v);
    *out = NULL;
    if (!v || (text && !text[strspn(text, " \t\r\n")])) return true;
    if (!text) return (*out = cJSON_Duplicate(v, true)) != NULL;
    Err why;
    *out = json_parse_literal(text, strlen(text), key, 0, &why);
    if (!*out) return fail(e, "%s: expected JSON, found a string that is none: %s", key, why.text);
    if (cJSON_IsNull(*out)) cJSON_Delete(*out), *out = NULL;
    return true;
}

static void drop_nulls(cJSON *message)
{
    for (cJSON *v = message->child, *next; v; v = next) {
        next = v->next;
        if (cJSON_IsNull(v)) cJSON_Delete(cJSON_DetachItemViaPointer(message, v));
    }
}

// As transformers: reasoning_content from the first of its three names, and thinking if that is absent.
static void name_reasoning(cJSON *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const cJSON *reasoning = NULL;
    for (size_t i = 0; i < 3 && !reasoning; i++) reasoning = json_get(message, names[i]);
    for (size_t i = 0; i < 2 && reasoning; i++)
        if (!json_get(message, names[i])) cJSON_AddItemToObject(message, names[i], cJSON_Duplicate(reasoning, true));
}

static bool read_message(cJSON *m, Err *e)
{
    if (!cJSON_IsObject(m)) return fail(e, ": expected an object, found %s", json_kind(m));
    bool empty = cJSON_IsNull(json_get(m, "content"));     // as chat APIs return a message that has nothing to say
    drop_nulls(m);
    rename_sharegpt(m);
    name_reasoning(m);
    cJSON *calls;
    const cJSON *role = json_get(m, "role"), *content = json_get(m, "content"), *weight = json_get(m, "weight");
    if (!cJSON_IsString(role)) return fail(e, ".role: expected a string, found %s", json_kind(role));
    if (!row_json(&calls, m, "tool_calls", e)) return fail_prefix(e, ".");
    cJSON_DeleteItemFromObjectCaseSensitive(m, "tool_calls");
    if (calls) cJSON_AddItemToObject(m, "tool_calls", calls);
    if (calls && !cJSON_IsArray(calls)) return fail(e, ".tool_calls: expected a list, found %s", json_kind(calls));
    if (!(content ? cJSON_IsString(content) || cJSON_IsArray(content) : calls || empty))
        return fail(e, ".content: expected a string, found %s", json_kind(content));
    return !weight || json_is_int(weight, 0, 1) ||
           fail(e, ".weight: expected 0 or 1, found %s", cJSON_IsNumber(weight) ? "another number" : json_kind(weight));
}

cJSON *messages_read(const cJSON *list, const char *key, Err *e)
{
    bool ok = cJSON_IsArray(list) || fail(e, "%s: expected a list, found %s", key, json_kind(list));
    if (ok && !list->child) ok = fail(e, "%s: expected a list of at least one message, found none", key);
    if (!ok) return NULL;
    cJSON *messages = cJSON_Duplicate(list, true);
    size_t i = 0;
    for (cJSON *m = messages->child; m && ok; m = m->next, i++)
        ok = read_message(m, e) || fail_prefix(e, "%s[%zu]", key, i);
    if (ok) return messages;
    cJSON_Delete(messages);
    return NULL;
}

void message_add(cJSON *messages, const char *role, const char *content)
{
    cJSON *m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "role", role);
    cJSON_AddStringToObject(m, "content", content);
    cJSON_AddItemToArray(messages, m);
}

// Alpaca: the user says the instruction and, on a line of its own, the input; the assistant says the output.
cJSON *messages_from_alpaca(const cJSON *row, Err *e)
{
    const char *instruction = json_string(row, "instruction"), *input = json_string(row, "input");
    const char *output = json_string(row, "output"), *system = json_string(row, "system");
    if (!instruction || !output) {
        fail(e, "%s: expected a string, found %s", instruction ? "output" : "instruction",
             json_kind(json_get(row, instruction ? "output" : "instruction")));
        return NULL;
    }
    cJSON *messages = cJSON_CreateArray();
    if (system && *system) message_add(messages, "system", system);
    const cJSON *pair, *history = json_get(row, "history");
    cJSON_ArrayForEach(pair, history) {
        const char *asked = cJSON_GetStringValue(cJSON_GetArrayItem(pair, 0)),
                   *said = cJSON_GetStringValue(cJSON_GetArrayItem(pair, 1));
        if (!asked || !said) {
            fail(e, "history: expected pairs of strings");
            cJSON_Delete(messages);
            return NULL;
        }
        message_add(messages, "user", asked);
        message_add(messages, "assistant", said);
    }
    Buf user = {0};
    buf_addf(&user, "%s%s%s", instruction, input && *input ? "\n" : "", input ? input : "");
    message_add(messages, "user", user.data);
    message_add(messages, "assistant", output);
    buf_free(&user);
    return messages;
}

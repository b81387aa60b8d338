// messages: see messages.h.
#include "messages.h"

#include <string.h>

const char *const role_names[N_ROLES] = {"system", "user", "assistant", "tool", "template", "text"};

Role message_role_of(const char *name)
{
    static const struct { const char *name; Role role; } known[] = {
        {"system", ROLE_SYSTEM}, {"developer", ROLE_SYSTEM}, {"assistant", ROLE_ASSISTANT},
        {"tool", ROLE_TOOL}, {"function", ROLE_TOOL}, {"ipython", ROLE_TOOL},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) return known[i].role;
    return ROLE_USER;
}

bool message_is_assistant(const cJSON *message)
{
    return message_role_of(json_string(message, "role")) == ROLE_ASSISTANT;
}

static const char *sharegpt_role(const char *from)
{
    static const char *const map[][2] = {
        {"human", "user"}, {"gpt", "assistant"}, {"function_call", "assistant"}, {"observation", "tool"}};
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (strcmp(from, map[i][0]) == 0) return map[i][1];
    return from;
}

// ShareGPT's {"from", "value"} turns into {"role", "content"}; anything else stays as it is.
void message_rename_sharegpt(cJSON *message)
{
    cJSON *from = (cJSON *)json_get(message, "from"), *value = (cJSON *)json_get(message, "value");
    if (!cJSON_IsString(from) || json_get(message, "role")) return;
    cJSON_AddStringToObject(message, "role", sharegpt_role(from->valuestring));
    if (value) cJSON_AddItemToObject(message, "content", cJSON_DetachItemViaPointer(message, value));
    cJSON_Delete(cJSON_DetachItemViaPointer(message, from));
}

bool messages_check(const cJSON *messages, const char *key, Err *e)
{
    if (!cJSON_IsArray(messages)) return fail(e, "%s: expected a list, found %s", key, json_kind(messages));
    if (!messages->child) return fail(e, "%s: expected a list of at least one message, found none", key);
    size_t i = 0;
    for (const cJSON *m = messages->child; m; m = m->next, i++) {
        const cJSON *role = json_get(m, "role"), *content = json_get(m, "content"), *weight = json_get(m, "weight");
        if (!cJSON_IsObject(m)) return fail(e, "%s[%zu]: expected an object, found %s", key, i, json_kind(m));
        if (!cJSON_IsString(role)) return fail(e, "%s[%zu].role: expected a string, found %s", key, i, json_kind(role));
        bool calls = json_get(m, "tool_calls") != NULL;    // such a message may have nothing to say
        if (!(content ? cJSON_IsString(content) || cJSON_IsArray(content) || cJSON_IsNull(content) : calls))
            return fail(e, "%s[%zu].content: expected a string, found %s", key, i, json_kind(content));
        if (weight && !json_is_int(weight, 0, 1))
            return fail(e, "%s[%zu].weight: expected 0 or 1, found %s", key, i,
                        cJSON_IsNumber(weight) ? "another number" : json_kind(weight));
    }
    return true;
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

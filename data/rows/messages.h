// messages: what chat data sets call messages, and the other shapes that become them.
#ifndef MESSAGES_H
#define MESSAGES_H

#include "../../model/base.h"

// ROLE_UNKNOWN: of a message, until it is found whose words they are.
typedef enum {
    ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL, ROLE_TEMPLATE, ROLE_TEXT, N_ROLES, ROLE_UNKNOWN = N_ROLES
} Role;
extern const char *const role_names[N_ROLES];

Role message_role_of(const char *name);                    // "developer" is system, "model" assistant, ...
bool message_is_assistant(const cJSON *message);           // with role, or ShareGPT's from
void message_add(cJSON *messages, const char *role, const char *content);

const cJSON *row_get(const cJSON *row, const char *key);   // NULL if it is absent or null
// A list or object of a row, which some data sets keep as JSON text; NULL if it is absent, null or blank. A copy, owned
// by the caller. Fails if the text is no JSON.
bool row_json(cJSON **out, const cJSON *row, const char *key, Err *e);

// A list of at least one {role, content}, as transformers hands it to a template: without keys that are null, reasoning
// under both of its names, tool_calls as a list; and ShareGPT's from/value as role/content. `key` names it in messages.
// A message may have tool_calls in place of content, and a weight of 0 or 1. Owned by the caller; NULL on failure.
cJSON *messages_read(const cJSON *list, const char *key, Err *e);
cJSON *messages_from_alpaca(const cJSON *row, Err *e);     // owned by the caller; NULL on failure

#endif

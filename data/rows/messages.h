// messages: what chat data sets call messages, and the other shapes that become them.
#ifndef MESSAGES_H
#define MESSAGES_H

#include "../../model/base.h"

typedef enum { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL, ROLE_TEMPLATE, ROLE_TEXT, N_ROLES } Role;
extern const char *const role_names[N_ROLES];

Role message_role_of(const char *name);                    // "developer" is system, "function" is tool; others are user
bool message_is_assistant(const cJSON *message);
void message_add(cJSON *messages, const char *role, const char *content);

// A list of at least one {role, content}; `key` names it in the message. tool_calls may stand in place of content, and
// weight may be 0 or 1.
bool messages_check(const cJSON *messages, const char *key, Err *e);

void message_rename_sharegpt(cJSON *message);              // {"from", "value"} becomes {"role", "content"}
cJSON *messages_from_alpaca(const cJSON *row, Err *e);     // owned by the caller; NULL on failure

#endif

// turn: see turn.h.
#include "turn.h"

#include <string.h>

#define ANSWER "\uE000"            // for private use: no template prints it of its own

// What the template prints behind the first answer of n messages, in `out`; "" where it cannot be rendered.
static const char *tail(const Recipe *r, size_t n, Buf *out)
{
    Err none;
    cJSON *messages = cJSON_CreateArray();
    for (size_t i = 0; i < n; i++) message_add(messages, i % 2 ? "assistant" : "user", i == 1 ? ANSWER : "x");
    bool ok = conversation_text(out, r, NULL, messages, false, &none);
    const char *at = ok && out->data ? strstr(out->data, ANSWER) : NULL;
    cJSON_Delete(messages);
    return at ? at + strlen(ANSWER) : "";
}

int turn_end(const Recipe *r)
{
    Buf alone = {0}, followed = {0};
    Encoding tokens = {0};
    Err none;
    int end = -1;
    if (!r->template || !r->tokenizer) return -1;
    const char *a = tail(r, 2, &alone), *b = tail(r, 4, &followed);
    if (!tokenizer_encode(r->tokenizer, a, strlen(a), PARSE_SPECIAL, &tokens, &none)) tokens.n = 0;
    // Up to the first difference: behind it stands the user's header, or what ends the whole conversation.
    for (size_t i = 0; i < tokens.n && end < 0 && strncmp(a, b, tokens.end[i]) == 0; i++)
        if (tokenizer_is_added(r->tokenizer, tokens.ids[i])) end = tokens.ids[i];
    encoding_free(&tokens);
    buf_free(&alone);
    buf_free(&followed);
    return end;
}

bool turn_add_id(cJSON *ids, int id)
{
    const cJSON *v;
    bool there = id < 0;
    cJSON_ArrayForEach(v, ids) there |= v->valuedouble == id;
    if (!there) cJSON_AddItemToArray(ids, cJSON_CreateNumber(id));
    return id >= 0;
}

bool turn_add_tokens(cJSON *ids, const Recipe *r)
{
    static const char *const roles[] = {"system", "user", "assistant", "user", "assistant"};
    Buf text = {0};
    Encoding tokens = {0};
    Err none;
    bool ok = false, any = false;
    for (size_t first = 0; r->template && !ok && first < 2; first++) {       // some templates take no system message
        cJSON *messages = cJSON_CreateArray();
        for (size_t i = first; i < 5; i++) message_add(messages, roles[i], "x");
        ok = conversation_text(&text, r, NULL, messages, false, &none) && text.len &&
             tokenizer_encode(r->tokenizer, text.data, text.len, PARSE_SPECIAL, &tokens, &none);
        cJSON_Delete(messages);
    }
    for (size_t i = 0; ok && i < tokens.n; i++)
        if (tokenizer_is_added(r->tokenizer, tokens.ids[i]) && (i || tokens.ids[0] != tokenizer_bos(r->tokenizer)))
            any = turn_add_id(ids, tokens.ids[i]);
    encoding_free(&tokens);
    buf_free(&text);
    return any;
}

void turn_add_ends(cJSON *config, const Recipe *r)
{
    int eos = r->eos_token ? tokenizer_id(r->tokenizer, r->eos_token) : tokenizer_eos(r->tokenizer);
    const cJSON *old = json_get(config, "eos_token_id");
    cJSON *ids = cJSON_IsArray(old) ? cJSON_Duplicate(old, true) : cJSON_CreateArray();
    if (cJSON_IsNumber(old)) cJSON_AddItemToArray(ids, cJSON_Duplicate(old, true));
    turn_add_id(ids, eos);
    turn_add_id(ids, tokenizer_eot(r->tokenizer));
    turn_add_id(ids, turn_end(r));
    cJSON_DeleteItemFromObjectCaseSensitive(config, "eos_token_id");
    int n = cJSON_GetArraySize(ids);
    if (n > 0) cJSON_AddItemToObject(config, "eos_token_id", n == 1 ? cJSON_DetachItemFromArray(ids, 0) : ids);
    if (n <= 1) cJSON_Delete(ids);
}

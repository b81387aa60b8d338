// conversation: messages -> the text that the chat template makes of them, and whose each byte of it is.
//
// The assistant's spans are what {% generation %} blocks print, as in transformers. A template without such blocks
// (every stock template) is rendered for each assistant message i: messages[:i] with a generation prompt, and
// messages[:i+1]. The span is what the second adds to the first. Where one is not how the other begins, what all
// renderings agree on is taken: the header that a generation prompt prints elsewhere, and the end before a tail that
// only follows the last message. If the template rewrites the answer itself, the row is refused. Spans are never found
// by searching for tokens.
#ifndef CONVERSATION_H
#define CONVERSATION_H

#include "../../tokenizer/tokenizer.h"
#include "../template/template.h"
#include "messages.h"

// How rows become examples; the same for all rows of a run. Everything is borrowed.
typedef struct {
    const Tokenizer *tokenizer;                            // NULL: only input_ids rows can be read
    const Template *template;                              // NULL: messages cannot be rendered
    const Template *tool_template;                         // for rows with tools; NULL: the same
    const cJSON *template_kwargs;                          // more template variables, or NULL
    const char *text_field, *eos_token;                    // eos_token NULL: the tokenizer's own
    int assistant_only_loss, completion_only_loss;         // 1, 0, or -1: not given
    float prompt_loss_weight;                              // of the tokens that the mask leaves out; 0: label -100
    bool warn_on_prefix_mismatch;                          // instead of an error
    bool split_turns;                                      // of a row of messages the last one alone is learned
    size_t max_length;                                     // 0: none
    int vocab_size;                                        // ids must be below
} Recipe;

// What is unusual in a row, and needs a warning: bits in the order of dataset.h's symptoms.
enum {
    NOTE_PREFIX_MISMATCH = 1,                              // it does not begin with the tokens of its prompt
    NOTE_SPANS_GUESSED = 2,                                // a span is not simply what one message adds
    NOTE_CALLS_LOST = 4,                                   // the template does not write a tool call
    NOTE_UNUSED_COLUMN = 8, NOTE_UNKNOWN_ROLE = 16,
    NOTE_EQUAL_KEYS = 32                                   // an object has a key twice
};

// What a message says: its content, a part of that, or the name of a tool that it calls.
typedef struct {
    const char *text;                                      // borrowed from the messages
    size_t message;
    Role role;
    bool call, seen;
    size_t begin, end;                                     // in the conversation's text, once it is seen
} Saying;
typedef struct { Saying *items; size_t n, cap; } Sayings;  // in the order of the messages

typedef struct {
    Buf text;
    unsigned char *roles;                                  // (text.len)
    Sayings said;
    Spans assistant;                                       // in the order of the text, but for nested blocks
    bool *off;                                             // (assistant.n): its message has weight 0
    size_t first;                                          // message whose spans count, with split_turns the last
    bool by_rendering;                                     // the template has no generation blocks
    unsigned char notes;                                   // NOTE_SPANS_GUESSED, _CALLS_LOST, _UNKNOWN_ROLE
    char unknown_role[20];                                 // of a message that counts as the user's; or ""
} Conversation;
void conversation_free(Conversation *c);                   // accepts {0}

// need_spans: it is an error if they cannot be found. Messages as messages_read returns them; the row's tools,
// documents and chat_template_kwargs are variables too.
bool conversation_render(Conversation *c, const Recipe *r, const cJSON *row, const cJSON *messages, bool need_spans,
                         Err *e);
// Where what message i says begins and ends in the text; false if it is not there.
bool conversation_find(const Conversation *c, size_t i, size_t *begin, size_t *end);
// What a generation prompt prints after a user's message, in `out`; empty if nothing.
void conversation_header(Buf *out, const Recipe *r, const cJSON *row);
// The text alone. Replaces what `out` holds. `row` NULL: no variables of a row.
bool conversation_text(Buf *out, const Recipe *r, const cJSON *row, const cJSON *messages, bool add_generation_prompt,
                       Err *e);

#endif

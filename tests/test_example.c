// Labels: what a row becomes under each mask, and against TRL's on real tokenizers and templates where ../shared is.
#include "fixture.h"

#include "../data/rows/batch.h"
#include "../data/rows/dataset.h"

static Tokenizer *bytes;                                   // fixture.h's: a token a byte
static Template *marked, *unmarked;                        // with generation blocks, and without

static const char MARKED[] = "{{ bos_token }}{% for m in messages %}[{{ m.role[0] }}]{% if m.role == 'assistant' %}"
                             "{% generation %}{{ m.content + eos_token }}{% endgeneration %}"
                             "{% else %}{{ m.content }}{% endif %}"
                             "{% endfor %}{% if add_generation_prompt %}[a]{% endif %}";
static const char UNMARKED[] = "{{ bos_token }}{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}"
                               "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
                               "{% endfor %}{% if add_generation_prompt %}[a]{% endif %}";

static Template *template(const char *source)
{
    Err e;
    Template *t = template_parse(source, strlen(source), "test", &e);
    CHECK_MSG(t != NULL, "%s", e.text);
    return t;
}

static Recipe recipe(void)
{
    return (Recipe){.tokenizer = bytes, .template = marked, .text_field = "text", .assistant_only_loss = -1,
                    .completion_only_loss = -1};
}

// The row is written with ' for ".
static bool build(Example *ex, const Recipe *r, const char *text, Err *e)
{
    const char *json = quoted(text);
    cJSON *row = json_parse(json, strlen(json), "row", 0, e);
    bool ok = row && example_build(ex, NULL, row, r, e);
    cJSON_Delete(row);
    return ok;
}

// A token as one character: the byte, ^ for BOS, $ for EOS.
static char token_char(int id) { return id == 1 ? '^' : id == 2 ? '$' : id == 259 ? ' ' : (char)(id - 3); }

// The row's tokens as text with a dot for each masked one; by which = 'l' labels, 'i' ids, 'r' roles'
// first letters (p for template, t for tool or text).
static const char *show(const Recipe *r, const char *json, char which)
{
    static char out[256];
    Example ex;
    Err e;
    if (!build(&ex, r, json, &e)) return memcpy(out, e.text, sizeof out - 1), out;
    size_t n = 0;
    for (; n < ex.n; n++)
        out[n] = which == 'i'   ? token_char(ex.ids[n])
                 : which == 'r' ? role_names[ex.roles[n]][ex.roles[n] == ROLE_TEMPLATE ? 3 : 0]
                 : ex.labels[n] == IGNORE ? '.' : token_char(ex.labels[n]);
    out[n] = 0;
    example_free(&ex);
    return out;
}

#define TURN "{'messages': [{'role': 'system', 'content': 'Be.'}, {'role': 'user', 'content': 'Hi'}, " \
             "{'role': 'assistant', 'content': 'Yo'}]}"
#define TWO_TURNS(w) "{'messages': [{'role': 'user', 'content': 'u'}, {'role': 'assistant', 'content': 'one'" w "}, " \
                     "{'role': 'user', 'content': 'v'}, {'role': 'assistant', 'content': 'two'}]}"

static void test_messages(void)
{
    Recipe r = recipe();
    // As with Hugging Face's Llama tokenizers, text after a special token gets a space of its own.
    CHECK_STR(show(&r, TURN, 'i'), "^ [s]Be.[u]Hi[a]Yo$");
    CHECK_STR(show(&r, TURN, 'l'), "................Yo$");
    CHECK_STR(show(&r, TURN, 'r'), "pppppssspppuupppaaa");
    CHECK_STR(show(&r, TWO_TURNS(""), 'l'), ".........one$........two$");
    r.assistant_only_loss = 0;
    CHECK_STR(show(&r, TURN, 'l'), "^ [s]Be.[u]Hi[a]Yo$");
    r.assistant_only_loss = 1;
    CHECK_STR(show(&r, TURN, 'l'), "................Yo$");
}

// The same labels where the template has no generation blocks: spans by rendering prefixes.
static void test_spans_by_rendering(void)
{
    Recipe r = recipe();
    r.template = unmarked;
    CHECK_STR(show(&r, TURN, 'l'), "................Yo$");
    CHECK_STR(show(&r, TWO_TURNS(""), 'l'), ".........one$........two$");

    // One that forgets old answers, as reasoning models' templates do: refused, with both texts.
    r.template = template("{% for m in messages %}[{{ m.role[0] }}]{% if m.role == 'user' or loop.last %}"
                          "{{ m.content }}{% endif %}{% endfor %}"
                          "{% if add_generation_prompt %}[a]{% endif %}");
    Example ex;
    Err e;
    CHECK_FAILS(build(&ex, &r, TWO_TURNS(""), &e), e,
                "messages[1]: the assistant's span cannot be found: the template rewrites it");
    template_free((Template *)r.template);
    // One whose generation prompt is not how answers begin.
    r.template = template("{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}"
                          "{% if add_generation_prompt %}[a]think{% endif %}");
    CHECK_FAILS(build(&ex, &r, TURN, &e), e,
                "messages[2]: the assistant's span cannot be found: the template's generation prompt");
    r.assistant_only_loss = 0;                             // then no span is needed
    CHECK_STR(show(&r, TURN, 'l'), " [s]Be.[u]Hi[a]Yo");
    template_free((Template *)r.template);
}

static void test_message_weight(void)
{
    Recipe r = recipe();
    CHECK_STR(show(&r, TWO_TURNS(", 'weight': 0"), 'l'), ".....................two$");
    CHECK_STR(show(&r, TWO_TURNS(", 'weight': 1"), 'l'), ".........one$........two$");
    r.assistant_only_loss = 0;
    CHECK_STR(show(&r, TWO_TURNS(", 'weight': 0"), 'l'), "^ [u]u[a].... [u]v[a]two$");
    r.assistant_only_loss = -1;
    r.prompt_loss_weight = 0.25f;
    Example ex;
    Err e;
    if (!CHECK(build(&ex, &r, TWO_TURNS(", 'weight': 0"), &e))) return;
    CHECK(ex.weights[0] == 0.25f && ex.weights[9] == 0 && ex.weights[12] == 0 && ex.weights[13] == 0.25f);
    CHECK(ex.weights[21] == 1);
    example_free(&ex);
}

static void test_other_kinds(void)
{
    Recipe r = recipe();
    CHECK_STR(show(&r, "{'conversations': [{'from': 'human', 'value': 'Hi'}, {'from': 'gpt', 'value': 'Yo'}]}", 'l'),
              "..........Yo$");
    CHECK_STR(show(&r, "{'instruction': 'Add', 'input': '1 2', 'output': '3'}", 'i'), "^ [u]Add\n1 2[a]3$");
    CHECK_STR(show(&r, "{'instruction': 'Add', 'input': '', 'output': '3', 'history': [['a', 'b']]}", 'l'),
              ".........b$..........3$");
    // Strings: BOS from the tokenizer, no separator, EOS once.
    CHECK_STR(show(&r, "{'prompt': '2+2=', 'completion': '4'}", 'i'), "^ 2+2=4$");
    CHECK_STR(show(&r, "{'prompt': '2+2=', 'completion': '4'}", 'l'), "......4$");
    CHECK_STR(show(&r, "{'prompt': '2+2=', 'completion': '4'}", 'r'), "puuuuuaa");
    CHECK_STR(show(&r, "{'prompt': '2+2=', 'completion': '4</s>'}", 'l'), "......4$");
    CHECK_STR(show(&r, "{'prompt': [{'role': 'user', 'content': 'Hi'}],"
                       " 'completion': [{'role': 'assistant', 'content': 'Yo'}]}", 'l'), "..........Yo$");
    CHECK_STR(show(&r, "{'text': 'So.'}", 'l'), "^ So.$");
    CHECK_STR(show(&r, "{'text': 'So.'}", 'r'), "pttttt");
    r.text_field = "body";
    CHECK_STR(show(&r, "{'body': 'So.'}", 'l'), "^ So.$");
    r.completion_only_loss = 0;
    CHECK_STR(show(&r, "{'prompt': '2+2=', 'completion': '4'}", 'l'), "^ 2+2=4$");
}

// A completion that is a whole conversation: all of it is learned, and with assistant_only_loss=true only the answers.
static void test_both_masks(void)
{
    Recipe r = recipe();
    const char *row = "{'prompt': [{'role': 'user', 'content': 'p'}, {'role': 'assistant', 'content': 'q'},"
                      " {'role': 'user', 'content': 'r'}],"
                      " 'completion': [{'role': 'assistant', 'content': 's'}, {'role': 'user', 'content': 't'},"
                      " {'role': 'assistant', 'content': 'u'}]}";
    CHECK_STR(show(&r, row, 'i'), "^ [u]p[a]q$ [u]r[a]s$ [u]t[a]u$");
    CHECK_STR(show(&r, row, 'l'), "...................s$ [u]t[a]u$");
    r.assistant_only_loss = 1;
    CHECK_STR(show(&r, row, 'l'), "...................s$........u$");
    r.completion_only_loss = 0;
    CHECK_STR(show(&r, row, 'l'), ".........q$........s$........u$");
}

// TRL's own cases: given labels untouched, masks folded in, the cut after labels, rows without a label dropped.
static void test_input_ids(void)
{
    Recipe r = recipe();
    Example ex;
    Err e;
    CHECK_STR(show(&r, "{'input_ids': [68, 69, 70], 'labels': [-100, 69, 71]}", 'l'), ".BD");
    CHECK_STR(show(&r, "{'input_ids': [68, 69, 70], 'labels': [-100, 69, 71], 'assistant_masks': [1, 1, 1]}", 'l'),
              ".BD");
    CHECK_STR(show(&r, "{'input_ids': [68, 69, 70, 71], 'assistant_masks': [0, 0, 1, 1]}", 'l'), "..CD");
    CHECK_STR(show(&r, "{'input_ids': [68, 69, 70], 'completion_mask': [0, 1, 0]}", 'l'), ".B.");
    CHECK_STR(show(&r, "{'input_ids': [68, 69, 70], 'completion_mask': [0, 1, 1], 'assistant_masks': [1, 1, 0]}", 'l'),
              ".B.");
    CHECK_STR(show(&r, "{'input_ids': [68, 69, 70]}", 'l'), "ABC");
    r.max_length = 3;
    if (CHECK(build(&ex, &r, "{'input_ids': [68, 69, 70, 71, 72], 'assistant_masks': [0, 0, 0, 1, 1]}", &e)))
        CHECK(ex.n == 3 && ex.truncated && ex.dropped);
    example_free(&ex);
    if (CHECK(build(&ex, &r, "{'input_ids': [68, 69, 70], 'assistant_masks': [1, 1, 1]}", &e)))
        CHECK(ex.n == 3 && !ex.truncated && !ex.dropped);
    example_free(&ex);
}

// A merge over the edge of prompt and completion: with a tokenizer that knows "ab" the prompt "a" is no prefix of "ab".
static void test_prefix_mismatch(void)
{
    Buf b = {0};
    Err e;
    File f;
    if (!CHECK(file_map(&f, temp_path("tokenizer.bin"), &e))) return;
    buf_add(&b, f.data, f.size);
    file_unmap(&f);
    add_piece(&b, "a", 1);
    add_piece(&b, "b", 1);
    add_piece(&b, "ab", 2);
    Tokenizer *t = tokenizer_load(temp_write("merging.bin", b.data, b.len), &e);
    buf_free(&b);
    if (!CHECK_MSG(t, "%s", e.text)) return;
    Recipe r = recipe();
    Example ex;
    r.tokenizer = t;
    CHECK_FAILS(build(&ex, &r, "{'prompt': 'a', 'completion': 'b'}", &e), e,
                quoted("token 2 is 'a' (260) in the prompt alone and 'ab' (262) in the whole"));
    r.warn_on_prefix_mismatch = true;
    if (CHECK(build(&ex, &r, "{'prompt': 'a', 'completion': 'b'}", &e)))
        CHECK(ex.notes == NOTE_PREFIX_MISMATCH && ex.n == 4 && ex.labels[1] == IGNORE && ex.labels[2] == 262);
    example_free(&ex);
    tokenizer_free(t);
}

// Roles when the content is also part of the template's own text.
static void test_roles_of_confusing_content(void)
{
    Recipe r = recipe();
    CHECK_STR(show(&r, "{'messages': [{'role': 'user', 'content': 'u]'}, {'role': 'assistant', 'content': '[u]'},"
                       " {'role': 'tool', 'content': 't'}]}", 'r'),
              "pppppuupppaaaappppt");
}

// A template's own characters may look like the markers by which the places of contents are found.
static void test_roles_of_marker_characters(void)
{
    Recipe r = recipe();
    CHECK_STR(show(&r, "{'messages': [{'role': '\uE000', 'content': 'u'},"
                       " {'role': 'assistant', 'content': 'a'}]}", 'r'), "pppppppupppaa");
}

static void test_too_many_messages_to_render(void)
{
    Recipe r = recipe();
    Example ex;
    Err e;
    Buf row = {0};
    r.template = unmarked;
    buf_adds(&row, "{'messages': [");
    for (int i = 0; i < 1001; i++)
        buf_addf(&row, "%s{'role': '%s', 'content': 'x'}", i ? "," : "", i % 2 ? "user" : "assistant");
    buf_adds(&row, "]}");
    CHECK_FAILS(build(&ex, &r, row.data, &e), e,
                "messages[1000]: expected at most 1000 messages for a template without generation blocks");
    buf_free(&row);
}

static void test_bad_rows(void)
{
    static const struct { const char *row, *message; } cases[] = {
        {"[1]", "expected an object, such as {'messages': [...]}, found a list"},
        {"{}", "expected messages, prompt and completion, instruction and output, input_ids or 'text'"},
        {"{'txt': 'a'}", "found 'txt'"},
        {"{'messages': []}", "messages: expected a list of at least one message, found none"},
        {"{'messages': 'hi'}", "messages: expected a list, found a string"},
        {"{'messages': [3]}", "messages[0]: expected an object, found a number"},
        {"{'messages': [{'content': 'a'}]}", "messages[0].role: expected a string, found nothing"},
        {"{'messages': [{'role': 'user'}]}", "messages[0].content: expected a string, found nothing"},
        {"{'messages': [{'role': 'user', 'content': 3}]}", "messages[0].content: expected a string, found a number"},
        {"{'messages': [{'role': 'user', 'content': 'a', 'weight': 2}]}", "messages[0].weight: expected 0 or 1"},
        {"{'messages': [{'role': 'user', 'content': 'a'}]}", "assistant_only_loss: expected an assistant message"},
        {"{'prompt': 'a'}", "completion: expected one beside the prompt, found nothing"},
        {"{'prompt': 'a', 'completion': [1]}",
         "expected two strings or two lists of messages, found a string and a list"},
        {"{'instruction': 'a'}", "output: expected a string, found nothing"},
        {"{'input_ids': []}", "input_ids: expected at least one token"},
        {"{'input_ids': [1, 999]}", "input_ids[1]: expected a whole number from 0 to 259"},
        {"{'input_ids': [1, 2], 'labels': [1]}", "labels: expected 2 numbers, as many as input_ids, found 1"},
        {"{'input_ids': [1, 2], 'labels': [1, -1]}", "labels[1]: expected a whole number from 0 to 259"},
        {"{'input_ids': [1, 2], 'assistant_masks': [1, 2]}", "assistant_masks[1]: expected a whole number from 0 to 1"},
    };
    Recipe r = recipe();
    r.vocab_size = BYTE_TOKENIZER_SIZE;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Example ex;
        Err e = {""};
        CHECK_FAILS(build(&ex, &r, cases[i].row, &e), e, quoted(cases[i].message));
    }
}

static void test_mask_options_that_do_not_fit(void)
{
    Recipe r = recipe();
    Example ex;
    Err e;
    r.completion_only_loss = 1;
    CHECK_FAILS(build(&ex, &r, TURN, &e), e, "completion_only_loss: expected prompt and completion, found messages");
    CHECK_FAILS(build(&ex, &r, "{'text': 'a'}", &e), e,
                "completion_only_loss: expected prompt and completion, found plain text");
    r = recipe();
    r.assistant_only_loss = 1;
    CHECK_FAILS(build(&ex, &r, "{'text': 'a'}", &e), e, "assistant_only_loss: expected messages, found plain text");
    CHECK_FAILS(build(&ex, &r, "{'prompt': 'a', 'completion': 'b'}", &e), e, "assistant_only_loss: expected messages");
    r = recipe();
    r.template = NULL;
    CHECK_FAILS(build(&ex, &r, TURN, &e), e, "give chat_template_path");
}

static void test_dataset_files(void)
{
    static const struct { const char *text; size_t rows, line_of_last; } good[] = {
        {"{'text':'a'}\n\n{'text':'b'}", 2, 3},
        {"\xEF\xBB\xBF{'text':'a'}\r\n{'text':'b'}\r\n", 2, 2},
        {"[{'text':'a, ]\\''},\n {'text':'b'}\n]\n", 2, 2},
    };
    Recipe r = recipe();
    Err e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        Dataset d;
        bool ok = dataset_open(&d, temp_text("rows.jsonl", quoted(good[i].text)), &e) && dataset_build(&d, &r, &e);
        if (!CHECK_MSG(ok, "%s", e.text)) continue;
        CHECK(d.n == good[i].rows && d.examples[d.n - 1].line == good[i].line_of_last);
        dataset_free(&d);
    }
    static const struct { const char *text, *message; } bad[] = {
        {"", "expected rows, found none"},
        {"\n \n", "expected rows, found none"},
        {"[]", "expected rows, found none"},
        {"{'text':'a'}\n{'text':", "rows.jsonl:2:"},
        {"{'text':'a'}\n{'text':'\xFF'}", "rows.jsonl:2:10: invalid UTF-8: byte 0xFF"},
        {"{'text':'a\\u0000b'}", "NUL"},
        {"{'text':'a'} x", "rows.jsonl:1:14: expected the end of the JSON value"},
        {"[{'text':'a'}", "never ends"},
        {"[{'text':'a'}] x", "expected nothing after the list"},
        {"{'text':'a'}\n{'messages':[]}\n{'messages':3}", "rows.jsonl:2: messages: expected a list of at least one"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Dataset d;
        bool ok = dataset_open(&d, temp_text("rows.jsonl", quoted(bad[i].text)), &e) && dataset_build(&d, &r, &e);
        CHECK_FAILS(ok, e, bad[i].message);
        dataset_free(&d);
    }
    Dataset d;
    CHECK_FAILS(dataset_open(&d, temp_path("absent"), &e), e, "absent: cannot open");
    CHECK_FAILS(dataset_open(&d, temp_dir, &e), e, "expected a file, found a folder");
}

static void test_summary(void)
{
    Recipe r = recipe();
    Dataset d;
    Err e;
    r.max_length = 18;                                     // cuts the first row's EOS and the whole second answer
    const char *long_prompt = "{'messages':[{'role':'user','content':'0123456789'},"
                              "{'role':'assistant','content':'x'}]}";
    Buf b = {0};
    buf_addf(&b, "%s\n%s\n%s\n", TURN, long_prompt, TWO_TURNS(""));
    if (!CHECK(dataset_open(&d, temp_text("rows.jsonl", quoted(b.data)), &e) && dataset_build(&d, &r, &e))) return;
    Summary s = dataset_summary(d.examples, d.n, bytes);
    CHECK(s.rows == 3 && s.dropped == 1 && s.truncated == 3 && s.tokens == 36 && s.supervised == 2 + 4);
    CHECK(s.symptoms[NO_END_LEARNED].rows == 1 && s.symptoms[NO_END_LEARNED].first->line == 1);
    CHECK(s.symptoms[ALL_MASKED].rows == 1 && s.symptoms[ALL_MASKED].first->line == 2);
    CHECK(s.symptoms[ANSWER_CUT].rows == 3);
    CHECK(!s.symptoms[USER_LEARNED].rows && !s.symptoms[SYSTEM_LEARNED].rows && !s.symptoms[DOUBLE_BOS].rows);
    CHECK_STR(s.mask, "assistant");
    dataset_free(&d);
    buf_free(&b);
}

// What goes wrong is named, with the first row where it does.
static void test_symptoms(void)
{
    Recipe r = recipe();
    Dataset d;
    Err e;
    // A generation block around everything, and a template that prints a BOS of its own beside the tokenizer's.
    r.template = template("{% generation %}{{ bos_token }}{{ bos_token }}{% for m in messages %}"
                          "[{{ m.role[0] }}]{{ m.content }}{% endfor %}{% endgeneration %}");
    Buf b = {0};
    buf_addf(&b, "%s\n%s\n", TWO_TURNS(""), TURN);
    bool ok = dataset_open(&d, temp_text("rows.jsonl", quoted(b.data)), &e) && dataset_build(&d, &r, &e);
    if (!CHECK_MSG(ok, "%s", e.text)) return;
    Summary s = dataset_summary(d.examples, d.n, bytes);
    CHECK(s.symptoms[SYSTEM_LEARNED].rows == 1 && s.symptoms[SYSTEM_LEARNED].first->line == 2);
    CHECK(s.symptoms[USER_LEARNED].rows == 2 && s.symptoms[NO_END_LEARNED].rows == 2);
    CHECK(s.symptoms[DOUBLE_BOS].rows == 2);
    dataset_free(&d);
    buf_free(&b);
    template_free((Template *)r.template);
}

// Labels are shifted once: position t is asked for token t + 1; nothing is kept behind the last target.
static void test_batch(void)
{
    Recipe r = recipe();
    Example one, two;
    Err e;
    Batch b;
    CHECK(build(&one, &r, "{'input_ids': [10, 11, 12, 13, 14], 'labels': [10, -100, 12, 99, -100]}", &e));
    CHECK(build(&two, &r, "{'input_ids': [20, 21], 'labels': [20, -100]}", &e));   // its one label is never predicted
    const Example *both[] = {&one, &two};
    BatchSize size = batch_bound(both, 2, 2, BATCH_TRAIN);
    CHECK(size.tokens == 3 && size.row == 3 && size.targets == 2);
    CHECK(batch_init(&b, batch_bound(both, 2, 2, BATCH_EVAL), &e));
    batch_add(&b, &one, BATCH_TRAIN);
    batch_add(&b, &two, BATCH_TRAIN);
    CHECK(b.N == 3 && b.S == 1 && b.M == 2 && b.starts[1] == 3);
    CHECK(b.at[0] == 1 && b.target[0] == 12 && b.at[1] == 2 && b.target[1] == 99);
    batch_clear(&b);
    batch_add(&b, &one, BATCH_EVAL);
    batch_add(&b, &two, BATCH_EVAL);
    CHECK(b.N == 5 && b.S == 2 && b.M == 5 && b.starts[1] == 4 && b.at[4] == 4 && b.target[4] == 21);
    CHECK(b.weight[0] == 0 && b.weight[1] == 1 && b.target[2] == 99);
    batch_free(&b);
    example_free(&one);
    example_free(&two);
}

// The noise of a row of n tokens is uniform in +-alpha / sqrt(n C), also where tokens at its end are not kept; the seed
// decides it. An evaluation draws none.
static void test_noise(void)
{
    enum { C = 400 };
    Recipe r = recipe();
    Example row;
    Err e;
    Batch b;
    float first[2 * C];
    CHECK(build(&row, &r, "{'input_ids': [10, 11, 12, 13], 'labels': [10, -100, 12, -100]}", &e));
    const Example *rows[] = {&row, &row};
    CHECK(batch_init(&b, batch_bound(rows, 2, 2, BATCH_EVAL), &e));
    b.noise = (Noise){.values = mem_alloc(6 * C, sizeof(float)), .C = C, .alpha = 8, .rng = rng_seed(1)};
    batch_add(&b, &row, BATCH_TRAIN);
    const float limit = 8 / sqrtf(4 * C);
    float least = 0, most = 0;
    double sum = 0, squares = 0;
    CHECK(b.N == 2);
    for (size_t i = 0; i < 2 * C; i++) {
        float x = first[i] = b.noise.values[i];
        least = fminf(least, x);
        most = fmaxf(most, x);
        sum += x;
        squares += x * x;
    }
    CHECK(least >= -limit && least < -0.97f * limit && most <= limit && most > 0.97f * limit);
    CHECK(fabs(sum / (2 * C)) < 0.1 * limit && fabs(squares / (2 * C) * 3 / (limit * limit) - 1) < 0.1);
    batch_add(&b, &row, BATCH_TRAIN);                      // goes on where it was
    CHECK(memcmp(b.noise.values + 2 * C, first, sizeof first) != 0 && memcmp(b.noise.values, first, sizeof first) == 0);
    batch_clear(&b);
    batch_add(&b, &row, BATCH_EVAL);
    CHECK(memcmp(b.noise.values, first, sizeof first) == 0);
    batch_clear(&b);
    b.noise.rng = rng_seed(2);
    batch_add(&b, &row, BATCH_TRAIN);
    CHECK(memcmp(b.noise.values, first, sizeof first) != 0);
    batch_clear(&b);
    b.noise.rng = rng_seed(1);
    batch_add(&b, &row, BATCH_TRAIN);
    CHECK(memcmp(b.noise.values, first, sizeof first) == 0);
    batch_free(&b);
    example_free(&row);
}

static void test_epoch_order(void)
{
    size_t a[100], b[100], seen[100] = {0}, moved = 0;
    epoch_order(a, 100, true, 42, 0);
    epoch_order(b, 100, true, 42, 0);
    CHECK(memcmp(a, b, sizeof a) == 0);
    epoch_order(b, 100, true, 42, 1);
    CHECK(memcmp(a, b, sizeof a) != 0);
    for (size_t i = 0; i < 100; i++) seen[a[i]]++, moved += a[i] != i;
    for (size_t i = 0; i < 100; i++) CHECK(seen[i] == 1);
    CHECK(moved > 80);
    epoch_order(a, 100, false, 42, 3);
    CHECK(a[0] == 0 && a[99] == 99);
}

// Every template that we ship gives the spans that it says it gives.
static void test_shipped_templates(void)
{
    // zephyr's newline is behind the space that follows every special token; transformers' rule ends the span at the
    // first token that covers the last character, and the space has that character's range.
    static const struct { const char *name, *learned; } cases[] = {
        {"chatml", "Yo<|im_end|>\n"}, {"llama3", "Yo<|eot_id|>"}, {"llama2", "Yo $"}, {"zephyr", "Yo$ "},
        {"plain", " Yo$"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[64], learned[64];
        Err e;
        File f;
        snprintf(path, sizeof path, "configs/templates/%s.jinja", cases[i].name);
        if (!CHECK(file_map(&f, path, &e))) continue;
        Recipe r = recipe();
        r.template = template_parse((const char *)f.data, f.size, path, &e);
        if (CHECK_MSG(r.template, "%s", e.text)) {
            size_t n = 0;
            for (const char *p = show(&r, TURN, 'l'); *p; p++)
                if (*p != '.') learned[n++] = *p;
            learned[n] = 0;
            CHECK_STR(learned, cases[i].learned);
        }
        template_free((Template *)r.template);
        file_unmap(&f);
    }
}

// ---- ../shared: TRL's labels on real tokenizers and templates -----------------------------------------------------

static cJSON *conversations;

static Template *shared_template(const char *name)
{
    char path[256];
    Err e;
    File f;
    snprintf(path, sizeof path, "../shared/vectors/templates/%s.jinja", name);
    if (!CHECK_MSG(file_map(&f, path, &e), "%s", e.text)) return NULL;
    Template *t = template_parse((const char *)f.data, f.size, name, &e);
    CHECK_MSG(t, "%s", e.text);
    file_unmap(&f);
    return t;
}

static Tokenizer *shared_tokenizer(const char *name)
{
    char path[256];
    Err e;
    // TinyLlama's vocabulary is Llama 2's.
    snprintf(path, sizeof path, "../shared/tokenizers/%s", strcmp(name, "tinyllama") == 0 ? "llama2" : name);
    Tokenizer *t = tokenizer_load(path, &e);
    CHECK_MSG(t, "%s", e.text);
    return t;
}

static cJSON *shared_row(const cJSON *c, const char *mode)
{
    if (!json_string(c, "conv")) return cJSON_Duplicate(c, true);
    const cJSON *conv = json_get(conversations, json_string(c, "conv")), *v;
    cJSON *row = cJSON_CreateObject(), *messages = cJSON_Duplicate(json_get(conv, "messages"), true);
    if (json_get(conv, "tools")) cJSON_AddItemToObject(row, "tools", cJSON_Duplicate(json_get(conv, "tools"), true));
    cJSON *kwargs = cJSON_AddObjectToObject(row, "chat_template_kwargs");
    cJSON_ArrayForEach(v, json_get(conv, "kwargs")) cJSON_AddItemToObject(kwargs, v->string, cJSON_Duplicate(v, true));
    if (strcmp(mode, "assistant_only") == 0) return cJSON_AddItemToObject(row, "messages", messages), row;
    cJSON *completion = cJSON_CreateArray();
    cJSON_AddItemToArray(completion, cJSON_DetachItemFromArray(messages, cJSON_GetArraySize(messages) - 1));
    cJSON_AddItemToObject(row, "prompt", messages);
    cJSON_AddItemToObject(row, "completion", completion);
    return row;
}

static bool same_labels(const Example *ex, const cJSON *c)
{
    const char *mask = json_string(c, "mask");
    const cJSON *id = json_get(c, "ids")->child;
    if (ex->n != strlen(mask)) return false;
    for (size_t i = 0; i < ex->n; i++, id = id->next)
        if (ex->ids[i] != id->valueint || ex->labels[i] != (mask[i] == '1' ? id->valueint : IGNORE)) return false;
    return true;
}

// Two rules are younger than the vectors. Where the prompt's tokens are not how the row begins (prefix_ok false)
// TRL 1.16 lets the completion begin at the first token that differs, before n_prompt. And transformers 5 leaves out a
// content of null, which was the word None (4155 of Llama 3).
static bool follows_younger_rule(const Example *ex, const cJSON *c)
{
    const char *mask = json_string(c, "mask"), *conv = json_string(c, "conv");
    const cJSON *id = json_get(c, "ids")->child;
    bool dropped = conv && strcmp(conv, "bad_content-0") == 0, shifted = cJSON_IsFalse(json_get(c, "prefix_ok"));
    size_t n_prompt = shifted ? (size_t)json_get(c, "n_prompt")->valueint : 0, first = 0;
    while (first < ex->n && ex->labels[first] == IGNORE) first++;
    if (shifted && first >= n_prompt) return false;
    for (size_t i = 0; i < ex->n; i++, id = id->next, mask++) {
        if (dropped && id->valueint == 4155) id = id->next, mask++;
        bool learned = shifted && i < n_prompt ? i >= first : *mask == '1';
        if (ex->ids[i] != id->valueint || ex->labels[i] != (learned ? id->valueint : IGNORE)) return false;
    }
    return (dropped || shifted) && !id;
}

static int n_younger;

static void check_label_case(const Recipe *r, const cJSON *c, const char *mode, const char *file, int *n_passed_cases)
{
    Example ex;
    Err e = {""};
    cJSON *row = shared_row(c, mode);
    bool ok = example_build(&ex, NULL, row, r, &e), refused = json_get(c, "trl_error") != NULL;
    const char *id = json_string(c, "conv") ? json_string(c, "conv") : json_string(c, "id");
    bool right = refused ? !ok : ok && same_labels(&ex, c), younger = ok && !right && follows_younger_rule(&ex, c);
    n_younger += younger;
    right |= younger;
    CHECK_MSG(right, "%s %s: %s", file, id, ok ? "other labels" : e.text);
    *n_passed_cases += right;
    if (ok) example_free(&ex);
    cJSON_Delete(row);
}

static void check_label_file(const char *file, int *n, int *n_right)
{
    char path[256];
    Err e;
    snprintf(path, sizeof path, "../shared/vectors/labels/%s", file);
    Dataset d;
    if (!CHECK_MSG(dataset_open(&d, path, &e), "%s", e.text)) return;
    cJSON *header = dataset_row(&d, 0, &e), *variables = json_load("../shared/vectors/templates/templates.json", &e);
    const char *mode = json_string(header, "mode"), *name = json_string(header, "template");
    Recipe r = recipe();
    r.tokenizer = shared_tokenizer(json_string(header, "tokenizer"));
    r.template = name ? shared_template(name) : NULL;
    r.warn_on_prefix_mismatch = true;
    if (strcmp(mode, "both") == 0 || strcmp(mode, "assistant_only") == 0) r.assistant_only_loss = 1;
    cJSON *kwargs = cJSON_CreateObject();
    static const char *const tokens[] = {"bos_token", "eos_token"};
    for (int i = 0; i < 2 && name; i++) {
        const char *token = json_string(json_get(variables, name), tokens[i]);
        if (token) cJSON_AddStringToObject(kwargs, tokens[i], token);
    }
    r.template_kwargs = kwargs;
    for (size_t i = 1; i < d.n; i++, (*n)++) {
        cJSON *c = dataset_row(&d, i, &e);
        check_label_case(&r, c, mode, file, n_right);
        cJSON_Delete(c);
    }
    cJSON_Delete(kwargs);
    cJSON_Delete(header);
    cJSON_Delete(variables);
    template_free((Template *)r.template);
    tokenizer_free((Tokenizer *)r.tokenizer);
    dataset_free(&d);
}

static void load_conversations(void)
{
    Dataset d;
    Err e;
    conversations = cJSON_CreateObject();
    if (!CHECK(dataset_open(&d, "../shared/vectors/chat/conversations.jsonl", &e))) return;
    for (size_t i = 0; i < d.n; i++) {
        cJSON *row = dataset_row(&d, i, &e);
        cJSON_AddItemToObject(conversations, json_string(row, "id"), row);
    }
    dataset_free(&d);
}

static void test_shared_labels(void)
{
    FOLDER_OR_SKIP("../shared/vectors/labels");
    load_conversations();
    DIR *dir = opendir("../shared/vectors/labels");
    int n = 0, n_right = 0;
    for (struct dirent *d; dir && (d = readdir(dir));)
        if (strstr(d->d_name, ".jsonl")) check_label_file(d->d_name, &n, &n_right);
    closedir(dir);
    cJSON_Delete(conversations);
    printf("     label cases: %d of %d, %d by a younger rule\n", n_right, n, n_younger);
}

// 999 real rows: counts, and a hash over all ids and masks.
static void check_alpaca_set(const cJSON *set)
{
    char path[256], want[80], got[80] = "";
    Err e;
    Dataset d;
    Recipe r = recipe();
    snprintf(path, sizeof path, "../shared/data/%s", json_string(set, "data"));
    r.tokenizer = shared_tokenizer(json_string(set, "tokenizer"));
    const char *name = json_string(set, "template");
    r.template = name ? shared_template(name) : NULL;
    r.warn_on_prefix_mismatch = true;
    cJSON *variables = json_load("../shared/vectors/templates/templates.json", &e);
    r.template_kwargs = name ? json_get(variables, name) : NULL;
    FILE *sums = fopen(temp_path("hash.txt"), "w");
    if (CHECK_MSG(dataset_open(&d, path, &e) && dataset_build(&d, &r, &e), "%s", e.text))
        for (size_t i = 0; i < d.n; i++) {
            const Example *ex = &d.examples[i];
            for (size_t k = 0; k < ex->n; k++) fprintf(sums, k ? ",%d" : "%d", ex->ids[k]);
            fputc(' ', sums);
            for (size_t k = 0; k < ex->n; k++) fputc(ex->labels[k] == IGNORE ? '0' : '1', sums);
            fputc('\n', sums);
        }
    fclose(sums);
    char command[128];
    snprintf(command, sizeof command, "sha256sum %s", temp_path("hash.txt"));
    FILE *pipe = popen(command, "r");
    if (fgets(got, sizeof got, pipe)) got[64] = 0;
    pclose(pipe);
    snprintf(want, sizeof want, "%s", json_string(set, "sha256"));
    CHECK_MSG(strcmp(got, want) == 0, "%s %s %s", json_string(set, "data"), json_string(set, "mode"),
              json_string(set, "tokenizer"));
    Summary s = dataset_summary(d.examples, d.n, NULL);
    CHECK_MSG(s.tokens == json_get(set, "tokens")->valuedouble, "%zu", s.tokens);
    CHECK_MSG(s.supervised == json_get(set, "supervised")->valuedouble, "%zu", s.supervised);
    dataset_free(&d);
    cJSON_Delete(variables);
    template_free((Template *)r.template);
    tokenizer_free((Tokenizer *)r.tokenizer);
}

static void test_shared_alpaca(void)
{
    FOLDER_OR_SKIP("../shared/vectors/labels/alpaca_summary.json");
    Err e;
    cJSON *summary = json_load("../shared/vectors/labels/alpaca_summary.json", &e);
    const cJSON *set;
    int n = 0;
    cJSON_ArrayForEach(set, json_get(summary, "sets")) check_alpaca_set(set), n++;
    printf("     alpaca sets of 999 rows: %d\n", n);
    cJSON_Delete(summary);
}

// The seed notebook: 49 tokens, 42 masked, 7 learned, with a stock template that has no generation blocks.
static void test_shared_notebook(void)
{
    FOLDER_OR_SKIP("../shared/vectors/seed/llama32_notebook.json");
    Err e;
    Example ex;
    cJSON *note = json_load("../shared/vectors/seed/llama32_notebook.json", &e), *row = cJSON_CreateObject();
    cJSON *kwargs = cJSON_AddObjectToObject(row, "chat_template_kwargs");
    cJSON_AddStringToObject(kwargs, "date_string", json_string(note, "date_string"));
    cJSON_AddItemToObject(row, "messages", cJSON_Duplicate(json_get(note, "messages"), true));
    Recipe r = recipe();
    r.tokenizer = shared_tokenizer("llama3_1");
    r.template = shared_template("llama3_2");
    if (CHECK_MSG(example_build(&ex, NULL, row, &r, &e), "%s", e.text)) {
        size_t masked = 0;
        const cJSON *label = json_get(note, "labels")->child;
        for (size_t i = 0; i < ex.n; i++, label = label->next)
            masked += CHECK(ex.labels[i] == label->valueint) && ex.labels[i] == IGNORE;
        CHECK(ex.n == 49 && masked == 42 && ex.spans_by_rendering);
        example_free(&ex);
    }
    cJSON_Delete(row);
    cJSON_Delete(note);
    template_free((Template *)r.template);
    tokenizer_free((Tokenizer *)r.tokenizer);
}

// ---- rows as people have them -------------------------------------------------------------------------------------

#define FOR(what) "{% for m in messages %}" what "{% endfor %}"
#define STOCK FOR("[{{ m.role[0] }}]{{ m.content }}|")
#define PROMPT "{% if add_generation_prompt %}[a]{% endif %}"
#define BLOCK "{% generation %}{{ m.content }}|{% endgeneration %}"
#define PARTS FOR("[{{ m.role[0] }}]{% for p in m.content %}{{ p.text }}{% endfor %}|") PROMPT
#define CALLS \
    FOR("[{{ m.role[0] }}]{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}|") PROMPT
#define HO "{'messages': [{'role': 'assistant', 'content': 'Ho'}, {'role': 'user', 'content': 'u'}, " \
           "{'role': 'assistant', 'content': 'so'}]}"
#define HI(more) "{'messages': [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Yo'}]" more "}"
#define ASKED "{'messages': [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', "
#define CALL "[{'function': {'name': 'ff'}}]"

typedef struct { const char *template, *row, *what, *want; unsigned notes; } RowCase;

static const RowCase row_cases[] = {
    // By rendering: a template that refuses an empty conversation, one without a generation prompt, one with a tail.
    {"{% if messages[0].role != 'system' %}[s]d|{% endif %}" STOCK PROMPT, HO, "l", ".........Ho|........so|",
     NOTE_SPANS_GUESSED},
    {STOCK, HO, "l", "....Ho|........so|", NOTE_SPANS_GUESSED},
    {FOR("{{ m.content }}|"), HI(""), "l", "....Yo|", 0},
    {STOCK "{% if add_generation_prompt %}[a]{% else %}{{ eos_token }}{% endif %}", TWO_TURNS(""), "l",
     ".........one|........two|$", NOTE_SPANS_GUESSED},
    {STOCK "{% if messages[-1].role == 'user' and add_generation_prompt %}[a]{% endif %}", HO, "l",
     "....Ho|........so|", NOTE_SPANS_GUESSED},
    // Whose words: a block around every message, contents in parts, other names for the assistant.
    {FOR("[{{ m.role[0] }}]" BLOCK), TWO_TURNS(""), "r", "ppppuppppaaaapppuppppaaaa", 0},
    {PARTS,
     "{'messages': [{'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]}, {'role': 'assistant', "
     "'content': [{'type': 'text', 'text': 'Yo'}]}]}",
     "r", "ppppuuppppaaa", 0},
    {FOR("[{{ m.role[0] }}]{% if m.role == 'model' %}" BLOCK "{% else %}{{ m.content }}|{% endif %}"),
     "{'messages': [{'role': 'user', 'content': 'Hi'}, {'role': 'model', 'content': 'Yo'}]}", "r", "ppppuuppppaaa", 0},
    {FOR("[{{ m.role[0] }}]{% if m.role == 'bot' %}" BLOCK "{% else %}{{ m.content }}|{% endif %}"),
     "{'messages': [{'role': 'user', 'content': 'Hi'}, {'role': 'bot', 'content': 'Yo'}]}", "r", "ppppuuppppaaa", 0},
    {STOCK PROMPT,
     "{'conversations': [{'from': 'GPT', 'value': 'A'}, {'from': 'human', 'value': 'u'}, "
     "{'from': 'gpt', 'value': 'so'}]}",
     "r", "ppppuppppuppppaaa", NOTE_UNKNOWN_ROLE},
    // null is absent; a content of null beside calls is empty.
    {STOCK PROMPT,
     "{'input_ids': null, 'prompt': null, 'completion': null, 'tools': null, 'messages': [{'role': 'user', "
     "'content': 'Hi', 'weight': null}, {'role': 'assistant', 'content': 'Yo', 'tool_calls': null}]}",
     "l", "..........Yo|", 0},
    {CALLS, ASKED "'content': null, 'tool_calls': " CALL "}]}", "l", "..........ff|", 0},
    {CALLS, ASKED "'tool_calls': '[{\\'function\\': {\\'name\\': \\'ff\\'}}]'}]}", "l", "..........ff|", 0},
    {STOCK PROMPT, ASKED "'content': 'Yo', 'tool_calls': " CALL "}]}", "l", "..........Yo|", NOTE_CALLS_LOST},
    // Columns beside the messages.
    {STOCK PROMPT, HI(", 'system': 'Be.'"), "i", " [s]Be.|[u]Hi|[a]Yo|", 0},
    {STOCK PROMPT, HI(", 'system': ' ', 'prompt': 'Hi', 'id': 7, 'images': []"), "l", "..........Yo|", 0},
    {STOCK PROMPT, HI(", 'prompt': 'Hello'"), "l", "..........Yo|", NOTE_UNUSED_COLUMN},
    {STOCK PROMPT, HI(", 'response': 'Yes'"), "l", "..........Yo|", NOTE_UNUSED_COLUMN},
    {STOCK PROMPT, "{'prompt': 'a', 'completion': 'b', 'system': 'Be.'}", "i", "^ ab$", NOTE_UNUSED_COLUMN},
    {"{{ x }}" STOCK PROMPT, HI(", 'chat_template_kwargs': '{\\'x\\': 5}'"), "i", " 5[u]Hi|[a]Yo|", 0},
    {FOR("[{{ m.reasoning_content }}{{ m.thinking }}]{{ m.content }}"), ASKED "'content': 'Yo', 'reasoning': 'r'}]}",
     "i", " []Hi[rr]Yo", NOTE_SPANS_GUESSED},
    {FOR("[{{ m.reasoning_content }}]{{ m.content }}"), ASKED "'content': 'Yo', 'thinking': 'r', 'reasoning': 'no'}]}",
     "i", " []Hi[r]Yo", NOTE_SPANS_GUESSED},
};

static void rows_are_read_as_people_have_them(void)
{
    Recipe r = recipe();
    for (size_t i = 0; i < sizeof row_cases / sizeof *row_cases; i++) {
        const RowCase *c = &row_cases[i];
        Example ex = {0};
        Err e = {""};
        r.template = template(c->template);
        if (!CHECK_STR(show(&r, c->row, *c->what), c->want))
            fprintf(stderr, "    in %s with %s\n", c->row, c->template);
        if (CHECK_MSG(build(&ex, &r, c->row, &e), "%s", e.text))
            CHECK_MSG(ex.notes == c->notes, "notes %u and not %u: %s", ex.notes, c->notes, c->row);
        example_free(&ex);
        template_free((Template *)r.template);
    }
}

static void a_value_of_the_wrong_shape_is_refused_by_name(void)
{
    static const struct { const char *row, *message; } cases[] = {
        {HI(", 'tools': {'type': 'function'}"), "tools: expected a list of objects, found an object"},
        {HI(", 'tools': ['f']"), "tools[0]: expected an object, found a string"},
        {HI(", 'tools': 'none of it'"), "tools: expected JSON, found a string that is none"},
        {HI(", 'documents': 3"), "documents: expected a list of objects, found a number"},
        {HI(", 'chat_template_kwargs': '[1]'"), "chat_template_kwargs: expected an object, found a list"},
        {HI(", 'chat_template_kwargs': 'x=1'"), "chat_template_kwargs: expected JSON, found a string"},
        {ASKED "'tool_calls': 'f()'}]}", "messages[1].tool_calls: expected JSON, found a string that is none"},
        {ASKED "'tool_calls': {'name': 'f'}}]}", "messages[1].tool_calls: expected a list, found an object"},
        {ASKED "'weight': 1}]}", "messages[1].content: expected a string, found nothing"},
        {"{'role': 'user', 'content': 'Hi'}", "a message is no row; a row is {'messages': [...]}"},
        {"{'prompt': 'a', 'completion': null}", "completion: expected one beside the prompt, found nothing"},
    };
    Recipe r = recipe();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Example ex;
        Err e = {""};
        CHECK_FAILS(build(&ex, &r, cases[i].row, &e), e, quoted(cases[i].message));
    }
}

// The end of each turn counts, and not that of the last alone.
static void an_end_of_turn_that_is_not_learned_is_named(void)
{
    static const struct { const char *end; size_t rows; } cases[] = {
        {"{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}", 0},
        {"{% generation %}{{ m.content }}{% if loop.last %}{{ eos_token }}{% endif %}{% endgeneration %}"
         "{% if not loop.last %}{{ eos_token }}{% endif %}", 1},
        {"{% generation %}{{ m.content }}{% endgeneration %}{{ eos_token }}", 1},
        {"{% generation %}{{ m.content[0] }}{% endgeneration %}-{% generation %}{{ m.content[1:] }}{{ eos_token }}"
         "{% endgeneration %}", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Recipe r = recipe();
        Buf source = {0};
        Example ex;
        Err e;
        buf_adds(&source, "{% for m in messages %}[{{ m.role[0] }}]{% if m.role == 'assistant' %}");
        buf_adds(&source, cases[i].end);
        buf_adds(&source, "{% else %}{{ m.content }}{% endif %}{% endfor %}");
        r.template = template(source.data);
        if (CHECK_MSG(build(&ex, &r, TWO_TURNS(""), &e), "%s", e.text)) {
            Summary s = dataset_summary(&ex, 1, bytes);
            CHECK_MSG(s.symptoms[NO_END_LEARNED].rows == cases[i].rows, "%s", cases[i].end);
            example_free(&ex);
        }
        template_free((Template *)r.template);
        buf_free(&source);
    }
}

// What files hold that people call their data set: {file, number of rows, line of the last}, or the message that
// refuses it.
static void files_are_read_in_the_shapes_they_have(void)
{
    static const struct { const char *text; size_t n, line; const char *message; } cases[] = {
        {"{'text': 'a'}\n\n{'text': 'b'}", 2, 3, NULL},
        {"{\n 'text': 'a'\n}\n{\n 'text': '}\\'{'\n}\n", 2, 4, NULL},
        {"{'text': 'a'} {'text': 'b'}\n{'text':\n'c'}", 3, 2, NULL},
        {" [{'text': 'a'},\n\n {'text': 'b'}]\n", 2, 3, NULL},
        {"{'data': [{'text': 'a'},\n{'text': 'b'}], 'version': 1}", 2, 2, NULL},
        {"{'version': {'data': [1]}, 'data':\n[{'text': 'a'}]}", 1, 2, NULL},
        {"{'text': 'a'},\n{'text': 'b'}", 0, 0, "rows.jsonl:1: a comma after a row"},
        {"[{'role': 'user'}]\n[{'role': 'user'}]", 0, 0, "rows.jsonl:2: a list on each line: expected an object"},
        {"[{'text': 'a'}, ", 0, 0, "the list that begins it never ends"},
        {"text,label\na,b\n", 0, 0, "found CSV: "},
        {"text\tlabel\n", 0, 0, "found CSV: "},
        {"- text: a\n", 0, 0, "found YAML: "},
        {"messages:\n  - role: user\n", 0, 0, "found YAML: "},
        {"PAR1....", 0, 0, "a Parquet file: python3 -c"},
        {"version https://git-lfs.github.com/spec/v1\n", 0, 0, "git lfs pull"},
        {"hello", 0, 0, "found no JSON"},
        {"  \n", 0, 0, "expected rows, found none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Dataset d;
        Err e = {""};
        Recipe r = recipe();
        bool ok = dataset_open(&d, temp_text("rows.jsonl", quoted(cases[i].text)), &e);
        if (cases[i].message) {
            CHECK_FAILS(ok, e, cases[i].message);
            continue;
        }
        if (!CHECK_MSG(ok && dataset_build(&d, &r, &e), "%s: %s", cases[i].text, e.text)) continue;
        CHECK_MSG(d.n == cases[i].n && d.rows[d.n - 1].line == cases[i].line, "%zu rows, the last at line %zu: %s", d.n,
                  d.rows[d.n - 1].line, cases[i].text);
        dataset_free(&d);
    }
    // Of equal keys the last counts, in place of the first, and the row is noted.
    Dataset d;
    Err e;
    Recipe r = recipe();
    temp_text("rows.jsonl", quoted("{'text': 'a', 'text': 'b'}\n{'text': 'c'}\n"));
    if (!CHECK(dataset_open(&d, temp_path("rows.jsonl"), &e) && dataset_build(&d, &r, &e))) return;
    CHECK(d.examples[0].notes == NOTE_EQUAL_KEYS && d.examples[0].ids[2] == 'b' + 3 && d.examples[1].notes == 0);
    dataset_free(&d);
}

int main(void)
{
    Err e;
    setenv("SOURCE_DATE_EPOCH", "1761739200", 1);          // 2025-10-29 12:00, when the vectors were made
    temp_begin();
    bytes = tokenizer_load(temp_byte_tokenizer(), &e);
    marked = template(MARKED);
    unmarked = template(UNMARKED);
    RUN(test_messages);
    RUN(test_spans_by_rendering);
    RUN(test_message_weight);
    RUN(test_other_kinds);
    RUN(test_both_masks);
    RUN(test_input_ids);
    RUN(test_prefix_mismatch);
    RUN(test_roles_of_confusing_content);
    RUN(test_roles_of_marker_characters);
    RUN(test_too_many_messages_to_render);
    RUN(test_bad_rows);
    RUN(test_mask_options_that_do_not_fit);
    RUN(test_dataset_files);
    RUN(test_summary);
    RUN(test_symptoms);
    RUN(test_batch);
    RUN(test_noise);
    RUN(test_epoch_order);
    RUN(test_shipped_templates);
    RUN(test_shared_labels);
    RUN(test_shared_alpaca);
    RUN(test_shared_notebook);
    RUN(rows_are_read_as_people_have_them);
    RUN(a_value_of_the_wrong_shape_is_refused_by_name);
    RUN(an_end_of_turn_that_is_not_learned_is_named);
    RUN(files_are_read_in_the_shapes_they_have);
    template_free(marked);
    template_free(unmarked);
    tokenizer_free(bytes);
    temp_end();
    return check_report();
}

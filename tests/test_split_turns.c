// split_turns: one row for each assistant turn. Against transformers (tests/oracle/split_turns.py), and what becomes of
// rows, lines, weights and other kinds of rows.
#include "program.h"

#include "../data/rows/dataset.h"
#include "../data/run/inputs.h"

// Drops all of an earlier answer up to a slash; no tokens but those of bytes.
static const char REWRITES[] =
    "{% for m in messages %}[{{ m.role[0] }}]{% if m.role == 'assistant' %}"
    "{{ m.content if loop.last else m.content.split('/')[-1] }}{{ eos_token }}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}[a]{% endif %}";
static const char TWO_BLOCKS[] =
    "{% for m in messages %}[{{ m.role[0] }}]{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}";

static Tokenizer *bytes;

static bool says(const char *text) { return strstr(output, text) != NULL; }

static Recipe recipe(const char *source)
{
    Err e;
    Recipe r = {.tokenizer = bytes, .text_field = "text", .assistant_only_loss = -1, .completion_only_loss = -1,
                .split_turns = true, .template = template_parse(source, strlen(source), "test", &e)};
    CHECK_MSG(r.template, "%s", e.text);
    return r;
}

// The data set of these rows, written with ' for ".
static bool build(Dataset *d, const Recipe *r, const char *rows, Err *e)
{
    return dataset_open(d, temp_text("rows.jsonl", quoted(rows)), e) && dataset_build(d, r, e);
}

// Does transformers come to these numbers?
static void check_ints(const char *what, size_t turn, const int *got, size_t n, const cJSON *want)
{
    const cJSON *v = want->child;
    bool same = (size_t)cJSON_GetArraySize(want) == n;
    for (size_t i = 0; i < n && same; i++, v = v->next) same = got[i] == v->valueint;
    CHECK_MSG(same, "%s of turn %zu", what, turn);
}

static void check_case(const cJSON *c)
{
    Err e;
    const char *source = json_string(c, "template");
    File f = {0};
    bool named = !strchr(source, '{');
    if (named && !CHECK_MSG(file_map(&f, source, &e), "%s", e.text)) return;
    Recipe r = recipe("");
    template_free((Template *)r.template);
    r.template = template_parse(named ? (const char *)f.data : source, named ? f.size : strlen(source), "case", &e);
    r.tokenizer = tokenizer_load(json_string(c, "tokenizer"), &e);
    if (!CHECK_MSG(r.template && r.tokenizer, "%s", e.text)) return;
    char *row = cJSON_PrintUnformatted(json_get(c, "row"));
    Dataset d;
    bool ok = dataset_open(&d, temp_text("rows.jsonl", row), &e) && dataset_build(&d, &r, &e);
    const cJSON *want = json_get(c, "turns");
    if (CHECK_MSG(ok, "%s: %s", row, e.text) && CHECK(d.n == (size_t)cJSON_GetArraySize(want)))
        for (size_t i = 0; i < d.n; i++) {
            const Example *ex = &d.examples[i];
            const cJSON *turn = cJSON_GetArrayItem(want, (int)i);
            check_ints("input_ids", i, ex->ids, ex->n, json_get(turn, "input_ids"));
            check_ints("labels", i, ex->labels, ex->n, json_get(turn, "labels"));
            CHECK(ex->row == 0 && ex->line == 1 && ex->turn == i + 1 && !ex->dropped);
        }
    cJSON_free(row);
    dataset_free(&d);
    template_free((Template *)r.template);
    tokenizer_free((Tokenizer *)r.tokenizer);
    file_unmap(&f);
}

// Of the cases in the repository, or of those that need ../shared.
static void check_cases(bool shared)
{
    Dataset cases;
    Err e;
    if (!CHECK_MSG(dataset_open(&cases, "tests/fixtures/split_turns.jsonl", &e), "%s", e.text)) return;
    size_t n = 0;
    for (size_t i = 0; i < cases.n; i++) {
        cJSON *c = dataset_row(&cases, i, &e);
        if ((strncmp(json_string(c, "tokenizer"), "../shared", 9) == 0) == shared) check_case(c), n++;
        cJSON_Delete(c);
    }
    CHECK(n == (shared ? 3 : 6));
    dataset_free(&cases);
}

static void test_transformers(void) { check_cases(false); }

static void test_qwen3(void)
{
    FOLDER_OR_SKIP("../shared/tokenizers/qwen3");
    FOLDER_OR_SKIP("../shared/vectors/templates/qwen3.jinja");
    check_cases(true);
}

#define USER(text) "{'role': 'user', 'content': '" text "'}"
#define SAYS(text) "{'role': 'assistant', 'content': '" text "'}"
#define TWO_TURNS "{'messages': [" USER("a") ", " SAYS("x/b") ", " USER("c") ", " SAYS("y/d") "]}"

static void test_the_message_offers_it(void)
{
    Recipe r = recipe(REWRITES);
    Dataset d;
    Err e;
    r.split_turns = false;
    CHECK_FAILS(build(&d, &r, TWO_TURNS, &e), e, "messages[1]: the assistant's span cannot be found: the template "
                "rewrites it when more messages follow (split_turns=true makes a row of each turn");
    dataset_free(&d);
    template_free((Template *)r.template);
}

// A token as one character, a dot where it has no label: $ is </s>, _ the blank before the text and behind each </s>.
static const char *learned(const Example *ex)
{
    static char out[256];
    size_t n = 0;
    for (; n < ex->n; n++) {
        int id = ex->labels[n];
        out[n] = id == IGNORE ? '.' : id == 1 ? '^' : id == 2 ? '$' : id == 259 ? '_' : (char)(id - 3);
    }
    out[n] = 0;
    return out;
}

// Rows and lines are the file's. Rows of other kinds stay what they are.
static void test_places(void)
{
    Recipe r = recipe(REWRITES);
    Dataset d;
    Err e;
    static const struct { size_t row, line, turn; const char *learns; } want[] = {
        {0, 1, 1, "........x/b$"}, {0, 1, 2, "..................y/d$"},
        {1, 3, 1, "........z$"},
        {2, 4, 0, "........x/e$"},
        {3, 5, 0, "^_tt$"},
        {4, 6, 1, "........b$"}, {4, 6, 2, "..................d$"},
    };
    bool ok = build(&d, &r, TWO_TURNS "\n\n"
                    "{'messages': [" USER("e") ", " SAYS("z") ", " USER("never answered") "]}\n"
                    "{'prompt': [" USER("p") "], 'completion': [" SAYS("x/e") "], 'messages': [" SAYS("no") "]}\n"
                    "{'text': 'tt'}\n"
                    "{'conversations': [{'from': 'human', 'value': 'a'}, {'from': 'gpt', 'value': 'b'},"
                    " {'from': 'human', 'value': 'c'}, {'from': 'gpt', 'value': 'd'}]}\n", &e);
    if (!CHECK_MSG(ok, "%s", e.text) || !CHECK(d.n == sizeof want / sizeof *want)) return;
    for (size_t i = 0; i < d.n; i++) {
        const Example *ex = &d.examples[i];
        CHECK_MSG(ex->row == want[i].row && ex->line == want[i].line && ex->turn == want[i].turn, "example %zu", i);
        CHECK_STR(learned(ex), want[i].learns);
    }
    CHECK(dataset_find(&d, 0) == 0 && dataset_find(&d, 1) == 2 && dataset_find(&d, 4) == 5 && dataset_find(&d, 5) == 7);
    Summary s = dataset_summary(d.examples, d.n, bytes);
    CHECK(s.rows == 7 && s.in_file == 5);
    dataset_free(&d);
    CHECK_FAILS(build(&d, &r, TWO_TURNS "\n\n" "{'messages': [" USER("e") ", " SAYS("z") ", " USER("f") ", "
                "{'role': 'assistant', 'content': 5}]}\n", &e), e, "rows.jsonl:3: messages[3].content: expected");
    dataset_free(&d);
    template_free((Template *)r.template);
}

static void test_weights(void)
{
    Recipe r = recipe(REWRITES);
    Dataset d;
    Err e;
    static const char row[] = "{'messages': [" USER("a") ", {'role': 'assistant', 'content': 'b', 'weight': 0}, "
                              USER("c") ", " SAYS("d") "]}";
    if (CHECK_MSG(build(&d, &r, row, &e), "%s", e.text) && CHECK(d.n == 2)) {
        CHECK(d.examples[0].dropped && !d.examples[1].dropped);
        CHECK_STR(learned(&d.examples[1]), "..................d$");
    }
    dataset_free(&d);
    r.prompt_loss_weight = 1;
    CHECK_FAILS(build(&d, &r, row, &e), e, "rows.jsonl:1: messages[1]: weight 0: with split_turns and "
                "prompt_loss_weight, rows of later turns would learn it");
    dataset_free(&d);
    if (CHECK_MSG(build(&d, &r, TWO_TURNS, &e), "%s", e.text))
        CHECK_STR(learned(&d.examples[1]), "_[u]a[a]b$_[u]c[a]y/d$");
    dataset_free(&d);
    template_free((Template *)r.template);
}

static void test_refused(void)
{
    Recipe r = recipe(REWRITES), two = recipe(TWO_BLOCKS);
    Dataset d;
    Err e;
    CHECK_FAILS(build(&d, &r, "{'instruction': 'a', 'output': 'b', 'history': [['c', 'd']]}", &e), e,
                "rows.jsonl:1: split_turns: expected messages, found a history");
    dataset_free(&d);
    CHECK_FAILS(build(&d, &r, "{'messages': [" USER("a") "]}", &e), e, "expected an assistant message, found no");
    dataset_free(&d);
    CHECK_FAILS(build(&d, &two, "{'messages': [" USER("a") ", " SAYS("b") "]}", &e), e,
                "split_turns: the template gives 2 spans for 1 assistant messages");
    dataset_free(&d);
    Buf many = {0};
    for (int i = 0; i < 501; i++) buf_addf(&many, "%s" USER("a") ", " SAYS("b"), i ? ", " : "{'messages': [");
    buf_adds(&many, "]}");
    CHECK_FAILS(build(&d, &r, many.data, &e), e, "split_turns: expected at most 1000 messages, found 1002");
    dataset_free(&d);
    buf_free(&many);
    template_free((Template *)r.template);
    template_free((Template *)two.template);
    temp_text("config.json", quoted("{'split_turns': true, 'assistant_only_loss': false, 'dataset_name': 'x',"
                                    " 'tokenizer_name_or_path': 'model/tiny'}"));
    CHECK(run("inspect %s", temp_path("config.json")) == 1 && says("assistant_only_loss=false contradicts it"));
}

// The turns of a row are held out together. inspect counts rows as the file does.
static void test_run(void)
{
    Run r = {0};
    Config c;
    Err e;
    Buf config = {0};
    temp_text("rows.jsonl", quoted(TWO_TURNS "\n" TWO_TURNS "\n\n" TWO_TURNS "\n"));
    temp_text("chat.jinja", REWRITES);
    buf_addf(&config, "{\"split_turns\": true, \"tokenizer_name_or_path\": \"%s\", \"eval_split\": 0.5,",
             temp_path("tokenizer.bin"));
    buf_addf(&config, " \"chat_template_path\": \"%s\", \"dataset_name\": \"%s\"}", temp_path("chat.jinja"),
             temp_path("rows.jsonl"));
    temp_text("config.json", config.data);
    buf_free(&config);
    options_init(&r.options);
    bool ok = options_load(&r.options, temp_path("config.json"), &e) && run_open_inputs(&r, false, &c, &e);
    if (CHECK_MSG(ok, "%s", e.text)) CHECK(r.n_train == 2 && r.n_eval == 4 && r.eval == r.data.examples + 2);
    run_free(&r);
    CHECK(run("inspect %s", temp_path("config.json")) == 0 && says("6 rows, one for each turn of 3 in the file, 0 "));
    CHECK(run("inspect %s --row=2", temp_path("config.json")) == 0 && says("row 2 (line 4), turn 1\n") &&
          says("row 2 (line 4), turn 2\n") && !says("row 1 (line"));
    CHECK(run("inspect %s --row=3", temp_path("config.json")) == 1 && says("row: expected 0 to 2, found 3"));
    CHECK(run("inspect %s --json --rows=2", temp_path("config.json")) == 0 &&
          says("\"row\":1,\"line\":2,\"turn\":2") && !says("\"row\":2"));
}

int main(void)
{
    Err e;
    temp_begin();
    bytes = tokenizer_load(temp_byte_tokenizer(), &e);
    if (!CHECK_MSG(bytes, "%s", e.text)) return 1;
    RUN(test_transformers);
    RUN(test_qwen3);
    RUN(test_the_message_offers_it);
    RUN(test_places);
    RUN(test_weights);
    RUN(test_refused);
    RUN(test_run);
    tokenizer_free(bytes);
    temp_end();
    return check_report();
}

// What an evaluation says: by role, of the gradient, and token by token. The numbers to follow are transformers', of
// model/tiny on the 400 held-out rows of data/wordnet: tests/oracle/evaluation.py made them.
#include "small_run.h"

#include "../data/report/hide.h"
#include "../data/run/output.h"

static cJSON *oracle;                                      // tests/fixtures/evaluation.json

static double number(const cJSON *json, const char *key)
{
    const cJSON *v = json_get(json, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static void check_number(const cJSON *json, const cJSON *want, double tolerance)
{
    double got = number(json, want->string), is = want->valuedouble;
    CHECK_MSG(fabs(got - is) <= tolerance * fmax(1, fabs(is)), "%s: expected %.10g, got %.10g", want->string, is, got);
}

// Every number of the oracle's object is in `got`.
static void check_numbers(const cJSON *got, const char *of, double tolerance)
{
    const cJSON *want;
    cJSON_ArrayForEach(want, json_get(oracle, of)) check_number(got, want, tolerance);
}

static cJSON *last_line(void)
{
    char *end = output + strlen(output);
    while (end > output && end[-1] == '\n') *--end = 0;
    char *line = strrchr(output, '\n');
    return cJSON_Parse(line ? line + 1 : output);
}

// Which role the gradient comes from.
static void check_gradients(const cJSON *json)
{
    static const char *const roles[] = {"system", "user", "assistant", "template"};
    double share = 0;
    check_numbers(json, "gradients", 1e-5);
    for (size_t i = 0; i < 4; i++) {
        char key[48];
        snprintf(key, sizeof key, "eval_%s_gradient_share", roles[i]);
        share += number(json, key);
    }
    CHECK(fabs(share - 1) < 1e-6);
    share = number(json, "eval_assistant_gradient_share") + number(json, "eval_prompt_gradient_share");
    CHECK(fabs(share - 1) < 1e-15);                        // cJSON may print a number without its last bit
}

static void test_roles(void)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool", "template", "text"};
    double tokens = 0, loss = 0;
    if (!CHECK_MSG(run("eval configs/lesson_many.json --json --gradients=true") == 0, "%s", output)) return;
    cJSON *json = last_line();
    check_numbers(json, "by_role", 1e-6);
    check_gradients(json);
    for (size_t i = 0; i < 6; i++) {                       // the roles sum up to the whole, without the end of turns
        char key[2][40];
        snprintf(key[0], 40, "eval_%s_tokens", roles[i]), snprintf(key[1], 40, "eval_%s_loss", roles[i]);
        if (!json_get(json, key[0])) continue;
        tokens += number(json, key[0]);
        loss += number(json, key[0]) * number(json, key[1]);
    }
    double answers = number(json, "eval_assistant_tokens"), prompts = number(json, "eval_prompt_tokens");
    CHECK(tokens == answers + prompts);
    double whole = answers * number(json, "eval_assistant_loss") + prompts * number(json, "eval_prompt_loss");
    CHECK(fabs(loss - whole) < 1e-6);
    CHECK(!json_get(json, "eval_tool_loss") && !json_get(json, "eval_text_tokens"));   // no such tokens
    CHECK(run("eval configs/lesson_many.json") == 0 && strstr(output, "    end_of_turn           24.3909      480"));
    cJSON_Delete(json);
}

// traces.jsonl of a run of one step: the rows that are short enough, before that step and after it.
static void check_traces(void)
{
    Err e;
    cJSON *lines = run_read_lines(in_output("out", "traces.jsonl"), &e);
    const cJSON *want, *got = lines ? lines->child : NULL, *v;
    CHECK_MSG(cJSON_GetArraySize(lines) == 32, "%d lines", cJSON_GetArraySize(lines));
    cJSON_ArrayForEach(want, json_get(oracle, "traces")) {
        if (!CHECK(got && number(got, "step") == 0 && number(got, "row") == number(want, "row"))) break;
        const cJSON *loss = json_get(got, "loss")->child;
        CHECK(cJSON_Compare(json_get(got, "rank"), json_get(want, "rank"), true));
        cJSON_ArrayForEach(v, json_get(want, "loss")) {
            double is = loss && cJSON_IsNumber(loss) ? loss->valuedouble : NAN;
            CHECK(cJSON_IsNull(v) ? cJSON_IsNull(loss) : fabs(is - v->valuedouble) < 2e-5);
            loss = loss ? loss->next : NULL;
        }
        CHECK(!loss);
        CHECK_STR(json_string(got, "answer"), json_string(want, "answer"));
        CHECK(cJSON_Compare(json_get(got, "exact"), json_get(want, "exact"), true));
        got = got->next;
    }
    CHECK(got && number(got, "step") == 1 && number(got, "row") == number(lines->child, "row"));
    cJSON_Delete(lines);
}

// An answer that the model gives: every token of it is its first choice, and the text is that of the row.
static void test_exact_answers(void)
{
    Err e;
    int exact = 0;
    write_fixture();
    CHECK_MSG(run("%s --max_steps=80", temp_path("config.json")) == 0, "%s", output);
    cJSON *lines = run_read_lines(in_output("out", "traces.jsonl"), &e);
    const cJSON *line, *rank;
    cJSON_ArrayForEach(line, lines) {
        bool first = true, row = number(line, "row") == 1;
        int i = 0;
        cJSON_ArrayForEach(rank, json_get(line, "rank")) {
            first &= i < 24 || i > 28 || rank->valueint == 1;                // these five are " aaa</s>"
            i++;
        }
        CHECK(first == (bool)cJSON_IsTrue(json_get(line, "exact")));
        if (first) CHECK_STR(json_string(line, "answer"), row ? "bbb" : "aaa");
        exact += first;
    }
    CHECK_MSG(exact > 2 && exact < cJSON_GetArraySize(lines), "%d of %d", exact, cJSON_GetArraySize(lines));
    cJSON_Delete(lines);
    remove_tree(temp_path("out"));
}

// A run's log has them too, at every evaluation.
static void test_log(void)
{
    if (!CHECK_MSG(run("configs/lesson_many.json --output_dir=%s --max_steps=1", temp_path("out")) == 0, "%s", output))
        return;
    CHECK(strstr(output, "eval_exact_match 0.0000\n"));    // the line for people has no roles
    check_traces();
    cJSON *lines = read_lines(in_output("out", "log.jsonl"));
    check_numbers(lines->child, "by_role", 1e-6);
    const cJSON *parts = json_get(oracle, "gradients");
    for (const cJSON *v = parts->child; v; v = v->next)    // of roles other than the assistant a run says nothing
        if (strstr(v->string, "assistant") || strstr(v->string, "prompt") || strstr(v->string, "cosine"))
            check_number(lines->child, v, 1e-5);
        else CHECK(!json_get(lines->child, v->string));
    CHECK(isfinite(number(lines->child->next->next, "eval_end_of_turn_loss")));        // of step 1
    check_records(temp_path("out"));
    cJSON_Delete(lines);
    remove_tree(temp_path("out"));
}

// The gradients are of what is trained, and of the plain loss: NEFTune's noise, dropout and label smoothing do not
// change them.
static void test_gradients_of_an_adapter(void)
{
    static const char *const more[] = {"", "--lora_dropout=0.5 --neftune_noise_alpha=5 --label_smoothing_factor=0.3"};
    double norms[2], shares[2];
    for (int i = 0; i < 2; i++) {
        CHECK_MSG(run("configs/lesson_many.json --output_dir=%s --max_steps=0 --use_peft=true %s", temp_path("out"),
                      more[i]) == 0, "%s", output);
        cJSON *lines = read_lines(in_output("out", "log.jsonl"));
        norms[i] = number(lines->child, "eval_assistant_gradient_norm");
        shares[i] = number(lines->child, "eval_prompt_gradient_share");
        check_records(temp_path("out"));
        cJSON_Delete(lines);
        remove_tree(temp_path("out"));
    }
    CHECK(norms[0] > 0 && norms[0] == norms[1] && shares[0] == shares[1]);
    CHECK(fabs(norms[0] - number(json_get(oracle, "gradients"), "eval_assistant_gradient_norm")) > 0.01);
}

// Which tokens end a turn: the tokenizer of the fixtures has one token a byte, and </s>.
static void test_end_of_turn(void)
{
    static const struct { const char *rows, *arguments; double answer, ends; } cases[] = {
        {"{'prompt': 'ab', 'completion': 'cd'}", "", 3, 1},
        // one is cut
        {"{'prompt': 'ab', 'completion': 'cd'}\n{'prompt': 'ab', 'completion': 'cde'}", "--max_length=7", 6, 1},
        // the second </s> is no answer's
        {"{'input_ids': [1, 70, 2, 71, 2, 72], 'assistant_masks': [0, 1, 1, 0, 0, 1]}", "", 3, 1},
        // white space may follow it, but nothing else
        {"{'input_ids': [1, 70, 2, 259, 13, 71, 2, 70], 'assistant_masks': [0, 1, 1, 1, 1, 0, 1, 1]}", "", 6, 1},
        {"{'text': 'abc'}", "", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        temp_run("rows.jsonl", quoted(cases[i].rows), "'model_init': {'hidden_size': 16, 'intermediate_size': 32,"
                 " 'num_hidden_layers': 1, 'num_attention_heads': 2, 'max_position_embeddings': 64}");
        CHECK_MSG(run("eval %s --json --gradients=true %s", temp_path("config.json"), cases[i].arguments) == 0, "%s",
                  output);
        cJSON *json = last_line();
        CHECK(cases[i].answer || !strstr(output, "gradient"));             // there are no two parts
        double ends = number(json, "eval_end_of_turn_tokens");
        CHECK_MSG(number(json, "eval_assistant_tokens") == cases[i].answer, "%zu: %s", i, output);
        CHECK_MSG(cases[i].ends ? ends == cases[i].ends : isnan(ends), "%zu: %s", i, output);
        if (!cases[i].answer)
            CHECK(cJSON_IsNull(json_get(json, "eval_assistant_loss")) && json_get(json, "eval_text_loss"));
        cJSON_Delete(json);
    }
}

// A run in the least memory that it takes has none for a second gradient: it goes on without, and says so once.
static void test_no_memory_for_gradients(void)
{
#if defined __SANITIZE_ADDRESS__
    SKIP("the address sanitizer needs terabytes of address space");
#elif defined __has_feature
#if __has_feature(address_sanitizer)
    SKIP("the address sanitizer needs terabytes of address space");
#endif
#endif
    char before[80], arguments[200], *said;
    int least = 0, enough = 1500000;                       // kB
    snprintf(arguments, sizeof arguments, "configs/lesson_many.json --max_steps=1 --per_device_train_batch_size=2"
             " --n_threads=1 --overwrite_output_dir=true --output_dir=%s", temp_path("out"));
    while (enough - least > 1000) {
        int kb = (least + enough) / 2;
        snprintf(before, sizeof before, "export OMP_NUM_THREADS=1; ulimit -v %d;", kb);
        *(run_with(before, arguments) == 0 ? &enough : &least) = kb;
    }
    snprintf(before, sizeof before, "export OMP_NUM_THREADS=1; ulimit -v %d;", enough);
    CHECK_MSG(run_with(before, arguments) == 0, "%d kB: %s", enough, output);
    said = strstr(output, "train: evaluations leave out the gradient's parts: 3 MB more than are free\n");
    CHECK_MSG(said && !strstr(said + 1, "train: evaluations"), "%d kB: %s", enough, output);
    cJSON *lines = read_lines(in_output("out", "log.jsonl"));
    CHECK(json_get(lines->child, "eval_end_of_turn_entropy") && !json_get(lines->child, "eval_gradient_cosine"));
    cJSON_Delete(lines);
    remove_tree(temp_path("out"));
}

// ---- inspect --hide -----------------------------------------------------------------------------------------------

static void check_close_to(const char *what, double got, double want)
{
    CHECK_MSG(fabs(got - want) <= 1e-5 * fmax(1, fabs(want)), "%s: expected %.10g, got %.10g", what, want, got);
}

// What a masked label takes away and what a hidden token takes away, in four cases for each of some rows.
static void test_hidden_tokens(void)
{
    Run r = {0};
    Config c;
    Err e = {""};
    const cJSON *row, *v;
    options_init(&r.options);
    CHECK_MSG(options_load(&r.options, "configs/lesson_many.json", &e) && run_open_inputs(&r, true, &c, &e) &&
              run_open_model(&r, &r.model, &c, NULL, &e) && model_init_grads(&r.model, &e), "%s", e.text);
    cJSON_ArrayForEach(row, json_get(oracle, "hidden")) {
        const Example *ex = &r.data.examples[(size_t)number(row, "row")];
        bool *marked = mem_alloc(ex->n, sizeof *marked);
        float *loss[2] = {mem_alloc(ex->n, sizeof(float)), mem_alloc(ex->n, sizeof(float))};
        HideCases cases;
        cJSON_ArrayForEach(v, json_get(row, "hide")) marked[v->valueint] = true;
        if (!CHECK_MSG(hide_tokens(&r.model, ex, marked, cases, loss, &e), "%s", e.text)) break;
        for (int i = 0; i < 4; i++) {
            const cJSON *want = cJSON_GetArrayItem(json_get(row, "cases"), i);
            const HideCase *got = &cases[i / 2][i % 2];
            double sum = 0, n = 0;
            size_t t = 0;
            cJSON_ArrayForEach(v, json_get(want, "loss")) {
                while (t < ex->n && isnan(loss[i % 2][t])) t++;
                check_close_to("loss", t < ex->n ? (double)loss[i % 2][t++] : NAN, v->valuedouble);
                sum += v->valuedouble, n++;
            }
            while (t < ex->n) CHECK(isnan(loss[i % 2][t++]));
            check_close_to("answer", got->answer_loss, sum / n);
            check_close_to("logits", got->marked.logits, number(want, "logits"));
            check_close_to("keys", got->marked.keys, number(want, "keys"));
            check_close_to("values", got->marked.values, number(want, "values"));
            // Without a label there is no gradient at the logits; where they are hidden too there is none at all.
            if (i < 2) CHECK(got->marked.logits == 0);
            bool words = number(row, "row") == 41;         // of the others one is before the answer, or in it
            if (i == 1 && words) CHECK(got->marked.keys == 0 && got->marked.values == 0);
            if (i == 0) CHECK(got->marked.keys > 0.01 && got->marked.values > 0.01);
        }
        free(marked), free(loss[0]), free(loss[1]);
    }
    CHECK(cJSON_GetArraySize(json_get(oracle, "hidden")) == 4);
    run_free(&r);
}

// A second layer that adds nothing changes nothing: the only layer of a model is computed in another way than a first.
static void test_hidden_of_one_layer(void)
{
    Config c = {.dim = 8, .hidden_dim = 12, .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 4,
                .vocab_size = 9, .seq_len = 16, .rope_theta = 100, .norm_eps = 1e-5f};
    int ids[] = {1, 2, 3, 4, 5, 6};
    unsigned char roles[] = {ROLE_TEMPLATE, ROLE_USER, ROLE_USER, ROLE_TEMPLATE, ROLE_ASSISTANT, ROLE_ASSISTANT};
    const Example ex = {.n = 6, .ids = ids, .roles = roles};
    const bool marked[] = {false, true, true, false, true, false};
    Model two, one;
    HideCases want, got;
    Err e;
    CHECK(model_init(&two, &c, &e) && model_init_grads(&two, &e));
    model_randomize(&two, 3);
    for (size_t i = 0; i < two.n_params; i++) two.params[i] *= 5;      // so that it attends to something
    memset(model_param(&two, WO, 1), 0, tensor_size(&c, WO) * sizeof(float));
    memset(model_param(&two, W2, 1), 0, tensor_size(&c, W2) * sizeof(float));
    c.n_layers = 1;
    CHECK(model_init(&one, &c, &e) && model_init_grads(&one, &e));
    for (TensorId id = 0; id < N_TENSORS; id++)
        if (tensor_count(&c, id))
            memcpy(model_param(&one, id, 0), model_param(&two, id, 0), tensor_size(&c, id) * sizeof(float));
    CHECK(hide_tokens(&two, &ex, marked, want, NULL, &e) && hide_tokens(&one, &ex, marked, got, NULL, &e));
    for (int i = 0; i < 4; i++) {
        const HideCase *w = &want[i / 2][i % 2], *g = &got[i / 2][i % 2];
        check_close_to("answer", g->answer_loss, w->answer_loss);
        check_close_to("logits", g->marked.logits, w->marked.logits);
        check_close_to("keys", g->marked.keys, w->marked.keys);
        check_close_to("values", g->marked.values, w->marked.values);
        CHECK(w->marked.values > 1e-4 || (i == 1 && w->marked.values >= 0));
    }
    model_free(&one), model_free(&two);
}

static void test_inspect_hide(void)
{
    static const struct { const char *arguments, *message; } bad[] = {
        {"--hide=49", "hide: expected tokens 0 to 48 of the row, as in 3,5-7; found \"49\""},
        {"--hide=5-3", "found \"5-3\""}, {"--hide=2,", "found \"2,\""}, {"--hide=x", "found \"x\""},
        {"--hide=-1", "found \"-1\""}, {"--hide=3 --json", "hide: expected one row (--row=I) as text"},
        {"--hide=3 --rows=2", "hide: expected one row (--row=I) as text"},
        {"--hide=3 --model_name_or_path=null --tokenizer_name_or_path=model/tiny",
         "model_name_or_path: expected a path"},
    };
    const char *row = "inspect configs/lesson_many.json --row=1";
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(run("%s %s", row, bad[i].arguments) == 1);
        CHECK_MSG(strstr(output, bad[i].message), "%s: %s", bad[i].arguments, output);
    }
    CHECK(run("%s --hide=3-5,8", row) == 0 && strstr(output, "hidden from attention: 3 \"ame\" 4 \" the\" 5"));
    CHECK_MSG(strstr(output, "46    la                             7.1886       7.0778\n"), "%s", output);
    CHECK(strstr(output, "-100      hidden          10.1025     0.0000     0.0000     0.0000\n"));
    // A new adapter adds nothing yet; its dropout does not count.
    CHECK(run("%s --hide=3-5,8 --use_peft=true --lora_dropout=0.5", row) == 0);
    CHECK_MSG(strstr(output, "-100      visible         10.1515     0.0000     0.0627     0.3964\n"), "%s", output);
}

int main(void)
{
    Err e;
    temp_begin();
    oracle = json_load("tests/fixtures/evaluation.json", &e);
    RUN(test_roles);
    RUN(test_log);
    RUN(test_exact_answers);
    RUN(test_gradients_of_an_adapter);
    RUN(test_no_memory_for_gradients);
    RUN(test_end_of_turn);
    RUN(test_hidden_tokens);
    RUN(test_hidden_of_one_layer);
    RUN(test_inspect_hide);
    cJSON_Delete(oracle);
    temp_end();
    return check_report();
}

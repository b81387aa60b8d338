// What an evaluation says: the losses by role. The numbers to follow are transformers', of model/tiny on the 400
// held-out rows of data/wordnet: tests/oracle/evaluation.py made them.
#include "program.h"

#include "../data/run/output.h"

static cJSON *oracle;                                      // tests/fixtures/evaluation.json

// Every number of the oracle's object is in `got`.
static void check_numbers(const cJSON *got, const char *of, double tolerance)
{
    const cJSON *want;
    cJSON_ArrayForEach(want, json_get(oracle, of)) {
        const cJSON *v = json_get(got, want->string);
        double error = cJSON_IsNumber(v) ? fabs(v->valuedouble - want->valuedouble) : NAN;
        CHECK_MSG(error <= tolerance * fmax(1, fabs(want->valuedouble)), "%s: expected %.10g, got %.10g", want->string,
                  want->valuedouble, cJSON_IsNumber(v) ? v->valuedouble : NAN);
    }
}

static cJSON *last_line(void)
{
    char *end = output + strlen(output);
    while (end > output && end[-1] == '\n') *--end = 0;
    char *line = strrchr(output, '\n');
    return cJSON_Parse(line ? line + 1 : output);
}

static double number(const cJSON *json, const char *key)
{
    const cJSON *v = json_get(json, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static void test_roles(void)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool", "template", "text"};
    double tokens = 0, loss = 0;
    if (!CHECK_MSG(run("eval configs/lesson_many.json --json") == 0, "%s", output)) return;
    cJSON *json = last_line();
    check_numbers(json, "by_role", 1e-6);
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

// A run's log has them too, at every evaluation.
static void test_log(void)
{
    if (!CHECK_MSG(run("configs/lesson_many.json --output_dir=%s --max_steps=1", temp_path("out")) == 0, "%s", output))
        return;
    CHECK(strstr(output, "eval_exact_match 0.0000\n"));    // the line for people has no roles
    cJSON *lines = read_lines(in_output("out", "log.jsonl"));
    check_numbers(lines->child, "by_role", 1e-6);
    CHECK(isfinite(number(lines->child->next->next, "eval_end_of_turn_loss")));        // of step 1
    check_records(temp_path("out"));
    cJSON_Delete(lines);
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
        CHECK_MSG(run("eval %s --json %s", temp_path("config.json"), cases[i].arguments) == 0, "%s", output);
        cJSON *json = last_line();
        double ends = number(json, "eval_end_of_turn_tokens");
        CHECK_MSG(number(json, "eval_assistant_tokens") == cases[i].answer, "%zu: %s", i, output);
        CHECK_MSG(cases[i].ends ? ends == cases[i].ends : isnan(ends), "%zu: %s", i, output);
        if (!cases[i].answer)
            CHECK(cJSON_IsNull(json_get(json, "eval_assistant_loss")) && json_get(json, "eval_text_loss"));
        cJSON_Delete(json);
    }
}

// The lines of a log, in memory: the page's curves.
static void test_curves(void)
{
    static const char *const lines[] = {"{'step': 0, 'eval_loss': 3, 'eval_assistant_loss': 2}",
                                        "{'step': 10, 'loss': 1.5, 'grad_norm': 1}", "{'step': 12, 'loss': 1.25}",
                                        "{'step': 12, 'train_loss': 1.4}"};
    Run r = {0};
    for (int i = 0; i < 4; i++) {
        cJSON *line = cJSON_Parse(quoted(lines[i]));
        run_keep_line(&r, line);
        cJSON_Delete(line);
    }
    CHECK(r.curve.n == 1 && r.curve.points[0].value[METRIC_ASSISTANT] == 2);
    CHECK(r.losses.n == 2 && r.losses.points[0].step == 10 && r.losses.points[0].loss == 1.5);
    CHECK(r.losses.points[1].step == 12 && r.losses.points[1].loss == 1.25);
    free(r.curve.points), free(r.losses.points);
}

int main(void)
{
    Err e;
    temp_begin();
    oracle = json_load("tests/fixtures/evaluation.json", &e);
    RUN(test_roles);
    RUN(test_log);
    RUN(test_end_of_turn);
    RUN(test_curves);
    cJSON_Delete(oracle);
    temp_end();
    return check_report();
}

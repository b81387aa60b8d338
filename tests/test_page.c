// report.html: what it escapes, that it is well formed and stands alone, and that its numbers are compare.csv's.
#include "program.h"

#include "../data/report/page.h"

// ---- escaping -----------------------------------------------------------------------------------------------------

static void test_escaping(void)
{
    static const struct { const char *text, *html; } cases[] = {
        {"", ""},
        {"a < b && c > d", "a &lt; b &amp;&amp; c &gt; d"},
        {"\"it's\"", "&quot;it&#39;s&quot;"},
        {"<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"},
        {"&lt;", "&amp;lt;"},
        {"two\nlines\tand a tab", "two\nlines\tand a tab"},
        {"\x01\x1b[31m\x7f", "[U+0001][U+001B][31m[U+007F]"},
        {"a\u202Eb\u2066c\u200Fd\u061Ce", "a[U+202E]b[U+2066]c[U+200F]d[U+061C]e"},
        {"\u200B\uFEFF\u00AD\xC2\x85\u2028", "[U+200B][U+FEFF][U+00AD][U+0085][U+2028]"},
        {"\U000E0041\uFFFE\U0001FFFF", "[U+E0041][U+FFFE][U+1FFFF]"},
        {"שלום 你好 é 🙂", "שלום 你好 é 🙂"},
        {"a\xff\xc3", "a\uFFFD\uFFFD"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Buf out = {0};
        html_escape(&out, cases[i].text);
        CHECK_STR(out.data ? out.data : "", cases[i].html);
        buf_free(&out);
    }
}

// ---- the program's pages ------------------------------------------------------------------------------------------

static Buf page;                                           // the last one read

#define HOSTILE "<script>document.title='ran'</script> & </bdi> \\\" \\u202E\\u0001"

// The name of the data set is as hostile as its rows.
static void write_fixture(void)
{
    Buf rows = {0};
    for (int i = 0; i < 8; i++)
        buf_addf(&rows, quoted("{'messages': [%s{'role': 'user', 'content': '%s%c'},"
                               " {'role': 'assistant', 'content': '<i>%c'}]}\n"),
                 i % 2 ? quoted("{'role': 'system', 'content': '<img src=x onerror=alert(1)>'}, ") : "", HOSTILE,
                 'a' + i, 'a' + i);
    temp_run("rows<b>&'.jsonl", rows.data,
             "'model_init': {'hidden_size': 16, 'intermediate_size': 32, 'num_hidden_layers': 1,"
             " 'num_attention_heads': 2, 'max_position_embeddings': 256, 'tie_word_embeddings': true},"
             " 'eval_split': 0.25, 'max_steps': 4, 'learning_rate': 0.01, 'n_threads': 1, 'eval_steps': 2, "
             " 'logging_steps': 1, 'per_device_train_batch_size': 2, 'max_length': 256");
    buf_free(&rows);
}

static bool has(const char *text) { return strstr(page.data, text) != NULL; }

static size_t count(const char *text)
{
    size_t n = 0;
    for (const char *p = page.data; (p = strstr(p, text)); p++) n++;
    return n;
}

static bool read_page(const char *name)
{
    File f;
    Err e;
    if (!CHECK_MSG(file_map(&f, temp_path(name), &e), "%s", e.text)) return false;
    buf_clear(&page);
    buf_add(&page, f.data, f.size);
    file_unmap(&f);
    return true;
}

// Every element that opens also closes, in order, except those that have no content or close themselves.
static void check_well_formed(void)
{
    char names[64][16];
    size_t depth = 0;
    const char *p = page.data;
    while ((p = strchr(p, '<'))) {
        bool closing = p[1] == '/';
        char name[16] = "";
        sscanf(p + 1 + closing, "%15[a-z0-9]", name);
        const char *end = strchr(p, '>');
        if (!CHECK_MSG(end, "a tag never ends: %.60s", p)) return;
        if (closing) {
            const char *open = depth ? names[depth - 1] : "";
            if (!CHECK_MSG(depth && strcmp(open, name) == 0, "</%s> closes <%s>", name, open)) return;
            depth--;
        } else if (p[1] != '!' && end[-1] != '/' && strcmp(name, "meta") != 0) {
            if (!CHECK_MSG(*name && depth < 64, "%.60s", p)) return;
            strcpy(names[depth++], name);
        }
        p = strcmp(name, "script") == 0 && !closing ? strstr(end, "</script>") : end;      // a script has no elements
        if (!CHECK(p)) return;
    }
    CHECK_MSG(depth == 0, "<%s> is never closed", depth ? names[depth - 1] : "");
}

// The page loads nothing from elsewhere, and has no script but its own at the very end, which is the one of its policy:
// the hash that it must have is computed by openssl, where that is there.
static void check_alone(void)
{
    static const char *const forbidden[] = {
        "<script>alert", "<script>document", "http:", "https:", "src=", "href=\"", "url(", "@import", "<link", "<img",
        "<iframe", "javascript:", "<i>a", "<b>&", "\xE2\x80\xAE"};
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        const char *at = strstr(page.data, forbidden[i]);
        CHECK_MSG(!at || strcmp(forbidden[i], "src=") == 0, "%s in: %.80s", forbidden[i], at ? at : "");
    }
    CHECK(count("src=") == count("&lt;img src="));         // only in the rows' text
    const char *script = strstr(page.data, "<script>"), *end = script ? strstr(script, "</script>") : NULL;
    if (!CHECK(count("<script") == 1 && end && strcmp(end, "</script>\n</body>\n</html>") == 0)) return;
    FILE *out = fopen(temp_path("page.js"), "w");
    fwrite(script + 8, 1, (size_t)(end - script - 8), out);
    fclose(out);
    Buf command = {0};
    buf_addf(&command, "openssl dgst -sha256 -binary %s | openssl base64 -A", temp_path("page.js"));
    char want[100] = "script-src 'sha256-";
    size_t n = strlen(want);
    FILE *pipe = popen(command.data, "r");
    n += fread(want + n, 1, sizeof want - n - 1, pipe);
    if (pclose(pipe) == 0 && n > 40) CHECK_MSG(strstr(page.data, want), "%s", want);
    buf_free(&command);
    CHECK(utf8_valid(page.data, page.len) == page.len);
}

// The page shows the mean and the deviation over the seeds that compare.csv gives for the last step.
static void check_number(const char *weight, int column, int last_step)
{
    char line[512], text[800];
    double values[8], mean = 0, squares = 0;
    int n = 0;
    FILE *csv = fopen(temp_path("out/compare.csv"), "r");
    if (!CHECK(csv != NULL)) return;
    while (fgets(line, sizeof line, csv)) {
        char *fields[8] = {strtok(line, ",\n")};
        for (int i = 1; i < 6; i++) fields[i] = strtok(NULL, ",\n");
        if (strcmp(fields[0], weight) == 0 && atoi(fields[2]) == last_step) mean += values[n++] = atof(fields[column]);
    }
    fclose(csv);
    if (!CHECK(n == 2)) return;
    mean /= n;
    for (int i = 0; i < n; i++) squares += (values[i] - mean) * (values[i] - mean);
    snprintf(text, sizeof text, "<td><span>%.4f</span> <span class=\"soft\">± %.4f</span></td>", mean,
             sqrt(squares / (n - 1)));
    CHECK_MSG(has(text), "%s", text);
}

static void test_compare(void)
{
    if (!CHECK_MSG(run("compare %s --seeds=2", temp_path("config.json")) == 0, "%s", output)) return;
    if (!read_page("out/report.html")) return;
    CHECK(file_exists(temp_path("out/weight-0/seed-42/log.jsonl")));
    CHECK(file_exists(temp_path("out/weight-1/seed-43/log.jsonl")));
    check_well_formed();
    check_alone();
    static const char *const expected[] = {
        "<html lang=\"en\">", "<h1>Loss on the answer only, or on every token?</h1>",
        "<title>Masked against unmasked: ",
        "<h2>Row 0 with its mask</h2>", "<h2>What each role costs</h2>", "<h2>The training loss</h2>",
        "<h2>Rows, token by token</h2>", "<h2>The same questions, answered</h2>", "<h2>The numbers</h2>",
        "<h2>The configuration</h2>", "<caption>", "./train compare", "rows&lt;b&gt;&amp;&#39;.jsonl",
        "Exact match", "box-sizing: border-box", "Segoe UI",
        "&lt;script&gt;document.title=&#39;ran&#39;&lt;/script&gt; &amp; &lt;/bdi&gt; &quot; [U+202E][U+0001]",
        "&lt;img src=x onerror=alert(1)&gt;", "label -100 (masked), role user\"",
        "(supervised), role assistant\"", "Which token ends a turn?", "Who shifts the labels?",
        "Is the label mask the attention mask?", "User: Hello"};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) CHECK_MSG(has(expected[i]), "%s", expected[i]);
    for (int column = 3; column <= 4; column++) {
        check_number("0", column, 4);
        check_number("1", column, 4);
        check_number("1", column, 0);                      // from the table of all evaluations
    }
    CHECK(file_exists(temp_path("out/curves.svg")));
}

// A single run has a page too; without held-out rows it is of the training loss.
static void test_training(void)
{
    const char *config = temp_path("config.json");
    CHECK_MSG(run("%s --output_dir=%s", config, temp_path("alone")) == 0, "%s", output);
    CHECK(run("%s --output_dir=%s --eval_split=0 --logging_steps=1", config, temp_path("blind")) == 0);
    if (!read_page("alone/report.html")) return;
    check_well_formed();
    check_alone();
    CHECK(has("<h1>A training run</h1>") && has("Loss on held-out answers: from ") && has("trained"));
    CHECK(!has("loss on every token") && has("(before training <b>"));
    if (!read_page("blind/report.html")) return;
    check_well_formed();
    check_alone();
    CHECK(has("the training loss is <b>") && has("No rows were held out") && !has("The same questions"));
    CHECK(count("<svg class=\"plot\"") == 1 && has("aria-labelledby=\"loss-title"));
}

// Plain text has no questions and answers, and its loss is not called the loss on prompts.
static void test_text(void)
{
    Buf rows = {0};
    for (int i = 0; i < 8; i++) buf_addf(&rows, quoted("{'text': '</main> once %c'}\n"), 'a' + i);
    temp_text("text.jsonl", rows.data);
    buf_free(&rows);
    CHECK_MSG(run("%s --output_dir=%s --dataset_name=%s", temp_path("config.json"), temp_path("text"),
                  temp_path("text.jsonl")) == 0, "%s", output);
    if (!read_page("text/report.html")) return;
    check_well_formed();
    check_alone();
    CHECK(has("Loss on held-out text: from ") && !has("prompts") && !has("<h2>The same questions"));
}

// Arms that differ in other keys than the mask. A name may have any characters; each run is one of ./train.
static void test_arms(void)
{
    Buf config = {0}, got = {0}, want = {0};
    File base = {0};
    Err e;
    if (!CHECK_MSG(file_map(&base, temp_path("config.json"), &e), "%s", e.text)) return;
    buf_addf(&config, quoted("{'arms': [{'name': 'Fast, 1'}, {'name': 'slow <b>& \\'2\\'', 'learning_rate': 0.0001,"
                             " 'max_grad_norm': 0.5}], %.*s"), (int)base.size - 1, (const char *)base.data + 1);
    file_unmap(&base);
    const char *arms = temp_text("arms.json", config.data);
    CHECK_MSG(run("compare %s --output_dir=%s --seeds=2", arms, temp_path("arms")) == 0, "%s", output);
    CHECK(strstr(output, "\narm slow <b>& \"2\": {\"learning_rate\":0.0001,\"max_grad_norm\":0.5}\n"));
    CHECK(strstr(output, "for Fast, 1 against ") && strstr(output, "B: slow <b>& \"2\"\n"));
    if (!read_page("arms/report.html")) return;
    check_well_formed();
    check_alone();
    CHECK(has("<h1>A comparison of arms</h1>") && has("Fast, 1: <code>{}</code>"));
    CHECK(has("slow &lt;b&gt;&amp; &quot;2&quot;: <code>{&quot;learning_rate&quot;:0.0001,&quot;max_grad"));
    CHECK(!has("unmasked") && !has("every token"));
    if (read_page("arms/compare.csv"))
        CHECK(strncmp(page.data, "arm,seed,step,", 14) == 0 && has("\n\"slow <b>& \"\"2\"\"\",43,4,"));

    arms = temp_path("arms.json");
    CHECK_MSG(run("%s --arms=null --output_dir=%s --learning_rate=1e-4 --max_grad_norm=0.5", arms,
                  temp_path("solo")) == 0, "%s", output);
    check_same_run("arms/slow-b-2/seed-42", "solo");
    log_without_times("solo", &want);
    log_without_times("arms/fast-1/seed-42", &got);
    CHECK(strcmp(want.data, got.data) != 0);
    arms = temp_path("arms.json");
    CHECK(run("inspect %s", arms) == 0 && strstr(output, "this is the config without them"));
    CHECK(run("%s", arms) == 1 && strstr(output, "arms: expected the command compare, found train"));
    CHECK(run("compare %s --prompt_loss_weights=0,1 --output_dir=%s", arms, temp_path("bad")) == 1);
    CHECK(strstr(output, "arms and prompt_loss_weights: expected one of the two, found both"));
    buf_free(&config), buf_free(&got), buf_free(&want);
}

static void test_bad_arms(void)
{
    static const struct { const char *arms, *message; } bad[] = {
        {"[{'name': 'a'}, {'name': 'b', 'max_length': 64}]", "arms[1]: max_length: expected a key that may differ"},
        {"[{'name': 'a', 'model_name_or_path': 'x'}]", "arms[0]: model_name_or_path: expected a key that may differ"},
        {"[{'name': 'a', 'learning_rat': 1}]", "unknown key \"learning_rat\": did you mean \"learning_rate\"?"},
        {"[{'name': 'a', 'lr': 1}]", "arms[0]: unknown key \"lr\": did you mean \"learning_rate\"?"},
        {"[{'name': 'a', 'learning_rate': 'x'}]", "arms[0]: learning_rate: expected a number, 0 to 100, found a str"},
        {"[{'name': 'a', 'lr_scheduler_kwargs': {'x': 1}}]", "arms[0]: lr_scheduler_kwargs: linear has no setting"},
        {"[{'name': 'a', 'loss_type': 'dft', 'label_smoothing_factor': 0.1}]", "arms[0]: label_smoothing_factor: "},
        {"[{'name': 'a'}, {'name': 'a'}]", "arms[1]: name: \"a\": arm \"a\" has the same folder, a"},
        {"[{'name': 'a b'}, {'name': 'A-B!'}]", "arms[1]: name: \"A-B!\": arm \"a b\" has the same folder, a-b"},
        {"[{'name': '-'}]", "arms[0]: name: expected a text of up to 63 bytes with a letter or a digit, found \"-\""},
        {"[{'name': 'a\\n'}]", "arms[0]: name: expected a text of up to 63 bytes"},
        {"[{'learning_rate': 1}]", "arms[0]: name: expected a text of up to 63 bytes with a letter or a digit, found "},
        {"[]", "arms: expected 1 to 8, found 0"},
        {"{}", "arms: expected a list of objects or null, found an object"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(run("compare %s '--arms=%s' --output_dir=%s", temp_path("config.json"), quoted(bad[i].arms),
                  temp_path("bad")) == 1);
        CHECK_MSG(strstr(output, bad[i].message), "%s\n%s", bad[i].message, output);
    }
}

static void test_nothing_to_compare(void)
{
    CHECK(run("compare %s --assistant_only_loss=false --output_dir=%s", temp_path("config.json"),
              temp_path("same")) == 1);
    CHECK_MSG(strstr(output, "compare: the mask (none) leaves no token out"), "%s", output);
}

// SIGTERM in the first run: nothing to compare, so no table, no page, and the exit status says which signal it was.
static void test_interrupt(void)
{
    Buf command = {0};
    buf_addf(&command,
             "sh -c '%s compare %s --output_dir=%s --max_steps=100000000 --eval_steps=null >%s 2>&1 & pid=$!; "
             "while ! [ -s %s/cut/weight-0/seed-42/log.jsonl ]; do sleep 0.05; done; kill -TERM $pid; wait $pid'",
             program(), temp_path("config.json"), temp_path("cut"), temp_path("cut.log"), temp_dir);
    int status = system(command.data);
    buf_free(&command);
    CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 143, "status %d", status);
    if (!read_page("cut.log")) return;
    CHECK_MSG(has("\ninterrupted: 0 of 1 seeds were run in full\n") && !has("eval_exact_match"), "%s", page.data);
    CHECK(!file_exists(temp_path("cut/report.html")) && !file_exists(temp_path("cut/compare.csv")));
}

// A run that goes on from a checkpoint writes the page of the run that never stopped, byte for byte: the beginning of
// its curve is in the log, and the model that it began with is made or read again.
static void test_resumed_run(void)
{
    char arguments[400];
    Buf whole = {0};
    snprintf(arguments, sizeof arguments,
             "%s --output_dir=%s --max_steps=6 --eval_steps=1 --save_steps=1 --overwrite_output_dir=true",
             temp_path("config.json"), temp_path("resumed"));
    if (!CHECK_MSG(run("%s", arguments) == 0, "%s", output) || !read_page("resumed/report.html")) return;
    buf_add(&whole, page.data, page.len);
    buf_adds(&whole, "");
    for (int step = 1; step <= 6; step += 5) {             // early, and when only the page is missing
        unlink(temp_path("resumed/report.html"));
        int status = run("%s --resume_from_checkpoint=%s/resumed/checkpoint-%d", arguments, temp_dir, step);
        CHECK_MSG(status == 0 && strstr(output, "the report is "), "%s", output);
        if (!read_page("resumed/report.html")) break;
        buf_adds(&page, "");
        size_t same = 0;
        while (same < whole.len && same < page.len && whole.data[same] == page.data[same]) same++;
        CHECK_MSG(page.len == whole.len && same == page.len, "step %d: from byte %zu on: %.200s", step, same,
                  page.data + same);
    }
    CHECK(has("The same questions, answered") && has("Every evaluation as a table"));
    buf_free(&whole);
}

int main(void)
{
    temp_begin();
    write_fixture();
    RUN(test_escaping);
    RUN(test_compare);
    RUN(test_training);
    RUN(test_text);
    RUN(test_arms);
    RUN(test_bad_arms);
    RUN(test_nothing_to_compare);
    RUN(test_interrupt);
    RUN(test_resumed_run);
    buf_free(&page);
    temp_end();
    return check_report();
}

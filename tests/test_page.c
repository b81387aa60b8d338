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
    if (!read_page("out/curves.svg")) return;
    check_well_formed();
    CHECK(count("<g data-line=") == 4 && count("loss on the answer only</text>") == 1);
}

// A single run has a page too; without held-out rows it is of the training loss.
static void test_training(void)
{
    const char *config = temp_path("config.json");
    CHECK_MSG(run("%s --output_dir=%s", config, temp_path("alone")) == 0, "%s", output);
    CHECK(run("%s --output_dir=%s --eval_split=0 --logging_steps=1", config, temp_path("blind")) == 0);
    CHECK_MSG(run("%s --output_dir=%s --eval_split=0 --max_steps=0", config, temp_path("idle")) == 0, "%s", output);
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

// ---- the numbers --------------------------------------------------------------------------------------------------

// The i-th line with `key` of the log (or the traces) of the arm's run with a seed; i < 0: the last one. The caller
// deletes it.
static cJSON *logged(const char *file, int arm, int seed, const char *key, int i)
{
    char path[600], line[1 << 14];
    cJSON *found = NULL;
    Err e;
    snprintf(path, sizeof path, "%s/numbers/weight-%d/seed-%d/%s", temp_dir, arm, seed, file);
    FILE *f = fopen(path, "r");
    for (int n = 0; f && fgets(line, sizeof line, f);) {
        cJSON *json = json_parse(line, strlen(line), path, 1, &e);
        if (!json_get(json, key) || (i >= 0 && n++ != i)) cJSON_Delete(json);
        else cJSON_Delete(found), found = json;
    }
    if (f) fclose(f);
    return found;
}

static double number(cJSON *line, const char *key)         // takes the line over
{
    const cJSON *v = json_get(line, key);
    double value = cJSON_IsNumber(v) ? v->valuedouble : NAN;
    cJSON_Delete(line);
    return value;
}

// The points of a line of a plot are the means and deviations of the key over the two seeds' logs. Returns how many.
static int check_line(const char *plot, const char *line, const char *key, int arm)
{
    char find[100];
    snprintf(find, sizeof find, "aria-labelledby=\"%s-title ", plot);
    const char *p = strstr(page.data, find), *end = p ? strstr(p, "</svg>") : NULL;
    snprintf(find, sizeof find, "<g data-line=\"%s\"", line);
    p = p ? strstr(p, find) : NULL;
    if (!CHECK_MSG(p && p < end, "no line %s of %s", line, plot)) return 0;
    p = strstr(p, "data-points=\"") + strlen("data-points=\"");
    int n = 0;
    for (double x, y, d; sscanf(p, "%lf %lf %lf", &x, &y, &d) == 3; n++) {
        double step = number(logged("log.jsonl", arm, 42, key, n), "step");
        double a = number(logged("log.jsonl", arm, 42, key, n), key);
        double b = number(logged("log.jsonl", arm, 43, key, n), key);
        CHECK_MSG(x == step && fabs(y - (a + b) / 2) <= 1e-5 * fabs(y) + 1e-12 &&
                      fabs(d - fabs(a - b) / sqrt(2)) <= 1e-3 * d + 1e-9,
                  "%s %s: %g %g %g, in the logs %g %g %g", plot, line, x, y, d, step, a, b);
        p += strcspn(p, ",\"");
        if (*p++ != ',') return n + 1;
    }
    return n;
}

static bool check_near(double got, double want, double tolerance)
{
    return CHECK_MSG(fabs(got - want) <= tolerance, "%.9g, expected %.9g", got, want);
}

static const char *const roles[] = {"assistant", "user", "system", "template"};

// All curves have the numbers of the logs; on the page the roles make up the whole.
static void check_curves(void)
{
    static const char *const keys[] = {
        "eval_assistant_loss", "eval_prompt_loss", "eval_exact_match", "eval_assistant_entropy", "eval_user_entropy",
        "eval_assistant_gradient_share", "eval_gradient_cosine", "eval_assistant_gradient_norm",
        "eval_prompt_gradient_norm", "loss"};
    for (int arm = 0; arm < 2; arm++) {
        char id[16], plot[32];
        snprintf(id, sizeof id, "arm%d", arm);
        snprintf(plot, sizeof plot, "roles-%s", id);
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            CHECK(check_line(keys[i], id, keys[i], arm) == (strncmp(keys[i], "eval", 4) == 0 ? 5 : 4));
        double prompt = 0, n_prompt = 0;
        for (size_t i = 0; i < 4; i++) {
            char loss[48], tokens[48];
            snprintf(loss, sizeof loss, "eval_%s_loss", roles[i]);
            snprintf(tokens, sizeof tokens, "eval_%s_tokens", roles[i]);
            if (i != 3) CHECK(check_line(plot, roles[i], loss, arm) == 5);
            double count = number(logged("log.jsonl", arm, 42, tokens, -1), tokens);
            double value = number(logged("log.jsonl", arm, 42, loss, -1), loss);
            if (isnan(count)) continue;
            if (i > 0) prompt += count * value, n_prompt += count;
        }
        double want = number(logged("log.jsonl", arm, 42, "eval_prompt_loss", -1), "eval_prompt_loss");
        check_near(prompt / n_prompt, want, 1e-6);
        double shares = number(logged("log.jsonl", arm, 42, "eval_loss", -1), "eval_assistant_gradient_share") +
                        number(logged("log.jsonl", arm, 42, "eval_loss", -1), "eval_prompt_gradient_share");
        check_near(shares, 1, 1e-6);
    }
}

// The tokens of the slider: their last losses are those of traces.jsonl, and of all held-out rows together they are the
// loss on answers in the table.
static void check_slider(void)
{
    double nll[2] = {0};
    int n[2] = {0}, n_rows = 0;
    const char *p = page.data;
    for (; (p = strstr(p, "<h3>Held-out row ")); n_rows++) {
        int row = atoi(p + strlen("<h3>Held-out row "));
        const char *next = strstr(p + 1, "<h3>"), *end = next ? next : page.data + page.len;
        for (int arm = 0; arm < 2; arm++) {
            cJSON *trace = logged("traces.jsonl", arm, 42, "rank", 8 + row);   // 4 evaluations of two rows come before
            const cJSON *loss = json_get(trace, "loss"), *rank = json_get(trace, "rank");
            for (int i = 1; i < cJSON_GetArraySize(loss); i++) {
                double last_loss = NAN, last_rank = NAN;
                p = strstr(p, "data-loss=\"");
                if (!CHECK(p && p < end)) break;
                sscanf(p, "data-loss=\"%*f %*f %*f %*f %lf \" data-rank=\"%*f %*f %*f %*f %lf \"", &last_loss,
                       &last_rank);
                check_near(last_loss, cJSON_GetArrayItem(loss, i)->valuedouble, 0.0501);
                check_near(last_rank, cJSON_GetArrayItem(rank, i)->valuedouble, 0);
                p = strstr(p, "><b class=\"");
                if (strncmp(p, "><b class=\"assistant", 20) != 0) continue;
                nll[arm] += cJSON_GetArrayItem(loss, i)->valuedouble;
                n[arm]++;
            }
            cJSON_Delete(trace);
        }
    }
    CHECK(n_rows == 2);
    for (int arm = 0; arm < 2; arm++) {
        double want = number(logged("log.jsonl", arm, 42, "eval_assistant_loss", -1), "eval_assistant_loss");
        check_near(nll[arm] / n[arm], want, 1e-5);
    }
}

// The table of the four cases is what inspect --hide says of the trained model: of the user's tokens of the first row.
static void check_cases(void)
{
    const char *p = strstr(page.data, "The user's tokens in held-out row "), *cell;
    if (!CHECK(p)) return;
    int row = 6 + atoi(p + strlen("The user's tokens in held-out row "));       // 6 rows are trained on
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "inspect %s --dataset_name=%s --model_init=null "
             "--model_name_or_path=%s/numbers/weight-0/seed-42/model.bin --row=%d", temp_path("config.json"),
             temp_path("short.jsonl"), temp_dir, row);
    CHECK_MSG(run("%s --json", arguments) == 0, "%s", output);
    Buf users = {0};
    int at = 0;
    cJSON *json = cJSON_Parse(output);
    const cJSON *role;
    cJSON_ArrayForEach(role, json_get(json, "roles")) {
        if (strcmp(role->valuestring, "user") == 0) buf_addf(&users, "%s%d", users.len ? "," : "", at);
        at++;
    }
    CHECK_MSG(users.len && run("%s --hide=%s", arguments, users.data) == 0, "%s", output);
    buf_free(&users);
    cJSON_Delete(json);
    int n = 0;
    for (const char *line = strstr(output, "\n-100 "); line; line = strchr(line + 1, '\n')) {
        char label[16], seen[16], numbers[4][16];
        if (sscanf(line, "%15s %15s %15s %15s %15s %15s", label, seen, numbers[0], numbers[1], numbers[2],
                   numbers[3]) != 6 || !strchr("-l", *label)) break;
        for (int i = 0; i < 4; i++, n++) {
            p = strstr(p, "<td>");
            if (!CHECK(p)) break;
            cell = p += strlen("<td>");
            CHECK_MSG(strncmp(cell, numbers[i], strlen(numbers[i])) == 0, "%s %s: %.8s, inspect says %s", label, seen,
                      cell, numbers[i]);
        }
    }
    CHECK(n == 16);
}

// Short rows, so that the page has all held-out ones over training.
static const char *short_rows(const char *name, int n)
{
    Buf rows = {0};
    for (int i = 0; i < n; i++)
        buf_addf(&rows, quoted("{'messages': [%s{'role': 'user', 'content': 'q%c'},"
                               " {'role': 'assistant', 'content': 'a%c'}]}\n"),
                 i % 2 ? quoted("{'role': 'system', 'content': 'be'}, ") : "", 'a' + i, 'a' + i);
    const char *path = temp_text(name, rows.data);
    buf_free(&rows);
    return path;
}

static void test_numbers(void)
{
    char text[100];
    const char *rows = short_rows("short.jsonl", 8);
    CHECK_MSG(run("compare %s --output_dir=%s --dataset_name=%s --seeds=2 --eval_steps=1", temp_path("config.json"),
                  temp_path("numbers"), rows) == 0, "%s", output);
    if (!read_page("numbers/report.html")) return;
    check_well_formed();
    check_curves();
    check_slider();
    check_cases();
    double first = (number(logged("log.jsonl", 0, 42, "eval_loss", 0), "eval_assistant_loss") +
                    number(logged("log.jsonl", 0, 43, "eval_loss", 0), "eval_assistant_loss")) / 2;
    CHECK(has("worse than a guess") == (first > log(259)));
    snprintf(text, sizeof text, "Before training the loss on answers is %.2f:", first);
    CHECK_MSG(has(text) == (first > log(259)), "%s", text);
    for (int arm = 0; arm < 2; arm++) {                    // the answer to the question of the heading
        double a = number(logged("log.jsonl", arm, 42, "eval_loss", -1), "eval_assistant_loss");
        double b = number(logged("log.jsonl", arm, 43, "eval_loss", -1), "eval_assistant_loss");
        snprintf(text, sizeof text, "<b>%.4f</b> <span>± %.4f</span>", (a + b) / 2, fabs(a - b) / sqrt(2));
        CHECK_MSG(has(text), "%s", text);
    }
}

// The page of several weights has each metric over the weight, and how many tokens are in answers and outside: of the 6
// rows that are trained on, as inspect counts them, without the first token of each, which is never predicted.
static void test_weights(void)
{
    char text[100];
    int tokens = 0, learned = 0;
    const char *config = temp_path("config.json");
    CHECK(run("inspect %s --dataset_name=%s --eval_split=0 --json", config, short_rows("six.jsonl", 6)) == 0);
    const char *summary = strstr(output, "{\"summary\":");
    if (!CHECK(summary)) return;
    sscanf(strstr(summary, "\"tokens\":"), "\"tokens\":%d,\"supervised\":%d", &tokens, &learned);
    CHECK_MSG(run("compare %s --output_dir=%s --dataset_name=%s --prompt_loss_weights=0,0.1,1", config,
                  temp_path("weights"), short_rows("short.jsonl", 8)) == 0, "%s", output);
    if (!read_page("weights/report.html")) return;
    check_well_formed();
    check_alone();
    CHECK(has("weight-eval_assistant_loss-title") && has("weight-eval_exact_match-title"));
    CHECK(has("data-x=\"1\" x=\"194.0\" y=\"195\" text-anchor=\"middle\">0.1<"));
    snprintf(text, sizeof text, "<b>%d</b> tokens in answers and <b>%d</b> outside", learned, tokens - learned - 6);
    CHECK_MSG(has(text), "%s", text);
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
    CHECK(has("The same questions, answered") && has("The evaluations as a table"));
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
    RUN(test_numbers);
    RUN(test_weights);
    RUN(test_arms);
    RUN(test_bad_arms);
    RUN(test_nothing_to_compare);
    RUN(test_interrupt);
    RUN(test_resumed_run);
    buf_free(&page);
    temp_end();
    return check_report();
}

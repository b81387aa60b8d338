// Numbers that go wrong, and memory that is not there: the damage is done to a model or a limit, and the program must
// say where it was. $TRAIN is the program under test.
#include "program.h"

#include "../data/run/memory.h"
#include "../model/checkpoint.h"

#include <sys/resource.h>
#include <sys/stat.h>

// Six chats, of which only the fourth has a "z"; the byte tokenizer; a model of two layers, made here so that single
// weights of it can be chosen. Column ODD of everything that reads the residual stream is 0, and nothing writes there.
enum { DIM = 16, HIDDEN = 24, ODD = 15, LINE_OF_Z = 4, Z = 'z' + 3 };

static const char CONFIG[] =
    "{\"model_name_or_path\": \"%s/model.bin\", \"tokenizer_name_or_path\": \"%s/tokenizer.bin\","
    " \"chat_template_path\": \"configs/templates/plain.jinja\", \"dataset_name\": \"%s/rows.jsonl\", \"max_steps\": 3,"
    " \"learning_rate\": 0.001, \"lr_scheduler_type\": \"constant\", \"per_device_train_batch_size\": 3, "
    "\"gradient_accumulation_steps\": 2,"
    " \"max_length\": 64, \"save_steps\": 1, \"output_dir\": \"%s/out\", \"overwrite_output_dir\": true}";

static void write_fixture(void)
{
    Buf rows = {0}, config = {0};
    for (int i = 1; i <= 6; i++)
        buf_addf(&rows,
                 "{\"messages\": [{\"role\": \"user\", \"content\": \"say %c\"}, {\"role\": \"assistant\", "
                 "\"content\": \"%c%c\"}]}\n",
                 i == LINE_OF_Z ? 'z' : 'a' + i % 2, 'a' + i % 2, 'a' + i % 2);
    buf_addf(&config, CONFIG, temp_dir, temp_dir, temp_dir, temp_dir);
    temp_byte_tokenizer();
    temp_text("rows.jsonl", rows.data);
    temp_text("config.json", config.data);
    buf_free(&rows);
    buf_free(&config);
}

static void fill(Model *m, TensorId id, size_t layer, float value)
{
    float *w = model_param(m, id, layer);
    for (size_t i = 0; i < tensor_size(&m->config, id); i++) w[i] = value;
}

static void set_column(Model *m, TensorId id, size_t layer, size_t column, float value)
{
    float *w = model_param(m, id, layer);
    size_t columns = config_size(&m->config, tensor_table[id].columns);
    for (size_t i = column; i < tensor_size(&m->config, id); i += columns) w[i] = value;
}

static void scale(Model *m, TensorId id, size_t layer, float by)
{
    float *w = model_param(m, id, layer);
    for (size_t i = 0; i < tensor_size(&m->config, id); i++) w[i] *= by;
}

static void make_model(Model *m)
{
    Config c = {.dim = DIM,
                .hidden_dim = HIDDEN,
                .n_layers = 2,
                .n_heads = 2,
                .n_kv_heads = 1,
                .head_dim = 8,
                .vocab_size = BYTE_TOKENIZER_SIZE,
                .seq_len = 64,
                .tied = false,
                .rope_theta = 10000,
                .norm_eps = 1e-5f};
    Err e;
    if (!CHECK_MSG(model_init(m, &c, &e), "%s", e.text)) exit(1);
    model_randomize(m, 1);
    set_column(m, TOK_EMB, 0, ODD, 0);
    set_column(m, CLASSIFIER, 0, ODD, 0);
    for (size_t l = 0; l < 2; l++) {
        static const TensorId readers[] = {WQ, WK, WV, W1, W3}, writers[] = {WO, W2};
        for (size_t i = 0; i < 5; i++) set_column(m, readers[i], l, ODD, 0);
        for (size_t i = 0; i < 2; i++) {
            size_t n = tensor_size(&c, writers[i]) / DIM;
            memset(model_param(m, writers[i], l) + ODD * n, 0, n * sizeof(float));
        }
    }
}

// What only "z" has in its embedding, and so only the rows with a z feel.
static void mark_z(Model *m) { model_param(m, TOK_EMB, 0)[Z * DIM + ODD] = 1; }

static void damage_scores(Model *m, size_t layer)
{
    mark_z(m);
    set_column(m, WQ, layer, ODD, 1e30f);
    set_column(m, WK, layer, ODD, 1e30f);
}
static void scores_0(Model *m) { damage_scores(m, 0); }
static void scores_1(Model *m) // in the last layer only targets have queries: keys are all the others'
{
    mark_z(m);
    set_column(m, WK, 1, ODD, 1e30f);
    for (int i = 0; i < 2 * 8; i++)
        for (int c = 0; c < DIM; c++)
            model_param(m, WQ, 1)[i * DIM + c] = c == ODD ? 0 : 1e10f * (float)(1 + (i * 7 + c * 3) % 5);
}
static void queries(Model *m)
{
    mark_z(m);
    set_column(m, WV, 0, ODD, 3e38f);
    fill(m, ATT_NORM, 0, 100);
}
static void o_proj(Model *m)
{
    mark_z(m);
    set_column(m, WV, 0, ODD, 1e30f);
    fill(m, WO, 0, 1e30f);
}
static void input_norm(Model *m) { mark_z(m), model_param(m, ATT_NORM, 0)[ODD] = 3e38f; }
static void ffn_norm(Model *m) { mark_z(m), model_param(m, FFN_NORM, 0)[ODD] = 3e38f; }
static void gate(Model *m)
{
    mark_z(m);
    set_column(m, W1, 0, ODD, 3e38f);
    fill(m, FFN_NORM, 0, 100);
}
static void swiglu(Model *m)
{
    mark_z(m);
    set_column(m, W1, 0, ODD, 1e30f);
    set_column(m, W3, 0, ODD, 1e30f);
}
static void down_proj(Model *m)
{
    mark_z(m);
    set_column(m, W1, 0, ODD, 1e15f);
    set_column(m, W3, 0, ODD, 1e15f);
    fill(m, W2, 0, 1e30f);
}
static void swiglu_1(Model *m) // the last layer: only targets, and z is none; it comes by attention
{
    mark_z(m);
    set_column(m, WV, 0, ODD, 1);
    fill(m, WO, 0, 0);
    for (int i = 0; i < 16; i++) model_param(m, WO, 0)[ODD * 16 + i] = 1;
    set_column(m, W1, 1, ODD, 1e30f);
    set_column(m, W3, 1, ODD, 1e30f);
}
static void logits(Model *m)                               // all rows: a bias that only the head reads
{
    fill(m, FINAL_NORM, 0, 1e20f);
    fill(m, CLASSIFIER, 0, 1e20f);
}
static void final_norm(Model *m)
{
    fill(m, FINAL_NORM, 0, 3e38f);
}
// Values so small and an output projection so large that the forward is ordinary, and the way back is not.
static void gradient(Model *m)
{
    fill(m, ATT_NORM, 1, 1e10f);
    fill(m, WV, 1, 1e-43f);
    scale(m, WQ, 1, 1e-20f);
    scale(m, WK, 1, 1e-20f);
    scale(m, WO, 1, 1e33f);
    scale(m, CLASSIFIER, 0, 100);
}

static void save_model(Model *m)
{
    Err e;
    CHECK_MSG(formats[FORMAT_BIN].save(m, temp_path("model.bin"), NULL, &e), "%s", e.text);
}

// Damages a new model, trains, and expects the first step to fail with both texts.
static void check_damage(void (*damage)(Model *), const char *options, int line, const char *place)
{
    Model m;
    char where[400], arguments[400];
    make_model(&m);
    damage(&m);
    save_model(&m);
    model_free(&m);
    snprintf(arguments, sizeof arguments, "%s %s", temp_path("config.json"), options);
    int status = run_with("", arguments);
    snprintf(where, sizeof where, "%s/rows.jsonl:%d: %s; weights and checkpoints are as they were", temp_dir, line,
             place);
    CHECK_MSG(status == 1 && strstr(output, "train: step 1: the loss is ") && strstr(output, where),
              "%s: expected %s in: %s", options, where, output);
    CHECK(!file_exists(temp_path("out/checkpoint-1")) && !file_exists(temp_path("out/model.bin")));
}

// Each kind of operation, in the one row that has the token; with micro-batches of any size; and with activations that
// are not kept.
static void test_operations(void)
{
    static const struct { void (*damage)(Model *); int line; const char *place; } cases[] = {
        {input_norm, LINE_OF_Z, "layer 0: input_layernorm"},
        {queries, LINE_OF_Z, "layer 0: queries, keys and values"},
        {scores_0, LINE_OF_Z, "layer 0: attention scores"},
        {scores_1, LINE_OF_Z, "layer 1: attention scores"},
        {o_proj, LINE_OF_Z, "layer 0: attention output (o_proj)"},
        {ffn_norm, LINE_OF_Z, "layer 0: post_attention_layernorm"},
        {gate, LINE_OF_Z, "layer 0: gate_proj and up_proj"},
        {swiglu, LINE_OF_Z, "layer 0: SwiGLU"},
        {swiglu_1, LINE_OF_Z, "layer 1: SwiGLU"},
        {down_proj, LINE_OF_Z, "layer 0: down_proj"},
        {final_norm, 1, "final norm"},
        {logits, 1, "logits"},
        {gradient, 1, "gradient of model.layers.1.self_attn.v_proj.weight"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_damage(cases[i].damage, "--shuffle=false", cases[i].line, cases[i].place);
        check_damage(cases[i].damage, "--shuffle=false --gradient_checkpointing=true --per_device_train_batch_size=6",
                     cases[i].line, cases[i].place);
    }
    check_damage(scores_0, "--per_device_train_batch_size=1 --gradient_accumulation_steps=6 --eval_split=0.1 --seed=3",
                 LINE_OF_Z, "layer 0: attention scores");
}

// A model with a NaN or an infinity in it is refused before the first step, whichever tensor it is in.
static void test_bad_weights(void)
{
    for (TensorId id = 0; id < N_TENSORS; id++) {
        Model m;
        char name[100], want[200];
        make_model(&m);
        size_t count = tensor_count(&m.config, id), layer = count - 1;
        if (count == 0) {                                  // a Llama has no biases
            model_free(&m);
            continue;
        }
        model_param(&m, id, layer)[tensor_size(&m.config, id) - 1] = id % 2 ? NAN : -INFINITY;
        save_model(&m);
        model_free(&m);
        snprintf(name, sizeof name, tensor_table[id].hf_name, (int)layer);
        snprintf(want, sizeof want, "model.bin: weights of %s: expected finite numbers", name);
        CHECK_MSG(run_with("", temp_path("config.json")) == 1 && strstr(output, want), "expected %s in: %s", want,
                  output);
    }
}

// A rate at which the weights themselves blow up, though loss and gradient are finite: found at the step after, in the
// first row and by the tensor; or before a checkpoint is written. The one before it is kept, and is whole.
static void test_blown_up(void)
{
    Model m;
    char arguments[600], kept[400];
    make_model(&m);
    scale(&m, CLASSIFIER, 0, 1e37f);
    scale(&m, CLASSIFIER, 0, 400);
    fill(&m, FINAL_NORM, 0, 2.5e-40f);
    save_model(&m);
    model_free(&m);
    int n = snprintf(arguments, sizeof arguments,
                     "%s --optim=sgd --max_grad_norm=0 --learning_rate=100 --lr_scheduler_type=constant_with_warmup "
                     "--warmup_steps=1 --max_steps=9 --shuffle=false --save_total_limit=1 --save_steps=",
                     temp_path("config.json"));
    strcpy(arguments + n, "7");                            // the first update has rate 0, the second is the one
    CHECK(run_with("", arguments) == 1);
    CHECK_MSG(strstr(output, "train: step 3: the loss is nan and") &&
                  strstr(output, "rows.jsonl:1: final norm, because of NaN or Inf in weights of "
                                 "model.norm.weight; weights and"),
              "%s", output);
    strcpy(arguments + n, "1");
    CHECK(run_with("", arguments) == 1);
    CHECK_MSG(strstr(output, "train: nothing is saved: the update of step 2 or before: weights of model.norm.weight: "
                             "expected finite"),
              "%s", output);
    CHECK(file_exists(temp_path("out/checkpoint-1")) && !file_exists(temp_path("out/checkpoint-2")) &&
          !file_exists(temp_path("out/model.bin")));
    snprintf(kept, sizeof kept, "eval %s --model_name_or_path=%s/out/checkpoint-1/model.bin --json",
             temp_path("config.json"), temp_dir);
    CHECK_MSG(run_with("", kept) == 0 && strstr(output, "\"eval_loss\":"), "%s", output);
    strcpy(arguments + n, "1 --max_steps=1");              // and without another update the run's own end is saved
    CHECK_MSG(run_with("", arguments) == 0 && file_exists(temp_path("out/model.bin")), "%s", output);
    unlink(temp_path("out/model.bin"));
}

// ---- memory -------------------------------------------------------------------------------------------------------

static const char *MODEL_OPTIONS =
    "--model_name_or_path=null --max_length=2048 --model_init='{\"hidden_size\": %d, \"intermediate_size\": %d, "
    "\"num_hidden_layers\": %d, \"num_attention_heads\": %d, \"max_position_embeddings\": 2048}'";

// A plan that no machine has room for is refused before anything is allocated, at once.
static void test_huge_plan(void)
{
    char arguments[600];
    int n = snprintf(arguments, sizeof arguments, "%s ", temp_path("config.json"));
    snprintf(arguments + n, sizeof arguments - (size_t)n, MODEL_OPTIONS, 65536, 262144, 1024, 64);
    CHECK(run_with("", arguments) == 1);
    CHECK_MSG(strstr(output, "train: out of memory: training needs ") && strstr(output, "it takes a smaller model"),
              "%s", output);
    CHECK(!strstr(output, "max_length=") && !strstr(output, "checkpointing=") && !strstr(output, "batch_size="));
    char eval[620];
    snprintf(eval, sizeof eval, "eval %s", arguments);     // the weights alone are too many
    CHECK(run_with("", eval) == 1);
    CHECK_MSG(strstr(output, "train: out of memory: evaluation needs ") && strstr(output, "gradients 0, optimizer 0"),
              "%s", output);
}

// Under a limit of address space: what is advised is what helps. (A run of no steps allocates as any other.)
static void test_address_space(void)
{
#if defined __SANITIZE_ADDRESS__
    SKIP("the address sanitizer needs terabytes of address space");
#elif defined __has_feature
#if __has_feature(address_sanitizer)
    SKIP("the address sanitizer needs terabytes of address space");
#endif
#endif
    static const struct { const char *options, *yes, *no; } cases[] = {
        {"--per_device_train_batch_size=64",
         "try activation_checkpointing=true or per_device_train_batch_size=", "smaller model"},
        {"--per_device_train_batch_size=64 --gradient_checkpointing=true --max_steps=0", NULL, NULL},
        {"--per_device_train_batch_size=1 --gradient_accumulation_steps=1 --max_steps=1", NULL, NULL},
    };
    Buf rows = {0}, command = {0};
    for (int i = 0; i < 64; i++) {
        buf_adds(&rows, "{\"prompt\": \"");
        for (int k = 0; k < 1000; k++) buf_addc(&rows, (char)('a' + i % 26));
        buf_adds(&rows, "\", \"completion\": \"b\"}\n");
    }
    temp_text("long.jsonl", rows.data);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_clear(&command);
        buf_addf(&command, "%s --dataset_name=%s/long.jsonl --n_threads=1 --save_steps=null ", temp_path("config.json"),
                 temp_dir);
        buf_addf(&command, MODEL_OPTIONS, 64, 128, 8, 4);
        buf_addf(&command, " %s", cases[i].options);
        int status = run_with("export OMP_NUM_THREADS=1; ulimit -v 1000000;", command.data);
        if (!cases[i].yes) CHECK_MSG(status == 0, "%s: %s", cases[i].options, output);
        else
            CHECK_MSG(status == 1 && strstr(output, cases[i].yes) && strstr(output, "(ulimit -v)") &&
                          !strstr(output, cases[i].no),
                      "%s: %s", cases[i].options, output);
    }
    buf_free(&rows);
    buf_free(&command);
}

static void write_system_file(const char *path, const char *text)
{
    char name[100];
    Err e;
    snprintf(name, sizeof name, "system%s", path);
    char *dir = path_dir(temp_path(name));
    CHECK_MSG(dir_make(dir, &e), "%s", e.text);
    free(dir);
    temp_text(name, text);
}

// What there is, of systems made of files.
static void test_available(void)
{
    const char *what;
    char root[200];
    snprintf(root, sizeof root, "%s", temp_path("system"));
    size_t physical = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) SKIP("there is a limit of address space");
    CHECK(memory_available(root, &what) == physical);
    write_system_file("/proc/meminfo", "MemTotal:       99999999 kB\nMemFree:          10 kB\nMemAvailable:    8000000 "
                                       "kB\nSwapFree:   1000000 kB\n");
    CHECK(memory_available(root, &what) == (size_t)9000000 * 1024);
    CHECK_STR(what, "of this machine's memory");
    // Version 2: the tighter of a group and the one around it; files that were read do not count.
    write_system_file("/proc/self/cgroup", "0::/outer/inner\n");
    write_system_file("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
    write_system_file("/sys/fs/cgroup/outer/inner/memory.current", "5000\n");
    CHECK(memory_available(root, &what) == (size_t)9000000 * 1024);
    write_system_file("/sys/fs/cgroup/outer/memory.max", "1000000\n");
    write_system_file("/sys/fs/cgroup/outer/memory.current", "900000\n");
    CHECK(memory_available(root, &what) == 100000);
    CHECK_STR(what, "under the memory limit of this cgroup");
    write_system_file("/sys/fs/cgroup/outer/memory.stat", "anon 300000\nactive_file 200000\ninactive_file 300000\n");
    CHECK(memory_available(root, &what) == 600000);
    write_system_file("/sys/fs/cgroup/outer/memory.current", "2000000\n");
    CHECK(memory_available(root, &what) == 0);
    // Version 1, in a container that sees its own group as the root of the tree.
    write_system_file("/proc/self/cgroup", "5:cpu:/x\n4:memory:/outside/ours\n0::/nowhere\n");
    write_system_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "700000\n");
    write_system_file("/sys/fs/cgroup/memory/memory.usage_in_bytes", "600000\n");
    write_system_file("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_active_file 0\ntotal_inactive_file "
                                                           "50000\n");
    CHECK(memory_available(root, &what) == 150000);
}

int main(void)
{
    temp_begin();
    write_fixture();
    RUN(test_operations);
    RUN(test_bad_weights);
    RUN(test_blown_up);
    RUN(test_huge_plan);
    RUN(test_address_space);
    RUN(test_available);
    temp_end();
    return check_report();
}

// A data set, read twice: by a template that marks what the assistant says, and by one that does not.
#include "fuzz.h"

#include "../../data/rows/dataset.h"

static const char marked[] =
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}</s>{% endgeneration %}{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}";
static const char unmarked[] =
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}";
// Refuses an empty conversation, has no prompt for most, and a tail; writes tool calls and tools.
static const char odd[] =
    "{{ messages[0].role }}{% for m in messages %}<s>{{ m.role }} {{ m.reasoning_content }}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c | tojson }}{% endfor %}{% endfor %}{{ tools }}"
    "{% if add_generation_prompt and messages | length > 1 %}<s>assistant {% else %}</s>{% endif %}";

// Bytes and a few pieces that join them.
static Tokenizer *small_tokenizer(void)
{
    static const char *const more[] = {" ", "a", "s", "\n", "as", "ss", "ass", " a", "\xC3\xA9"};
    Buf b = {0};
    Err e;
    int32_t longest = 8;
    buf_add(&b, &longest, 4);
    for (int i = 0; i < 259 + 9; i++) {
        char piece[8] = "<unk>";
        if (i == 1) strcpy(piece, "\n<s>\n");
        if (i == 2) strcpy(piece, "\n</s>\n");
        if (i > 2 && i < 259) snprintf(piece, sizeof piece, "<0x%02X>", (unsigned)(i - 3) & 255);
        if (i >= 259) strcpy(piece, more[i - 259]);
        float score = (float)-i;
        int32_t n = (int32_t)strlen(piece);
        buf_add(&b, &score, 4);
        buf_add(&b, &n, 4);
        buf_add(&b, piece, (size_t)n);
    }
    Tokenizer *t = tokenizer_load(fuzz_file("out.bin", b.data, b.len), &e);
    if (!t) abort();
    buf_free(&b);
    return t;
}

static void read_rows(const char *path, const Recipe *recipe)
{
    Dataset d;
    Err e;
    if (!dataset_open(&d, path, &e)) return;
    if (dataset_build(&d, recipe, &e)) dataset_summary(d.examples, d.n, recipe->tokenizer);
    for (size_t i = 0; i < d.n; i++)
        for (size_t k = 0; k < d.examples[i].n; k++) {
            const Example *ex = &d.examples[i];
            if (ex->ids[k] < 0 || ex->ids[k] >= recipe->vocab_size || ex->roles[k] >= N_ROLES) abort();
        }
    dataset_free(&d);
}

void fuzz_rows(const char *data, size_t size);
void fuzz_rows(const char *data, size_t size)
{
    static Tokenizer *tokenizer;                           // made once: they are only read
    static Template *with, *without, *strange;
    Err e;
    if (!tokenizer) {
        tokenizer = small_tokenizer();
        with = template_parse(marked, strlen(marked), "marked", &e);
        without = template_parse(unmarked, strlen(unmarked), "unmarked", &e);
        strange = template_parse(odd, strlen(odd), "odd", &e);
        if (!with || !without || !strange) abort();
    }
    const char *path = fuzz_file("input", data, size);
    Recipe recipe = {.tokenizer = tokenizer, .template = with, .text_field = "text", .assistant_only_loss = -1,
                     .completion_only_loss = -1, .max_length = 64, .vocab_size = tokenizer_vocab_size(tokenizer)};
    read_rows(path, &recipe);
    recipe.template = without;
    recipe.warn_on_prefix_mismatch = true;
    recipe.max_length = 0;
    read_rows(path, &recipe);
    recipe.template = strange;
    recipe.prompt_loss_weight = 0.5f;
    read_rows(path, &recipe);
    recipe.split_turns = true;
    read_rows(path, &recipe);
    recipe.template = with;
    recipe.prompt_loss_weight = 0;
    read_rows(path, &recipe);
}

HARNESS(fuzz_rows)

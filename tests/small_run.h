// small_run.h: a training run of two seconds. Eight short chats, a model of some 8,000 weights made from scratch.
#ifndef SMALL_RUN_H
#define SMALL_RUN_H

#include "program.h"

static inline void write_fixture(void)
{
    Buf rows = {0};
    for (int i = 0; i < 8; i++) {
        char c = (char)('a' + i % 2);
        buf_addf(&rows, quoted("{'messages': [{'role': 'user', 'content': 'say %c'},"
                               " {'role': 'assistant', 'content': '%c%c%c'}]}\n"), c, c, c, c);
    }
    temp_run("rows.jsonl", rows.data,
             "'model_init': {'hidden_size': 16, 'intermediate_size': 32, 'num_hidden_layers': 2,"
             " 'num_attention_heads': 4, 'num_key_value_heads': 2, 'max_position_embeddings': 64,"
             " 'tie_word_embeddings': true}, 'eval_split': 0.25, 'max_steps': 20, 'learning_rate': 0.01,"
             " 'logging_steps': 5, 'eval_steps': 10, 'per_device_train_batch_size': 2");
    buf_free(&rows);
}

// The options of a run that trains an adapter of the model in this file.
static inline const char *adapter_of(const char *base)
{
    static char text[512];
    snprintf(text, sizeof text, "--use_peft=true --lora_r=2 --lora_trainable_tokens=[5] --model_init=null"
             " --model_name_or_path=%s", base);
    return text;
}

#endif

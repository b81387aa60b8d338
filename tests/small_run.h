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

#endif

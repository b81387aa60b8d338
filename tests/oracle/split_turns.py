#!/usr/bin/env python3
"""Makes tests/fixtures/split_turns.jsonl: rows of several turns, and for each turn the tokens and labels that
transformers comes to.

A turn is messages[:i + 1], rendered by apply_chat_template. The prompt is messages[:i] with a generation prompt; what
the turn has more is learned: from the token that has its first character to the one that has its last. Where the
template has generation blocks, return_assistant_tokens_mask says it, and what lies behind the prompt counts.

usage, with the Python of tests/oracle/venv.sh: split_turns.py >tests/fixtures/split_turns.jsonl
Cases with Qwen3's template read it from ../shared; here stand their results only."""
import json
from transformers import PreTrainedTokenizerFast

# A small template that, as Qwen3's does, drops what earlier answers thought.
REWRITES = """{% set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}{% if m.role == 'assistant' %}<|assistant|>GENERATION
{%- if loop.index0 > ns.last %}{{ m.content }}{% else %}{{ m.content.split('/think ')[-1] }}{% endif -%}
<|end|>ENDGENERATION
{%- else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""
PLAIN = REWRITES.replace("ENDGENERATION", "").replace("GENERATION", "")
MARKED = REWRITES.replace("ENDGENERATION", "{% endgeneration %}").replace("GENERATION", "{% generation %}")


def chat(*texts, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    return messages + [{"role": "assistant" if i % 2 else "user", "content": t} for i, t in enumerate(texts)]


SMALL = [chat("two and two", "think it is even /think four", "and three and three", "think again /think six"),
         chat("hello", "think greet /think good day", "a dog", "an animal", "a kind of", "think hm /think wolf",
              system="be short"),
         chat("one turn", "think /think yes")]
CALL = {"type": "function", "function": {"name": "sum", "arguments": {"a": 2, "b": 3}}}
LARGE = [chat("2+2?", "<think>\nEasy sum.\n</think>\n\nFour", "And 3+3?", "<think>\nAgain.\n</think>\n\nSix"),
         chat("Hi", "Hello", "Who are you?", "A model.", system="Be brief."),
         [{"role": "user", "content": "2+3?"},
          {"role": "assistant", "content": "", "reasoning_content": "A tool can add.", "tool_calls": [CALL]},
          {"role": "tool", "content": "5"},
          {"role": "assistant", "content": "Five.", "reasoning_content": "So it is."},
          {"role": "user", "content": "Thanks"},
          {"role": "assistant", "content": "Welcome.", "reasoning_content": "Bye."}]]


def turns(tokenizer, template, messages):
    def text(n, **more):
        return tokenizer.apply_chat_template(messages[:n], chat_template=template, tokenize=False, **more)

    for i, m in enumerate(messages):
        if m["role"] != "assistant":
            continue
        whole, prompt = text(i + 1), text(i, add_generation_prompt=True)
        assert whole.startswith(prompt)
        tokens = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        ids, ends = tokens["input_ids"], [end for _, end in tokens["offset_mapping"]]
        mask = [end > len(prompt) for end in ends]
        if "{% generation" in template:
            out = tokenizer.apply_chat_template(messages[:i + 1], chat_template=template, tokenize=True,
                                                return_dict=True, return_assistant_tokens_mask=True)
            assert out["input_ids"] == ids
            mask = [a and b for a, b in zip(out["assistant_masks"], mask)]
        assert any(mask)
        yield {"input_ids": ids, "labels": [t if learned else -100 for t, learned in zip(ids, mask)]}


for folder, template, rows in [("model/tiny", PLAIN, SMALL), ("model/tiny", MARKED, SMALL),
                               ("../shared/tokenizers/qwen3", "../shared/vectors/templates/qwen3.jinja", LARGE)]:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=folder + "/tokenizer.json")
    source = template if "{" in template else open(template).read()
    for messages in rows:
        print(json.dumps({"tokenizer": folder, "template": template, "row": {"messages": messages},
                          "turns": list(turns(tokenizer, source, messages))}))

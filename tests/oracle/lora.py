#!/usr/bin/env python3
"""Makes tests/fixtures/lora with PEFT: two small random bases and adapters of them, as save_pretrained writes them,
with what tests/test_lora.c follows.

    $(sh tests/oracle/venv.sh) tests/oracle/lora.py tests/fixtures/lora

Each adapter's folder has expected.json (loss, the loss and gradient norm of five AdamW steps, the merged loss, greedy
ids) and expected.safetensors (grad:NAME, final:NAME after the steps, merged:NAME). All is computed in float64 from the
stored float32. rows.jsonl has the batch: input_ids, and labels that are -100 where nothing is learned.
"""
import json
import os
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

OUT = sys.argv[1]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "qv": ("tied", dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"])),
    "all_tokens": ("tied", dict(r=2, lora_alpha=3, target_modules=ALL, trainable_token_indices=[7, 0, 30])),
    "untied_tokens": ("untied", dict(r=2, lora_alpha=4, target_modules=["k_proj", "down_proj"],
                                     trainable_token_indices={"embed_tokens": [5]})),
    "patterns": ("untied", dict(r=4, lora_alpha=5, use_rslora=True, target_modules=["gate_proj", "o_proj", "q_proj"],
                                rank_pattern={"o_proj": 2}, alpha_pattern={"layers.1.mlp.gate_proj": 9},
                                layers_to_transform=[1])),
    "down": ("tied", dict(r=1, lora_alpha=1, target_modules=["model.layers.1.mlp.down_proj"])),
}
STEPS, RATE, DECAY, CLIP = 5, 1e-2, 0.1, 1.0


def make_base(name):
    torch.manual_seed(len(name))
    config = LlamaConfig(hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=4, vocab_size=41, max_position_embeddings=64,
                         tie_word_embeddings=name == "tied", rms_norm_eps=1e-5, bos_token_id=None, eos_token_id=None)
    model = LlamaForCausalLM(config)
    for p in model.parameters():                           # large enough for each to matter
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.3)
        else:
            torch.nn.init.normal_(p, mean=1, std=0.2)
    folder = os.path.join(OUT, "base_" + name)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json"))
    return folder


def make_rows():
    g = torch.Generator().manual_seed(7)
    rows = []
    for n in (9, 1, 14, 6):
        ids = torch.randint(0, 41, (n,), generator=g).tolist()
        ids[::4] = [7] * len(ids[::4])                     # a token that is trained, at both ends
        labels = [i if k % 3 else -100 for k, i in enumerate(ids)]
        rows.append({"input_ids": ids, "labels": labels})
    with open(os.path.join(OUT, "rows.jsonl"), "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)
    return rows


def loss_of(model, rows):
    total = sum(l != -100 for r in rows for l in r["labels"][1:])
    loss = 0
    for r in rows:
        if len(r["input_ids"]) < 2:
            continue
        logits = model(input_ids=torch.tensor([r["input_ids"]])).logits[0, :-1]
        loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor(r["labels"][1:]), ignore_index=-100,
                                                        reduction="sum")
    return loss / total


def names_of(model):
    """What is trained, under the name in the file."""
    return {n.replace(".default", "").replace("token_adapter.trainable_tokens_delta", TOKENS): p
            for n, p in model.named_parameters() if p.requires_grad}


TOKENS = "token_adapter.trainable_tokens_delta"


def greedy(model, ids, n):
    ids = list(ids)
    for _ in range(n):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-n:]


def make_case(name, base, rows):
    folder = os.path.join(OUT, name)
    kwargs = CASES[name][1]
    torch.manual_seed(1)
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base),
                           LoraConfig(lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", **kwargs))
    for n, p in names_of(model).items():
        torch.nn.init.normal_(p, std=0.3)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    config = os.path.join(folder, "adapter_config.json")
    text = json.load(open(config))
    text["base_model_name_or_path"] = "../base_" + CASES[name][0]      # from the adapter's own folder
    text["target_modules"].sort()
    json.dump(text, open(config, "w"), indent=2, sort_keys=True)

    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folder, is_trainable=True).double()
    tensors, expected = {}, {"base": "base_" + CASES[name][0], "losses": [], "grad_norms": [],
                             "trained": sum(p.numel() for p in names_of(model).values()),
                             "greedy": greedy(model, rows[0]["input_ids"], 12)}
    optimizer = torch.optim.AdamW(names_of(model).values(), lr=RATE, weight_decay=DECAY)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, rows)
        loss.backward()
        if step == 0:
            tensors.update({"grad:" + n: p.grad.clone() for n, p in names_of(model).items()})
        expected["losses"].append(loss.item())
        expected["grad_norms"].append(float(torch.nn.utils.clip_grad_norm_(names_of(model).values(), CLIP)))
        optimizer.step()
    tensors.update({"final:" + n: p.detach().clone() for n, p in names_of(model).items()})
    before = LlamaForCausalLM.from_pretrained(base).double().state_dict()
    merged = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base).double(), folder).merge_and_unload()
    expected["merged_loss"] = loss_of(merged, rows).item()
    tensors.update({"merged:" + n: p for n, p in merged.state_dict().items()
                    if not torch.equal(p, before[n]) and n != "lm_head.weight"})
    expected.update(steps=STEPS, learning_rate=RATE, weight_decay=DECAY, max_grad_norm=CLIP)
    save_file({n: t.float().contiguous() for n, t in tensors.items()}, os.path.join(folder, "expected.safetensors"))
    json.dump(expected, open(os.path.join(folder, "expected.json"), "w"), indent=1)
    print(name, expected["losses"], expected["trained"])


os.makedirs(OUT, exist_ok=True)
bases = {name: make_base(name) for name in ("tied", "untied")}
batch = make_rows()
for case, (which, _) in CASES.items():
    make_case(case, bases[which], batch)

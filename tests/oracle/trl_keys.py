#!/usr/bin/env python3
"""Keys and defaults of the installed TRL, and steps as transformers counts them -> tests/fixtures/trl_keys.json.

    $(sh tests/oracle/venv.sh) tests/oracle/trl_keys.py

Fails if a key of SFTConfig, ModelConfig or ScriptArguments is in neither of our tables, data/run/options.c and
data/run/trl_keys.txt; tests/test_commands.c tries each with the program. Made with trl 1.16, transformers 5.23."""
import dataclasses, json, re, sys
import torch
from transformers import TrainingArguments, get_scheduler
from transformers.trainer_callback import TrainerState
from trl import ModelConfig, ScriptArguments, SFTConfig


def default(f):
    if f.default_factory is not dataclasses.MISSING: return f.default_factory()
    return None if f.default is dataclasses.MISSING else getattr(f.default, "value", f.default)


keys = {f.name: default(f) for c in (SFTConfig, ModelConfig, ScriptArguments) for f in dataclasses.fields(c)}
ours = set(re.findall(r"^    (?:KEY|TEXT|FLAG|ONE_OF|NUMBER)\((\w+),", open("data/run/options.c").read(), re.M))
for line in open("data/run/trl_keys.txt"):
    kind, *words = line.split() or [""]
    if kind in ("older", "key"): ours |= {w.split("=")[0] for w in words}
missing = sorted(set(keys) - ours)

steps = []
for total, part in [(20, 0.1), (20, 0.07), (7, 0.5), (200, 0.005), (200, 0.999), (3, 0.34), (1, 0.5), (20, 3)]:
    args = TrainingArguments(output_dir="unused", max_steps=total, warmup_steps=part, logging_steps=part,
                             eval_steps=part, save_steps=part, eval_strategy="steps", use_cpu=True, report_to="none")
    state = TrainerState()
    state.compute_steps(args, total)
    warmup = args.get_warmup_steps(total)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1)
    schedule, factors = get_scheduler("linear", optimizer, warmup, total), []
    for _ in range(min(total, 8)):
        factors.append(schedule.get_last_lr()[0])
        optimizer.step(), schedule.step()
    steps.append({"total": total, "part": part, "warmup": warmup, "logging": state.logging_steps,
                  "eval": state.eval_steps, "save": state.save_steps, "factors": factors})
with open("tests/fixtures/trl_keys.json", "w") as f:
    rows = ",\n".join(" " + json.dumps(k) + ": " + json.dumps(v) for k, v in keys.items())
    f.write('{"defaults": {\n' + rows + '},\n"steps": [\n' + ",\n".join(" " + json.dumps(s) for s in steps) + "]}\n")
print(f"{len(keys)} keys; missing: {missing}")
sys.exit(bool(missing))

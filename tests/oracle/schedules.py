#!/usr/bin/env python3
"""The factors of transformers' get_scheduler, step by step -> tests/fixtures/schedules.json, for test_model.

    $(sh tests/oracle/venv.sh) tests/oracle/schedules.py"""
import json
import torch
from transformers import get_scheduler

RATE = 0.01
runs = []
for warmup, total in (0, 20), (5, 20), (1, 7), (20, 20):
    cases = [("linear", {}), ("cosine", {}), ("cosine", {"num_cycles": 1.25}), ("constant", {}),
             ("constant_with_warmup", {}), ("cosine_with_restarts", {}), ("cosine_with_restarts", {"num_cycles": 3}),
             ("cosine_with_min_lr", {"min_lr": 0.002}), ("cosine_with_min_lr", {"min_lr_rate": 0.3, "num_cycles": 1}),
             ("inverse_sqrt", {}), ("inverse_sqrt", {"timescale": 7}),
             ("warmup_stable_decay", {"num_decay_steps": 4}),
             ("warmup_stable_decay", {"num_decay_steps": 4, "num_stable_steps": 3, "min_lr_ratio": 0.1}),
             ("warmup_stable_decay", {"num_decay_steps": 5, "warmup_type": "cosine", "decay_type": "linear"}),
             ("warmup_stable_decay", {"num_decay_steps": 5, "warmup_type": "1-sqrt", "decay_type": "1-sqrt",
                                      "min_lr_ratio": 0.2}),
             ("warmup_stable_decay", {"num_decay_steps": 6, "num_cycles": 1.5})]
    if total > warmup:                                     # else transformers divides by 0
        cases += [("polynomial", {}), ("polynomial", {"lr_end": 0.001, "power": 2.5})]
    for name, kwargs in cases:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
        schedule, factors = get_scheduler(name, optimizer, warmup, total, kwargs), []
        for _ in range(total):
            factors.append(schedule.lr_lambdas[0](len(factors)))
            optimizer.step(), schedule.step()
        runs.append({"lr_scheduler_type": name, "lr_scheduler_kwargs": kwargs, "learning_rate": RATE,
                     "warmup_steps": warmup, "max_steps": total, "factors": factors})
with open("tests/fixtures/schedules.json", "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(r) for r in runs) + "\n]\n")
print(f"{len(runs)} runs")

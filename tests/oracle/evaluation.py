#!/usr/bin/env python3
"""Makes tests/fixtures/evaluation.json with transformers: what an evaluation of model/tiny on data/wordnet/kinds_eval
comes to, for tests/test_evaluation.c.

    $(sh tests/oracle/venv.sh) tests/oracle/evaluation.py            (from the top folder; 1 minute)

All is computed in float64 from the stored float32, one row at a time. Roles follow from the template's tokens alone:
what stands between <|ROLE|> and <|end|> is that role's; of the assistant, <|end|> is too; all else is the template's.
"""
import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

OUT, ROWS = "tests/fixtures/evaluation.json", "data/wordnet/kinds_eval.jsonl"
tokenizer = AutoTokenizer.from_pretrained("model/tiny")
model = AutoModelForCausalLM.from_pretrained("model/tiny", dtype=torch.float32).double().eval()
model.config._attn_implementation = "eager"
HEADERS = {tokenizer.convert_tokens_to_ids("<|%s|>" % r): r for r in ("system", "user", "assistant")}
END = tokenizer.convert_tokens_to_ids("<|end|>")


def roles_of(ids):
    roles, inside = [], "template"
    for i in ids:
        if i in HEADERS:
            roles.append("template")
            inside = HEADERS[i]
        elif i == END:
            roles.append("assistant" if inside == "assistant" else "template")
            inside = "template"
        else:
            roles.append(inside)
    return roles


def read_rows():
    for line in open(ROWS):
        ids = tokenizer.apply_chat_template(json.loads(line)["messages"], return_dict=True)["input_ids"]
        yield ids, roles_of(ids)


def by_role(rows):
    """eval_ROLE_loss, _tokens, _accuracy, _entropy over all predicted tokens."""
    sums = {}
    for ids, roles in rows:
        logits = model(torch.tensor([ids])).logits[0, :-1]
        p = logits.log_softmax(-1)
        for t in range(1, len(ids)):
            row = p[t - 1]
            numbers = torch.tensor([1, -row[ids[t]], int(row.argmax()) == ids[t], -(row.exp() * row).sum()])
            parts = [roles[t]] + ["end_of_turn"] * (roles[t] == "assistant" and ids[t] == END)
            for part in parts:
                sums[part] = sums.get(part, 0) + numbers
    keys = {}
    for part, (n, nll, correct, entropy) in sums.items():
        keys.update({"eval_%s_tokens" % part: n, "eval_%s_loss" % part: nll / n,
                     "eval_%s_accuracy" % part: correct / n, "eval_%s_entropy" % part: entropy / n})
    return {k: float(v) for k, v in keys.items()}


rows = list(read_rows())
with torch.no_grad():
    result = {"made_by": "tests/oracle/evaluation.py, torch " + torch.__version__, "by_role": by_role(rows)}
json.dump(result, open(OUT, "w"), indent=1)
open(OUT, "a").write("\n")

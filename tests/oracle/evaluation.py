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

OUT = "tests/fixtures/evaluation.json"
ROWS, TRAIN = "data/wordnet/kinds_eval.jsonl", "data/wordnet/kinds_train.jsonl"
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


def read_rows(path):
    for line in open(path):
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


def trace(ids, roles):
    """What the model says instead of the first answer that has something before it; of each token loss and rank."""
    first = next(t for t in range(1, len(ids)) if roles[t] == "assistant")
    end = next((t for t in range(first, len(ids)) if roles[t] != "assistant"), len(ids))
    p = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    at = p[range(len(ids) - 1), ids[1:]]
    said = []
    while len(said) < end - first + 16 and said != ids[first:end]:
        said.append(int(model(torch.tensor([ids[:first] + said])).logits[0, -1].argmax()))
        if said[-1] in tokenizer.all_special_ids:
            break
    rank = 1 + (p > at[:, None]).sum(-1)
    return {"loss": [None] + (-at).tolist(), "rank": [None] + rank.tolist(),
            "answer": tokenizer.decode(said, skip_special_tokens=True).strip(), "exact": said == ids[first:end]}


def hide(row, marked):
    """The four cases: have these tokens labels, are they hidden? To a hidden token only itself attends. Loss of each of
    the answer's tokens; norm of the gradient at the logits that predict these tokens, and at their keys and values in
    layer 0. The gradient is that of the mean loss over all labels: the answer's, but these tokens' as the case says."""
    ids, roles = row
    n, layer, cases = len(ids), model.model.layers[0].self_attn, []
    answer = [t for t in range(1, n) if roles[t] == "assistant"]
    for labelled in (False, True):
        labels = [t for t in range(1, n) if (labelled if t in marked else t in answer)]
        for hidden in (False, True):
            sees = torch.ones(n, n).tril().bool()
            if hidden:
                sees[:, marked] = torch.eye(n).bool()[:, marked]
            kept, hooks = [], []
            for module in layer.k_proj, layer.v_proj:
                hooks.append(module.register_forward_hook(lambda m, i, out: (out.retain_grad(), kept.append(out))[1]))
            logits = model(torch.tensor([ids]), position_ids=torch.arange(n)[None],
                           attention_mask=torch.zeros(n, n).double().masked_fill(~sees, -1e30)[None, None]).logits[0]
            [h.remove() for h in hooks]
            logits.retain_grad()
            nll = -logits[:-1].log_softmax(-1)[range(n - 1), ids[1:]]
            nll[[t - 1 for t in labels]].mean().backward()
            before = [t - 1 for t in marked if t > 0]
            cases.append({"loss": nll[[t - 1 for t in answer]].tolist(), "logits": float(logits.grad[before].norm()),
                          "keys": float(kept[0].grad[0, marked].norm()),
                          "values": float(kept[1].grad[0, marked].norm())})
            # An attention_mask of ones and zeros says the same, but not of what the hidden tokens themselves predict.
            if hidden and 0 not in marked:
                mask = torch.tensor([[int(t not in marked) for t in range(n)]])
                p = model(torch.tensor([ids]), attention_mask=mask, position_ids=torch.arange(n)[None]).logits[0]
                plain = -p[:-1].log_softmax(-1)[range(n - 1), ids[1:]]
                assert all(abs(plain[t - 1] - nll[t - 1]) < 1e-9 for t in answer if t - 1 not in marked)
    return cases


def gradients(rows):
    """The parts of the gradient of the mean loss over all tokens, by role; prompt: all but the assistant."""
    total, parts = sum(len(ids) - 1 for ids, _ in rows), {}
    for part in ("system", "user", "assistant", "template"):
        model.zero_grad()
        for ids, roles in rows:
            keep = torch.tensor([r == part for r in roles[1:]])
            p = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            (-p[range(len(ids) - 1), ids[1:]][keep].sum() / total).backward()
        parts[part] = torch.cat([p.grad.flatten() for p in model.parameters()])
    whole = sum(parts.values())
    parts["prompt"] = whole - parts["assistant"]
    keys = {"eval_gradient_cosine": torch.cosine_similarity(parts["prompt"], parts["assistant"], 0)}
    for part, g in parts.items():
        keys.update({"eval_%s_gradient_norm" % part: g.norm(),
                     "eval_%s_gradient_share" % part: g @ whole / (whole @ whole)})
    return {k: float(v) for k, v in keys.items()}


rows = list(read_rows(ROWS))
with torch.no_grad():
    traced = [i for i, (ids, _) in enumerate(rows) if len(ids) <= 64][:16]
    result = {"made_by": "tests/oracle/evaluation.py, torch " + torch.__version__, "by_role": by_role(rows),
              "traces": [{"row": i, **trace(*rows[i])} for i in traced]}
# the user's words of a row; parts of another; the header before an answer and a token of it; the first two tokens
train = list(read_rows(TRAIN))
words = [t for t, role in enumerate(train[41][1]) if role == "user"]
first = train[7][1].index("assistant")
result["hidden"] = [{"row": i, "hide": marked, "cases": hide(train[i], marked)} for i, marked in (
    (41, words), (1, [3, 4, 5, 8]), (7, [first - 1, first]), (0, [0, 1]))]
result["gradients"] = gradients(rows[:32])
with open(OUT, "w") as f:                                  # a line for each of the longer parts
    parts = ['"%s": %s' % (k, json.dumps(v).replace('}, {"row"', '},\n  {"row"')) for k, v in result.items()]
    f.write("{" + ",\n ".join(parts) + "}\n")

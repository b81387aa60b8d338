#!/usr/bin/env python3
"""Makes tests/fixtures/parity: short runs of the real trl.SFTTrainer on model/tiny and data/wordnet, for test_parity.

    $(sh tests/oracle/venv.sh) tests/oracle/parity.py tests/fixtures/parity [CASE ...]

CASE.jsonl has the rows as given. CASE.json has a config of ours ("config"), what TRL's collator made of the rows
("rows": input_ids and labels, without padding and dropped rows), TRL's log of each update, or each logging_steps
("log"), its eval_loss ("evaluations") and train_loss, and each tensor's sum and L2 norm at the end ("final_sum_and_norm"). Sequential order, no dropout, one
thread, fp32.
"""
import json, os, sys, tempfile

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
import torch, transformers, trl
from datasets import load_dataset
from transformers import AutoTokenizer, PrinterCallback

SAME = ("logging_steps max_length per_device_train_batch_size gradient_accumulation_steps num_train_epochs max_steps learning_rate "
        "lr_scheduler_type warmup_steps weight_decay max_grad_norm completion_only_loss").split()
LOGGED = "step epoch loss grad_norm learning_rate num_tokens mean_token_accuracy entropy".split()
BASE = {"model_name_or_path": "model/tiny", "max_length": 256, "per_device_train_batch_size": 4, "max_steps": 20,
        "learning_rate": 1e-3, "warmup_steps": 5, "shuffle": False, "logging_steps": 1}


def read(name):
    with open(f"data/wordnet/{name}.jsonl") as f:
        return [json.loads(line) for line in f]


def as_messages(row):
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}


def as_strings(row):
    *asked, answer = (m["content"] for m in row["messages"])
    return {"prompt": "\n".join(asked) + "\n", "completion": answer}


def glued(row):
    """The prompt ends in the blank that the answer's first token wants: the two merge."""
    text = as_strings(row)
    return {**text, "prompt": text["prompt"][:-1] + " "}


def cases():
    kinds, define = read("kinds_train"), read("define_train")
    return {
        "masked": (kinds[:60], {}),
        "unmasked": (kinds[:60], {"assistant_only_loss": False}),
        "prompt_loss_weight": (kinds[:60], {"max_steps": 10, "prompt_loss_weight": 1}),     # the same as TRL's unmasked
        "accumulation": (kinds[:37], {"gradient_accumulation_steps": 4, "max_steps": -1, "num_train_epochs": 5}),
        "windows": (kinds[:37], {"logging_steps": 5, "gradient_accumulation_steps": 4, "max_steps": 18}),
        "decay_cosine": (kinds[:60], {"weight_decay": 0.3, "lr_scheduler_type": "cosine", "warmup_steps": 6,
                                      "max_grad_norm": 0.5}),
        "truncated": (kinds[:60], {"max_length": 24}),
        "completion_only": ([as_messages(r) for r in define[:60]], {}),
        "strings": ([as_strings(r) for r in define[:60]], {}),
        "glued": ([glued(r) for r in define[:40]], {"on_prefix_mismatch": "warn", "max_steps": 10}),
        "evaluation": (kinds[:40], {"max_steps": 10, "eval_steps": 5, "eval": (define[1900:] + kinds[2750:])[60:100]}),
    }


def trainer(config, folder, out):
    """The same run with TRL's names. SAME lists the keys that have one name in both; the other keys are set here."""
    def load(name):
        if name:
            return load_dataset("json", data_files=f"{folder}/{name}", split="train", cache_dir=f"{out}/cache")
    unmasked = config.get("prompt_loss_weight") == 1
    args = {k: config[k] for k in SAME if k in config}
    train = load(config["dataset_name"])
    args["assistant_only_loss"] = not unmasked and config.get("assistant_only_loss", "messages" in train.column_names)
    if unmasked:
        args["completion_only_loss"] = False
    if "eval_dataset_name" in config:
        args.update(eval_strategy="steps", eval_steps=config["eval_steps"], eval_on_start=True)
    args = trl.SFTConfig(output_dir=out, bf16=False, use_cpu=True, report_to="none", save_strategy="no",
                         disable_tqdm=True, gradient_checkpointing=False,
                         train_sampling_strategy="sequential", **args)
    t = trl.SFTTrainer(model=config["model_name_or_path"], args=args, train_dataset=train,
                       eval_dataset=load(config.get("eval_dataset_name")),
                       processing_class=AutoTokenizer.from_pretrained(config["model_name_or_path"]))
    t.remove_callback(PrinterCallback)
    return t


def fed_rows(t):
    for batch in t.get_train_dataloader():
        for ids, labels, here in zip(batch["input_ids"], batch["labels"], batch["attention_mask"]):
            n = int(here.sum())
            assert int(here[:n].sum()) == n, "padding is not on the right"
            assert int((labels[n:] != -100).sum()) == 0, "padding is learned"
            yield {"input_ids": ids[:n].tolist(), "labels": labels[:n].tolist()}


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)


def main(folder, *names):
    for name, (rows, more) in cases().items():
        if names and name not in names:
            continue
        config = {**BASE, **more, "dataset_name": f"{name}.jsonl"}
        write_lines(f"{folder}/{name}.jsonl", rows)
        if "eval" in config:
            config["eval_dataset_name"] = f"{name}.eval.jsonl"
            write_lines(f"{folder}/{name}.eval.jsonl", config.pop("eval"))
        with tempfile.TemporaryDirectory() as out:
            t = trainer(config, folder, out)
            given = [json.dumps(r, separators=(",", ":")) for r in fed_rows(t)]
            train_loss = t.train().training_loss
        history = t.state.log_history
        log = [json.dumps({k: x[k] for k in LOGGED if k in x}) for x in history if "grad_norm" in x]
        evaluations = [{k: x[k] for k in ("step", "eval_loss")} for x in history if "eval_loss" in x]
        norms = {n: [float(p.double().sum()), float(p.double().norm())] for n, p in t.model.state_dict().items()
                 if n != "lm_head.weight"}
        parts = {"config": config, "versions": {m.__name__: m.__version__ for m in (torch, transformers, trl)}}
        with open(f"{folder}/{name}.json", "w") as f:
            f.write("{\n" + "".join(f' "{k}": {json.dumps(v)},\n' for k, v in parts.items()))
            f.write(' "rows": [\n' + ",\n".join(given) + '\n ],\n "log": [\n' + ",\n".join(log) + "\n ],\n")
            f.write(f' "evaluations": {json.dumps(evaluations)},\n "train_loss": {train_loss!r},\n')
            f.write(f' "final_sum_and_norm": {json.dumps(norms)}\n}}\n')
        print(f"{name}: {len(given)} rows, {len(log)} steps")


main(*sys.argv[1:])

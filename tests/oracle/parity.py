#!/usr/bin/env python3
"""The real trl.SFTTrainer beside ./train.

    make parity [CONFIG=configs/lesson_few.json] [STEPS=20]

    Trains the config with both and prints the largest differences. build/parity/report.html has them and the curves
    of both, curves.csv the curves' numbers. Then the way to TRL and back: the folder of ./train through README's
    snippet, and what that wrote through ./train eval. Last: what other programs read of our folder, and the ids of
    tokenizers of several classes.

    $(sh tests/oracle/venv.sh) tests/oracle/parity.py tests/fixtures/parity [CASE ...]

    Makes the fixtures of test_parity: short runs of TRL on model/tiny and data/wordnet. CASE.jsonl has the rows as
    given. CASE.json has a config of ours ("config"), what TRL's collator made of the rows ("rows": input_ids and
    labels, without padding and dropped rows), TRL's log of each logging_steps ("log"), its eval_loss ("evaluations")
    and train_loss, and each tensor's sum and L2 norm at the end ("final_sum_and_norm").

Both in sequential order, without dropout, with one thread, in fp32.
"""
import contextlib, csv, json, os, re, shutil, subprocess, sys, tempfile, warnings

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
warnings.filterwarnings("ignore")
import datasets, tokenizers, torch, transformers, trl
from datasets import load_dataset
from transformers import AutoTokenizer, PrinterCallback

SAME = ("logging_steps max_length per_device_train_batch_size gradient_accumulation_steps num_train_epochs max_steps "
        "learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps weight_decay max_grad_norm adam_beta1 "
        "adam_beta2 adam_epsilon optim completion_only_loss chat_template_path dataset_text_field "
        "label_smoothing_factor loss_type").split()
LOGGED = "step epoch loss grad_norm learning_rate num_tokens mean_token_accuracy entropy".split()
CURVES = ("loss", "grad_norm", "learning_rate")
BASE = {"model_name_or_path": "model/tiny", "max_length": 256, "per_device_train_batch_size": 4, "max_steps": 20,
        "learning_rate": 1e-3, "warmup_steps": 5, "shuffle": False, "logging_steps": 1}
HERE = os.getcwd()
OUT = f"{HERE}/build/parity"


# ---- TRL ----------------------------------------------------------------------------------------------------------

def trainer(config, train, held_out, out):
    """A run of TRL's for a config of ours. SAME lists the keys that have one name in both; the others are set here."""
    unmasked = config.get("prompt_loss_weight") == 1
    args = {k: config[k] for k in SAME if config.get(k) is not None}
    asked = config.get("assistant_only_loss")
    args["assistant_only_loss"] = not unmasked and ("messages" in train.column_names if asked is None else asked)
    if unmasked:
        args["completion_only_loss"] = False
    if held_out:
        args.update(eval_strategy="steps", eval_steps=config["eval_steps"], eval_on_start=True)
    args = trl.SFTConfig(output_dir=out, bf16=False, use_cpu=True, report_to="none", save_strategy="no",
                         disable_tqdm=True, activation_checkpointing=False, train_sampling_strategy="sequential",
                         **args)
    model = config["model_name_or_path"]
    t = trl.SFTTrainer(model=model, args=args, train_dataset=train, eval_dataset=held_out,
                       processing_class=AutoTokenizer.from_pretrained(config.get("tokenizer_name_or_path") or model))
    t.remove_callback(PrinterCallback)
    return t


def fed_rows(t):
    for batch in t.get_train_dataloader():
        for ids, labels, here in zip(batch["input_ids"], batch["labels"], batch["attention_mask"]):
            n = int(here.sum())
            assert int(here[:n].sum()) == n, "padding is not on the right"
            assert int((labels[n:] != -100).sum()) == 0, "padding is learned"
            yield {"input_ids": ids[:n].tolist(), "labels": labels[:n].tolist()}


def load(path, cache):
    return load_dataset("json", data_files=path, split="train", cache_dir=cache) if path else None


# ---- fixtures -----------------------------------------------------------------------------------------------------

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
        "smoothing": (kinds[:60], {"label_smoothing_factor": 0.1, "max_steps": 10}),
        "dft": (kinds[:60], {"loss_type": "dft", "max_steps": 10}),
        "completion_only": ([as_messages(r) for r in define[:60]], {}),
        "strings": ([as_strings(r) for r in define[:60]], {}),
        "glued": ([glued(r) for r in define[:40]], {"on_prefix_mismatch": "warn", "max_steps": 10}),
        "evaluation": (kinds[:40], {"max_steps": 10, "eval_steps": 5, "eval": (define[1900:] + kinds[2750:])[60:100]}),
    }


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)


def fixtures(folder, names):
    for name, (rows, more) in cases().items():
        if names and name not in names:
            continue
        config = {**BASE, **more, "dataset_name": f"{name}.jsonl"}
        write_lines(f"{folder}/{name}.jsonl", rows)
        if "eval" in config:
            config["eval_dataset_name"] = f"{name}.eval.jsonl"
            write_lines(f"{folder}/{name}.eval.jsonl", config.pop("eval"))
        with tempfile.TemporaryDirectory() as out:
            train, held_out = (load(n and f"{folder}/{n}", out) for n in (config["dataset_name"],
                                                                           config.get("eval_dataset_name")))
            t = trainer(config, train, held_out, out)
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
        print(f"{name}: {len(given)} rows, {len(log)} lines")


# ---- both, from a config ------------------------------------------------------------------------------------------

failed = []


def check(what, ok):
    print(f"{'ok     ' if ok else 'DIFFERS'} {what}")
    if not ok:
        failed.append(what)


def ours(*arguments):
    """Runs ./train; returns what it printed."""
    done = subprocess.run([f"{HERE}/train", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"./train {' '.join(arguments)}: {done.stderr or done.stdout}")
    return done.stdout


def our_rows(config, *more):
    rows = [json.loads(line) for line in ours("inspect", config, "--json", *more).splitlines()]
    return [{k: r[k] for k in ("input_ids", "labels")} for r in rows if not r.get("dropped", True)]


def lines_of(path, key):
    with open(path) as f:
        return [x for x in map(json.loads, f) if key in x]


def equal_rows(a, b):
    return sum(x == y for x, y in zip(a, b)) if len(a) == len(b) else 0


def mean_loss(folder, rows):
    """transformers' loss of the model in a folder, over all learned tokens."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total = count = 0
    with torch.no_grad():
        for row in rows:
            labels = torch.tensor(row["labels"])[1:]
            logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
            total += torch.nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=-100).item()
            count += int((labels != -100).sum())
    return total / count


def compare_runs(config_path, steps):
    """The config in both, over the same steps; returns it as it was used, the rows, and what ./train made of them."""
    with open(config_path) as f:
        given = json.load(f)
    changed = [f"--max_steps={steps}", "--logging_steps=1", "--train_sampling_strategy=sequential", "--n_threads=1",
               "--resume_from_checkpoint=", "--report_to=tensorboard", f"--output_dir={OUT}/ours",
               "--overwrite_output_dir=true"]
    if not given.get("model_name_or_path"):
        sys.exit("parity: the config names no model that TRL could load")
    if not os.path.isdir(given["model_name_or_path"]):     # a .bin, which TRL does not read
        shutil.rmtree(f"{OUT}/model", ignore_errors=True)
        tokenizer = given.get("tokenizer_name_or_path")
        ours("export", given["model_name_or_path"], f"{OUT}/model",
             *([f"--tokenizer_name_or_path={tokenizer}"] if tokenizer else []))
        changed += [f"--model_name_or_path={OUT}/model", "--tokenizer_name_or_path="]
    ours(config_path, *changed)
    with open(f"{OUT}/ours/train_config.json") as f:
        config = json.load(f)
    if config["prompt_loss_weight"] not in (0, 1):
        sys.exit("parity: TRL has no prompt_loss_weight between 0 and 1")
    rows = load(config["dataset_name"], f"{OUT}/cache")
    held_out = -int(-config["eval_split"] * len(rows) // 1)
    rows = rows.select(range(len(rows) - held_out))
    config.pop("eval_steps")
    try:
        t = trainer(config, rows, None, f"{OUT}/trl")
    except ValueError as e:
        sys.exit(f"parity: TRL refuses the config: {e}")
    fed, seen = list(fed_rows(t)), our_rows(f"{OUT}/ours/train_config.json")[:len(rows)]
    t.train()
    trl_log = [x for x in t.state.log_history if "loss" in x]
    our_log = lines_of(f"{OUT}/ours/log.jsonl", "loss")
    title = (f"{config_path}, {len(trl_log)} steps, trl {trl.__version__}, transformers {transformers.__version__}, "
             f"torch {torch.__version__}")
    table = [("", "largest difference", "relative"), ("rows equal", f"{equal_rows(fed, seen)} of {len(fed)}", "")]
    check_all = [("steps", len(trl_log) == len(our_log)), ("rows", equal_rows(fed, seen) == len(fed))]
    for key, most in ("loss", 2e-4), ("grad_norm", 2e-3), ("learning_rate", 1e-9), ("epoch", 1e-9), ("num_tokens", 0):
        pairs = [(x[key], y[key]) for x, y in zip(trl_log, our_log)]
        relative = max(abs(x - y) / max(abs(x), 1e-30) for x, y in pairs)
        table.append((key, f"{max(abs(x - y) for x, y in pairs):.2e}", f"{relative:.1e}"))
        check_all.append((key, relative <= most))
    mine = transformers.AutoModelForCausalLM.from_pretrained(f"{OUT}/ours", dtype=torch.float32).state_dict()
    apart = max(float((p - mine[n]).abs().max()) for n, p in t.model.state_dict().items())
    table.append(("weights at the end", f"{apart:.2e}", ""))
    print(title + "\n\n" + "".join(f"{a:<22}{b:>20}{c:>12}\n" for a, b, c in table))
    for what, ok in check_all + [("weights", apart < 1e-3)]:
        check(f"TRL and ./train: {what}", ok)
    with open(f"{OUT}/curves.csv", "w", newline="") as f:
        out = csv.writer(f)
        out.writerow(["step"] + [f"{who}_{k}" for k in CURVES for who in ("trl", "train")])
        out.writerows([x["step"]] + [z[k] for k in CURVES for z in (x, y)] for x, y in zip(trl_log, our_log))
    write_page(title, table, [(k, [x[k] for x in trl_log], [y[k] for y in our_log]) for k in CURVES])
    return config, rows, seen


def write_page(title, table, curves):
    """report.html: the differences, and each curve twice: TRL's wide and pale, ours thin and dark on it."""
    def line(values, low, high, style):
        points = " ".join(f"{600 * i / max(len(values) - 1, 1):.1f},{150 - 140 * (v - low) / ((high - low) or 1):.1f}"
                          for i, v in enumerate(values))
        return f'<polyline fill="none" {style} points="{points}"/>'
    page = "<!doctype html><meta charset=utf-8><title>parity</title><style>body{font:16px sans-serif;margin:2em}" \
           "td{padding:2px 1.5em 2px 0}svg{background:#f6f6f6}</style><h1>TRL and ./train</h1>"
    page += f"<p>{title}</p><table>" + "".join(f"<tr><td>{a}<td>{b}<td>{c}" for a, b, c in table) + "</table>"
    for name, theirs, ours_ in curves:
        low, high = min(theirs + ours_), max(theirs + ours_)
        page += f"<h2>{name}</h2><p>{low:.4g} to {high:.4g}; TRL wide and pale, ./train thin and dark</p>" \
                "<svg width=600 height=160>" + line(theirs, low, high, 'stroke="#9cf" stroke-width="7"') + \
                line(ours_, low, high, 'stroke="#124" stroke-width="2"') + "</svg>"
    with open(f"{OUT}/report.html", "w", encoding="utf-8") as f:
        f.write(page)


def way_back(config, rows, seen):
    """Folder, rows and template through the snippet in README as it is printed there, but for the number of steps."""
    snippet = re.search(r"```python\n(.*?)```", open("README.md").read(), re.S)[1]
    place = f"{OUT}/back"
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place)
    os.symlink(f"{OUT}/ours", f"{place}/folder")
    rows.to_json(f"{place}/chats.jsonl", force_ascii=False)
    shutil.copy(config.get("chat_template_path") or f"{OUT}/ours/chat_template.jinja", f"{place}/template.jinja")
    os.chdir(place)
    with open(f"{OUT}/back.log", "w") as f, contextlib.redirect_stdout(f), contextlib.redirect_stderr(f):
        exec(re.sub(r"max_steps=\d+", "max_steps=3", snippet), {})
    os.chdir(HERE)
    back = f"{place}/out/checkpoint-3"
    again = trainer({**config, "model_name_or_path": back, "tokenizer_name_or_path": None, "max_steps": 1}, rows, None,
                    f"{place}/again")
    fed = list(fed_rows(again))
    same = [f"--model_name_or_path={back}", "--tokenizer_name_or_path=", f"--dataset_name={place}/chats.jsonl",
            "--eval_dataset_name=", "--eval_split=0"]
    check("the folder that TRL wrote: rows in TRL", equal_rows(fed, seen) == len(seen))
    check("the folder that TRL wrote: rows in ./train",
          equal_rows(our_rows(f"{OUT}/ours/train_config.json", *same), seen) == len(seen))
    theirs = mean_loss(back, fed)
    mine = json.loads(ours("eval", f"{OUT}/ours/train_config.json", "--json", *same).splitlines()[-1])["eval_loss"]
    check(f"the folder that TRL wrote: loss {theirs:.7f} in transformers, {mine:.7f} in ./train",
          abs(theirs - mine) <= 2e-5 * theirs)


def other_programs():
    """TensorBoard and transformers read what ./train wrote."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    log = [json.loads(line) for line in open(f"{OUT}/ours/log.jsonl")]
    events = EventAccumulator(f"{OUT}/ours/runs/train")
    events.Reload()
    for key, tag in ("loss", "train/loss"), ("eval_loss", "eval/loss"), ("train_loss", "train/train_loss"):
        want = [(x["step"], float(torch.tensor(x[key]))) for x in log if x.get(key) is not None]
        got = [(x.step, x.value) for x in events.Scalars(tag)] if want else []
        check(f"TensorBoard: {tag}, {len(want)} points", want == got)
    state = transformers.TrainerState.load_from_json(f"{OUT}/ours/trainer_state.json")
    check("transformers: trainer_state.json, its log_history", state.log_history == log)


TEXTS = [" x", "  two blanks", "Hello world", "2000   |  6.12", "a1b2 $5, 1990s", "\n\n a\tb", "<s>User: hi</s>",
         "<s> x", "don't  stop", "a<|im_start|>user\n1234<|im_end|>\n", "é ü 日本語 🙂",
         "<|endoftext|> 7 <|end|>x", "1 + 2=3 "]


def tokenizer_classes(shared):
    """A folder of ours gives texts the ids that tokenizer.json gives them, whatever class its tokenizer came with."""
    write_lines(f"{OUT}/texts.jsonl", [{"text": t} for t in TEXTS])
    for name in sorted(os.listdir(shared)):
        with open(f"{shared}/{name}/tokenizer_config.json") as f:
            came_with = json.load(f).get("tokenizer_class")
        config = {"tokenizer_name_or_path": f"{shared}/{name}", "dataset_name": f"{OUT}/texts.jsonl", "max_steps": 0,
                  "overwrite_output_dir": True, "output_dir": f"{OUT}/tokenizer",
                  "model_init": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
                                 "num_attention_heads": 1, "max_position_embeddings": 64}}
        with open(f"{OUT}/tokenizer.json", "w") as f:
            json.dump(config, f)
        ours(f"{OUT}/tokenizer.json")
        loaded = AutoTokenizer.from_pretrained(f"{OUT}/tokenizer")
        plain = tokenizers.Tokenizer.from_file(f"{shared}/{name}/tokenizer.json")
        want = [plain.encode(t).ids for t in TEXTS]
        same, as_it_came = (sum(tokenizer(t)["input_ids"] == ids for t, ids in zip(TEXTS, want))
                            for tokenizer in (loaded, AutoTokenizer.from_pretrained(f"{shared}/{name}")))
        seen = [r["input_ids"] for r in our_rows(f"{OUT}/tokenizer.json")]     # with the token that ends a text
        same_here = sum(got in (ids, ids + [loaded.eos_token_id]) for got, ids in zip(seen, want))
        check(f"{name}: of {len(TEXTS)} texts {same} in transformers, {same_here} in ./train (as it came, a "
              f"{came_with}: {as_it_came} in transformers)", same == same_here == len(TEXTS))


def main(path, *more):
    if os.path.isdir(path):
        return fixtures(path, more)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    os.makedirs(OUT, exist_ok=True)
    way_back(*compare_runs(path, more[0] if more else 20))
    other_programs()
    if os.path.isdir("../shared/tokenizers"):
        tokenizer_classes("../shared/tokenizers")
    print("\nbuild/parity/report.html has the table and the curves, curves.csv their numbers;",
          f"{len(failed)} differences" if failed else "no difference")
    sys.exit(bool(failed))


main(*sys.argv[1:])

#!/usr/bin/env python3
"""The labels that other trainers give to rows, by their own code.

    python -m pip install --no-deps --target build/tools mlx-lm==0.32.2 unsloth_zoo==2026.10.9 axolotl==0.19.0 \
        llamafactory==0.9.5 addict
    $(sh tests/oracle/venv.sh) tests/oracle/labels.py build/tools tests/fixtures/labels.jsonl

Each line of the fixture has a template's file ("template"; null is model/tiny's own), added tokens and eos_token of the
tokenizer (else model/tiny's), a row's "messages", its "input_ids", and in "learned" for each tool the positions that it
learns. Only the part of a package that makes labels is loaded, without what its __init__ imports. LLaMA-Factory makes
the tokens of each message by themselves; the script checks that together they are the tokens of the row. nanochat has
no package: it is not here.
"""
import contextlib, importlib, io, json, logging, os, sys, tempfile, types, warnings

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
warnings.filterwarnings("ignore")
import datasets, trl
from transformers import AutoTokenizer

CHATML = ["<|im_start|>", "<|im_end|>"]


def said(*texts, system=None):
    first = [{"role": "system", "content": system}] if system else []
    return first + [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


ROWS = [  # template, added tokens, eos_token, messages
    (None, [], None, said("Name the kind: spicy or savory condiment", "food")),
    (None, [], None, said("a trip", "act", "and a soup?", "food\n\nno, a dish ")),
    (None, [], None, said("a trip", "act", "a soup", "food", system="Answer in one word.")),
    (None, [], "<|end|>", said("日本語 é 🙂", "日本 🙂 é")),
    ("chatml", CHATML, "<|im_end|>", said("Hi", "Yo")),
    ("chatml", CHATML, "<|im_end|>", said("Hi", "Yo", "And now?", " two  blanks", system="Be brief.")),
    ("chatml", CHATML, "<|im_end|>", said("what is assistant\nin ChatML?", "It is a role: <|im_start|>")),
    ("chatml", CHATML, None, said("Hi", "Yo", "Again", "Yo yo")),
    ("llama3", ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>", said("Hi", "Yo", "So", "No")),
    ("zephyr", ["</s>"], "</s>", said("Hi", "Yo\nand more", "Again", "and then?")),
    ("chatml", CHATML, "<|im_end|>", [{**m, "weight": i // 2} if i % 2 else m for i, m in
                                      enumerate(said("Hi", "wrong", "Again", "right"))]),
]


def package(name, folder, **members):
    """A module that finds its submodules in a folder, without its __init__."""
    module = types.ModuleType(name)
    module.__path__ = [folder]
    module.__dict__.update(members)
    sys.modules[name] = module


def tokenizer_of(template, added, eos, folder):
    with open("model/tiny/tokenizer.json", encoding="utf-8") as f:
        text = json.load(f)
    for i, content in enumerate(added):
        text["added_tokens"].append({**text["added_tokens"][1], "id": 1024 + i, "content": content})
    if template in ("chatml", "zephyr"):                   # it prints no BOS, and such tokenizers add none
        text["post_processor"] = None
    with open(f"{folder}/tokenizer.json", "w", encoding="utf-8") as f:
        json.dump(text, f)
    with open("model/tiny/tokenizer_config.json", encoding="utf-8") as f:
        config = json.load(f)
    config.update({"eos_token": eos} if eos else {})
    with open(f"{folder}/tokenizer_config.json", "w", encoding="utf-8") as f:
        json.dump(config, f)
    t = AutoTokenizer.from_pretrained(folder)
    with open(f"configs/templates/{template}.jinja" if template else "model/tiny/chat_template.jinja") as f:
        t.chat_template = f.read()
    return t


# ---- the tools ----------------------------------------------------------------------------------------------------

def trl_labels(t, row, folder, **options):
    args = trl.SFTConfig(output_dir=folder, bf16=False, use_cpu=True, report_to="none", max_length=None, **options)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = trl.SFTTrainer(model="model/tiny", args=args, processing_class=t,
                                 train_dataset=datasets.Dataset.from_list([row]))
    made = trainer.train_dataset[0]
    return made["input_ids"], made["labels"]


def trl_assistant(t, messages, folder):
    return trl_labels(t, {"messages": messages}, folder, assistant_only_loss=True)


def trl_completion(t, messages, folder):
    return trl_labels(t, {"prompt": messages[:-1], "completion": messages[-1:]}, folder)


def axolotl(t, messages, folder):
    module = importlib.import_module("axolotl.prompt_strategies.chat_template")
    prompter = module.ChatTemplatePrompter(t, chat_template=t.chat_template, max_length=2048)
    # The defaults of StrategyLoader.
    made = module.ChatTemplateStrategy(prompter, tokenizer=t, train_on_inputs=False, sequence_len=2048,
                                       roles_to_train=["assistant"], train_on_eos="turn")
    row = made.tokenize_prompt({"messages": messages})
    return row["input_ids"], row["labels"]


def unsloth(t, messages, folder):
    module = importlib.import_module("unsloth_zoo.dataset_utils")
    ids = t.apply_chat_template(messages)["input_ids"]
    with contextlib.redirect_stdout(io.StringIO()):
        made = module.train_on_responses_only(None, tokenizer=t, return_function=True)
    return ids, made({"input_ids": [ids]})["labels"][0]


def llama_factory(t, messages, folder):
    made = importlib.import_module("llamafactory.data.template").parse_template(t)
    system, rest = (messages[0]["content"], messages[1:]) if messages[0]["role"] == "system" else (None, messages)
    ids, labels = [], []
    for source, target in made.encode_multiturn(t, rest, system):
        ids += source + target
        labels += [-100] * len(source) + target
    return ids, labels


def mlx_lm(t, messages, folder):
    module = importlib.import_module("mlx_lm.tuner.datasets")
    ids, offset = module.ChatDataset([], t, mask_prompt=True).process({"messages": messages})
    return ids, [-100] * offset + ids[offset:]


TOOLS = {"TRL assistant_only": trl_assistant, "TRL completion_only": trl_completion, "axolotl": axolotl,
         "unsloth": unsloth, "LLaMA-Factory": llama_factory, "mlx-lm": mlx_lm}


def load(tools):
    package("mlx_lm", f"{tools}/mlx_lm")
    package("mlx_lm.tuner", f"{tools}/mlx_lm/tuner")
    package("mlx_lm.cli_ui", "", rprint=print)
    package("unsloth_zoo", f"{tools}/unsloth_zoo")
    package("llamafactory", f"{tools}/llamafactory")
    package("llamafactory.data", f"{tools}/llamafactory/data")
    package("llamafactory.extras", f"{tools}/llamafactory/extras")
    package("llamafactory.extras.logging", "", get_logger=logging.getLogger)
    package("llamafactory.data.data_utils", "", SLOTS=list, Role=types.SimpleNamespace(
        USER="user", ASSISTANT="assistant", SYSTEM="system", FUNCTION="function", OBSERVATION="observation"))
    package("llamafactory.data.mm_plugin", "", get_mm_plugin=lambda *_, **__: None)
    for name in "", ".utils", ".utils.schemas", ".prompt_strategies":
        package(f"axolotl{name}", f"{tools}/axolotl{name.replace('.', '/')}")
    package("axolotl.utils.logging", "", get_logger=logging.getLogger)
    package("axolotl.utils.chat_templates", "", get_chat_template_from_config=None)
    package("axolotl.utils.schemas.datasets", "", DatasetConfig=None)
    package("colorama", "", Fore=types.SimpleNamespace(CYAN="", RESET="", LIGHTBLACK_EX="", GREEN="", RED=""))
    sys.path.append(tools)                                 # addict, which axolotl uses


def main(tools, out):
    load(os.path.abspath(tools))
    lines = []
    for template, added, eos, messages in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            t = tokenizer_of(template, added, eos, folder)
            row = t.apply_chat_template(messages)["input_ids"]
            learned = {}
            for name, labels_of in TOOLS.items():
                ids, labels = labels_of(t, messages, folder)
                assert list(ids) == row, f"{name}: other tokens: {t.decode(ids)!r}, and not {t.decode(row)!r}"
                assert all(label in (-100, token) for label, token in zip(labels, ids)), name
                learned[name] = [i for i, label in enumerate(labels) if label != -100]
            lines.append({"template": template, "added": added, "eos_token": eos, "messages": messages,
                          "input_ids": row, "learned": learned})
            for name, positions in learned.items():
                print(f"{template} {name:20} {t.decode([row[i] for i in positions])!r}", file=sys.stderr)
    with open(out, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""TRL's SFTTrainer as a user calls it, for a config of ours: float32 on the CPU, no checkpointing, nothing saved.

usage: bench_trl.py CONFIG STEPS"""
import json, os, sys, tempfile

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
from datasets import load_dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

with open(sys.argv[1]) as f:
    config = json.load(f)
model = config["model_name_or_path"]
with tempfile.TemporaryDirectory() as out:
    args = SFTConfig(
        output_dir=out, max_steps=int(sys.argv[2]), assistant_only_loss=True, max_length=config["max_length"],
        per_device_train_batch_size=config["per_device_train_batch_size"], learning_rate=config["learning_rate"],
        chat_template_path=config.get("chat_template_path"), bf16=False, use_cpu=True, report_to="none",
        save_strategy="no", logging_steps=10, disable_tqdm=True, activation_checkpointing=False)
    rows = load_dataset("json", data_files=config["dataset_name"], split="train", cache_dir=out)
    tokenizer = AutoTokenizer.from_pretrained(model)
    SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer).train()

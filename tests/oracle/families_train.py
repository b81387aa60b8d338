"""Trains small models of each family for 50 masked steps with ./train, on the lesson's rows and with model/tiny's
tokenizer, in full and with an adapter. transformers and PEFT then load what it wrote. Prints for each the loss on the
held-out rows that ./train gives, and theirs. Exit status 1 if two differ by more than 1e-5 of the loss.

    HF_HUB_OFFLINE=1 $(sh tests/oracle/venv.sh) tests/oracle/families_train.py build/families"""
import json, os, shutil, subprocess, sys
import torch, transformers
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

SMALL = dict(vocab_size=1024, hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, bos_token_id=0, eos_token_id=[0, 4], pad_token_id=None)
CASES = {
    'qwen2': dict(model_type='qwen2', num_hidden_layers=2, tie_word_embeddings=True),
    'qwen3': dict(model_type='qwen3', num_hidden_layers=2, tie_word_embeddings=True, head_dim=32),
    'smollm3': dict(model_type='smollm3', num_hidden_layers=4),
    'llama_bias': dict(model_type='llama', num_hidden_layers=2, attention_bias=True),
}
RUN = ['--max_steps=50', '--learning_rate=3e-3', '--overwrite_output_dir=true']
LORA = ['--use_peft=true', '--lora_target_modules=["all-linear"]', '--lora_trainable_tokens=template']


def train(*arguments):
    done = subprocess.run(['./train', *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def make(folder, keys):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**SMALL, **keys))
    for name, p in model.named_parameters():
        if p.dim() == 1:                                   # norms and biases that show
            p.data += 0.2 * torch.randn(p.shape)
    model.save_pretrained(folder)
    for name in ('tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'):
        shutil.copy('model/tiny/' + name, folder)


def held_out(config, rows):
    rows = train('inspect', config, '--dataset_name=' + rows, '--eval_dataset_name=null', '--json')
    return [row for row in map(json.loads, rows.splitlines()) if 'labels' in row and not row['dropped']]


def loss_of(model, rows):
    total = count = 0
    with torch.no_grad():
        for row in rows:
            labels = torch.tensor(row['labels'])[1:]
            logits = model(torch.tensor([row['input_ids']])).logits[0, :-1]
            total += torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction='sum').item()
            count += int((labels != -100).sum())
    return total / count


def compare(what, model, config, folder, rows):
    ours = json.loads(train('eval', config, '--json', '--model_name_or_path=' + folder).splitlines()[-1])['eval_loss']
    theirs = loss_of(model.double().eval(), rows)
    same = abs(ours - theirs) < 1e-5 * theirs
    print('%-20s %.6f %.6f%s' % (what, ours, theirs, '' if same else '   DIFFERENT'))
    return same


def check(name, keys, out):
    base, full, lora, merged = (os.path.join(out, name, part) for part in ('base', 'full', 'lora', 'merged'))
    shutil.rmtree(os.path.join(out, name), ignore_errors=True)
    make(base, keys)
    config, rows = (os.path.join(out, name, file) for file in ('config.json', 'rows.jsonl'))
    with open(rows, 'w') as f:
        f.writelines(open('data/wordnet/kinds_eval.jsonl').readlines()[:40])
    with open(config, 'w') as f:
        json.dump(dict(model_name_or_path=base, max_length=256, dataset_name='data/wordnet/kinds_few.jsonl',
                       eval_dataset_name=rows), f)
    train(config, *RUN, '--output_dir=' + full)
    train(config, *RUN, *LORA, '--output_dir=' + lora)
    train('export', lora, merged)
    rows = held_out(config, rows)
    load = AutoModelForCausalLM.from_pretrained
    AutoTokenizer.from_pretrained(full)
    ok = compare(name + ', base', load(base), config, base, rows)
    ok &= compare(name + ', trained', load(full), config, full, rows)
    ok &= compare(name + ', adapter', PeftModel.from_pretrained(load(base), lora), config, lora, rows)
    return ok & compare(name + ', merged', load(merged), config, merged, rows)


def main(out):
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sys.exit(not all([check(name, keys, out) for name, keys in CASES.items()]))


main(sys.argv[1])

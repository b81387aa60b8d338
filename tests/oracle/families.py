"""Makes tests/fixtures/families with transformers' own models of each family: small random folders with the losses and
gradients that autograd gives in float64, and defaults.json, what transformers reads from files that leave keys out.

    HF_HUB_OFFLINE=1 $(sh tests/oracle/venv.sh) tests/oracle/families.py tests/fixtures/families"""
import copy, json, os, sys
import torch, transformers
from safetensors.torch import save_file
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = dict(hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=24, max_position_embeddings=96, bos_token_id=0, eos_token_id=1, pad_token_id=None)
CASES = {
    'qwen2': dict(model_type='qwen2', tie_word_embeddings=False),
    'qwen3': dict(model_type='qwen3', tie_word_embeddings=True, head_dim=10, num_attention_heads=2,
                  num_key_value_heads=1, num_hidden_layers=3),
    'qwen3_bias': dict(model_type='qwen3', attention_bias=True, head_dim=6),
    'smollm3': dict(model_type='smollm3', num_hidden_layers=4, no_rope_layers=[1, 0, 1, 0]),
}
ADAPTED = ['qwen2', 'qwen3_bias']
ROWS = [(70, 0.5), (1, 1.0), (9, 1.0), (33, 0.2)]          # tokens, and the part of them that has a label


def config(keys):
    return AutoConfig.for_model(**copy.deepcopy(keys))     # it writes into rope_parameters


def make_model(keys):
    """Norms far from 1 and biases far from 0, so that one that is forgotten shows."""
    model = AutoModelForCausalLM.from_config(config(keys), attn_implementation='eager').double().eval()
    for name, p in model.named_parameters():
        at = 1.0 if name.endswith('norm.weight') else 0.0
        p.data = torch.randn(p.shape) * (0.3 if p.dim() == 1 else 0.2) + at
        p.data = p.data.float().double()                   # as the file has them
    return model


def make_rows(V):
    rows = []
    for n, part in ROWS:
        ids = torch.randint(V, (n,))
        labels = torch.where(torch.rand(n) < part, ids, -100)
        rows.append(dict(input_ids=ids.tolist(), labels=labels.tolist()))
    return rows


def mean_loss(model, rows):
    """Over all targets of all rows."""
    total = count = 0
    for row in rows:
        ids, labels = torch.tensor(row['input_ids']), torch.tensor(row['labels'])
        logits = model(ids[None]).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction='sum')
        count += int((labels[1:] != -100).sum())
    return total / count


def greedy(model, ids, n):
    ids = list(ids)
    for _ in range(n):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-n:]


def save_case(folder, name, keys):
    torch.manual_seed(1 + list(CASES).index(name))
    model, rows = make_model(keys), make_rows(keys['vocab_size'])
    loss = mean_loss(model, rows)
    loss.backward()
    os.makedirs(folder, exist_ok=True)
    with torch.no_grad():
        logits = model(torch.tensor([rows[0]['input_ids']])).logits[0, -4:]
        more = greedy(model, rows[0]['input_ids'][:6], 16)
    tensors = {'logits_last4': logits.float().contiguous()}
    tensors.update({'grad:' + k: v.grad.float().contiguous() for k, v in model.named_parameters()})
    save_file(tensors, folder + '/expected.safetensors')
    json.dump(dict(status='new', loss=loss.item(), greedy_ids_from_first_6_of_row_0=more,
                   gradient_norms={k: v.grad.norm().item() for k, v in model.named_parameters()}),
              open(folder + '/expected.json', 'w'), indent=1)
    with open(folder + '/rows.jsonl', 'w') as f:
        f.writelines(json.dumps(row) + '\n' for row in rows)
    model.float().save_pretrained(folder)
    for name in os.listdir(folder):
        if name == 'generation_config.json':
            os.remove(folder + '/' + name)
        else:
            os.chmod(folder + '/' + name, 0o644)


def save_adapter(folder):
    """PEFT's, on all linears of a folder: its loss, its gradients' norms, and the loss once it is merged."""
    rows = [json.loads(line) for line in open(folder + '/rows.jsonl')]
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=3, lora_alpha=5, target_modules='all-linear', task_type='CAUSAL_LM'))
    for name, p in model.named_parameters():
        if p.requires_grad:
            p.data = torch.randn(p.shape).float() * 0.3
    model.save_pretrained(folder + '/adapter')
    os.remove(folder + '/adapter/README.md')
    path = folder + '/adapter/adapter_config.json'
    keys = json.load(open(path))
    keys.update(base_model_name_or_path='..', target_modules=sorted(keys['target_modules']))
    json.dump(keys, open(path, 'w'), indent=1, sort_keys=True)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation='eager')
    model = PeftModel.from_pretrained(base, folder + '/adapter', is_trainable=True).double()
    loss = mean_loss(model, rows)
    loss.backward()
    norms = {n.replace('.default', ''): p.grad.norm().item() for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        merged = mean_loss(model.merge_and_unload(), rows)
    json.dump(dict(loss=loss.item(), merged_loss=merged.item(), gradient_norms=norms),
              open(folder + '/adapter/expected.json', 'w'), indent=1)


LLAMA3 = dict(rope_type='llama3', factor=8, low_freq_factor=1, high_freq_factor=4, original_max_position_embeddings=64)
BARE = dict(hidden_size=64, intermediate_size=8, num_hidden_layers=4, num_attention_heads=32, vocab_size=16)
WINDOW = dict(use_sliding_window=True, sliding_window=100)
OTHERS = [                                                 # keys beside BARE
    *(dict(model_type=t) for t in ('llama', 'mistral', 'qwen2', 'qwen3', 'smollm3')),
    *(dict(model_type=t, num_key_value_heads=None) for t in ('llama', 'qwen2', 'qwen3', 'smollm3')),
    dict(model_type='mistral', sliding_window=None), dict(model_type='mistral', sliding_window=100),
    dict(model_type='qwen2', head_dim=6), dict(model_type='qwen3', head_dim=6),
    dict(model_type='qwen2', sliding_window=100), dict(model_type='qwen2', use_sliding_window=True),
    dict(model_type='qwen2', **WINDOW), dict(model_type='qwen2', **WINDOW, max_window_layers=4),
    dict(model_type='qwen2', **WINDOW, max_window_layers=3), dict(model_type='qwen3', **WINDOW, max_window_layers=0),
    dict(model_type='qwen3', **WINDOW, layer_types=['full_attention'] * 4, max_window_layers=0),
    dict(model_type='qwen3', **WINDOW, layer_types=['full_attention'] * 3 + ['sliding_attention']),
    dict(model_type='smollm3', **WINDOW), dict(model_type='smollm3', **WINDOW, no_rope_layers=[1, 1, 1, 1]),
    dict(model_type='smollm3', sliding_window=100), dict(model_type='smollm3', use_sliding_window=True),
    dict(model_type='smollm3', no_rope_layers=[0, 1, 1, 0, 0]), dict(model_type='smollm3', no_rope_layer_interval=2),
    dict(model_type='smollm3', **WINDOW, layer_types=['full_attention'] * 4),
    dict(model_type='smollm3', rope_theta=5e6, rope_scaling=None), dict(model_type='qwen2', rope_theta=1e6),
    dict(model_type='qwen3', rope_theta=1e6, rope_parameters=dict(rope_type='default', rope_theta=500.0)),
    dict(model_type='smollm3', rope_parameters=dict(rope_type='default')), dict(model_type='smollm3', rope_scaling={}),
    dict(model_type='qwen3', rope_scaling=LLAMA3, rope_theta=5e5, rope_parameters=dict(rope_theta=300.0)),
    dict(model_type='smollm3', attention_bias=True),       # then the shapes of Qwen2.5-0.5B, Qwen3-0.6B, SmolLM3-3B
    dict(model_type='qwen2', hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
         num_key_value_heads=2, vocab_size=151936, max_window_layers=21, sliding_window=32768,
         use_sliding_window=False, rope_theta=1e6, tie_word_embeddings=True),
    dict(model_type='qwen3', hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
         num_key_value_heads=8, head_dim=128, vocab_size=151936, max_window_layers=28, sliding_window=None,
         use_sliding_window=False, rope_theta=1e6, max_position_embeddings=40960, tie_word_embeddings=True),
    dict(model_type='smollm3', hidden_size=2048, intermediate_size=11008, num_hidden_layers=36,
         num_attention_heads=16, num_key_value_heads=4, vocab_size=128256, rope_theta=5e6,
         max_position_embeddings=65536, sliding_window=None, use_sliding_window=False),
    dict(model_type='qwen2', architectures=['LlamaForCausalLM']),
]


def read_by_transformers(keys):
    c = config({**BARE, **keys})
    c.pad_token_id = None                                  # SmolLM3's is not in so small a vocabulary
    with torch.device('meta'):
        parameters = sum(p.numel() for p in AutoModelForCausalLM.from_config(c).parameters())
    slides = c.model_type == 'mistral' or 'sliding_attention' in (getattr(c, 'layer_types', None) or [])
    return dict(
        parameters=parameters, num_key_value_heads=c.num_key_value_heads,
        head_dim=getattr(c, 'head_dim', None) or c.hidden_size // c.num_attention_heads,
        max_position_embeddings=c.max_position_embeddings, tie_word_embeddings=c.tie_word_embeddings,
        rope_theta=c.rope_parameters['rope_theta'], factor=c.rope_parameters.get('factor', 0),
        sliding_window=c.sliding_window if slides and c.sliding_window else 0,
        no_rope=[i for i in range(c.num_hidden_layers) if not getattr(c, 'no_rope_layers', [1] * 99)[i]],
        o_bias=bool(getattr(c, 'attention_bias', False)), qkv_bias=c.model_type == 'qwen2' or bool(
            getattr(c, 'attention_bias', False)))


def main(folder):
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    transformers.logging.set_verbosity_error()
    for name, keys in CASES.items():
        save_case(folder + '/' + name, name, {**SMALL, **keys})
        if name in ADAPTED:
            save_adapter(folder + '/' + name)
    with open(folder + '/defaults.json', 'w') as f:
        lines = [json.dumps(dict(config={**BARE, **keys}, means=read_by_transformers(keys))) for keys in OTHERS]
        f.write('[' + ',\n '.join(lines) + ']\n')


if __name__ == '__main__':
    main(sys.argv[1])

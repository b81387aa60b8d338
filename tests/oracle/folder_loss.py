"""An independent reader of the folders that ./train writes: parses model.safetensors and config.json by itself and runs
a forward in PyTorch with Hugging Face's conventions (RoPE on halves, repeated key/value heads), in float32.

usage: ./train inspect CONFIG.json --json | python3 tests/oracle/folder_loss.py FOLDER
prints the mean loss over the labels. Compare it with
    ./train eval CONFIG.json --model_name_or_path=FOLDER --json"""
import json, math, struct, sys
import torch
import torch.nn.functional as F

folder = sys.argv[1]
config = json.load(open(folder + '/config.json'))
blob = open(folder + '/model.safetensors', 'rb').read()
length = struct.unpack('<Q', blob[:8])[0]
DTYPES = {'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16}
w = {}
for name, t in json.loads(blob[8:8 + length]).items():
    if name != '__metadata__':
        a, b = t['data_offsets']
        raw = bytearray(blob[8 + length + a:8 + length + b])
        w[name] = torch.frombuffer(raw, dtype=DTYPES[t['dtype']]).reshape(t['shape']).float()
H, K, L = config['num_attention_heads'], config['num_key_value_heads'], config['num_hidden_layers']
D, eps = config.get('head_dim') or config['hidden_size'] // H, config['rms_norm_eps']


def norm(x, name):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w[name]


def rope(x):                                               # (T, heads, D), the two halves of D are one pair
    angle = torch.outer(torch.arange(len(x)).float(), 1 / config['rope_theta'] ** (torch.arange(0, D, 2).float() / D))
    cos, sin = torch.cat([angle, angle], -1).cos()[:, None], torch.cat([angle, angle], -1).sin()[:, None]
    a, b = x[..., :D // 2], x[..., D // 2:]
    return x * cos + torch.cat([-b, a], -1) * sin


def logits(ids):
    T, x = len(ids), w['model.embed_tokens.weight'][ids]
    for l in range(L):
        p = 'model.layers.%d.' % l
        n = norm(x, p + 'input_layernorm.weight')
        q, k, v = (F.linear(n, w[p + 'self_attn.%s_proj.weight' % c]).view(T, -1, D) for c in 'qkv')
        q, k = rope(q), rope(k)
        k, v = k.repeat_interleave(H // K, 1), v.repeat_interleave(H // K, 1)
        s = torch.einsum('qhd,khd->hqk', q, k) / math.sqrt(D) + torch.full((T, T), float('-inf')).triu(1)
        a = torch.einsum('hqk,khd->qhd', s.softmax(-1), v).reshape(T, -1)
        x = x + F.linear(a, w[p + 'self_attn.o_proj.weight'])
        n = norm(x, p + 'post_attention_layernorm.weight')
        gate, up, down = (w[p + 'mlp.%s_proj.weight' % c] for c in ('gate', 'up', 'down'))
        x = x + F.linear(F.silu(F.linear(n, gate)) * F.linear(n, up), down)
    return F.linear(norm(x, 'model.norm.weight'), w.get('lm_head.weight', w['model.embed_tokens.weight']))


total, count = 0.0, 0
with torch.no_grad():
    for line in sys.stdin:
        row = json.loads(line)
        if 'labels' not in row or row['dropped'] or len(row['labels']) < 2:
            continue
        labels = torch.tensor(row['labels'])[1:]
        losses = F.cross_entropy(logits(row['input_ids'])[:-1], labels, ignore_index=-100, reduction='sum')
        total += losses.double().item()
        count += int((labels != -100).sum())
print(json.dumps({'eval_loss': total / count, 'eval_tokens': count}))

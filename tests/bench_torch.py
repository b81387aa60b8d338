"""The peer of bench_step: the same training step in PyTorch, as its users write it. A right-padded batch, eager mode,
float32, AdamW; logits for every position, or with --chunked_nll for supervised ones only.

usage: python3 tests/bench_torch.py SHAPE FRACTION STEPS BATCH [--lengths full] [--chunked_nll]
Writes the batch it used to the file BATCH (int32: rows, lengths, tokens, targets), for bench_step to use the same."""
import statistics, sys, time
import numpy as np
import torch
import torch.nn.functional as F

SHAPES = {'260K': (64, 5, 8, 4, 172, 512, 512, 16), '15M': (288, 6, 6, 6, 768, 32000, 256, 24),
          '135M': (576, 30, 9, 3, 1536, 49152, 256, 8)}
shape, fraction, steps, path = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
C, L, H, K, FF, V, S, rows = SHAPES[shape]
D, chunked, full = C // H, '--chunked_nll' in sys.argv, 'full' in sys.argv
if full:
    rows = max(1, rows * 107 // 256)
torch.manual_seed(1)


def weight(*size):
    return torch.nn.Parameter(torch.randn(*size) * 0.02)


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.Parameter(torch.ones(C)), torch.nn.Parameter(torch.ones(C))
        self.q, self.k, self.v, self.o = weight(C, C), weight(K * D, C), weight(K * D, C), weight(C, C)
        self.gate, self.up, self.down = weight(FF, C), weight(FF, C), weight(C, FF)

    def forward(self, x, mask):
        B, T, _ = x.shape
        n = norm(x, self.norm1)
        q, k = rope(F.linear(n, self.q).view(B, T, H, D)), rope(F.linear(n, self.k).view(B, T, K, D))
        v = F.linear(n, self.v).view(B, T, K, D)
        q, k, v = (t.repeat_interleave(H // t.shape[2], 2).transpose(1, 2) for t in (q, k, v))
        a = torch.softmax(q @ k.transpose(-1, -2) / D ** 0.5 + mask, -1) @ v
        x = x + F.linear(a.transpose(1, 2).reshape(B, T, C), self.o)
        n = norm(x, self.norm2)
        return x + F.linear(F.silu(F.linear(n, self.gate)) * F.linear(n, self.up), self.down)


def norm(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w


def rope(x):
    angle = torch.outer(torch.arange(x.shape[1]).float(), 10000.0 ** (-torch.arange(0, D, 2).float() / D))[:, None]
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1).flatten(-2)


g = np.random.default_rng(1)
data = []
for _ in range(rows):
    n = S if full else int(np.clip(g.lognormal(np.log(S * 0.45), 0.6), min(64, S // 4), S))
    cuts = np.linspace(0, n, int(g.integers(1, 4)) + 1).astype(int)
    learned = np.zeros(n, bool)
    for a, b in zip(cuts[:-1], cuts[1:]):
        learned[b - round((b - a) * fraction):b] = True
    t = g.integers(3, V, n + 1)
    data.append((t[:-1], np.where(learned, t[1:], -100)))
lengths = [len(t) for t, _ in data]
np.concatenate([[rows], lengths] + [t for t, _ in data] + [y for _, y in data]).astype(np.int32).tofile(path)

T, real = max(lengths), sum(lengths)
tokens, labels = torch.zeros(rows, T, dtype=torch.long), torch.full((rows, T), -100)
mask = torch.full((rows, 1, T, T), float('-inf')).triu(1)
for i, (t, y) in enumerate(data):
    tokens[i, :len(t)], labels[i, :len(t)] = torch.from_numpy(t), torch.from_numpy(y)
    mask[i, :, :, len(t):] = float('-inf')
mask = mask.clamp_min(torch.finfo(torch.float32).min)

layers, table, last = torch.nn.ModuleList(Layer() for _ in range(L)), weight(V, C), torch.nn.Parameter(torch.ones(C))
params = list(layers.parameters()) + [table, last]
optimizer = torch.optim.AdamW(params, lr=1e-4, weight_decay=0.0)
square = torch.randn(2048, 2048)


def canary():
    start = time.perf_counter()
    square @ square
    return 2 * 2048 ** 3 / (time.perf_counter() - start) / 1e9


def step():
    x = F.embedding(tokens, table)
    for layer in layers:
        x = layer(x, mask)
    x, y = norm(x, last), labels
    if chunked:
        x, y = x[labels >= 0], labels[labels >= 0]
    loss = F.cross_entropy(F.linear(x, table).view(-1, V), y.reshape(-1), ignore_index=-100)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()


step()
seconds, speed = [], []
for _ in range(steps):
    before, start = canary(), time.perf_counter()
    step()
    seconds.append(time.perf_counter() - start)
    speed.append((before + canary()) / 2)
normalised = statistics.median(real / s / c for s, c in zip(seconds, speed))
s = statistics.median(seconds)
print('%-5s %3.0f %%  %5d tokens %8.1f ms %9.0f tokens/s  canary %6.1f  tokens/s/canary %8.2f  PyTorch %s%s%s' % (
    shape, 100 * fraction, real, 1e3 * s, real / s, statistics.median(speed), normalised, torch.__version__,
    ', no padding' if full else ', padded', ', chunked' if chunked else ''))

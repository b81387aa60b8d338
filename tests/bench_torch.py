"""The peer of bench_step: the same training steps in PyTorch, with transformers' LlamaForCausalLM, float32 and AdamW.

usage: bench_torch.py SHAPE|MODEL ROWS STEPS [--best] [--compile]
SHAPE is 260K, 15M or 135M with random weights; MODEL is a folder. ROWS is what bench_step wrote: the rows of each
step. As a user writes it: the rows padded on the right, attention_mask and labels, out.loss.backward(). --best: logits
of supervised positions only. --compile: also torch.compile. Attention is PyTorch's own (SDPA) in each."""
import os, statistics, sys, time
import torch
from transformers import LlamaConfig, LlamaForCausalLM

#         hidden, layers, heads, key/value heads, intermediate, vocabulary
SHAPES = {"260K": (64, 5, 8, 4, 172, 512), "15M": (288, 6, 6, 6, 768, 32000), "135M": (576, 30, 9, 3, 1536, 49152)}
what, path, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
best, compiled = "--best" in sys.argv or "--compile" in sys.argv, "--compile" in sys.argv
torch.manual_seed(1)
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count()))


def read_steps():
    """ROWS, int32: for each row its step, its length, the tokens, and of each token whether it is learned."""
    steps, numbers = {}, torch.frombuffer(bytearray(open(path, "rb").read()), dtype=torch.int32).long()
    while len(numbers):
        step, n = numbers[:2].tolist()
        ids, learned = numbers[2:2 + n], numbers[2 + n:2 + 2 * n]
        steps.setdefault(step, []).append((ids, torch.where(learned > 0, ids, -100)))
        numbers = numbers[2 + 2 * n:]
    return list(steps.values())


def padded(rows):
    T = max(len(ids) for ids, _ in rows)
    ids, labels, mask = torch.zeros(len(rows), T).long(), torch.full((len(rows), T), -100), torch.zeros(len(rows), T)
    for i, (row, label) in enumerate(rows):
        ids[i, :len(row)], labels[i, :len(row)], mask[i, :len(row)] = row, label, 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask.long()}


if what in SHAPES:
    hidden, layers, heads, kv_heads, intermediate, vocabulary = SHAPES[what]
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=intermediate, vocab_size=vocabulary, max_position_embeddings=8192, tie_word_embeddings=True))
else:
    model = LlamaForCausalLM.from_pretrained(what, dtype=torch.float32)
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
body = torch.compile(model.model, dynamic=what not in SHAPES) if compiled else model.model


def loss_of(batch):
    if not best:
        return model(**batch, use_cache=False).loss
    hidden = body(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)[0]
    labels = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    learned = labels != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]), labels[learned])


def step(rows):
    loss_of(padded(rows)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


batches = read_steps()
for i in range(3 if compiled else 1):                      # compiles, and makes the optimizer's memory
    step(batches[i % len(batches)])
seconds, tokens = [], []
for i in range(steps):
    rows = batches[i % len(batches)]
    start = time.perf_counter()
    step(rows)
    seconds.append(time.perf_counter() - start)
    tokens.append(sum(len(ids) for ids, _ in rows))
form = "compiled" if compiled else "best" if best else "plain"
print(f"{form} {sum(tokens) / len(tokens):.0f} tokens {1e3 * sum(seconds) / steps:.1f} ms "
      f"{sum(tokens) / sum(seconds):.0f} tokens/s PyTorch {torch.__version__}")

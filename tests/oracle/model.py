#!/usr/bin/env python3
"""Makes tests/fixtures/model_*.safetensors with PyTorch autograd: what tests/test_model.c and test_checkpoint.c follow.

    python3 tests/oracle/model.py                    (needs PyTorch and NumPy; run from anywhere)

The reference is computed in float64 and stored as float32; every number in a fixture is F32, ids and lengths too.
RoPE angles are computed in float32, as transformers does: they belong to the model, not to the rounding. Tensors are
in the trainer's own conventions: names of model/transformer.c's tensor table, RoPE on interleaved pairs (Meta's
apply_rotary_emb), per-layer tensors stacked. A batch is stored ragged (lengths, then ids end to end) with one target
for each token: the id that this position should say, or -100.

The figures come from the batch as a Hugging Face user would have it: a rectangle padded on the right, an attention
mask, -100 for labels, F.cross_entropy(ignore_index=-100). That each row alone gives the same is asserted here, so that
whoever follows the fixtures with ragged rows shows that ragged equals padded.
"""
import json
import math
import os
import struct

import numpy as np
import torch
import torch.nn.functional as F

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
IGNORE = -100


def save(name, tensors, **notes):
    """A safetensors file: header length, JSON header, F32 data."""
    made_with = {"made_by": "tests/oracle/model.py", "torch": torch.__version__, "numpy": np.__version__}
    header = {"__metadata__": {**made_with, **{k: json.dumps(v) for k, v in notes.items()}}}
    data = b""
    for key, value in tensors.items():
        array = np.ascontiguousarray(torch.as_tensor(value).detach().numpy(), dtype="<f4")
        offsets = [len(data), len(data) + array.nbytes]
        header[key] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(FIXTURES, exist_ok=True)
    with open(os.path.join(FIXTURES, name + ".safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    print("%-28s %7d bytes" % (name, 8 + len(text) + len(data)))


# ---- the model -------------------------------------------------------------------------------------------------------

def config(dim, layers, heads, kv_heads, head_dim, tied, hidden=22, vocab=37, seq=160, theta=10000.0, eps=1e-5,
           scaling=None):
    """transformers' LlamaConfig, as far as it says something about the numbers."""
    return dict(hidden_size=dim, intermediate_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                num_key_value_heads=kv_heads, head_dim=head_dim, vocab_size=vocab, max_position_embeddings=seq,
                tie_word_embeddings=tied, rope_theta=theta, rms_norm_eps=eps, rope_scaling=scaling)


def llama3(factor, low, high, original):
    return dict(rope_type="llama3", factor=factor, low_freq_factor=low, high_freq_factor=high,
                original_max_position_embeddings=original)


def make_params(c, seed):
    """Large enough for every tensor to matter and for attention not to be uniform."""
    g = torch.Generator().manual_seed(seed)
    C, F_, V, L = c["hidden_size"], c["intermediate_size"], c["vocab_size"], c["num_hidden_layers"]
    HD, KD = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]

    def matrix(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64) / math.sqrt(shape[-1])

    def norm(*shape):
        return 1 + 0.2 * torch.randn(*shape, generator=g, dtype=torch.float64)

    p = dict(tok_emb=2 * matrix(V, C), att_norm=norm(L, C), wq=matrix(L, HD, C), wk=matrix(L, KD, C),
             wv=matrix(L, KD, C), wo=matrix(L, C, HD), ffn_norm=norm(L, C), w1=matrix(L, F_, C),
             w3=matrix(L, F_, C), w2=matrix(L, C, F_), final_norm=norm(C))
    if not c["tie_word_embeddings"]:
        p["classifier"] = matrix(V, C)
    # What is stored as float32 is what float64 starts from.
    return {k: v.float().double().requires_grad_() for k, v in p.items()}


def rope_frequencies(c):
    """transformers' default and llama3 inv_freq (modeling_rope_utils.py), float32 like there."""
    D, s = c["head_dim"], c["rope_scaling"]
    freq = 1.0 / (c["rope_theta"] ** (torch.arange(0, D, 2, dtype=torch.int64).float() / D))
    if s is None:
        return freq
    low, high, original = s["low_freq_factor"], s["high_freq_factor"], s["original_max_position_embeddings"]
    wavelen = 2 * math.pi / freq
    scaled = torch.where(wavelen > original / low, freq / s["factor"], freq)
    smooth = (original / wavelen - low) / (high - low)
    smoothed = (1 - smooth) * scaled / s["factor"] + smooth * scaled
    is_medium = ~(wavelen < original / high) & ~(wavelen > original / low)
    return torch.where(is_medium, smoothed, scaled)


def rmsnorm(x, w, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w


def apply_rope(x, c):
    """x (B, T, heads, D): each pair is a complex number, turned by its position's angle."""
    angle = torch.outer(torch.arange(x.shape[1]).float(), rope_frequencies(c))
    turn = torch.complex(angle.cos(), angle.sin()).to(torch.complex128)[None, :, None, :]
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2)


def attention(x, p, l, c, mask):
    B, T, _ = x.shape
    H, K, D = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    q = apply_rope((x @ p["wq"][l].T).view(B, T, H, D), c).transpose(1, 2)
    k = apply_rope((x @ p["wk"][l].T).view(B, T, K, D), c).transpose(1, 2).repeat_interleave(H // K, dim=1)
    v = (x @ p["wv"][l].T).view(B, T, K, D).transpose(1, 2).repeat_interleave(H // K, dim=1)
    scores = (q @ k.transpose(-1, -2) / math.sqrt(D)).masked_fill(~mask, -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, H * D) @ p["wo"][l].T


def model_logits(p, c, ids, attention_mask):
    """ids, attention_mask (B, T) -> logits (B, T, V)."""
    T = ids.shape[1]
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    mask = causal[None, None] & attention_mask[:, None, None, :]
    x = p["tok_emb"][ids]
    for l in range(c["num_hidden_layers"]):
        x = x + attention(rmsnorm(x, p["att_norm"][l], c["rms_norm_eps"]), p, l, c, mask)
        y = rmsnorm(x, p["ffn_norm"][l], c["rms_norm_eps"])
        x = x + (F.silu(y @ p["w1"][l].T) * (y @ p["w3"][l].T)) @ p["w2"][l].T
    return rmsnorm(x, p["final_norm"], c["rms_norm_eps"]) @ p.get("classifier", p["tok_emb"]).T


# ---- batches ---------------------------------------------------------------------------------------------------------

def make_row(g, c, length, which):
    """(ids, targets): which positions say something is 'all', 'none', 'first', 'last', or the share that do."""
    ids = torch.randint(0, c["vocab_size"], (length + 1,), generator=g)
    on = {"all": lambda t: True, "none": lambda t: False, "first": lambda t: t == 0, "last": lambda t: t == length - 1}
    chosen = torch.rand(length, generator=g) < which if isinstance(which, float) else \
        torch.tensor([on[which](t) for t in range(length)])
    return ids[:-1], torch.where(chosen, ids[1:], torch.tensor(IGNORE))


def make_batch(c, seed, rows, weights=None):
    """rows: [(length, which)]; weights: None for 1 everywhere, or the values to draw from."""
    g = torch.Generator().manual_seed(seed)
    made = [make_row(g, c, *row) for row in rows]
    b = dict(ids=[ids for ids, _ in made], targets=[targets for _, targets in made])
    values = torch.tensor(weights or [1.0], dtype=torch.float64)
    b["weights"] = [values[torch.randint(0, len(values), t.shape, generator=g)] for t in b["targets"]]
    return b


def pad(rows, value):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def batch_losses(p, c, b):
    """nll, entropy and weight of each target, in order of position, from the padded rectangle."""
    ids, labels, weights = pad(b["ids"], 0), pad(b["targets"], IGNORE), pad(b["weights"], 0.0)
    attention_mask = pad([torch.ones(len(row), dtype=torch.bool) for row in b["ids"]], False)
    logits = model_logits(p, c, ids, attention_mask)
    flat = logits.flatten(0, 1), labels.flatten()
    nll = F.cross_entropy(*flat, ignore_index=IGNORE, reduction="none").view(labels.shape)
    supervised = labels != IGNORE
    if not (weights[supervised] != 1).any():               # then the loss is PyTorch's own mean
        mean = F.cross_entropy(*flat, ignore_index=IGNORE)
        assert abs(nll.sum() / supervised.sum() - mean) < 1e-12
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return nll[supervised], entropy[supervised], weights[supervised]


def check_rows_alone(p, c, b, nll):
    """Ragged equals padded: each row by itself, with no padding and no attention mask, has the same losses."""
    alone = []
    for ids, targets in zip(b["ids"], b["targets"]):
        logits = model_logits(p, c, ids[None], torch.ones(1, len(ids), dtype=torch.bool))[0]
        alone.append(F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")[targets != IGNORE])
    assert (torch.cat(alone) - nll).abs().max() < 1e-12


def batch_tensors(b, prefix=""):
    return {prefix + "lengths": torch.tensor([len(row) for row in b["ids"]]), prefix + "ids": torch.cat(b["ids"]),
            prefix + "targets": torch.cat(b["targets"]), prefix + "weights": torch.cat(b["weights"])}


# ---- fixtures --------------------------------------------------------------------------------------------------------

def save_gradient_case(name, c, seed, rows, weights=None):
    p, b = make_params(c, seed), make_batch(c, seed + 1, rows, weights)
    nll, entropy, weight = batch_losses(p, c, b)
    check_rows_alone(p, c, b, nll)
    loss = (weight * nll).sum() / weight.sum()
    loss.backward()
    save(name, {**{"param." + k: v for k, v in p.items()}, **batch_tensors(b), "nll": nll, "entropy": entropy,
                "loss": loss.view(1), **{"grad." + k: v.grad for k, v in p.items()}}, config=c)


def schedule(kind, warmup, total):
    """transformers' get_scheduler (optimization.py): what the peak rate is multiplied with, before update `step`."""
    def factor(step):
        if kind == "constant":
            return 1.0
        if step < warmup:
            return step / max(1, warmup)
        if kind == "constant_with_warmup":
            return 1.0
        if kind == "linear":
            return max(0.0, (total - step) / max(1, total - warmup))
        progress = (step - warmup) / max(1, total - warmup)
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * 2.0 * 0.5 * progress)))
    return factor


def make_optimizer(p, run):
    """As Trainer does: weight decay for matrices and none for norms, in two parameter groups."""
    groups = [dict(params=[v for k, v in p.items() if not k.endswith("norm")], weight_decay=run["weight_decay"]),
              dict(params=[v for k, v in p.items() if k.endswith("norm")], weight_decay=0.0)]
    if run["optim"] == "sgd":
        return torch.optim.SGD(groups, lr=run["learning_rate"])
    betas = run["adam_beta1"], run["adam_beta2"]
    return torch.optim.AdamW(groups, lr=run["learning_rate"], betas=betas, eps=run["adam_epsilon"])


def save_training_run(name, c, seed, micro_batches, **run):
    """Ten updates. micro_batches: the rows of each micro-batch; the updates take turns with two sets of tokens."""
    p = make_params(c, seed)
    tensors = {"param." + k: v.clone() for k, v in p.items()}
    sets = [[make_batch(c, seed + 100 * s + i, rows, [1.0, 1.0, 0.5]) for i, rows in enumerate(micro_batches, 1)]
            for s in range(2)]
    for s in range(2):
        for i, b in enumerate(sets[s]):
            tensors.update(batch_tensors(b, "set%d.micro%d." % (s, i)))
    optimizer = make_optimizer(p, run)
    factor = schedule(run["lr_scheduler_type"], run["warmup_steps"], run["max_steps"])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    log = dict(losses=[], grad_norms=[], learning_rates=[])
    for step in range(10):
        batches = sets[step % 2]
        divisor = sum(float(w[t != IGNORE].sum()) for b in batches for w, t in zip(b["weights"], b["targets"]))
        optimizer.zero_grad()
        loss = 0.0
        for b in batches:
            nll, _, weight = batch_losses(p, c, b)
            share = (weight * nll).sum() / divisor
            share.backward()
            loss += share.item()
        log["losses"].append(loss)
        log["grad_norms"].append(float(torch.nn.utils.clip_grad_norm_(p.values(), run["max_grad_norm"] or math.inf)))
        log["learning_rates"].append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    for key, values in log.items():
        print("    %s: %s" % (key, " ".join("%.4g" % v for v in values)))
    tensors.update({"final." + k: v for k, v in p.items()}, **{k: torch.tensor(v) for k, v in log.items()})
    save(name, tensors, config=c, run={**run, "micro_batches": len(micro_batches)})


def save_schedules():
    runs = [(kind, warmup, total) for kind in ("linear", "cosine", "constant", "constant_with_warmup")
            for warmup, total in ((0, 1), (0, 20), (5, 20), (1, 7), (9, 9))]
    rows = torch.tensor([[schedule(*run)(step) for step in range(20)] for run in runs])
    notes = [dict(lr_scheduler_type=k, warmup_steps=w, max_steps=t) for k, w, t in runs]
    save("model_schedules", {"factors": rows}, runs=notes)


def save_rope():
    configs = {"plain": config(20, 1, 2, 2, 10, True, theta=500.0),
               "llama3_1": config(64, 1, 2, 2, 128, True, theta=500000.0, scaling=llama3(8.0, 1.0, 4.0, 8192)),
               "llama3_2": config(64, 1, 2, 2, 64, True, theta=500000.0, scaling=llama3(32.0, 1.0, 4.0, 8192))}
    save("model_rope", {name: rope_frequencies(c) for name, c in configs.items()}, **configs)


def save_gradient_cases():
    # Very different lengths, one longer than two blocks of queries; every place where a row's targets may stand.
    mixed = [(1, "all"), (1, "none"), (2, "last"), (150, 0.6), (70, "first"), (40, "last"), (33, "none"), (66, 0.3),
             (5, "all")]
    save_gradient_case("model_gqa_untied", config(20, 3, 4, 2, 10, tied=False), 1, mixed)
    save_gradient_case("model_gqa_tied", config(33, 3, 3, 1, 10, tied=True, theta=500.0), 2, mixed,
                       [1.0, 0.25, 3.0, 0.0])
    save_gradient_case("model_one_layer_tied", config(30, 1, 3, 3, 10, tied=True, eps=1e-6), 3, mixed)
    save_gradient_case("model_one_layer_untied", config(17, 1, 4, 2, 6, tied=False), 4,
                       [(1, "none"), (140, "last"), (9, "first")])
    stretched = config(24, 2, 4, 4, 6, tied=True, theta=500000.0, scaling=llama3(8.0, 1.0, 4.0, 64))
    save_gradient_case("model_llama3_rope", stretched, 5, [(150, 0.5), (64, "all"), (65, "last")], [1.0, 0.5])
    save_gradient_case("model_single_tokens", config(20, 2, 2, 1, 10, tied=False), 6,
                       [(1, "all"), (1, "none"), (1, "all")])


def save_training_runs():
    micro = [[(30, 0.5), (1, "all"), (12, "last")], [(70, 0.3), (8, "none")], [(5, "all")]]
    save_training_run("model_adamw_linear", config(20, 2, 2, 1, 10, tied=False), 10, micro, optim="adamw",
                      learning_rate=3e-3, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, weight_decay=0.1,
                      lr_scheduler_type="linear", warmup_steps=3, max_steps=10, max_grad_norm=1.0)
    save_training_run("model_adamw_cosine", config(20, 1, 2, 1, 10, tied=True), 11, micro[:2], optim="adamw",
                      learning_rate=1e-2, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6, weight_decay=0.01,
                      lr_scheduler_type="cosine", warmup_steps=2, max_steps=12, max_grad_norm=0)
    save_training_run("model_sgd", config(20, 1, 2, 1, 10, tied=True), 12, micro[1:], optim="sgd", learning_rate=0.1,
                      weight_decay=0.05, lr_scheduler_type="constant_with_warmup", warmup_steps=2, max_steps=10,
                      max_grad_norm=2.0)


def main():
    torch.set_num_threads(1)                               # one order of summation, so that the files come out the same
    torch.set_default_dtype(torch.float64)
    save_gradient_cases()
    save_training_runs()
    save_schedules()
    save_rope()


if __name__ == "__main__":
    main()

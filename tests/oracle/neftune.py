#!/usr/bin/env python3
"""Makes tests/fixtures/neftune.safetensors: one row through model/tiny with transformers' NEFTune hook, and the noise
that it drew, with the loss and the gradient's norm.

    $(sh tests/oracle/venv.sh) tests/oracle/neftune.py"""
import torch
from transformers import AutoModelForCausalLM
from transformers.integrations.neftune import neftune_post_forward_hook

from model import save

ALPHA = 5.0
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained("model/tiny", dtype=torch.float32).train()
embedding = model.get_input_embeddings()
embedding.neftune_noise_alpha = ALPHA
seen = []
embedding.register_forward_hook(neftune_post_forward_hook)
embedding.register_forward_hook(lambda module, args, out: seen.append((out - module.weight[args[0]]).detach()))
ids = torch.randint(0, model.config.vocab_size, (1, 12))
labels = ids.clone()
labels[0, :5] = -100
loss = model(input_ids=ids, labels=labels).loss
loss.backward()
norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
save("neftune", {"ids": ids[0].float(), "targets": torch.cat([labels[0, 1:], torch.tensor([-100])]).float(),
                 "noise": seen[0][0], "loss": loss.reshape(1), "grad_norm": norm.reshape(1)}, alpha=ALPHA)

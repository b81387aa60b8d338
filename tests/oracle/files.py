"""Prints the numbers of tests/test_files.c: folders made of model/tiny, each with one oddity, read by transformers. For
a config or a head the loss on one row; for tokens the ids of one text.

    HF_HUB_OFFLINE=1 $(sh tests/oracle/venv.sh) tests/oracle/files.py"""
import json, os, shutil, tempfile
import torch, transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.logging.set_verbosity_error()
ROW = [0, 2, 83, 639, 277, 572, 579, 63, 506, 767, 300, 978, 836, 523, 264, 382, 117, 4, 3, 423, 4]
TEXT = 'a <x>b<y> <z> c'
LLAMA3 = {'rope_type': 'llama3', 'factor': 8, 'low_freq_factor': 1, 'high_freq_factor': 4}


def folder(config=None, tensors=None, tokenizer_config=None, **files):
    path = tempfile.mkdtemp()
    for name in os.listdir('model/tiny'): shutil.copy('model/tiny/' + name, path)
    for name, change in (('config.json', config), ('tokenizer_config.json', tokenizer_config)):
        values = json.load(open(path + '/' + name))
        values.update(change or {})
        json.dump({k: v for k, v in values.items() if v != 'absent'}, open(path + '/' + name, 'w'))
    for name, value in files.items(): json.dump(value, open(path + '/' + name + '.json', 'w'))
    if tensors:
        values = load_file(path + '/model.safetensors')
        tensors(values)
        save_file(values, path + '/model.safetensors', {'format': 'pt'})
    return path


def loss(name, **odd):
    ids = torch.tensor([ROW])
    model = AutoModelForCausalLM.from_pretrained(folder(**odd), dtype=torch.float32)
    print('%-44s %.6f' % (name, model(ids, labels=ids).loss.item()))


def ids(name, **odd): print('%-44s %s' % (name, AutoTokenizer.from_pretrained(folder(**odd))(TEXT).input_ids))


def rope(**keys): return {'config': {'rope_theta': 'absent', **keys}}
def double_head(t): t['lm_head.weight'] = 2 * t['model.embed_tokens.weight'].flip(0)
def same_head(t): t['lm_head.weight'] = t['model.embed_tokens.weight'].clone()
def token(text, **flags): return {'content': text, 'special': True, 'normalized': False, **flags}


loss('as it is')
loss('theta at the top', **rope(rope_theta=500, rope_parameters={'rope_type': 'default'}))
loss('theta in both', **rope(rope_theta=500, rope_parameters={'rope_theta': 300}))
loss('empty rope_parameters', **rope(rope_theta=500, rope_parameters={}))
loss('rope_scaling before rope_parameters', **rope(
    rope_scaling={**LLAMA3, 'original_max_position_embeddings': 16}, rope_parameters={'rope_theta': 300}))
loss('empty rope_scaling', **rope(rope_scaling={}, rope_parameters={'rope_theta': 300}))
loss('llama3, length of the model', **rope(rope_scaling=LLAMA3))
loss('llama3, length at the top', **rope(rope_scaling=LLAMA3, original_max_position_embeddings=16))
loss('another head', tensors=double_head)
loss('the same head', tensors=same_head)
ids('nothing declared')
ids('added_tokens_decoder', tokenizer_config={
    'added_tokens_decoder': {'2000': token('<y>'), '1500': token('<x>', lstrip=True)}})
ids('extra_special_tokens', tokenizer_config={'extra_special_tokens': ['<z>', '<x>']})
ids('extra_special_tokens by name', tokenizer_config={'extra_special_tokens': {'image_token': '<z>'}, 'y_token': '<y>'})
ids('pad_token', tokenizer_config={'pad_token': '<y>', 'additional_special_tokens': ['<x>']})
ids('special_tokens_map', special_tokens_map={'eos_token': '<x>', 'pad_token': token('<y>')})
ids('special_tokens_map beside a decoder', tokenizer_config={'added_tokens_decoder': {'1024': token('<z>')}},
    special_tokens_map={'pad_token': '<y>'})
ids('added_tokens', added_tokens={'<y>': 1024, '<x>': 1025})

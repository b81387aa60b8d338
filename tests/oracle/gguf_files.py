"""GGUF files by others' hands: the gguf package writes and reads them, and llama.cpp (PyPI's xllamacpp) runs them.

    gguf_files.py fixtures            writes tests/fixtures/gguf and tests/corpus/gguf: files of gguf's own writer, and
                                      llama.cpp's ids of some texts
    gguf_files.py FOLDER FILE.gguf    is FILE what `./train export FOLDER FILE` should make? Every key and tensor; and
                                      if the numbers are F32, what llama.cpp makes of it: the ids of odd texts, the next
                                      token's probabilities, a greedy text and an answer

make test-gguf calls it."""
import json, os, shutil, subprocess, sys, urllib.request
import gguf, numpy as np

TEXTS = ['Once upon a time', " a  b\tc\n\nd", "Don't stop, it's 12345 3.14!", 'naïve café — “quotes”', '日本語テスト',
         'x', ' ', '', '<s>hi</s>', 'Name the kind: a small dog', '\n\n', 'ALLCAPS and CamelCase', 'emoji 🙂 end ',
         '   lead', 'a     b      c', 'x<|end|>y']
FILE_TYPES = {'F32': 0, 'F16': 1, 'BF16': 32, 'Q8_0': 7}


# ---- llama.cpp -----------------------------------------------------------------------------------------------------

class Llama:
    """A server of one model. Keys and values are F32, so that the numbers are those of the weights."""
    def __init__(self, path):
        import xllamacpp as x
        p = x.CommonParams()
        p.model.path, p.n_gpu_layers, p.n_parallel, p.n_ctx, p.warmup, p.verbosity = path, 0, 1, 512, False, -1
        p.cpuparams.n_threads = 1
        p.cache_type_k = p.cache_type_v = x.ggml_type.GGML_TYPE_F32
        p.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = x.Server(p)

    def post(self, path, **body):
        body = json.dumps(body).encode()
        request = urllib.request.Request(self.server.listening_address + path, body,
                                         {'Content-Type': 'application/json'})
        return json.loads(urllib.request.urlopen(request, timeout=120).read())

    def ids(self, text): return self.post('/tokenize', content=text, add_special=True, parse_special=True)['tokens']

    def complete(self, prompt, n):
        return self.post('/completion', prompt=prompt, n_predict=n, temperature=0, n_probs=5, cache_prompt=False,
                         return_tokens=True)

    def chat(self, said, n):
        return self.post('/v1/chat/completions', messages=[{'role': 'user', 'content': said}], temperature=0,
                         max_tokens=n)['choices'][0]['message']['content']


# ---- fixtures ------------------------------------------------------------------------------------------------------
# Small models of known numbers: number i of tensor t (a TensorId, and 100 times the layer) is k / 16, which all types
# hold. Or (hard) of numbers that must be rounded: of all sizes, and half way between two of F16.

def numbers(t, shape, hard):
    i = np.arange(np.prod(shape))
    if hard:
        random = np.random.default_rng(t)
        x = random.normal(size=i.size) * 10 ** random.uniform(-9, 3, i.size)
        half_way = (1 + (2 * random.integers(0, 1024, i.size) + 1) / 2048) * 2.0 ** random.integers(-24, 9, i.size)
        return np.where(i % 3 == 0, half_way, x).astype(np.float32).reshape(shape)
    return (np.where(i % 32 == 0, 127, (i * 37 + t * 11) % 255 - 127) / 16).astype(np.float32).reshape(shape)


def tensors(dim, hidden, heads, kv_heads, layers, vocab, tied):
    kv = dim // heads * kv_heads
    yield 'token_embd.weight', 0, (vocab, dim)
    for t, (name, shape) in enumerate([
            ('attn_norm', (dim,)), ('attn_q', (dim, dim)), ('attn_k', (kv, dim)), ('attn_v', (kv, dim)),
            ('attn_output', (dim, dim)), ('ffn_norm', (dim,)), ('ffn_gate', (hidden, dim)),
            ('ffn_up', (hidden, dim)), ('ffn_down', (dim, hidden))]):
        for layer in range(layers): yield f'blk.{layer}.{name}.weight', 1 + t + 100 * layer, shape
    yield 'output_norm.weight', 10, (dim,)
    if not tied: yield 'output.weight', 11, (vocab, dim)


def byte_level():
    """GPT-2's letters of the bytes, then merges, then special tokens."""
    letters = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    alphabet = [chr(b if b in letters else 256 + sum(c not in letters for c in range(b))) for b in range(256)]
    merges = ['t h', 'i n', 'th e', 'Ġ the', 'o n', 'in g', 'Ġ a', 'Ġ Ġ', 'Ċ Ċ', '1 2']
    tokens = alphabet + [m.replace(' ', '') for m in merges] + ['<|bos|>', '<|end|>', '<x>']
    types = [1] * (len(tokens) - 3) + [3, 3, 4]
    return {'model': 'gpt2', 'pre': 'gpt-2', 'tokens': tokens + ['[PAD%d]' % len(tokens)], 'token_type': types + [5],
            'merges': merges, 'bos_token_id': 266, 'eos_token_id': 267, 'add_bos_token': True, 'add_eos_token': False}


def sentencepiece():
    pieces = ['▁t', 'he', '▁the', '▁▁', 'on', '▁▁▁▁', 'in', 'ing']
    letters = ['▁', 'e', 't', 'a', 'h', 'o', 'n', 'i', 'g', 'é']
    tokens = ['<unk>', '<s>', '</s>'] + ['<0x%02X>' % b for b in range(256)] + pieces + letters
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces) + len(letters))]
    return {'model': 'llama', 'pre': 'default', 'tokens': tokens,
            'token_type': [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259), 'scores': scores, 'add_space_prefix': True,
            'bos_token_id': 1, 'eos_token_id': 2, 'unknown_token_id': 0, 'add_bos_token': True, 'add_eos_token': False}


def add(writer, key, value):
    if isinstance(value, bool): writer.add_bool(key, value)
    elif isinstance(value, int): writer.add_uint32(key, value)
    elif isinstance(value, float): writer.add_float32(key, value)
    elif isinstance(value, str): writer.add_string(key, value)
    else: writer.add_array(key, value)


def write(path, kind, sizes, tokenizer, template=None, hard=False):
    """The keys in the order in which ./train writes them, so that the files can be the same byte for byte."""
    writer = gguf.GGUFWriter(path, 'llama')
    dim, hidden, heads, kv_heads, layers, vocab, tied = sizes
    for key, value in {
            'general.file_type': FILE_TYPES[kind], 'general.quantization_version': 2, 'llama.embedding_length': dim,
            'llama.feed_forward_length': hidden, 'llama.block_count': layers, 'llama.context_length': 64,
            'llama.attention.head_count': heads, 'llama.attention.head_count_kv': kv_heads,
            'llama.attention.key_length': dim // heads, 'llama.attention.value_length': dim // heads,
            'llama.rope.dimension_count': dim // heads, 'llama.vocab_size': vocab,
            'llama.attention.layer_norm_rms_epsilon': 1e-5, 'llama.rope.freq_base': 10000.0,
            'general.name': 'small', 'general.type': 'model',
            **{'tokenizer.ggml.' + k: v for k, v in tokenizer.items()}}.items(): add(writer, key, value)
    if template: writer.add_string('tokenizer.chat_template', template)
    for name, t, shape in tensors(*sizes):
        kind_here = 'F32' if len(shape) == 1 else 'F16' if kind == 'Q8_0' and shape[-1] % 32 else kind
        of = gguf.GGMLQuantizationType[kind_here]
        values = numbers(t, shape, hard)
        writer.add_tensor(name, values if kind_here == 'F32' else gguf.quants.quantize(values, of), raw_dtype=of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def fixtures(folder='tests/fixtures/gguf'):
    os.makedirs(folder, exist_ok=True)
    template = "{% for m in messages %}<|bos|>{{ m['role'] }}\n{{ m['content'] }}<|end|>{% endfor %}"
    bpe, spm = byte_level(), sentencepiece()
    wide, odd = (32, 64, 4, 2, 1, len(bpe['tokens']), True), (8, 12, 2, 1, 2, len(spm['tokens']), False)
    for kind in ('F32', 'F16', 'Q8_0'): write(f'{folder}/bpe_{kind.lower()}.gguf', kind, wide, bpe, template, True)
    write(f'{folder}/bpe_bf16.gguf', 'BF16', wide, bpe, template)
    write(f'{folder}/spm_f32.gguf', 'F32', odd, spm)
    write(f'{folder}/spm_q8_0.gguf', 'Q8_0', odd, spm)
    seeds = 'tests/corpus/gguf'                            # small enough for a fuzzer
    os.makedirs(seeds, exist_ok=True)
    few = {'model': 'gpt2', 'pre': 'llama-bpe', 'tokens': ['a', 'b', 'ab', 'Ġ', '<e>', 'u'], 'merges': ['a b'],
           'token_type': [1, 1, 1, 1, 3, 4], 'bos_token_id': 4, 'eos_token_id': 4, 'eot_token_id': 5}
    write(f'{seeds}/bpe', 'F32', (4, 4, 1, 1, 1, 6, True), few, template)
    few = {'model': 'llama', 'tokens': ['<unk>', '<s>', '</s>', '▁', 'a', '▁a', '<0x0A>'],
           'scores': [0.0] * 5 + [-1.0, 0.0], 'token_type': [2, 3, 3, 1, 1, 1, 6], 'add_space_prefix': False,
           'padding_token_id': 0}
    write(f'{seeds}/spm', 'F16', (4, 4, 2, 1, 1, 7, False), few)
    write(f'{seeds}/q8_0', 'Q8_0', (32, 4, 1, 1, 1, 7, True), few)
    write(f'{seeds}/bf16', 'BF16', (4, 4, 1, 1, 1, 7, True), {**few, 'pre': 'default', 'add_eos_token': True})
    ids = {}
    for name in ('bpe', 'spm'):
        llama = Llama(f'{folder}/{name}_f32.gguf')
        ids[name] = [[text, llama.ids(text)] for text in TEXTS]
    lines = [json.dumps(name) + ': [\n' + ',\n'.join(json.dumps(c, ensure_ascii=False) for c in cases) + ']'
             for name, cases in ids.items()]
    with open(f'{folder}/ids.json', 'w') as f: f.write('{' + ',\n'.join(lines) + '}\n')


# ---- a file of ours ------------------------------------------------------------------------------------------------

def wanted_tensors(folder, architecture, config, model):
    """Those of the model as transformers has it, under the names of gguf's own table."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    for name, value in model.state_dict().items():
        if name == 'lm_head.weight' and config.tie_word_embeddings: continue
        x = value.float().numpy()
        heads = {'q': config.num_attention_heads, 'k': config.num_key_value_heads}.get(name.split('_proj')[0][-1])
        if heads and '_proj.' in name and architecture in ('llama', 'smollm3'):        # halves become pairs
            x = x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
        yield names.get_name(name, ('.weight', '.bias')), x


def check(folder, path):
    """What is wrong with the file, as lines."""
    from transformers import AutoConfig, AutoModelForCausalLM
    import torch
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    reader, wrong = gguf.GGUFReader(path), []
    keys = {k: f.contents() for k, f in reader.fields.items()}
    a = {'mistral': 'llama'}.get(config.model_type, config.model_type)
    head = getattr(config, 'head_dim', None) or config.hidden_size // config.num_attention_heads
    want = {'general.architecture': a, f'{a}.embedding_length': config.hidden_size,
            f'{a}.vocab_size': config.vocab_size,
            f'{a}.block_count': config.num_hidden_layers, f'{a}.feed_forward_length': config.intermediate_size,
            f'{a}.attention.head_count': config.num_attention_heads, f'{a}.attention.key_length': head,
            f'{a}.attention.head_count_kv': config.num_key_value_heads, f'{a}.rope.dimension_count': head,
            f'{a}.context_length': config.max_position_embeddings,
            f'{a}.rope.freq_base': config.rope_parameters['rope_theta'],
            f'{a}.attention.layer_norm_rms_epsilon': config.rms_norm_eps}
    for key, value in want.items():
        got = keys.get(key)
        same = got is not None and (abs(got - value) <= 1e-6 * abs(value) if isinstance(value, float) else got == value)
        if not same: wrong.append(f'{key}: expected {value}, found {got}')
    # the tokenizer, by its own file
    spec = json.load(open(folder + '/tokenizer.json'))
    tokens = {i: text for text, i in spec['model']['vocab'].items()}
    tokens.update({t['id']: t['content'] for t in spec['added_tokens']})
    want = [tokens.get(i, '[PAD%d]' % i) for i in range(config.vocab_size)]
    if keys['tokenizer.ggml.tokens'] != want: wrong.append('tokenizer.ggml.tokens differs')
    merges = [m if isinstance(m, str) else ' '.join(m) for m in spec['model']['merges']]
    if keys['tokenizer.ggml.model'] == 'gpt2' and keys['tokenizer.ggml.merges'] != merges: wrong.append('merges differ')
    special = {t['id'] for t in spec['added_tokens'] if t['special']} - {tokens_unknown(spec)}
    if {i for i, t in enumerate(keys['tokenizer.ggml.token_type']) if t == 3} != special: wrong.append('types differ')
    # the numbers
    scaling = config.rope_parameters.get('rope_type') == 'llama3'
    got = {t.name: t for t in reader.tensors}
    want = dict(wanted_tensors(folder, a, config, model))
    if set(got) != set(want) | ({'rope_freqs.weight'} if scaling else set()):
        wrong.append(f'tensors: {sorted(set(got) ^ set(want))} are too many or missing')
    for name in set(got) & set(want):
        t, x = got[name], want[name]
        values = gguf.quants.dequantize(t.data, t.tensor_type).reshape(x.shape)
        exact = x if t.tensor_type.name == 'F32' else gguf.quants.dequantize(gguf.quants.quantize(x, t.tensor_type),
                                                                            t.tensor_type).reshape(x.shape)
        if list(t.shape) != list(x.shape)[::-1] or (values != exact).any(): wrong.append(f'{name}: numbers differ')
    return model, wrong, len(got)


def tokens_unknown(spec):
    """Has a type of its own in a tokenizer of Llama 2's kind."""
    model = spec['model']
    return model['vocab'].get(model.get('unk_token')) if model.get('byte_fallback') else None


def run(folder, path, model):
    """What llama.cpp makes of the file: ids as the tokenizers library gives them, probabilities as transformers, and
    texts as ./train gives them."""
    import torch
    from tokenizers import Tokenizer
    llama, wrong, worst, n = Llama(path), [], 0.0, 0
    tokenizer = Tokenizer.from_file(folder + '/tokenizer.json')
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        if llama.ids(text) != ids: wrong.append(f'ids of {text!r}: expected {ids}, found {llama.ids(text)}')
        answer = llama.complete(ids, 1).get('completion_probabilities') if ids else None
        if not answer: continue                            # nothing to go on from, or the text ends here
        want = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1].double(), -1)
        for top in answer[0]['top_logprobs'][:3]: worst = max(worst, abs(top['logprob'] - want[top['id']].item()))
        n += 1
    limit = 1e-4
    if worst > limit or not n: wrong.append(f'log-probabilities differ by {worst:.1e}, more than {limit:.0e}')
    ours = lambda *a: subprocess.run(['./train', *a, '--temperature=0', '--max_new_tokens=24'], capture_output=True,
                                     text=True, check=True).stdout
    prompt = 'Once upon a time'
    text = prompt + llama.complete(prompt, 24)['content']
    if ours('sample', path, '--prompt=' + prompt).rstrip() != text.rstrip(): wrong.append(f'sample: expected {text!r}')
    if gguf.GGUFReader(path).get_field('tokenizer.chat_template'):
        said = 'Name the kind: a small dog'
        text = llama.chat(said, 24)
        if ours('chat', path, '--prompt=' + said).strip() != text.strip(): wrong.append(f'chat: expected {text!r}')
    return wrong, worst, n


def family(folder, out):
    """A folder of tests/fixtures/families with a tokenizer, and with the layers without RoPE that llama.cpp takes."""
    shutil.copytree(folder, out, dirs_exist_ok=True)
    config = json.load(open(out + '/config.json'))
    if config['model_type'] == 'smollm3': config['no_rope_layers'] = [int(i % 4 != 3) for i in range(4)]
    letters, added = 'ĠabcdefhiklmnopstuxO:N', ['<|endoftext|>', '<|end|>']
    assert config['vocab_size'] == len(letters) + len(added)
    level = {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': True}
    files = {'config': config,
             'tokenizer_config': {'tokenizer_class': 'PreTrainedTokenizerFast', 'eos_token': added[0]},
             'tokenizer': {'added_tokens': [
                 {'id': len(letters) + i, 'content': t, 'special': True, 'normalized': False, 'lstrip': False,
                  'rstrip': False, 'single_word': False} for i, t in enumerate(added)],
                 'version': '1.0', 'truncation': None, 'padding': None, 'normalizer': None, 'pre_tokenizer': level,
                 'post_processor': None, 'decoder': level, 'model': {
                     'type': 'BPE', 'vocab': {c: i for i, c in enumerate(letters)}, 'merges': [], 'dropout': None,
                     'unk_token': None, 'continuing_subword_prefix': None, 'end_of_word_suffix': None,
                     'fuse_unk': False, 'byte_fallback': False}}}
    for name, value in files.items(): json.dump(value, open(f'{out}/{name}.json', 'w'))


def main(folder, path):
    model, wrong, n = check(folder, path)
    print(f'{path}: {n} tensors')
    if gguf.GGUFReader(path).get_field('general.file_type').contents() == 0:
        more, worst, n = run(folder, path, model)
        wrong += more
        print(f'    llama.cpp: log-probabilities within {worst:.1e} of transformers\' ({n} texts)')
    for line in wrong: print('    WRONG: ' + line[:200])
    return bool(wrong)


if __name__ == '__main__':
    os.environ['HF_HUB_OFFLINE'] = '1'
    sys.path.insert(0, 'build/xllamacpp')
    command = {'fixtures': fixtures, 'family': family}.get(sys.argv[1])
    status = command(*sys.argv[2:]) if command else main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(bool(status))                                 # llama.cpp's threads would not let it end

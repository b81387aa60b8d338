"""GGUF files by others' hands: the gguf package writes and reads them, and llama.cpp (PyPI's xllamacpp) runs them.

    gguf_files.py fixtures            writes tests/fixtures/gguf: files of gguf's own writer, and llama.cpp's ids of some texts
    gguf_files.py FOLDER FILE.gguf    is FILE what `./train export FOLDER FILE` should make? Every key and tensor; and llama.cpp
                                gives the ids of odd texts, the next token's probabilities, a greedy text and an answer

make test-gguf calls it."""
import json, os, subprocess, sys, tempfile, urllib.request
import gguf, numpy as np

TEXTS = ['Once upon a time', " a  b\tc\n\nd", "Don't stop, it's 12345 3.14!", 'naïve café — “quotes”', '日本語テスト', 'x', ' ',
         '', '<s>hi</s>', 'Name the kind: a small dog', '\n\n', 'ALLCAPS and CamelCase', 'emoji 🙂 end ', '   lead',
         'a     b      c', 'x<|end|>y']
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
        request = urllib.request.Request(self.server.listening_address + path, body, {'Content-Type': 'application/json'})
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
    ids = {}
    for name in ('bpe', 'spm'):
        llama = Llama(f'{folder}/{name}_f32.gguf')
        ids[name] = [[text, llama.ids(text)] for text in TEXTS]
    lines = [json.dumps(name) + ': [\n' + ',\n'.join(json.dumps(c, ensure_ascii=False) for c in cases) + ']'
             for name, cases in ids.items()]
    with open(f'{folder}/ids.json', 'w') as f: f.write('{' + ',\n'.join(lines) + '}\n')


if __name__ == '__main__':
    sys.path.insert(0, 'build/xllamacpp')
    if sys.argv[1:] == ['fixtures']: fixtures()
    sys.stdout.flush()
    os._exit(0)                                            # llama.cpp's threads would not let it end

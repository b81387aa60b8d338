"""The peer of bench_sample: llama.cpp (the wheel xllamacpp) on the same model, in float32, its cache too.

usage: bench_llamacpp.py MODEL.bin PROMPT NEW ROUNDS THREADS [--no-flash]
MODEL.bin is what bench_sample wrote, llama2.c's format. It becomes a .gguf beside it. Prints the line that bench_sample
prints: tokens a second of a prompt, and of what is generated after it, as llama.cpp itself reports them; medians. Both
print the first tokens that were generated: they must be the same. --no-flash: without flash attention, which is faster
in generation and slower in prompts."""
import json, os, statistics, sys, urllib.request
import gguf, numpy, xllamacpp

path = sys.argv[1]
prompt, new, rounds, threads = map(int, sys.argv[2:6])


def write_gguf(out):
    dim, ffn, layers, heads, kv_heads, vocab, length = numpy.fromfile(path, numpy.int32, 7).tolist()
    size = dim // heads
    rest = numpy.memmap(path, numpy.float32, "r", 28)
    w = gguf.GGUFWriter(out, "llama")
    w.add_context_length(length), w.add_embedding_length(dim), w.add_block_count(layers)
    w.add_feed_forward_length(ffn), w.add_head_count(heads), w.add_head_count_kv(kv_heads)
    w.add_rope_dimension_count(size), w.add_rope_freq_base(10000.0), w.add_layer_norm_rms_eps(1e-5)
    # A vocabulary of no use: prompts are given as ids.
    w.add_tokenizer_model("llama"), w.add_unk_token_id(0), w.add_bos_token_id(1), w.add_eos_token_id(2)
    w.add_token_list(["<unk>", "<s>", "</s>"] + [f"piece{i}" for i in range(3, vocab)])
    w.add_token_scores([0.0] * vocab), w.add_token_types([2, 3, 3] + [1] * (vocab - 3))
    w.add_add_bos_token(False)

    def add(name, count, *shape):
        nonlocal rest
        numbers = count * int(numpy.prod(shape))
        for i, tensor in enumerate(rest[:numbers].reshape(count, *shape)):
            w.add_tensor(name.replace("*", str(i)) + ".weight", tensor)
        rest = rest[numbers:]

    add("token_embd", 1, vocab, dim)
    add("blk.*.attn_norm", layers, dim)
    add("blk.*.attn_q", layers, heads * size, dim), add("blk.*.attn_k", layers, kv_heads * size, dim)
    add("blk.*.attn_v", layers, kv_heads * size, dim), add("blk.*.attn_output", layers, dim, heads * size)
    add("blk.*.ffn_norm", layers, dim)
    add("blk.*.ffn_gate", layers, ffn, dim), add("blk.*.ffn_down", layers, dim, ffn)
    add("blk.*.ffn_up", layers, ffn, dim), add("output_norm", 1, dim)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    return vocab


vocab = write_gguf(path + ".gguf")
p, f32 = xllamacpp.CommonParams(), xllamacpp.ggml_type.GGML_TYPE_F32
p.model.path, p.n_gpu_layers, p.warmup, p.verbosity = path + ".gguf", 0, True, -1
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
p.n_parallel, p.n_ctx = 1, prompt + new + 64
p.cache_type_k = p.cache_type_v = f32
if "--no-flash" in sys.argv:
    p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(p)
body = {"prompt": [(i * 37 + 11) % vocab for i in range(prompt)], "n_predict": new, "temperature": 0,
        "cache_prompt": False, "ignore_eos": True, "return_tokens": True, "samplers": ["top_k"], "top_k": 1}
speeds = []
for _ in range(rounds + 1):                                # the first one is not counted
    request = urllib.request.Request(server.listening_address + "/completion", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    answer = json.loads(urllib.request.urlopen(request, timeout=600).read())
    t = answer["timings"]
    assert (t["prompt_n"], t["predicted_n"]) == (prompt, new), t
    speeds.append((t["prompt_per_second"], t["predicted_per_second"]))
a, b = (statistics.median(x) for x in zip(*speeds[1:]))
print(f"prompt {a:.1f} generated {b:.1f} ids", *answer["tokens"][:8], flush=True)
os._exit(0)                                                # the server's threads do not end by themselves

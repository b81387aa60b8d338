// Writes tests/fixtures/tokenizer_cases.json: three small BPE models, tokenizers that use them, and what Hugging Face's
// Rust library (npm package tokenizers 0.23.2) makes of texts: ids, byte offsets, decoded text.
//     npm install tokenizers@0.23.2; node tests/oracle/tokenizer_fixtures.mjs > tests/fixtures/tokenizer_cases.json
import hf from 'tokenizers'

// ---- the models: trained here, on a few sentences, by counting pairs
const corpus = `the quick brown fox jumps over the lazy dog and the other dogs; it's what they'd like, isn't it? \
we've seen
the 1234 foxes in 2024 and 100 more in 1999. <s> </s> Naïve café résumé, Straße, größer; привет мир; 你好世界; \
e\u0301te\u0301
if (x == 1) { return y + 2; }   the end.  The end!  THE END... user assistant system message token tokens tokenizer`

function train(words, n) {
    const merges = []
    while (merges.length < n) {
        const counts = new Map()
        for (const w of words) for (let i = 0; i + 1 < w.length; i++) {
            const key = w[i] + ' ' + w[i + 1]
            counts.set(key, (counts.get(key) ?? 0) + 1)
        }
        const best = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0]
        if (!best || best[1] < 2) break
        merges.push(best[0])
        const [a, b] = best[0].split(' ')
        words = words.map(w => {
            const out = []
            for (let i = 0; i < w.length; i++) {
                const joined = i + 1 < w.length && w[i] === a && w[i + 1] === b
                out.push(joined ? w[i++] + w[i] : w[i])
            }
            return out
        })
    }
    return merges
}

function model(words, first, options) {
    const letters = [...new Set([...first, ...words.flat()])]
    const merges = train(words, 150)
    const pieces = [...new Set([...letters, ...merges.map(m => m.replace(' ', ''))])]
    return { type: 'BPE', ...options, vocab: Object.fromEntries(pieces.map((p, i) => [p, i])), merges }
}

const alphabet = hf.byteLevelAlphabet().sort()
const gpt2 = hf.byteLevelPreTokenizer(false, true)
const byteWords = gpt2.preTokenizeString(corpus).map(([word]) => [...word])
const spWords = corpus.split(/\s+/).map(word => ['▁', ...word])
const hex = b => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`
const bytes = Array.from({ length: 256 }, (_, b) => hex(b))
const models = {
    bytes: model(byteWords, alphabet, { ignore_merges: false }),
    pieces: model(spWords, ['<unk>', '<s>', '</s>', ...bytes, '▁▁'],
        { unk_token: '<unk>', fuse_unk: true, byte_fallback: true }),
    unknown: model(spWords, ['<unk>'], { unk_token: '<unk>', fuse_unk: false, byte_fallback: false }),
}
models.pieces.merges.push('▁ ▁')

// ---- the tokenizers
const byteLevel = (add_prefix_space, trim_offsets, use_regex) =>
    ({ type: 'ByteLevel', add_prefix_space, trim_offsets, use_regex })
const llama3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" +
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const split = regex => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false })
const sequence = (list, ...items) => ({ type: 'Sequence', [list]: items })
const metaspace = (prepend_scheme, split) => ({ type: 'Metaspace', replacement: '▁', prepend_scheme, split })
const replace = (from, to) => ({ type: 'Replace', pattern: { String: from }, content: to })
const noFlags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: false }
const added = (id, content, flags) => ({ id, content, ...noFlags, ...flags })
const template = (before, after, ids) => {
    const token = t => ({ SpecialToken: { id: t, type_id: 0 } })
    const single = [...before.map(token), { Sequence: { id: 'A', type_id: 0 } }, ...after.map(token)]
    const pair = [...single, { Sequence: { id: 'B', type_id: 1 } }]
    const special = [...before, ...after].map(t => [t, { id: t, ids: [ids[t]], tokens: [t] }])
    return { type: 'TemplateProcessing', single, pair, special_tokens: Object.fromEntries(special) }
}
const nb = Object.keys(models.bytes.vocab).length
const chat = [added(nb, '<|im_start|>', { special: true }), added(nb + 1, '<|im_end|>', { special: true }),
    added(nb + 2, '<think>')]
const flags = [added(nb, '<|im_start|>', { special: true, rstrip: true }), added(nb + 1, '<m>', { lstrip: true }),
    added(nb + 2, 'cat_', { single_word: true }), added(nb + 3, '<|im_', {}),
    added(nb + 4, 'Straße1', { normalized: true })]
const llama = [0, 1, 2].map(id => added(id, ['<unk>', '<s>', '</s>'][id], { special: true }))
const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 }
const spDecoder = sequence('decoders', replace('▁', ' '), { type: 'ByteFallback' }, { type: 'Fuse' }, strip)
const prepend = sequence('normalizers', { type: 'Prepend', prepend: '▁' }, replace(' ', '▁'))

const prefixed = byteLevel(true, true, true), plain = byteLevel(false, true, true)
const words = byteLevel(false, false, false)
const digits = individual_digits => ({ type: 'Digits', individual_digits })
const pretokenizers = (...items) => sequence('pretokenizers', ...items)
const chatIds = { '<|im_start|>': nb, '<|im_end|>': nb + 1 }

const tokenizers = {
    gpt2: { model: 'bytes', added_tokens: chat, pre_tokenizer: plain, decoder: prefixed },
    trimmed: { model: 'bytes', added_tokens: chat, pre_tokenizer: prefixed, post_processor: prefixed,
        decoder: prefixed },
    llama3: { model: 'bytes', ignore_merges: true, added_tokens: chat,
        pre_tokenizer: pretokenizers(split(llama3), byteLevel(false, true, false)),
        post_processor: sequence('processors', byteLevel(true, false, true),
            template(['<|im_start|>'], ['<|im_end|>'], chatIds)),
        decoder: prefixed },
    qwen: { model: 'bytes', added_tokens: chat, normalizer: { type: 'NFC' },
        pre_tokenizer: pretokenizers(split(llama3.replace('{1,3}', '')), words), decoder: words },
    smollm: { model: 'bytes', added_tokens: chat, pre_tokenizer: pretokenizers(digits(true), plain),
        decoder: prefixed },
    flags: { model: 'bytes', added_tokens: flags, pre_tokenizer: plain, post_processor: plain, decoder: prefixed },
    llama2: { model: 'pieces', added_tokens: llama, normalizer: prepend,
        post_processor: template(['<s>'], [], { '<s>': 1 }), decoder: spDecoder },
    phi3: { model: 'pieces', added_tokens: llama.map(a => ({ ...a, rstrip: a.id > 0 })), normalizer: prepend,
        decoder: spDecoder },
    meta_first: { model: 'pieces', added_tokens: llama, pre_tokenizer: metaspace('first', false),
        decoder: spDecoder },
    meta_always: { model: 'pieces', added_tokens: llama, pre_tokenizer: metaspace('always', true),
        decoder: metaspace('always', true) },
    meta_never: { model: 'pieces', added_tokens: llama,
        pre_tokenizer: pretokenizers(digits(false), metaspace('never', true)), decoder: metaspace('never', true) },
    unknown: { model: 'unknown', added_tokens: [], normalizer: prepend },
    unknown_fused: { model: 'unknown', fuse_unk: true, added_tokens: [], normalizer: prepend },
}

// ---- the texts
const texts = ['', 'the quick brown fox', ' the  end.\n\nThe end!  ', "it's they'd WE'VE isn't 'tis 'ſ",
    'x12345 1 23\t4½²Ⅷ', '\r\n \r\n\n x \n y',
    'e\u0301te\u0301 q\u0307\u0323 Å 한 한 豈 \u0344', 'Naïve café, größer Straße1', 'привет 你好世界 こんにちは',
    '👩‍🚀 ❤️ 🇫🇷\u00a0\u3000x\u200by\ufeff\u0085z',
    '<|im_start|>user\nhi <|im_end|>\n<|im_start|>  assistant',
    'a <m>  <m>b cat_ cats_cat_ xcat_ <|im_x <think>\n</think>',
    '<s>the end</s> <s> more</s>  \nx <unk>y', 'if (x == 1) { return y + 2; }',
    '▁▁the ▁ end', 'ĠtheĊ <0x0A>', 'thethethethethe' + 'tokenizer'.repeat(4), ' ', '    ', '\u0001\u001f\u007f']

const bytesAt = (text, n) => Buffer.byteLength([...text].slice(0, n).join(''))
const cases = []
for (const [name, { model: modelName, ...rest }] of Object.entries(tokenizers)) {
    const { ignore_merges, fuse_unk, ...parts } = rest
    const change = Object.fromEntries(Object.entries({ ignore_merges, fuse_unk }).filter(([, v]) => v !== undefined))
    const json = { version: '1.0', truncation: null, padding: null, normalizer: null, pre_tokenizer: null,
        post_processor: null, decoder: null, ...parts }
    const tokenizer = hf.Tokenizer.fromString(JSON.stringify({ ...json, model: { ...models[modelName], ...change } }))
    const rows = []
    for (const text of texts) for (const add of json.post_processor && text.length < 30 ? [false, true] : [false]) {
        const enc = await tokenizer.encode(text, null, { addSpecialTokens: add })
        const ids = enc.getIds()
        const offsets = enc.getOffsets().flatMap(([a, b]) => [bytesAt(text, a), bytesAt(text, b)])
        const dec = await tokenizer.decode(ids, false), skip = await tokenizer.decode(ids, true)
        rows.push({ text, add, ids, offsets, dec, skip })
    }
    cases.push({ name, model: modelName, change, tokenizer: json, rows })
}
const lines = (list, indent) => list.map(x => indent + JSON.stringify(x)).join(',\n')
const listed = cases.map(({ rows, ...c }) => `${JSON.stringify(c).slice(0, -1)},"rows":[\n${lines(rows, ' ')}]}`)
console.log(`{"oracle": "npm tokenizers 0.23.2",\n"models": ${JSON.stringify(models)},\n"cases": [
${listed.join(',\n')}\n]}`)

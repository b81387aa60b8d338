// The peer of bench_tokenizer: Hugging Face's tokenizers (npm install tokenizers), on one thread.
//     node tests/bench_peer.mjs TOKENIZER.json FILE...
import { readFileSync } from 'node:fs';
process.env.RAYON_NUM_THREADS = '1';
const { Tokenizer } = await import('tokenizers');
const tokenizer = Tokenizer.fromFile(process.argv[2]);
for (const file of process.argv.slice(3)) {
  const raw = readFileSync(file, 'utf8');
  const contents = (line) => (JSON.parse(line).messages ?? []).map((m) => m.content);
  const texts = file.endsWith('.jsonl')
    ? raw.split('\n').filter(Boolean).flatMap(contents).filter((c) => typeof c === 'string')
    : [raw];
  const bytes = texts.reduce((n, t) => n + Buffer.byteLength(t), 0);
  let best = Infinity;
  for (let round = 0; round < 3; round++) {
    const start = process.hrtime.bigint();
    for (const text of texts) await tokenizer.encode(text, null, { addSpecialTokens: false });
    best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e9);
  }
  const speed = (bytes / best / 1e6).toFixed(2).padStart(8);
  console.log(`${speed} MB/s (Hugging Face's, one thread) ${texts.length} texts  ${file}`);
}

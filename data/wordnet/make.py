"""Makes what the bundled model and chat sets are made from, out of WordNet 3.0 (Debian: apt-get install wordnet-base).

usage: python3 data/wordnet/make.py OUT [WORDNET]        WORDNET: the folder of data.noun ..., /usr/share/wordnet

    OUT/corpus.jsonl      every definition but those of the chat sets, as {"text": "word: definition"}
    OUT/tokenizer/        a byte-level BPE vocabulary trained on them, the chat template, what ends a turn
    data/wordnet/*.jsonl  the chat sets, beside this script

Two runs give the same bytes, on any Python 3: there is no random number here, order is that of a hash."""
import collections, hashlib, json, os, re, sys

HERE = os.path.dirname(os.path.abspath(__file__))
N_PIECES = 1024
SPECIALS = ['<|endoftext|>', '<|system|>', '<|user|>', '<|assistant|>', '<|end|>']     # ids 0 to 4

# WordNet's lexicographer files for nouns whose names are an answer of one word.
KINDS = {'04': 'act', '05': 'animal', '08': 'body', '13': 'food', '14': 'group', '15': 'place', '18': 'person',
         '20': 'plant'}
SYSTEM = 'Answer with one word: act, animal, body, food, group, person, place or plant.'
ASK_KIND = ['What kind of thing is this? {}', 'Name the kind: {}', '{} - what is that?']
ASK_AGAIN = ['And this? {}', 'Next: {}']
ASK_DEFINITION = ['Define {}.', 'What does {} mean?']
ROWS = {'kinds_train': 2800, 'kinds_eval': 400, 'kinds_few': 200, 'define_train': 2000, 'define_eval': 200}


def lot(*text):
    """A number drawn for a text: always the same one, unlike any other's."""
    return int.from_bytes(hashlib.sha256('|'.join(text).encode()).digest()[:8], 'big')


def shuffled(items, name):
    return sorted(items, key=lambda item: lot(name, str(item)))


def pick(choices, *text):
    return choices[lot(*text) % len(choices)]


# ---- WordNet --------------------------------------------------------------------------------------------------------

Sense = collections.namedtuple('Sense', 'word definition kind only')      # only: the word has no other sense


def read_senses(wordnet):
    """One Sense a synset, named by its first word; of senses defined alike only the first."""
    synsets, n_senses = [], collections.Counter()
    for part in ('noun', 'verb', 'adj', 'adv'):
        with open(os.path.join(wordnet, 'data.' + part), encoding='utf-8') as lines:
            for line in lines:
                if line.startswith('  '):                                 # the licence
                    continue
                head, gloss = line.split(' | ', 1)
                field = head.split(' ')                                   # offset file type n_words word id word id ...
                words = [re.sub(r'\(\w+\)$', '', w).replace('_', ' ') for w in field[4:4 + 2 * int(field[3], 16):2]]
                n_senses.update({w.lower() for w in words})
                definition = re.split(r'[;:,]? *"', gloss)[0].strip(' ;:\n')  # the examples after it are quoted
                synsets.append((words[0], definition, KINDS.get(field[1]) if part == 'noun' else None))
    senses, seen = [], set()
    for word, definition, kind in synsets:
        if 10 < len(definition) <= 400 and definition.lower() not in seen:
            seen.add(definition.lower())
            senses.append(Sense(word, definition, kind, n_senses[word.lower()] == 1))
    return senses


# ---- chat sets ------------------------------------------------------------------------------------------------------

def chat(turns, system=None):
    messages = [{'role': 'system', 'content': system}] if system else []
    for question, answer in turns:
        messages += [{'role': 'user', 'content': question}, {'role': 'assistant', 'content': answer}]
    return {'messages': messages}


def n_turns(row):
    """Of 20 rows 17 have one turn, two have two and one has three."""
    return {7: 2, 14: 2, 19: 3}.get(row % 20, 1)


def kind_rows(senses, n):
    """n rows that ask for the kind of one, two or three definitions; every eighth row has a system message."""
    rows, queue = [], iter(senses)
    for i in range(n):
        turns = []
        for k in range(n_turns(i)):
            s = next(queue)
            turns.append((pick(ASK_AGAIN if k else ASK_KIND, 'ask', s.definition).format(s.definition), s.kind))
        rows.append(chat(turns, SYSTEM if i % 8 == 3 else None))
    return shuffled(rows, 'kind rows')


def define_rows(senses):
    return [chat([(pick(ASK_DEFINITION, 'ask', s.word).format(s.word), s.definition)]) for s in senses]


def make_chat_sets(senses):
    """The five sets, and all senses that they show, held out or not."""
    size = {name: sum(n_turns(i) for i in range(n)) for name, n in ROWS.items()}
    of_kind = [shuffled((s for s in senses if s.kind == kind and 25 <= len(s.definition) <= 150), 'kinds')
               for kind in KINDS.values()]
    share = lambda first, n: shuffled((s for k in of_kind for s in k[first:first + n // len(KINDS)]), 'turns')
    held_out, train = share(0, size['kinds_eval']), share(size['kinds_eval'] // len(KINDS), size['kinds_train'])
    used = set(held_out + train)
    clear = shuffled((s for s in senses if s.only and s not in used and 40 <= len(s.definition) <= 200), 'define')
    define = clear[:ROWS['define_eval'] + ROWS['define_train']]
    sets = {'kinds_train': kind_rows(train, ROWS['kinds_train']), 'kinds_eval': kind_rows(held_out, ROWS['kinds_eval']),
            'define_eval': define_rows(define[:ROWS['define_eval']]),
            'define_train': define_rows(define[ROWS['define_eval']:])}
    sets['kinds_few'] = sets['kinds_train'][:ROWS['kinds_few']]
    return sets, used | set(define)


# ---- tokenizer ------------------------------------------------------------------------------------------------------

# GPT-2's expression, as far as ASCII goes, which is all that WordNet has.
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def byte_alphabet():
    """The 256 characters that stand for bytes: printable ones for themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(0x100 + i) for i, b in enumerate(others)}}


def train_bpe(texts, n_merges):
    """Joins the most frequent pair of neighbours, n_merges times; of equally frequent ones the alphabet's first."""
    letter = byte_alphabet()
    count = collections.Counter(word for text in texts for word in WORD.findall(text))
    words = [[letter[b] for b in word.encode()] for word in count]
    times = list(count.values())
    pairs, where = collections.Counter(), collections.defaultdict(set)     # how often, and in which words

    def add(i, sign):
        for pair in zip(words[i], words[i][1:]):
            pairs[pair] += sign * times[i]
            where[pair].add(i)

    for i in range(len(words)):
        add(i, 1)
    merges = []
    for _ in range(n_merges):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for i in where.pop(best):
            add(i, -1)
            old, new = words[i], []
            while old:
                n = 2 if tuple(old[:2]) == best else 1
                new.append(''.join(old[:n]))
                old = old[n:]
            words[i] = new
            add(i, 1)
        del pairs[best]
    return merges


def tokenizer_json(merges):
    pieces = SPECIALS + [c for _, c in sorted(byte_alphabet().items())] + [a + b for a, b in merges]
    added = {'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': True}
    byte_level = {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': True}
    start = {'SpecialToken': {'id': SPECIALS[0], 'type_id': 0}}           # before every plain text
    first, second = ({'Sequence': {'id': name, 'type_id': i}} for i, name in enumerate('AB'))
    return {
        'version': '1.0', 'truncation': None, 'padding': None,
        'added_tokens': [{'id': i, 'content': text, **added} for i, text in enumerate(SPECIALS)],
        'normalizer': None, 'pre_tokenizer': byte_level,
        'post_processor': {'type': 'TemplateProcessing', 'single': [start, first], 'pair': [start, first, second],
                           'special_tokens': {SPECIALS[0]: {'id': SPECIALS[0], 'ids': [0], 'tokens': [SPECIALS[0]]}}},
        'decoder': byte_level,
        'model': {'type': 'BPE', 'dropout': None, 'unk_token': None, 'continuing_subword_prefix': None,
                  'end_of_word_suffix': None, 'fuse_unk': False, 'byte_fallback': False, 'ignore_merges': False,
                  'vocab': {piece: i for i, piece in enumerate(pieces)}, 'merges': [a + ' ' + b for a, b in merges]}}


TOKENIZER_CONFIG = {
    'tokenizer_class': 'PreTrainedTokenizerFast', 'model_max_length': 256, 'clean_up_tokenization_spaces': False,
    'bos_token': SPECIALS[0], 'eos_token': SPECIALS[0], 'pad_token': SPECIALS[0],
    'additional_special_tokens': SPECIALS[1:]}
# A text ends with <|endoftext|>, a turn with <|end|>; generation stops at both.
GENERATION_CONFIG = {'bos_token_id': 0, 'eos_token_id': [0, SPECIALS.index('<|end|>')], 'pad_token_id': 0}
CHAT_TEMPLATE = """\
{#- <|role|>, what is said, <|end|>. Learned: the answer and its <|end|>. -#}
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('expected the roles system, user and assistant, found ' + message.role) }}
    {%- endif %}
    {{- '<|' + message.role + '|>' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}
            {{- message.content + '<|end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""


# ---- files ----------------------------------------------------------------------------------------------------------

def write(path, text):
    with open(path, 'w', encoding='utf-8', newline='\n') as f:
        f.write(text)
    print(f'{path}: {len(text):,} bytes')


def write_rows(path, rows):
    write(path, ''.join(json.dumps(row) + '\n' for row in rows))


def main(out, wordnet='/usr/share/wordnet'):
    if not os.path.exists(os.path.join(wordnet, 'data.noun')):
        sys.exit(f'make.py: {wordnet}/data.noun is not there: apt-get install wordnet-base')
    senses = read_senses(wordnet)
    sets, used = make_chat_sets(senses)
    for name, rows in sets.items():
        write_rows(os.path.join(HERE, name + '.jsonl'), rows)
    folder = os.path.join(out, 'tokenizer')
    os.makedirs(folder, exist_ok=True)
    texts = shuffled((f'{s.word}: {s.definition}' for s in senses if s not in used), 'corpus')
    write_rows(os.path.join(out, 'corpus.jsonl'), ({'text': text} for text in texts))
    merges = train_bpe(texts, N_PIECES - len(SPECIALS) - 256)
    write(os.path.join(folder, 'tokenizer.json'), json.dumps(tokenizer_json(merges), indent=1) + '\n')
    write(os.path.join(folder, 'tokenizer_config.json'), json.dumps(TOKENIZER_CONFIG, indent=1) + '\n')
    write(os.path.join(folder, 'generation_config.json'), json.dumps(GENERATION_CONFIG, indent=1) + '\n')
    write(os.path.join(folder, 'chat_template.jinja'), CHAT_TEMPLATE)


if __name__ == '__main__':
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])

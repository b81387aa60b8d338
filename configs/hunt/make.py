#!/usr/bin/env python3
"""Makes the rows of the bug hunt: run it at the top of the repository, after make: python3 configs/hunt/make.py

chats.jsonl   64 short chats of data/wordnet/kinds_train.jsonl, as they are
tools.jsonl   96 chats in which the assistant calls a tool, made from data/wordnet/define_train.jsonl
1.jsonl, 3.jsonl, 5.jsonl   the rows of chats.jsonl, each with one fault (README.md here has the answers)
"""
import json
import subprocess

HERE = "configs/hunt/"
WIDTH = 64              # the most tokens of a row
END, IGNORE = 4, -100   # the id of <|end|> in model/tiny, and the label of a masked token


def read(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def write(name, rows):
    with open(HERE + name, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def tokens(dataset):
    """ids and labels of each row, as ./train makes them with the template of model/tiny"""
    out = subprocess.run(["./train", "inspect", "configs/lesson_few.json", "--dataset_name=" + dataset, "--json",
                          "--rows=100000"], check=True, capture_output=True, text=True).stdout
    return [(row["input_ids"], row["labels"]) for row in map(json.loads, out.splitlines()) if "summary" not in row]


def choose_chats():
    """40 chats of one turn, and 12 each of two turns and with a system message"""
    source = "data/wordnet/kinds_train.jsonl"
    left = {"ua": 40, "uaua": 12, "sua": 12}
    chosen = []
    for row, (ids, _) in zip(read(source), tokens(source)):
        kind = "".join(m["role"][0] for m in row["messages"])
        if len(ids) <= WIDTH and left.get(kind, 0) > 0:
            left[kind] -= 1
            chosen.append(row)
    assert not any(left.values()), left
    return chosen


def shift(labels):
    """labels moved one to the left, as a causal model's own loss would move them again"""
    return labels[1:] + [IGNORE]


def pad(ids, labels):
    """to WIDTH tokens with the end token, the padding's labels too"""
    n = WIDTH - len(ids)
    return ids + [END] * n, labels + [END] * n


def turn_weights_around(row):
    return {"messages": [dict(m, weight=int(m["role"] != "assistant")) for m in row["messages"]]}


def with_tool(row):
    question, answer = (m["content"] for m in row["messages"])
    word = question.removeprefix("Define ").removeprefix("What does ").removesuffix(".").removesuffix(" mean?")
    call = {"type": "function", "function": {"name": "lookup", "arguments": {"word": word}}}
    return {"messages": [{"role": "user", "content": question},
                         {"role": "assistant", "content": None, "tool_calls": [call]},
                         {"role": "tool", "content": answer},
                         {"role": "assistant", "content": answer}]}


def main():
    chats = choose_chats()
    write("chats.jsonl", chats)
    rows = tokens(HERE + "chats.jsonl")
    write("1.jsonl", [{"input_ids": ids, "labels": shift(labels)} for ids, labels in rows])
    write("3.jsonl", map(turn_weights_around, chats))
    write("5.jsonl", [dict(zip(("input_ids", "labels"), pad(ids, labels))) for ids, labels in rows])
    short = [row for row in read("data/wordnet/define_train.jsonl") if len(row["messages"][1]["content"]) < 60]
    write("tools.jsonl", map(with_tool, short[:96]))


main()

#!/usr/bin/env python3
"""Trains the translation model: an encoder LSTM reads English, a decoder LSTM that starts from its final states writes German.

    pip install torch numpy safetensors
    python examples/translation/train.py [--out examples/translation] [--steps 10000]

The sentence pairs come from a grammar (`numerals.py`, `lexicon.py`, `sentences.py`). Some combinations of words, such as an
adjective with a noun, never stand in a training sentence (`pair.py`), and every test sentence has at least one of them.

As in Sutskever et al., "Sequence to Sequence Learning with Neural Networks" (2014), there is no attention, and the encoder reads
the sentence from its end, so that the first words are the freshest. English is read word by word; German is written in pieces
of words, which byte-pair encoding finds in the training sentences.

Shapes: S words, T pieces, N sentences, V words or pieces, E features of an embedding, H units, L = 2 layers.
"""

import argparse
import json
import math
import pathlib
import random
import re
import sys
import time
from collections import Counter

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from pair import Draw
from sentences import CATEGORIES

EMBEDDING = 64
HIDDEN = 160
MOST_WORDS = 14
TRAINING = {"numbers": 30_000, "dates": 30_000, "times": 10_000, "prices": 40_000, "sentences": 250_000}
TESTED = {"numbers": 100, "dates": 100, "times": 100, "prices": 100, "sentences": 200}
END = ""  # the piece that ends a sentence; the decoder starts from it, too
MOST_PIECES = 60  # where decoding gives up


def words(text):
    """The words of an English text. A hyphen parts words; `.`, `,` and `?` are words."""
    return re.findall(r"[^\s.,?-]+|[.,?]", text.lower())


def pairs(rng, counts, held_out, seen):
    """(category, English, German), each English text once, and none that is in `seen`."""
    found = []
    for category, count in counts.items():
        for _ in range(count):
            for _ in range(1000):
                draw = Draw(rng)
                en, de = CATEGORIES[category](draw)
                if draw.held_out() == held_out and en not in seen and len(words(en)) <= MOST_WORDS:
                    seen.add(en)
                    found.append((category, en, de))
                    break
            else:
                break  # there are no more
    return found


class Pieces:
    """Byte-pair encoding: characters, and what joining the most frequent neighbours makes of them. `▁` begins a word."""

    def __init__(self, texts, merges):
        counts = Counter(word for text in texts for word in self.words(text))
        split = {word: list(word) for word in counts}
        alphabet = sorted({character for word in counts for character in word})
        self.merges = {}
        for rank in range(merges):
            neighbours = Counter()
            for word, count in counts.items():
                for pair in zip(split[word], split[word][1:]):
                    neighbours[pair] += count
            best = max(neighbours, key=lambda pair: (neighbours[pair], pair))
            self.merges[best] = rank
            split = {word: self.joined(pieces, best) for word, pieces in split.items()}
        made = [a + b for a, b in self.merges]
        self.all = [END] + alphabet + made
        self.codes = {piece: code for code, piece in enumerate(self.all)}
        self.known = {}

    @staticmethod
    def words(text):
        return [word if word in ".,?" else "▁" + word for word in re.findall(r"[^\s.,?]+|[.,?]", text)]

    @staticmethod
    def joined(pieces, pair):
        found = []
        for piece in pieces:
            if found and (found[-1], piece) == pair:
                found[-1] += piece
            else:
                found.append(piece)
        return found

    def encode(self, text):
        return [code for word in self.words(text) for code in self.encode_word(word)]

    def encode_word(self, word):
        if word not in self.known:
            pieces = list(word)
            while ranks := [self.merges[pair] for pair in zip(pieces, pieces[1:]) if pair in self.merges]:
                pieces = self.joined(pieces, list(self.merges)[min(ranks)])
            self.known[word] = [self.codes[piece] for piece in pieces]
        return self.known[word]

    def text(self, codes):
        return "".join(self.all[code] for code in codes).replace("▁", " ").strip()


class Encoder(nn.Module):
    """ids [S, N] -> h_n, c_n [L, N, H]"""

    def __init__(self, num_words):
        super().__init__()
        self.embedding = nn.Embedding(num_words, EMBEDDING)
        self.lstm = nn.LSTM(EMBEDDING, HIDDEN, num_layers=2)

    def forward(self, ids):
        return self.lstm(self.embedding(ids))[1]


class Decoder(nn.Module):
    """ids [T, N] and the states -> logits of the next piece [T, N, V]"""

    def __init__(self, num_pieces):
        super().__init__()
        self.embedding = nn.Embedding(num_pieces, EMBEDDING)
        self.lstm = nn.LSTM(EMBEDDING, HIDDEN, num_layers=2)
        self.linear = nn.Linear(HIDDEN, num_pieces)

    def forward(self, ids, state):
        y, state = self.lstm(self.embedding(ids), state)
        return self.linear(y), state


def batches(rng, data, batch):
    """Without end: ids [S, N] of sources that are equally long, reversed; targets [T + 1, N] with END at both ends, padded by -1."""
    while True:
        order = list(range(len(data)))
        rng.shuffle(order)
        order.sort(key=lambda number: tuple(map(len, data[number])))
        groups, at = [], 0
        while at < len(order):
            length = len(data[order[at]][0])
            group = [number for number in order[at : at + batch] if len(data[number][0]) == length]
            groups.append(group)
            at += len(group)
        rng.shuffle(groups)
        for group in groups:
            sources = torch.tensor([data[number][0][::-1] for number in group]).T
            targets = nn.utils.rnn.pad_sequence([torch.tensor([0, *data[number][1], 0]) for number in group], padding_value=-1)
            yield sources, targets


def train(encoder, decoder, data, steps, batch=128, peak=4e-3):
    """Teacher forcing; Adam, whose rate follows a cosine. Returns the minutes."""
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=peak)
    started, smooth, source = time.monotonic(), None, batches(random.Random(2), data, batch)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 100) * max(0.002, 0.5 * (1 + math.cos(math.pi * step / steps)))
        sources, targets = next(source)
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast on processors that have it
            logits, _ = decoder(targets[:-1].clamp(min=0), encoder(sources))
        loss = functional.cross_entropy(logits.float().flatten(0, 1), targets[1:].flatten(), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        smooth = loss.item() if smooth is None else 0.99 * smooth + 0.01 * loss.item()
        if (step + 1) % 250 == 0:
            print(f"step {step + 1}: loss {smooth:.4f}, {(time.monotonic() - started) / 60:.1f} minutes", file=sys.stderr, flush=True)
    return (time.monotonic() - started) / 60


@torch.no_grad()
def translate(encoder, decoder, source):
    """(pieces of the most likely translation, piece by piece, of the ids `source`; the smallest lead of a piece over the next best)"""
    state = encoder(torch.tensor(source[::-1])[:, None])
    pieces, smallest = [], math.inf
    while len(pieces) < MOST_PIECES:
        logits, state = decoder(torch.tensor([[pieces[-1] if pieces else 0]]), state)
        best = logits[0, 0].topk(2)
        smallest = min(smallest, (best.values[0] - best.values[1]).item())
        if best.indices[0] == 0:
            break
        pieces.append(best.indices[0].item())
    return pieces, smallest


def evaluate(encoder, decoder, vocabulary, pieces, test):
    """check.json: how many of the test's translations are exact, and what the others are."""
    exact, margin, others = Counter(), math.inf, {}
    for category, en, de in test:
        found, lead = translate(encoder, decoder, [vocabulary[word] for word in words(en)])
        margin = min(margin, lead)
        if pieces.text(found) == de:
            exact[category] += 1
        else:
            others[en] = pieces.text(found)
    return {
        "sentences": len(test),
        "exact": {category: exact[category] for category in CATEGORIES},
        "of": dict(Counter(category for category, *_ in test)),
        "smallest_margin": round(margin, 6),
        "others": others,
        "judge": f"torch {torch.__version__} CPU, float32, one sentence at a time",
    }


def save(module, path, stages, **metadata):
    """The matrices and vectors as float16."""
    config = {"input_size": EMBEDDING, "hidden_size": HIDDEN, "num_layers": 2}
    network = [{"embedding": "embedding"}, {"lstm": "lstm", "config": config}, *stages]
    metadata = {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}
    save_file({k: v.half().contiguous() for k, v in module.state_dict().items()}, path, metadata={"network": json.dumps(network), **metadata})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("examples/translation"))
    parser.add_argument("--steps", type=int, default=10_000)
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)  # the matrices are too small to share
    rng, seen = random.Random(1), set()
    training, test = pairs(rng, TRAINING, False, seen), pairs(rng, TESTED, True, seen)
    pieces = Pieces([de for _, _, de in training[:: len(training) // 30_000]], merges=450)
    vocabulary = {word: code for code, word in enumerate(sorted({word for _, en, _ in training for word in words(en)}))}
    data = [([vocabulary[word] for word in words(en)], pieces.encode(de)) for _, en, de in training]
    print(f"{len(training)} pairs to train on; {len(vocabulary)} words, {len(pieces.all)} pieces", file=sys.stderr, flush=True)
    print(f"{sum(len(t) for _, t in data) / len(data):.1f} pieces a sentence, {max(len(t) for _, t in data)} at most", file=sys.stderr, flush=True)
    encoder, decoder = Encoder(len(vocabulary)), Decoder(len(pieces.all))
    minutes = train(encoder, decoder, data, args.steps)
    for module in (encoder, decoder):
        module.half().float().eval()
    check = evaluate(encoder, decoder, vocabulary, pieces, test)
    print({k: v for k, v in check.items() if k != "others"}, f"{minutes:.1f} minutes", file=sys.stderr)
    args.out.mkdir(parents=True, exist_ok=True)
    about = f"English to German, {len(training)} sentence pairs of a grammar, {args.steps} steps of 128 pairs"
    save(encoder, args.out / "encoder.safetensors", [], vocabulary=list(vocabulary), most_words=MOST_WORDS, about=about)
    save(decoder, args.out / "decoder.safetensors", [{"linear": "linear"}], pieces=pieces.all, about=about)
    (args.out / "test.tsv").write_text("".join("\t".join(row) + "\n" for row in test), encoding="utf-8")
    (args.out / "check.json").write_text(json.dumps(check, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

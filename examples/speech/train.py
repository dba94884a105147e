#!/usr/bin/env python3
"""Trains the speech recogniser: a bidirectional LSTM over log-mel features, with CTC, on phrases that espeak-ng says.

    apt install espeak-ng
    pip install torch numpy safetensors
    python examples/speech/train.py [--out examples/speech] [--held-out DIR]

Writes the model, a test set in voices that the training has not (`test/`), and `check.json`: the word errors of PyTorch on it. With
--held-out, the whole of the held-out phrases as WAV files, which `cargo run --example speech -- --evaluate DIR` reads.

Shapes: T steps of 30 ms, N utterances, C classes: the blank of CTC, then the characters.
"""

import argparse
import copy
import json
import math
import pathlib
import sys
import time

import numpy as np
import torch
from decode import Lexicon, beam, greedy, word_errors
from features import BANDS, SAMPLE_RATE, STACK, features, read_wav, resample, write_wav
from safetensors.torch import save_file
from torch.nn import functional
from voices import SYNTHESIS_RATE, TEST_VARIANTS, TRAIN_VARIANTS, WORDS, in_noise, noises, of_another_size, phrases, synthesise

CHARACTERS = " abcdefghijklmnopqrstuvwxyz"
HIDDEN, LAYERS = 96, 2
TRAIN, HELD_OUT, COMMITTED = 3200, 400, 50  # phrases; those in `test/` are the first of the held-out ones
BEAM = 16


class Recogniser(torch.nn.Module):
    """x [T, N, I] -> log-probabilities [T, N, C]"""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(STACK * BANDS, HIDDEN, LAYERS, bidirectional=True, dropout=0.1)
        self.classes = torch.nn.Linear(2 * HIDDEN, 1 + len(CHARACTERS))

    def forward(self, x):
        return functional.log_softmax(self.classes(self.lstm(x)[0]), 2)


def encode(text):
    """The classes of the characters of `text`, int64 [len]."""
    return torch.tensor([1 + CHARACTERS.index(character) for character in text])


def masked(rng, x):
    """x [T, I] with two ranges of bands and one of time at 0, their mean: the network must not lean on a few of them."""
    x = x.copy()
    bands = x.reshape(len(x), STACK, BANDS)
    for _ in range(2):
        width = rng.integers(0, 8)
        first = rng.integers(0, BANDS - width)
        bands[:, :, first : first + width] = 0.0
    width = rng.integers(0, 5)
    first = rng.integers(0, len(x) - width)
    x[first : first + width] = 0.0
    return x


def batches(rng, spoken, kinds, size):
    """One pass: (x [T, N, I], texts) of utterances of about one length, with noise around each that makes it exactly one: no padding is learnt."""
    spoken = [(text, of_another_size(rng, samples)) for text, samples in spoken]
    order = np.argsort([len(samples) for _, samples in spoken])
    for start in rng.permutation(range(0, len(order), size)):
        chosen = [spoken[i] for i in order[start : start + size]]
        longest = max(len(samples) for _, samples in chosen) + int(rng.integers(SAMPLE_RATE // 8, SAMPLE_RATE // 2))
        x = [masked(rng, features(in_noise(rng, samples, kinds, longest))) for _, samples in chosen]
        yield torch.from_numpy(np.stack(x, 1)), [text for text, _ in chosen]


def train(net, spoken, epochs, batch=32, peak=4e-3):
    """CTC; Adam, whose rate follows a cosine. Returns the minutes of one core."""
    rng = np.random.default_rng(2)
    kinds = noises(rng, spoken)
    optimizer = torch.optim.Adam(net.parameters(), lr=peak, betas=(0.9, 0.98))
    steps = epochs * -(-len(spoken) // batch)
    step, started = 0, time.process_time()
    for epoch in range(epochs):
        total = 0.0
        for x, texts in batches(rng, spoken, kinds, batch):
            optimizer.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 200) * max(0.01, 0.5 * (1 + math.cos(math.pi * step / steps)))
            codes = [encode(text) for text in texts]
            lens, code_lens = torch.full((len(texts),), len(x)), torch.tensor([len(code) for code in codes])
            loss = functional.ctc_loss(net(x), torch.cat(codes), lens, code_lens, zero_infinity=True)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            total, step = total + loss.item() * len(texts), step + 1
        minutes = (time.process_time() - started) / 60
        print(f"epoch {epoch + 1}: loss {total / len(spoken):.3f} a character, {minutes:.1f} minutes of one core", file=sys.stderr, flush=True)
    net.eval()
    return minutes


@torch.no_grad()
def recognise(net, paths):
    """The texts of WAV files by every decoder, {decoder: [text]}, in the precision of `net`; one file at a time."""
    lexicon = Lexicon(WORDS)
    texts = {"greedy": [], "beam": [], "lexicon": []}
    for path in paths:
        x = torch.from_numpy(features(resample(*read_wav(path)))).to(net.classes.weight.dtype)
        log_probs = net(x[:, None])[:, 0].numpy()
        texts["greedy"].append(greedy(log_probs, CHARACTERS))
        texts["beam"].append(beam(log_probs, CHARACTERS, BEAM))
        texts["lexicon"].append(beam(log_probs, CHARACTERS, BEAM, lexicon))
    return texts


def write_test_set(net, folder, utterances, plain):
    """Writes utterances [(text, samples [L] at 8 kHz)] as WAV files, one in ten in 16 bits, the others in 8, and the one that is not made for 8 kHz;
    `transcripts.tsv` with their texts; and `check.json` with what PyTorch makes of the files. Returns the word error rates, {decoder: percent}."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:03}.wav" for number in range(len(utterances))] + ["plain.wav"]
    for number, (name, (_, samples)) in enumerate(zip(names, utterances)):
        write_wav(folder / name, samples, 1 if number % 10 else 2, SAMPLE_RATE)
    write_wav(folder / names[-1], plain[1], 2, SYNTHESIS_RATE)
    expected = [text for text, _ in [*utterances, plain]]
    (folder / "transcripts.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in zip(names, expected)))

    paths = [folder / name for name in names]
    texts, double = recognise(net, paths), recognise(copy.deepcopy(net).double(), paths)
    words = sum(len(text.split()) for text in expected)
    errors = {decoder: sum(map(word_errors, expected, found)) for decoder, found in texts.items()}
    check = {
        "judge": f"torch {torch.__version__} CPU, float32",
        "differing_in_float64": sum(a != b for decoder in texts for a, b in zip(texts[decoder], double[decoder])),
        "words": words,
        "word_errors": errors,
        "texts": texts,
    }
    (folder / "check.json").write_text(json.dumps(check, indent=1) + "\n")
    return {decoder: 100 * count / words for decoder, count in errors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("examples/speech"))
    parser.add_argument("--held-out", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)  # layers this small are not worth a second one
    rng = np.random.default_rng(1)
    spoken = phrases(rng, TRAIN, TRAIN_VARIANTS)
    held_out = phrases(rng, HELD_OUT, TEST_VARIANTS)
    kinds = noises(rng, held_out)
    silence = lambda: int(rng.integers(SAMPLE_RATE // 10, SAMPLE_RATE // 2))
    held_out = [(text, in_noise(rng, samples, kinds, len(samples) + silence())) for text, samples in held_out]
    plain = ("turn left", synthesise("turn left", "en-gb-scotland+f2", 160, 50, 1))

    net = Recogniser()
    minutes = train(net, spoken, args.epochs)
    committed = write_test_set(net, args.out / "test", held_out[:COMMITTED], plain)
    for name in ("000.wav", "001.wav", "plain.wav"):
        found = features(resample(*read_wav(args.out / "test" / name)))
        np.save(args.out / "test" / name.replace(".wav", ".features.npy"), found)
    if args.held_out:
        whole = write_test_set(net, args.held_out, held_out, plain)
        print(f"held out: {whole}", file=sys.stderr)
    rate = f"word error rate in other voices {committed['lexicon']:.1f} %"
    save(net, args.out / "model.safetensors", f"{TRAIN} phrases of espeak-ng, {args.epochs} epochs; {rate}")
    print(f"test set: {committed}; {minutes:.1f} minutes of one core", file=sys.stderr)


def save(net, path, about):
    """Writes the module, with what its stages are and its classes mean in the metadata."""
    config = {"input_size": STACK * BANDS, "hidden_size": HIDDEN, "num_layers": LAYERS, "bidirectional": True}
    stages = [{"lstm": "lstm", "config": config}, {"linear": "classes", "function": "log_softmax"}]
    metadata = {"network": json.dumps(stages), "characters": json.dumps(CHARACTERS), "words": json.dumps(WORDS), "about": about}
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, path, metadata=metadata)


if __name__ == "__main__":
    main()

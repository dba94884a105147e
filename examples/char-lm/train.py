#!/usr/bin/env python3
"""Trains the demo model: a character-level language model that is nothing but a `torch.nn.LSTM`.

    pip install torch numpy safetensors
    python examples/char-lm/train.py [--out assets] [--steps 7000]
    python examples/char-lm/train.py --check      # no training: what PyTorch makes of the model and the held-out text that are there

The input is the one-hot code of a character, the output the logits of the next one: the projection of the upper layer (LSTMP)
has the size of the vocabulary and is the read-out. So the whole network is one safetensors file with PyTorch's key names.

The text is what every Debian machine with Python has: the licences in /usr/share/common-licenses and Python's language
reference (`pydoc_data.topics`), reduced to paragraphs of prose.

Shapes: T time steps, N streams, V characters, H units.
"""

import argparse
import ast
import copy
import json
import math
import pathlib
import sys
import sysconfig
import textwrap
import time

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

LICENCES = pathlib.Path("/usr/share/common-licenses")
STDLIB = pathlib.Path(sysconfig.get_paths()["stdlib"])
PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\xa0": " "})
VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))  # V = 96
HIDDEN = 256
HELD_OUT = 0.05  # of each document: its last paragraphs
ROWS = 16  # of the held-out text, where it is evaluated in a batch


def documents():
    """Every text of the corpus, in a fixed order."""
    for path in sorted({path.resolve() for path in LICENCES.iterdir()}):
        yield path.read_text(encoding="utf-8", errors="replace")
    topics = ast.parse((STDLIB / "pydoc_data" / "topics.py").read_bytes()).body[0].value
    yield from (text for _, text in sorted(ast.literal_eval(topics).items()))


def paragraphs(text):
    """The paragraphs of prose in `text`, each filled to 72 columns; code, tables and headings are left out."""
    for block in text.translate(PLAIN).split("\n\n"):
        block = " ".join(block.split())
        letters = sum(c.isalpha() or c == " " for c in block)
        prose = len(block) >= 120 and letters >= 0.9 * len(block) and block[-1] in ".:;"
        if prose and not any(mark in block for mark in (">>>", "::", " = ", "**", "--")):
            yield textwrap.fill("".join(c for c in block if c in VOCABULARY), 72) + "\n\n"


def corpus():
    """(training text, held-out text); no paragraph stands in both, and none stands twice."""
    train, held = [], []
    for text in documents():
        found = list(paragraphs(text))
        cut = len(found) - round(HELD_OUT * len(found))
        train += found[:cut]
        held += found[cut:]
    held = dict.fromkeys(held)
    return "".join(p for p in dict.fromkeys(train) if p not in held), "".join(held)


def encode(text):
    """The indices of the characters of `text`, int64 [len]."""
    return torch.tensor([VOCABULARY.index(c) for c in text])


def one_hot(codes, dtype=torch.float32):
    """[T, N] -> [T, N, V]"""
    return functional.one_hot(codes, len(VOCABULARY)).to(dtype)


def new_net():
    """The untrained network: two layers, V -> V, forget gates open.

    PyTorch's initial weights, within +-1/16, suit dense inputs of size one; a one-hot input picks a single column, and
    without larger weights the first thousand steps are lost.
    """
    net = torch.nn.LSTM(len(VOCABULARY), HIDDEN, num_layers=2, proj_size=len(VOCABULARY))
    with torch.no_grad():
        net.weight_ih_l0.mul_(8)
        net.weight_ih_l1.mul_(4)
        for layer in range(net.num_layers):
            getattr(net, f"weight_hr_l{layer}").mul_(2)
            getattr(net, f"bias_ih_l{layer}")[HIDDEN : 2 * HIDDEN] += 1.0
    return net


def train(net, codes, steps, batch=16, seq_len=100, peak=6e-3):
    """Truncated backpropagation over N parallel streams with carried state; Adam, whose rate follows a cosine. Returns the minutes."""
    rng = np.random.default_rng(1)
    width = len(codes) // batch
    optimizer = torch.optim.Adam(net.parameters(), lr=peak, betas=(0.9, 0.99))
    state, at, started, smooth = None, width, time.monotonic(), None
    for step in range(steps):
        if at + seq_len + 1 > width:  # a new pass, from another place in the text
            streams = codes.roll(int(rng.integers(len(codes))))[: width * batch].view(batch, width).T
            state, at = None, 0
        optimizer.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 100) * max(0.01, 0.5 * (1 + math.cos(math.pi * step / steps)))
        chunk = streams[at : at + seq_len + 1]
        logits, state = net(one_hot(chunk[:-1]), state)
        loss = functional.cross_entropy(logits.flatten(0, 1), chunk[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        state, at = tuple(s.detach() for s in state), at + seq_len
        bits = loss.item() / math.log(2)
        smooth = bits if smooth is None else 0.99 * smooth + 0.01 * bits
        if (step + 1) % 250 == 0:
            print(f"step {step + 1}: {smooth:.3f} bits per character, {(time.monotonic() - started) / 60:.1f} minutes", file=sys.stderr, flush=True)
    return (time.monotonic() - started) / 60


@torch.no_grad()
def bits_per_character(net, codes, rows=1):
    """Mean -log2 p of every character of `codes` after the first, in the precision of `net`.

    One row is one pass from a zero state. More are pieces of equal length, the last one shorter, each from a zero state.
    """
    nats, targets = 0.0, len(codes) - 1
    width = math.ceil(targets / rows)
    for start in range(0, targets, width):
        piece = codes[start : start + width + 1]
        logits, _ = net(one_hot(piece[:-1, None], net.weight_ih_l0.dtype))
        nats += functional.cross_entropy(logits[:, 0].double(), piece[1:], reduction="sum").item()
    return nats / targets / math.log(2)


@torch.no_grad()
def generate(net, prompt, length, temperature=0.0, seed=0):
    """(text after `prompt`, smallest gap between the two best logits); temperature 0 takes the best character."""
    rng, text, smallest = np.random.default_rng(seed), "", math.inf
    logits, state = net(one_hot(encode(prompt)[:, None], net.weight_ih_l0.dtype))
    for _ in range(length):
        best = logits[-1, 0].double().sort(descending=True)
        smallest = min(smallest, (best.values[0] - best.values[1]).item())
        if temperature:
            code = int(rng.choice(len(VOCABULARY), p=torch.softmax(logits[-1, 0].double() / temperature, 0).numpy()))
        else:
            code = int(best.indices[0])
        text += VOCABULARY[code]
        logits, state = net(one_hot(torch.tensor([[code]]), logits.dtype), state)
    return text, smallest


PROMPTS = ["The ", "This License ", "If the ", "You may ", "The program ", "When a class ", "A function ", "Return the ", "In this case, "]
MARGIN = 0.02  # rounding moves no logit of this network by as much


def excerpt(held):
    """Some 4000 characters from the middle of the held-out text, whole paragraphs."""
    start = held.rindex("\n\n", 0, len(held) // 2) + 2
    return held[start : held.rindex("\n\n", start, start + 4000) + 1]


def write_check(net, held, out):
    """Writes `char-lm.check.json`: what any engine must make of the network, and of it on the text `held`.

    Of the prompts after which the two best logits stay apart at every greedy step, the one with the richest text is taken;
    the network in float64 must agree.
    """
    texts = {prompt: generate(net, prompt, 200) for prompt in PROMPTS}
    clear = [prompt for prompt, (_, margin) in texts.items() if margin > MARGIN]
    if not clear:
        raise SystemExit(f"char-lm.check.json: after each prompt the two best logits come closer than {MARGIN}")
    prompt = max(clear, key=lambda prompt: len(set(texts[prompt][0].split())))
    greedy, margin = texts[prompt]
    double = copy.deepcopy(net).double()
    assert generate(double, prompt, 200)[0] == greedy
    codes = encode(held)
    check = {
        "prompt": prompt,
        "greedy": greedy,
        "smallest_margin": round(margin, 4),
        "bits_per_character": round(bits_per_character(double, codes), 6),
        "bits_per_character_float32": round(bits_per_character(net, codes), 6),
        "rows": ROWS,
        "bits_per_character_in_rows": round(bits_per_character(double, codes, ROWS), 6),
        "judge": f"torch {torch.__version__} CPU: the text in float32 and in float64, the bits in float64 where nothing else is said",
    }
    (out / "char-lm.check.json").write_text(json.dumps(check, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("assets"))
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--check", action="store_true", help="do not train: write char-lm.check.json anew")
    args = parser.parse_args()
    model, excerpt_path = args.out / "char-lm.safetensors", args.out / "char-lm.heldout.txt"
    if args.check:
        net = new_net()
        net.load_state_dict(load_file(model))
        write_check(net, excerpt_path.read_text(), args.out)
        return
    torch.manual_seed(1)
    text, held = corpus()
    print(f"{len(text)} characters to train on, {len(held)} held out", file=sys.stderr, flush=True)
    net = new_net()
    minutes = train(net, encode(text), args.steps)
    bits = bits_per_character(net, encode(held))
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    about = (
        f"the licence texts of Debian and the language reference of {python}, {len(text)} characters, {args.steps} steps of 16 x 100 characters: "
        f"{bits:.3f} bits per character on {len(held)} held-out characters"
    )
    config = {
        "input_size": net.input_size,
        "hidden_size": net.hidden_size,
        "num_layers": net.num_layers,
        "bias": True,
        "batch_first": False,
        "bidirectional": False,
        "proj_size": net.proj_size,
    }
    metadata = {"lstm": json.dumps(config), "vocabulary": json.dumps(VOCABULARY), "about": about}
    args.out.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, model, metadata=metadata)
    print(f"{about}; {minutes:.1f} minutes", file=sys.stderr)
    for seed in range(3):
        print(generate(net, "The ", 500, temperature=0.7, seed=seed)[0], "\n" + 72 * "-", file=sys.stderr)
    excerpt_path.write_text(excerpt(held))
    write_check(net, excerpt_path.read_text(), args.out)


if __name__ == "__main__":
    main()

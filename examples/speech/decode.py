"""From log-probabilities [T, C] to text, and the word error rate; the twin of decode.rs. Class 0 is CTC's blank, class k the k-th character."""

import bisect
import math

NEVER = -math.inf


def greedy(log_probs, characters):
    """The likeliest class of every step, runs of one class taken once, without blanks."""
    best = log_probs.argmax(1)
    return "".join(characters[k - 1] for t, k in enumerate(best) if k and (t == 0 or k != best[t - 1]))


def log_add(a, b):
    """log(exp(a) + exp(b))"""
    high, low = max(a, b), min(a, b)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))


class Lexicon:
    """The words that a text may consist of, with one space between two of them."""

    def __init__(self, words):
        self.words = sorted(words)

    def allows(self, text, character):
        """Whether `text` and `character` begin a text of these words."""
        word = text.rsplit(" ", 1)[-1]
        if character == " ":
            return word in self.words
        longer = word + character
        at = bisect.bisect_left(self.words, longer)
        return at < len(self.words) and self.words[at].startswith(longer)

    def ends(self, text):
        """Whether the last word of `text` is whole."""
        return not text or text.rsplit(" ", 1)[-1] in self.words


def beam(log_probs, characters, width, lexicon=None):
    """The likeliest text over all of its alignments, of those that were among the `width` likeliest beginnings at every step.

    With a lexicon, texts that it does not allow are none; the result is empty where no text of whole words is left.
    """
    beginnings = {"": (0.0, NEVER)}  # text: log-probability of its alignments that end in a blank, and in its last character
    for frame in log_probs.tolist():
        longer = {}

        def add(text, blank, label):
            known = longer.get(text, (NEVER, NEVER))
            longer[text] = (log_add(known[0], blank), log_add(known[1], label))

        for text, (blank, label) in beginnings.items():
            either = log_add(blank, label)
            add(text, either + frame[0], NEVER)
            for k, character in enumerate(characters, 1):
                repeats = text.endswith(character)
                if repeats:  # the same character once more is the same text; only a blank between makes it a second one
                    add(text, NEVER, label + frame[k])
                if lexicon is None or lexicon.allows(text, character):
                    add(text + character, NEVER, (blank if repeats else either) + frame[k])
        ranked = sorted(longer.items(), key=lambda item: (-log_add(*item[1]), item[0]))
        beginnings = dict(ranked[:width])
    return next((text for text in beginnings if lexicon is None or lexicon.ends(text)), "")


def word_errors(expected, found):
    """The fewest words to put in, take out and replace that make `found` of `expected`."""
    expected, found = expected.split(), found.split()
    costs = list(range(len(found) + 1))
    for i, word in enumerate(expected):
        diagonal, costs[0] = costs[0], i + 1
        for j, other in enumerate(found):
            diagonal, costs[j + 1] = costs[j + 1], min(diagonal + (word != other), costs[j] + 1, costs[j + 1] + 1)
    return costs[-1]

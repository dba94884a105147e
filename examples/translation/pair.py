"""A sentence pair under construction, and which combinations of words are kept from training."""

import zlib


class Draw:
    """Random choices for one sentence pair. `combinations` says what stands together in it, such as `adjective red book`."""

    def __init__(self, rng):
        self.rng = rng
        self.combinations = []

    def one(self, options):
        return options[self.rng.randrange(len(options))]

    def chance(self, probability):
        return self.rng.random() < probability

    def number(self, low, high):
        return self.rng.randint(low, high)

    def note(self, *words):
        self.combinations.append(" ".join(map(str, words)))

    def held_out(self):
        """Whether something in the sentence is a combination that training never sees: one in eight, by a checksum."""
        return any(zlib.crc32(words.encode()) % 8 == 0 for words in self.combinations)

"""Noun phrases, and texts that say what each names a kind of: what copying words cannot write."""

import itertools

import numpy as np

KINDS = {
    "dog": ["terrier", "poodle", "spaniel", "beagle"],
    "bird": ["robin", "heron", "falcon", "sparrow"],
    "tree": ["oak", "maple", "willow", "cedar"],
    "tool": ["hammer", "chisel", "wrench", "file"],
}
ADJECTIVES = ["small", "brown", "old", "heavy", "pale", "quiet", "new"]


def phrases() -> list[tuple[str, str]]:
    """Return pairs such as "a small brown terrier" and "a kind of dog", in random order."""
    pairs = [
        (f"a {first} {second} {noun}", f"a kind of {kind}")
        for kind, nouns in KINDS.items()
        for noun in nouns
        for first, second in itertools.permutations(ADJECTIVES, 2)
    ]
    return [pairs[place] for place in np.random.default_rng(0).permutation(len(pairs))]

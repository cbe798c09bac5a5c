"""Choices for the sample of any project: by chance, or by counting where no two may be the same.

Both are functions of what they are made from, on every machine and with every version of Python.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import xxhash

T = TypeVar("T")
_ALL_BITS = (1 << 64) - 1


class Chooser(Protocol):
    """Decides what a value looks like."""

    def pick(self, sides: int) -> int:
        """A number from 0 up to, not including, `sides`."""

    def branch(self, sides: int) -> int:
        """The same, for alternatives that do not make a value another one for certain."""

    def length(self, low: int, high: int) -> int:
        """How often a part is repeated."""


class Dice:
    """Chance; equal parts give the same throws (the generator is SplitMix64, seeded with a hash of the parts)."""

    def __init__(self, *parts: object) -> None:
        self._state = xxhash.xxh3_64_intdigest("\0".join(map(str, parts)).encode())

    def pick(self, sides: int) -> int:
        """A number from 0 up to, not including, `sides`."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _ALL_BITS
        mixed = ((self._state ^ (self._state >> 30)) * 0xBF58476D1CE4E5B9) & _ALL_BITS
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _ALL_BITS
        return (mixed ^ (mixed >> 31)) % sides

    def branch(self, sides: int) -> int:
        """One of the alternatives."""
        return self.pick(sides)

    def length(self, low: int, high: int) -> int:
        """A length between these, both included."""
        return low + self.pick(high - low + 1)


class Counting:
    """The digits of a number, one a choice: other numbers make other values, as long as nothing is `left` of them."""

    def __init__(self, number: int) -> None:
        self.left = number

    def pick(self, sides: int) -> int:
        """The next digit."""
        self.left, digit = divmod(self.left, sides)
        return digit

    def branch(self, sides: int) -> int:
        """Always the first."""
        return 0

    def length(self, low: int, high: int) -> int:
        """Always the longest: values of one length differ where their digits do."""
        return high


def one_of(chooser: Chooser, values: Sequence[T]) -> T:
    """One of the values."""
    return values[chooser.pick(len(values))]

"""Texts that match a simple regular expression: literals, classes, groups, alternatives and repetitions."""

import re
import string
from collections.abc import Callable, Sequence
from functools import cache

from etl_assets.samples.chances import Chooser

Maker = Callable[[Chooser], str]
# How often a part is repeated at most where the expression sets no limit.
_REPEATED = 8
_CLASSES = {
    "d": string.digits,
    "w": string.ascii_letters + string.digits + "_",
    "s": " ",
}
_ANY = string.ascii_lowercase
_REPETITION = re.compile(r"\{(\d+)(,(\d*))?\}")
_QUANTIFIERS = {"?": (0, 1), "*": (0, _REPEATED), "+": (1, _REPEATED)}


class _NotSimpleError(Exception):
    """The expression has a part that is not known here."""


@cache
def text_maker(pattern: str) -> Maker | None:
    """A function that makes texts that match the whole pattern; None when it is not a simple one."""
    parser = _Parser(pattern)
    try:
        maker = parser.alternatives()
        return maker if parser.at_end else None
    except (_NotSimpleError, IndexError, ValueError):
        return None


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._place = 0

    @property
    def at_end(self) -> bool:
        return self._place == len(self._pattern)

    def alternatives(self) -> Maker:
        branches = [self._sequence()]
        while self._peek() == "|":
            self._place += 1
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else lambda on: branches[on.branch(len(branches))](on)

    def _sequence(self) -> Maker:
        parts: list[Maker] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._part()))
        return lambda on: "".join(part(on) for part in parts)

    def _repeated(self, part: Maker) -> Maker:
        low, high = 1, 1
        found = _REPETITION.match(self._pattern, self._place)
        if found:
            self._place = found.end()
            low = int(found[1])
            high = low if found[2] is None else int(found[3]) if found[3] else low + _REPEATED
        elif self._peek() in _QUANTIFIERS:
            low, high = _QUANTIFIERS[self._next()]
        if self._peek() in ("?", "*", "+", "{") or low > high:
            raise _NotSimpleError
        return part if (low, high) == (1, 1) else lambda on: "".join(part(on) for _ in range(on.length(low, high)))

    def _part(self) -> Maker:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return _one_char(self._class())
        if char == "\\":
            return _one_char(self._escaped())
        if char in "^$":
            return lambda on: ""
        if char in "*+?{":
            raise _NotSimpleError
        return _one_char(_ANY if char == "." else char)

    def _group(self) -> Maker:
        if self._peek() == "?":
            if self._pattern[self._place : self._place + 2] != "?:":
                raise _NotSimpleError
            self._place += 2
        inner = self.alternatives()
        if self._next() != ")":
            raise _NotSimpleError
        return inner

    def _class(self) -> str:
        if self._peek() in ("^", "]"):
            raise _NotSimpleError
        chars = ""
        while self._peek() != "]":
            first = self._next()
            if first == "[":
                raise _NotSimpleError
            one = self._escaped() if first == "\\" else first
            if self._peek() == "-" and self._pattern[self._place + 1] != "]" and len(one) == 1:
                self._place += 1
                last = self._next()
                one = "".join(map(chr, range(ord(one), ord(self._escaped() if last == "\\" else last) + 1)))
            chars += one
        self._place += 1
        return chars

    def _escaped(self) -> str:
        char = self._next()
        if char in _CLASSES:
            return _CLASSES[char]
        if char.isalnum():
            raise _NotSimpleError
        return char

    def _peek(self) -> str:
        return self._pattern[self._place : self._place + 1]

    def _next(self) -> str:
        char = self._pattern[self._place]
        self._place += 1
        return char


def _one_char(chars: Sequence[str]) -> Maker:
    if not chars:
        raise _NotSimpleError
    return lambda on: chars[on.pick(len(chars))]

"""Names for sources and columns from names of files and headers: small letters, digits and underscores."""

import re
import unicodedata
from collections.abc import Collection, Sequence

MAX_CHARS = 63
_WORDS_OF_SIGNS = {
    "%": " percent ",
    "#": " number ",
    "&": " and ",
    "+": " plus ",
    "ß": "ss",
    "€": " eur ",
    "$": " usd ",
}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_OTHER = re.compile(r"[^a-z0-9]+")


def snake_case(text: str, otherwise: str) -> str:
    """`Account ID` as `account_id`, `Größe (%)` as `grosse_percent`; `otherwise` where no letter or digit is left."""
    for sign, word in _WORDS_OF_SIGNS.items():
        text = text.replace(sign, word)
    plain = unicodedata.normalize("NFKD", _CAMEL.sub("_", text)).encode("ascii", "ignore").decode().lower()
    name = _OTHER.sub("_", plain).strip("_")
    if not name:
        return otherwise
    if name[0].isdigit():
        name = f"c_{name}"
    return name[:MAX_CHARS].rstrip("_")


def free_name(name: str, taken: Collection[str]) -> str:
    """`name`, or with the first number behind it that makes it another than those taken."""
    candidate, number = name, 2
    while candidate in taken:
        candidate = f"{name[: MAX_CHARS - 4]}_{number}"
        number += 1
    return candidate


def column_names(headers: Sequence[str]) -> list[str]:
    """A name for each header, no two of them alike."""
    names: list[str] = []
    for place, header in enumerate(headers):
        names.append(free_name(snake_case(header, f"column_{place + 1}"), names))
    return names

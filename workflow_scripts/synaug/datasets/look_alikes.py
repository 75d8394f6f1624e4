"""Class names that look alike: they differ in upper and lower case, in blanks, or in how Unicode writes a letter."""

import unicodedata
from collections import Counter
from collections.abc import Iterable


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """The names of which others look alike, sorted, one list for each group of such names."""
    by_key: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        by_key.setdefault(look_alike_key(name), []).append(name)
    return [alike for alike in by_key.values() if len(alike) > 1]


def look_alike_key(name: str) -> str:
    """A text that is the same for names that look alike: composed letters (NFC), lower case, single blanks.

    Characters without a width (Unicode category Cf, such as a byte-order mark) are left out.
    """
    visible = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).casefold()).split())


def unified(names: Iterable[str]) -> dict[str, str]:
    """Each of `names` -> the most frequent of those that look like it, in composed letters and with single blanks.

    Of equally frequent ones, the first in the order of the alphabet. names: one for each image.
    """
    counts = Counter(names)
    result = {}
    for alike in look_alikes(counts):
        best = min(alike, key=lambda name: (-counts[name], name))
        result |= dict.fromkeys(alike, " ".join(unicodedata.normalize("NFC", best).split()) or best)
    return {name: result.get(name, name) for name in counts}

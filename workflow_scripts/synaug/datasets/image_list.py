"""Images listed in text files, one per split, with lines `<path below dataset.path> <number of the class>`.

ImageNet-LT (Liu et al. 2019) is published in this form.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from synaug.config import Dataset
from synaug.datasets.tree import Boundary, named_file
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file

# The name of an ImageNet class's folder.
_WORDNET_ID = re.compile(r"n\d{8}")


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield a dict per line, as `folder.find` does.

    Raises UserError for a missing folder or file, a malformed line, and a class without a name.
    """
    root = Path(dataset.path)
    boundary = Boundary(root, dataset.follow_links)
    ids = _wordnet_ids(dataset)
    names = _read_names(Path(dataset.class_names), ids) if dataset.class_names else None
    wanted = _read_classes(Path(dataset.classes), ids) if dataset.classes else ids
    for split, file in _lists(dataset).items():
        for name, label in _read_list(file):
            if label not in wanted:
                continue
            if names is not None and label not in names:
                raise UserError(f"{dataset.class_names}: names no class {label} ({ids[label] or name}); add it")
            label_name = names[label] if names is not None else str(label)
            yield {"split": split, "label_name": label_name, **boundary.row(named_file(root, name))}


def files(dataset: Dataset) -> list[Path]:
    """The text files that are used. Raises UserError if one of them, or the folder of the images, is missing."""
    if not Path(dataset.path).is_dir():
        raise UserError(
            f"dataset.path: {dataset.path} is not a folder; give the folder that the paths in the lists start from"
        )
    named = {f"lists.{split}": file for split, file in _lists(dataset).items()}
    named |= {"class_names": dataset.class_names, "classes": dataset.classes}
    for key, file in named.items():
        if file:
            check_regular_file(file)
        if file and not Path(file).is_file():
            raise UserError(f"dataset.{key}: {file} does not exist", advice="correct the path")
    return [Path(file) for file in named.values() if file]


def image_files(dataset: Dataset) -> Iterator[str]:
    """Paths of all images of the lists. Raises UserError as `files`, and for a malformed line."""
    files(dataset)
    for file in _lists(dataset).values():
        yield from (str(named_file(Path(dataset.path), name)) for name, _ in _read_list(file))


def _lists(dataset: Dataset) -> dict[str, Path]:
    """Split -> list, for the splits that are used."""
    return {split: Path(file) for split, file in dataset.lists.items() if split in dataset.splits}


def _read_list(file: Path) -> Iterator[tuple[str, int]]:
    """(path, number of the class) of every line."""
    for number, line in _lines(file):
        name, _, label = line.rpartition(" ")
        if not name or not label.isdecimal():
            raise UserError(
                f"{file}: line {number}: {line[:80]!r} should be `<path of the image> <number of its class>`"
            )
        yield name.strip(), int(label)


def _wordnet_ids(dataset: Dataset) -> dict[int, str]:
    """Class number -> WordNet id in the paths of its images, or an empty text. Raises UserError for two ids."""
    ids: dict[int, str] = {}
    for file in _lists(dataset).values():
        for name, label in _read_list(file):
            folder = next(filter(_WORDNET_ID.fullmatch, re.split(r"[\\/]", name)), "")
            if folder and ids.get(label, "") not in ("", folder):
                raise UserError(
                    f"{file}: class {label} is {folder} here and {ids[label]} elsewhere; "
                    "the lists of dataset.lists must number the classes alike"
                )
            ids[label] = folder or ids.get(label, "")
    return ids


def _read_names(file: Path, ids: dict[int, str]) -> dict[int, str]:
    """Class number -> name. The lines are `<WordNet id> <name>`, or else line i is the name of class i (from 0)."""
    lines = list(_lines(file))
    first, _, _ = lines[0][1].partition(" ") if lines else ("", "", "")
    if _WORDNET_ID.fullmatch(first):
        by_id = {}
        for number, line in lines:
            wordnet_id, _, name = line.partition(" ")
            if not _WORDNET_ID.fullmatch(wordnet_id) or not name.strip():
                raise UserError(f"{file}: line {number}: {line[:80]!r} should be `<WordNet id> <name>`, as line 1 is")
            by_id[wordnet_id] = name.strip()
        names = {label: by_id[wordnet_id] for label, wordnet_id in ids.items() if wordnet_id in by_id}
    else:
        names = {number - 1: line for number, line in lines}
    seen: dict[str, int] = {}
    for label, name in sorted(names.items()):
        if seen.setdefault(name, label) != label:
            raise UserError(f"{file}: classes {seen[name]} and {label} are both called {name!r}; rename one of them")
    return names


def _read_classes(file: Path, ids: dict[int, str]) -> set[int]:
    """The class numbers in `file`, whose lines are numbers or WordNet ids."""
    numbers = {text: label for label, wordnet_id in ids.items() for text in (str(label), wordnet_id) if text}
    wanted = set()
    for number, line in _lines(file):
        if line not in numbers:
            raise UserError(f"{file}: line {number}: no image of dataset.lists has the class {line[:80]!r}; remove it")
        wanted.add(numbers[line])
    return wanted


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of every line that is not empty."""
    check_regular_file(file)
    try:
        # Not `splitlines`, which also splits at characters that may be part of a name.
        with file.open(encoding="utf-8-sig") as lines:
            yield from ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text ({error})", advice="save it as text in UTF-8") from None

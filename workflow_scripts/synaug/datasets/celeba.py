"""CelebA (Liu et al. 2015) as torchvision lays it out: faces with 40 attributes, and the official splits.

`<path>/celeba/` holds `img_align_celeba/`, `list_attr_celeba.txt` and `list_eval_partition.txt` (or `<path>` itself
does). One attribute is the class, others may be groups. Splits: train, val (torchvision: valid), test.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from synaug.config import Dataset
from synaug.datasets.groups import SPLITS, check_groups, check_splits, image_row, read_lines
from synaug.runtime.errors import UserError

# Names of an attribute's values where "<attribute>" and "not <attribute>" do not say it.
WORDS = {"Male": ("male", "female")}

_IMAGES, _ATTRIBUTES, _PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, path, row` (null), `data` and `attributes` (values of `group_columns`) of every image.

    Raises UserError for a missing file, an unknown attribute or split, and a line that is not as it should be.
    """
    attribute_file, partition_file = files(dataset)
    root = attribute_file.parent / _IMAGES
    inside = root.resolve()
    wanted = [dataset.label_column, *dataset.group_columns]
    splits = _read_partition(partition_file)
    for name, values in _read_attributes(attribute_file, wanted):
        if name not in splits:
            raise UserError(f"{partition_file}: has no line for {name}, as {_ATTRIBUTES} has; download both again")
        label, *groups = (value_name(one, value) for one, value in zip(wanted, values, strict=True))
        yield image_row(splits.pop(name), label, groups, root / name, inside)
    if splits:
        raise UserError(f"{attribute_file}: has no line for {min(splits)}, as {_PARTITION} has; download both again")


def files(dataset: Dataset) -> list[Path]:
    """The two lists. Raises UserError if one, or the folder of the images, is missing, or for an unknown attribute."""
    check_splits(dataset)
    root = Path(dataset.path)
    root = root / "celeba" if (root / "celeba").is_dir() else root
    lists = [root / _ATTRIBUTES, root / _PARTITION]
    for place in (root / _IMAGES, *lists):
        if not (place.is_file() if place in lists else place.is_dir()):
            raise UserError(
                f"dataset.path: {root} holds no {place.name}; give the folder that holds celeba/, as torchvision "
                "lays it out, with the images unpacked"
            )
    _check_columns(dataset, _read_header(lists[0])[1])
    return lists


def value_name(attribute: str, value: bool) -> str:
    """What a class or group is called: `blond hair` or `not blond hair` for Blond_Hair."""
    if attribute in WORDS:
        return WORDS[attribute][not value]
    words = attribute.replace("_", " ").lower()
    return words if value else f"not {words}"


def _check_columns(dataset: Dataset, there: list[str]) -> None:
    """Raise UserError for an attribute that CelebA does not have: with the closest ones, since there are 40."""
    for key, names in (("label_column", [dataset.label_column]), ("group_columns", dataset.group_columns)):
        for name in names:
            if name not in there:
                lower = {one.lower(): one for one in there}
                close = [lower[one] for one in get_close_matches(name.lower(), lower, 3, 0)]
                raise UserError(f"dataset.{key}: CelebA has no attribute {name!r}; the closest: {', '.join(close)}")
    check_groups(dataset, there, dataset.label_column)


def _read_header(file: Path) -> tuple[int, list[str]]:
    """The number of images, which is the first line, and the names of the attributes, the second."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            count, there = next(lines, "").strip(), next(lines, "").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text ({error}); download it again") from None
    if not there or not count.isdecimal():
        raise UserError(f"{file}: should begin with the number of images and the attributes; download it again")
    return int(count), there


def _read_attributes(file: Path, wanted: list[str]) -> Iterator[tuple[str, list[bool]]]:
    """(file name, values of the attributes `wanted`) of every image: lines `<file name> <1 or -1> ...` after two."""
    said, there = _read_header(file)
    columns = [there.index(name) + 1 for name in wanted]
    count = 0
    for number, line in enumerate(read_lines(file)[2:], 3):
        parts = line.split()
        if not parts:
            continue
        values = [parts[column] for column in columns] if len(parts) == len(there) + 1 else [""]
        if not {"1", "-1"}.issuperset(values):
            raise UserError(f"{file}: line {number}: should be a file name and {len(there)} times 1 or -1")
        count += 1
        yield parts[0], [value == "1" for value in values]
    if count != said:
        raise UserError(f"{file}: says {said} images and lists {count}; download it again")


def _read_partition(file: Path) -> dict[str, str]:
    """Split by file name."""
    splits = {}
    for number, line in enumerate(read_lines(file), 1):
        name, *code = line.split() or [""]
        if name and (len(code) != 1 or code[0] not in SPLITS):
            raise UserError(f"{file}: line {number}: {line[:80]!r} should be `<file name> <{', '.join(SPLITS)}>`")
        if name:
            splits[name] = SPLITS[code[0]]
    return splits

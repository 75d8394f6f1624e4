"""CelebA (Liu et al. 2015) as torchvision lays it out: faces with 40 attributes, and the official splits.

`<path>/celeba/` holds `img_align_celeba/`, `list_attr_celeba.txt` and `list_eval_partition.txt` (or `<path>` itself
does). One attribute is the class, others may be groups. Splits: train, val (torchvision: valid), test.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from synaug.config import Dataset
from synaug.datasets.groups import SPLITS, check_groups, check_splits, image_row, read_lines
from synaug.datasets.tree import Boundary
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file

# Names of the values of an attribute, where "<attribute>" and "not <attribute>" are not the usual words.
WORDS = {"Male": ("male", "female")}

_IMAGES, _ATTRIBUTES, _PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield a dict per image, as `folder.find` does, with the values of `group_columns` as `attributes`.

    Raises UserError for a missing file, an unknown attribute or split, and a malformed line.
    """
    attribute_file, partition_file = files(dataset)
    root = attribute_file.parent / _IMAGES
    boundary = Boundary(root, dataset.follow_links)
    wanted = [dataset.label_column, *dataset.group_columns]
    splits = _read_partition(partition_file)
    for name, values in _read_attributes(attribute_file, wanted):
        if name not in splits:
            raise UserError(f"{partition_file}: has no line for {name}, as {_ATTRIBUTES} has; download both again")
        label, *groups = (value_name(attribute, value) for attribute, value in zip(wanted, values, strict=True))
        yield image_row(splits.pop(name), label, groups, root / name, boundary)
    if splits:
        raise UserError(f"{attribute_file}: has no line for {min(splits)}, as {_PARTITION} has; download both again")


def files(dataset: Dataset) -> list[Path]:
    """The two lists. Raises UserError if one of them or the image folder is missing, and for an unknown attribute."""
    check_splits(dataset)
    root = Path(dataset.path)
    root = root / "celeba" if (root / "celeba").is_dir() else root
    lists = [root / _ATTRIBUTES, root / _PARTITION]
    missing = [file.name for file in lists if not file.is_file()]
    if not (root / _IMAGES).is_dir():
        missing.insert(0, _IMAGES)
    if missing:
        raise UserError(
            f"dataset.path: {root} holds no {missing[0]}; give the folder that holds celeba/, as torchvision lays it "
            "out, with the images unpacked"
        )
    _check_columns(dataset, _read_header(lists[0])[1])
    return lists


def image_files(dataset: Dataset) -> Iterator[str]:
    """Paths of all images of the lists. Raises UserError as `files`, and for a malformed line."""
    attribute_file, partition_file = files(dataset)
    root = str(attribute_file.parent / _IMAGES)
    return (f"{root}/{name}" for name in _read_partition(partition_file))


def value_name(attribute: str, value: bool) -> str:
    """The name of a class or group: `blond hair` or `not blond hair` for Blond_Hair."""
    if attribute in WORDS:
        return WORDS[attribute][not value]
    words = attribute.replace("_", " ").lower()
    return words if value else f"not {words}"


def _check_columns(dataset: Dataset, attributes: list[str]) -> None:
    """Raise UserError for an attribute that CelebA does not have, with the closest ones of its 40."""
    for key, names in (("label_column", [dataset.label_column]), ("group_columns", dataset.group_columns)):
        for name in names:
            if name not in attributes:
                by_lower_case = {attribute.lower(): attribute for attribute in attributes}
                closest = [by_lower_case[match] for match in get_close_matches(name.lower(), by_lower_case, 3, 0)]
                raise UserError(f"dataset.{key}: CelebA has no attribute {name!r}; the closest: {', '.join(closest)}")
    check_groups(dataset, attributes, dataset.label_column)


def _read_header(file: Path) -> tuple[int, list[str]]:
    """The number of images (first line), and the names of the attributes (second line)."""
    check_regular_file(file)
    try:
        with file.open(encoding="utf-8-sig") as lines:
            count, attributes = next(lines, "").strip(), next(lines, "").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text ({error}); download it again") from None
    if not attributes or not count.isdecimal():
        raise UserError(f"{file}: should begin with the number of images and the attributes; download it again")
    return int(count), attributes


def _read_attributes(file: Path, wanted: list[str]) -> Iterator[tuple[str, list[bool]]]:
    """(file name, values of the attributes `wanted`) of every image. The lines: `<file name> <1 or -1> ...`."""
    announced, attributes = _read_header(file)
    columns = [attributes.index(name) + 1 for name in wanted]
    count = 0
    for number, line in enumerate(read_lines(file)[2:], 3):
        parts = line.split()
        if not parts:
            continue
        values = [parts[column] for column in columns] if len(parts) == len(attributes) + 1 else [""]
        if not {"1", "-1"}.issuperset(values):
            raise UserError(f"{file}: line {number}: should be a file name and {len(attributes)} times 1 or -1")
        count += 1
        yield parts[0], [value == "1" for value in values]
    if count != announced:
        raise UserError(f"{file}: should list {announced} images and lists {count}; download it again")


def _read_partition(file: Path) -> dict[str, str]:
    """File name -> split."""
    splits = {}
    for number, line in enumerate(read_lines(file), 1):
        name, *code = line.split() or [""]
        if name and (len(code) != 1 or code[0] not in SPLITS):
            raise UserError(f"{file}: line {number}: {line[:80]!r} should be `<file name> <{', '.join(SPLITS)}>`")
        if name:
            splits[name] = SPLITS[code[0]]
    return splits

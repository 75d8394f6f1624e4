"""Config block `dataset`."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from synaug.config.base import Block, parse_value

# Key -> the sources that it is for; keys that are not listed are for all of them.
_SOURCES = {
    "make_splits": ("folder", "table", "webdataset", "huggingface", "torchvision"),
    "class_names": ("image_list",),
    "classes": ("image_list",),
    "download": ("cifar10", "cifar100", "fashion_mnist", "torchvision"),
    "follow_links": ("folder", "table", "image_list", "utkface", "waterbirds", "celeba"),
    "label_column": ("table", "webdataset", "huggingface", "utkface", "celeba"),
    "group_columns": ("table", "webdataset", "huggingface", "utkface", "waterbirds", "celeba"),
    "split_column": ("table",),
    "image_column": ("table", "huggingface"),
    "revision": ("huggingface",),
}
# A data set of the Hugging Face hub, <owner>/<name>, or a folder in it.
HUB_ID = r"\w[\w.-]*/\w[\w.-]*(/\w[\w.-]*)*"
_CONVERTED = ("webdataset", "huggingface")  # to a table with columns of their own
# Their authors define a training and a test split only.
_WITHOUT_VALIDATION = ("cifar10", "cifar100", "fashion_mnist", "utkface")
_PLACEHOLDERS = ("label", "modifier", "group")  # of prompts; a group column is a placeholder too


class Faults(Block):
    """The search for faults in the real images: wrong labels, outliers, near-duplicates, leaks between splits."""

    find: bool = Field(
        False,
        description="Look for them, by the features of a frozen network, and list them in real.parquet and the report.",
    )
    drop: list[Literal["label_issues", "outliers", "duplicates", "leaks"]] = Field(
        [],
        description="Kinds of faults for which images are not used. Test images are never dropped; validation images "
        "only if they are also in the test split (leaks).",
    )

    @model_validator(mode="after")
    def _dropped_faults_are_looked_for(self):
        if not self.find:
            self._refuse_without_effect(["drop"], "without find: true")
        return self


class Dataset(Block):
    """The real images, and the form in which they are used."""

    source: Literal[
        "table",
        "folder",
        "webdataset",
        "huggingface",
        "torchvision",
        "image_list",
        "cifar10",
        "cifar100",
        "fashion_mnist",
        "utkface",
        "waterbirds",
        "celeba",
    ] = Field(
        description="table: Parquet, CSV or JSON lines with one row per image; folder: <path>/<split>/<class>/<image>; "
        "webdataset: tar files; huggingface: a data set on disk, or of the hub; torchvision: a data set class of "
        "torchvision; image_list: text files that list images and classes; the others: the files that the authors "
        "publish."
    )
    path: str = Field(
        description="The table (or a folder of *.parquet tables), the folder of images, or the folder of the published "
        "files. huggingface with a revision: a data set of the hub, <owner>/<name>, or <owner>/<name>/<folder>."
    )
    revision: str | None = Field(
        None,
        description="huggingface only: commit, tag or branch of a data set of the hub, which `synaug fetch` downloads; "
        "null: `path` is a local folder.",
    )
    image_size: int = Field(ge=8, le=1024, description="Side of the square images that networks see, in pixels.")
    color: Literal["grey", "rgb"] = Field("rgb", description="Channels of the images. grey: 1; rgb: 3.")
    train_split: str = Field(
        "train",
        description="Name of the training split, which is measured, filled with synthetic images and trained on.",
    )
    test_split: str = Field("test", description="Name of the test split, which is only used for evaluation.")
    validation_split: str | None = Field(
        None, description="Name of the validation split, by which settings are chosen; null: none are chosen."
    )
    make_splits: dict[str, float] = Field(
        {},
        description="Splits that are taken from the training images: name (the test or validation split) -> share of "
        "the training images of each class.",
    )
    label_column: str = Field(
        "label", description="Column of a table, key in JSON, or attribute of utkface or celeba that names the class."
    )
    group_columns: list[str] = Field(
        [],
        description="Columns, keys or attributes that define the groups; with several, every combination is a group.",
    )
    split_column: str = Field("split", description="table only: the column that names the split.")
    image_column: str = Field(
        "image",
        description="table, huggingface only: the column with the image, a struct {bytes, path} or a path relative to "
        "the folder of the table.",
    )
    max_megapixels: float = Field(
        100.0, gt=0, description="Largest image that is decoded, in megapixels; a larger one is listed as unusable."
    )
    unify_names: bool = Field(
        False,
        description="Take class names (and groups) that look alike for one: they differ in case, in blanks, or in how "
        "Unicode writes a letter. false: they are different classes.",
    )
    follow_links: bool = Field(
        False,
        description="Read image files that are links out of `path`; `real.parquet` then names their targets. false: "
        "such a link is listed as unusable.",
    )
    lists: dict[str, str] | None = Field(
        None,
        description="image_list only: split -> text file with lines `<path below path> <number of the class>`.",
    )
    class_names: str | None = Field(
        None,
        description="image_list only: text file whose line i names class i (from 0), or with lines "
        "`<WordNet id> <name>`; null: the numbers are the names.",
    )
    classes: str | None = Field(
        None,
        description="image_list only: text file of the classes to use, one number or WordNet id per line; null: all.",
    )
    name: str | None = Field(None, description="torchvision only: name of a class in torchvision.datasets, e.g. SVHN.")
    download: bool = Field(
        False, description="cifar10, cifar100, fashion_mnist, torchvision only: torchvision downloads missing files."
    )
    imbalance_factor: float | None = Field(
        None,
        ge=1,
        description="Cut the training images to a long tail: size of the largest class divided by that of the "
        "smallest; null: all images are used.",
    )
    largest_class: int | None = Field(
        None, ge=1, description="With imbalance_factor: images of the largest class after the cut; null: all it has."
    )
    cut_seed: int = Field(
        0, ge=0, lt=2**32, description="With imbalance_factor: random seed of the choice of images that remain."
    )

    faults: Faults = Field(Faults(), description="Faults in the real images.")

    @property
    def held_out(self) -> list[str]:
        """Names of the splits that nothing is trained on, the test split first."""
        return [self.test_split] + ([self.validation_split] if self.validation_split else [])

    @property
    def splits(self) -> list[str]:
        """Names of the splits that are used, the training split first."""
        return [self.train_split, *self.held_out]

    @property
    def given_splits(self) -> list[str]:
        """Names of the splits that the data set itself has, and `make_splits` does not make."""
        return [split for split in self.splits if split not in self.make_splits]

    @property
    def unsplit(self) -> bool:
        """Whether the data set has no splits of its own: the test split is taken from its images."""
        return self.test_split in self.make_splits

    @field_validator("make_splits", mode="before")
    @classmethod
    def _shares_are_numbers(cls, shares: Any) -> Any:
        return {split: parse_value(share) for split, share in shares.items()} if isinstance(shares, dict) else shares

    @field_validator("group_columns")
    @classmethod
    def _group_columns_differ(cls, columns: list[str]) -> list[str]:
        if len(set(columns)) < len(columns):
            raise ValueError("each column may occur once only; remove the others")
        return columns

    @model_validator(mode="after")
    def _keys_fit_the_source(self):
        self._require_exactly_with("lists", "source: image_list", self.source == "image_list")
        self._require_exactly_with("name", "source: torchvision", self.source == "torchvision")
        for key, sources in _SOURCES.items():
            if getattr(self, key) != type(self).model_fields[key].default and self.source not in sources:
                raise ValueError(f"{key} is for source: {', '.join(sources)}; leave it out")
        if self.unsplit:
            self._refuse_without_effect(
                ["split_column"], "with the test split in make_splits, which replaces all splits"
            )
        if self.revision and not re.fullmatch(HUB_ID, self.path):
            raise ValueError(
                f"path: {self.path!r} is no data set of the hub, which revision is for; give <owner>/<name>, or leave "
                "revision out"
            )
        if self.validation_split and self.source in _WITHOUT_VALIDATION:
            raise ValueError(f"validation_split is not for source: {', '.join(_WITHOUT_VALIDATION)}; leave it out")
        return self

    @model_validator(mode="after")
    def _splits_are_complete(self):
        if len(set(self.splits)) < len(self.splits):
            raise ValueError(
                f"train_split, test_split and validation_split must differ ({', '.join(self.splits)}); rename one"
            )
        if self.lists is not None and (missing := set(self.splits) - set(self.lists)):
            raise ValueError(f"lists needs a file for each of {', '.join(self.splits)}; add {', '.join(missing)}")
        shares = self.make_splits
        for split in shares:
            if split not in self.held_out:
                raise ValueError(
                    f"make_splits: {split!r} must be the test or the validation split ({', '.join(self.held_out)}); "
                    f"set validation_split: {split} to have one"
                )
        if not all(0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
            raise ValueError("make_splits: each share must be above 0, and their sum below 1; change them")
        if self.unsplit and len(shares) < len(self.held_out):
            raise ValueError(
                f"make_splits: with {self.test_split!r}, {self.validation_split!r} must be made too; add its share"
            )
        return self

    @model_validator(mode="after")
    def _groups_and_cut_fit_each_other(self):
        if reserved := set(self.group_columns) & set(_PLACEHOLDERS):
            raise ValueError(
                f"group_columns: {', '.join(sorted(reserved))}: a placeholder of prompts has this name; rename it"
            )
        if self.source in _CONVERTED and (taken := set(self.group_columns) & {"image", "label_name", "split"}):
            raise ValueError(
                f"group_columns: {', '.join(sorted(taken))}: a column of the converted table has this name; rename it"
            )
        if self.group_columns and self.imbalance_factor is not None:
            raise ValueError("imbalance_factor cuts classes, not the groups of group_columns; leave one of the two out")
        if self.imbalance_factor is None:
            self._refuse_without_effect(["largest_class", "cut_seed"], "without imbalance_factor")
        return self

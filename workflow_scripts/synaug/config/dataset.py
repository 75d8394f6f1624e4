"""Config block `dataset`."""

from typing import Any, Literal

from pydantic import Field, model_validator

from synaug.config.base import Model

_PACKED = ("webdataset", "huggingface")
_GROUPED = ("table", *_PACKED, "utkface", "waterbirds", "celeba")
_PUBLISHED = ("cifar10", "cifar100", "fashion_mnist")
_UNVALIDATED = (*_PUBLISHED, "utkface")  # their authors name training and test images only
_SPLIT_HERE = ("folder", "table", *_PACKED, "torchvision")
_DOWNLOADED = (*_PUBLISHED, "torchvision")  # sources that make_splits is for


class Dataset(Model):
    """Where the real images are and in which form they are used."""

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
        "webdataset: tars; huggingface: a data set on disk; torchvision: one of its classes; image_list: text files "
        "that name images and classes; the others: the authors' files."
    )
    path: str = Field(
        description="The table (or a folder of *.parquet tables), the folder of images, or that of the authors' files."
    )
    image_size: int = Field(ge=8, le=1024, description="Side of the square images that networks see, pixels.")
    color: Literal["grey", "rgb"] = Field("rgb", description="Channels of the images: 1 or 3.")
    train_split: str = Field("train", description="Name of the split that is measured, filled and trained on.")
    test_split: str = Field("test", description="Name of the split that is only evaluated on.")
    validation_split: str | None = Field(
        None, description="Name of the split that settings are chosen by; null: none are chosen."
    )
    make_splits: dict[str, float] = Field(
        {}, description="Held-out split -> share of the training images of every class that make it up."
    )
    label_column: str = Field("label", description="What names the class, where columns, keys or attributes do.")
    group_columns: list[str] = Field(
        [], description="Columns, keys or attributes that make the groups; several: their crossing."
    )
    split_column: str = Field("split", description="table only: the column that names the split.")
    image_column: str = Field(
        "image",
        description="table, huggingface: an image struct {bytes, path}, or a path relative to the table's folder.",
    )
    max_megapixels: float = Field(100.0, gt=0, description="A larger image is not decoded but listed with that reason.")
    lists: dict[str, str] | None = Field(
        None, description="image_list only: split -> text file with lines `<path below path> <number of the class>`."
    )
    class_names: str | None = Field(
        None, description="image_list only: text file, line i names class i (from 0), or lines `<WordNet id> <name>`."
    )
    classes: str | None = Field(
        None, description="image_list only: text file of the classes to use, numbers or WordNet ids, one a line."
    )
    name: str | None = Field(None, description="torchvision only: class in torchvision.datasets, e.g. SVHN.")
    download: bool = Field(False, description="cifar10, cifar100, fashion_mnist, torchvision: it gets missing files.")
    imbalance_factor: float | None = Field(
        None, ge=1, description="Cut the training images to this ratio of largest and smallest class; null: use all."
    )
    largest_class: int | None = Field(
        None, ge=1, description="With imbalance_factor: images of the largest class; null: all that it has."
    )
    cut_seed: int = Field(0, ge=0, lt=2**32, description="With imbalance_factor: which images are kept.")

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
        """Names of the splits that the data set has by itself, so that `make_splits` does not make them."""
        return [split for split in self.splits if split not in self.make_splits]

    @property
    def unsplit(self) -> bool:
        """Whether the data set has no splits: `make_splits` divides all of its images."""
        return self.test_split in self.make_splits

    @model_validator(mode="before")
    @classmethod
    def _painted_is_a_script(cls, block: Any) -> Any:
        if isinstance(block, dict) and block.get("painted"):
            raise ValueError(
                "painted was removed; make the coloured images with resources/fashion_mnist_colored/make.py, and read "
                "them with source: table"
            )
        return block

    @model_validator(mode="after")
    def _made_splits_are_used(self):
        shares = self.make_splits
        if shares and self.source not in _SPLIT_HERE:
            raise ValueError(f"make_splits is for source: {', '.join(_SPLIT_HERE)}")
        for name in shares:
            if name not in self.held_out:
                raise ValueError(
                    f"make_splits: {name!r} should be the test or the validation split ({', '.join(self.held_out)}); "
                    f"set validation_split: {name} to have one"
                )
        if not all(0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
            raise ValueError("make_splits: the shares should be above 0, and below 1 together")
        if self.unsplit and len(shares) < len(self.held_out):
            raise ValueError(f"make_splits: if {self.test_split!r} is made, {self.validation_split!r} must be made too")
        return self

    @model_validator(mode="after")
    def _keys_fit_the_source(self):
        if (self.lists is not None) != (self.source == "image_list"):
            raise ValueError("lists is needed with source: image_list, and only with it")
        if self.validation_split and self.source in _UNVALIDATED:
            raise ValueError(f"validation_split is not for source: {', '.join(_UNVALIDATED)}")
        if len(set(self.splits)) < len(self.splits):
            raise ValueError(f"train_split, test_split and validation_split should differ: {', '.join(self.splits)}")
        if self.lists is not None and not set(self.splits) <= set(self.lists):
            raise ValueError(f"lists should have a file for each of {', '.join(self.splits)}")
        if (self.name is not None) != (self.source == "torchvision"):
            raise ValueError("name is needed with source: torchvision, and only with it")
        listed = {"class_names": self.class_names, "classes": self.classes}
        for key, value in {**listed, "download": self.download}.items():
            there = self.source == "image_list" if key in listed else self.source in _DOWNLOADED
            if value and not there:
                raise ValueError(f"{key} is for source: {'image_list' if key in listed else ', '.join(_DOWNLOADED)}")
        if self.group_columns and self.source not in _GROUPED:
            raise ValueError(f"group_columns is for source: {', '.join(_GROUPED)}")
        if set(self.group_columns) & {"label", "modifier", "group"}:
            raise ValueError("group_columns may not be called label, modifier or group, as placeholders of prompts are")
        if self.group_columns and self.imbalance_factor is not None:
            raise ValueError("imbalance_factor cuts classes and not groups; leave one of the two out")
        if (self.largest_class or self.cut_seed) and self.imbalance_factor is None:
            raise ValueError("largest_class and cut_seed have no effect without imbalance_factor; leave them out")
        return self

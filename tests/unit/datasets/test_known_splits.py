"""Known data sets: the cut of LDAM-DRW, the authors' files of CIFAR and Fashion-MNIST, and lists of images."""

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from synaug.config import Dataset, load_config
from synaug.datasets import as_table, convert, index_dataset, input_files
from synaug.datasets.published import cut
from synaug.images.store import load_pixels
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError

NAMES = {"cifar10": [f"kind {c}" for c in range(10)], "cifar100": [f"kind_{c}" for c in range(100)]}
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def dataset(source, path, **settings) -> Dataset:
    return Dataset(source=source, path=str(path), image_size=32, **settings)


def complaint(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------- the cut


def ldam_drw(targets: list[int], cls_num: int, imb_factor: float, rand_number: int = 0) -> np.ndarray:
    """What imbalance_cifar.py of Cao et al. (2019) does, step by step, with the global generator as there."""
    before = np.random.get_state()
    np.random.seed(rand_number)
    img_max = int(len(targets) / cls_num * 1.0)
    img_num_per_cls = [int(img_max * (imb_factor ** (cls_idx / (cls_num - 1.0)))) for cls_idx in range(cls_num)]
    targets_np = np.array(targets, dtype=np.int64)
    kept = []
    for the_class, the_img_num in zip(np.unique(targets_np), img_num_per_cls, strict=True):
        idx = np.where(targets_np == the_class)[0]
        np.random.shuffle(idx)
        kept.append(idx[:the_img_num])
    np.random.set_state(before)
    return np.concatenate(kept)


def labels_of(classes: int) -> np.ndarray:
    """50,000 labels, as many of every class, in an order that never changes (that of CIFAR is not public knowledge)."""
    return np.random.RandomState(1).permutation(np.arange(50000) % classes)


@pytest.mark.parametrize(
    ("source", "factor", "count", "digest"),
    [
        ("cifar10", 100, 12406, "b39494e3986af0da"),
        ("cifar10", 50, 13996, "8c88181ef8205e0f"),
        ("cifar10", 10, 20431, "abfc46041479c08d"),
        ("cifar100", 100, 10847, "b7e30d044a9f6aca"),
        ("cifar100", 50, 12608, "3849f851172044b9"),
        ("cifar100", 10, 19573, "fe4783dc241760f0"),
    ],
)
def test_the_cut_is_that_of_ldam_drw(source, factor, count, digest):
    labels = labels_of(len(NAMES[source]))
    kept = cut(labels, dataset(source, "data", imbalance_factor=factor))
    assert len(kept) == count
    assert np.array_equal(kept, ldam_drw(labels.tolist(), len(NAMES[source]), 1 / factor))
    assert hashlib.sha256(kept.astype("<i8").tobytes()).hexdigest()[:16] == digest


def test_another_seed_keeps_other_images_of_as_many_per_class():
    labels = labels_of(10)
    first, second = (cut(labels, dataset("cifar10", "d", imbalance_factor=100, cut_seed=seed)) for seed in (0, 7))
    assert np.array_equal(second, ldam_drw(labels.tolist(), 10, 0.01, rand_number=7))
    assert not np.array_equal(np.sort(first), np.sort(second))
    assert np.array_equal(labels[first], labels[second])


def test_the_largest_class_can_be_smaller_and_without_a_factor_all_stay():
    labels = labels_of(10)
    kept = cut(labels, dataset("cifar10", "d", imbalance_factor=100, largest_class=500))
    assert np.bincount(labels[kept]).tolist() == [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]
    assert np.array_equal(cut(labels, dataset("cifar10", "d")), np.arange(50000))


def test_a_cut_that_is_not_possible_is_a_user_error():
    labels = labels_of(10)
    said = complaint(cut, labels, dataset("cifar10", "d", imbalance_factor=100, largest_class=6000))
    assert "6000" in said and "5000 images" in said
    assert "5000 at most" in complaint(cut, labels, dataset("cifar10", "d", imbalance_factor=6000))


# -------------------------------------------------------------------------------------------------- authors' files


def python2_pickle(value) -> bytes:
    """`value` as Python 2 pickled it: bytes are its strings, an array has the names that numpy had then."""

    def put(one) -> bytes:
        match one:
            case bytes():
                return b"T" + struct.pack("<i", len(one)) + one
            case int():
                return b"J" + struct.pack("<i", one)
            case list():
                return b"](" + b"".join(map(put, one)) + b"e"
            case dict():
                return b"}(" + b"".join(put(key) + put(item) for key, item in one.items()) + b"u"
            case np.ndarray():
                shape = b"(" + b"".join(map(put, one.shape)) + b"t"
                kind = (
                    b"cnumpy\ndtype\n("
                    + put(b"u1")
                    + b"K\x00K\x01tR(K\x03"
                    + put(b"|")
                    + b"NNN"
                    + put(-1) * 2
                    + b"K\x00tb"
                )
                empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + put(b"b") + b"tR"
                return empty + b"(K\x01" + shape + kind + b"\x89" + put(one.tobytes()) + b"tb"
        raise TypeError(one)

    return b"\x80\x02" + put(value) + b"."


def write_cifar(root: Path, source: str, per_class: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Tiny files in the published layout; the training images (N x 32 x 32 x 3) and labels that are in them."""
    folder = root / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[source]
    folder.mkdir(parents=True)
    ten = source == "cifar10"
    classes = len(NAMES[source])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (classes * per_class, 32, 32, 3), dtype=np.uint8)
    labels = rng.permutation(np.arange(len(images)) % classes)

    def write(name: str, chosen: np.ndarray) -> None:
        content = {
            b"data": np.ascontiguousarray(images[chosen].transpose(0, 3, 1, 2).reshape(-1, 3072)),
            b"labels" if ten else b"fine_labels": labels[chosen].tolist(),
            b"batch_label": b"a batch",
            b"filenames": [b"%d.png" % number for number in chosen.tolist()],
        } | ({} if ten else {b"coarse_labels": [0] * len(chosen)})
        (folder / name).write_bytes(python2_pickle(content))

    everything = np.arange(len(images))
    for number, chosen in enumerate(np.array_split(everything, 5 if ten else 1), 1):
        write(f"data_batch_{number}" if ten else "train", chosen)
    write("test_batch" if ten else "test", everything[: 2 * classes])
    meta = {b"label_names" if ten else b"fine_label_names": [name.encode() for name in NAMES[source]]}
    (folder / ("batches.meta" if ten else "meta")).write_bytes(python2_pickle(meta))
    return images, labels


def write_idx(path: Path, values: np.ndarray) -> None:
    content = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_fashion(folder: Path, end: str = "") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8), (np.arange(40) % 10).astype(np.uint8)
    for prefix in ("train", "t10k"):
        write_idx(folder / f"{prefix}-images-idx3-ubyte{end}", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{end}", labels)
    return images[..., None], labels


def indexed(chosen: Dataset, folder: Path):
    """The manifest `real` of a data set in its authors' files."""
    pq.write_table(convert(chosen), folder / "dataset.parquet")
    write_manifest("real", index_dataset(as_table(chosen, str(folder / "dataset.parquet"))), folder / "real.parquet")
    return read_manifest("real", folder / "real.parquet")


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_cifar_from_its_files_to_the_manifest_pixel_by_pixel(tmp_path, source):
    images, labels = write_cifar(tmp_path, source)
    chosen = dataset(source, tmp_path)
    assert len(input_files(chosen)) == {"cifar10": 7, "cifar100": 3}[source]
    real = indexed(chosen, tmp_path)
    train = real[real["split"] == "train"].sort_values("row")
    assert (len(train), (real["split"] == "test").sum()) == (len(images), 2 * len(NAMES[source]))
    assert real["usable"].all()
    assert train["label_name"].tolist() == [NAMES[source][label] for label in labels]
    assert np.array_equal(load_pixels(train, 32, "rgb"), images)


def test_a_cut_cifar_has_the_images_of_ldam_drw(tmp_path):
    _, labels = write_cifar(tmp_path, "cifar10")
    table = convert(dataset("cifar10", tmp_path, imbalance_factor=4)).to_pandas()
    kept = table.loc[table["split"] == "train", "source_index"]
    assert kept.tolist() == ldam_drw(labels.tolist(), 10, 1 / 4).tolist()
    assert (table["split"] == "test").sum() == 20


@pytest.mark.parametrize(
    ("place", "end"), [("FashionMNIST/raw", ""), ("FashionMNIST/raw", ".gz"), ("", ".gz"), ("", "")]
)
def test_fashion_mnist_wherever_its_files_lie(tmp_path, place, end):
    images, labels = write_fashion(tmp_path / place, end)
    chosen = dataset("fashion_mnist", tmp_path, color="grey")
    assert len(input_files(chosen)) == 4
    table = convert(chosen).to_pandas()
    train = table[table["split"] == "train"]
    assert train["label_name"].tolist() == [FASHION[label] for label in labels]
    real = indexed(chosen, tmp_path)
    assert np.array_equal(load_pixels(real[real["split"] == "train"].sort_values("row"), 28, "grey"), images)


def test_the_table_has_the_names_of_the_splits_and_the_same_bytes_each_time(tmp_path):
    write_fashion(tmp_path)
    chosen = dataset("fashion_mnist", tmp_path, train_split="learn", test_split="exam", imbalance_factor=2)
    assert set(convert(chosen).column("split").to_pylist()) == {"learn", "exam"}
    for name in ("a", "b"):
        pq.write_table(convert(chosen), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "fashion_mnist"])
def test_missing_files_are_named_with_what_to_do(tmp_path, source):
    said = complaint(input_files, dataset(source, tmp_path))
    assert "download: true" in said and str(tmp_path) in said
    assert input_files(dataset(source, tmp_path, download=True)) == []  # the same before and after the download


def test_download_gets_what_is_missing_and_only_then(tmp_path, monkeypatch):
    from torchvision import datasets

    calls = []

    def fetch(root, download):
        calls.append(root)
        write_cifar(Path(root), "cifar100")

    monkeypatch.setattr(datasets, "CIFAR100", fetch)
    chosen = dataset("cifar100", tmp_path / "new", download=True)
    assert convert(chosen).num_rows == convert(chosen).num_rows == 600
    assert calls == [str(tmp_path / "new")]


def test_a_download_that_fails_is_a_user_error(tmp_path, monkeypatch):
    from torchvision import datasets

    def fetch(root, download):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, "FashionMNIST", fetch)
    said = complaint(convert, dataset("fashion_mnist", tmp_path, download=True))
    assert "no route to host" in said and str(tmp_path) in said


def test_a_pickle_that_would_call_something_does_not(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "called",))

    write_cifar(tmp_path, "cifar100")
    (tmp_path / "cifar-100-python/train").write_bytes(pickle.dumps({b"data": Evil()}))
    assert "cifar-100-python/train" in complaint(convert, dataset("cifar100", tmp_path))
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", python2_pickle([1]), python2_pickle({b"data": 3})])
def test_a_damaged_file_of_cifar_is_one_line(tmp_path, content):
    write_cifar(tmp_path, "cifar100")
    (tmp_path / "cifar-100-python/train").write_bytes(content)
    assert "cifar-100-python/train" in complaint(convert, dataset("cifar100", tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [1]},
        {b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [100]},
        {b"data": b"text", b"fine_labels": [1]},
        {b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [b"text"]},
    ],
)
def test_contents_of_cifar_that_do_not_fit_are_one_line(tmp_path, content):
    write_cifar(tmp_path, "cifar100")
    (tmp_path / "cifar-100-python/train").write_bytes(python2_pickle(content))
    assert "cifar-100-python/train" in complaint(convert, dataset("cifar100", tmp_path))


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x01", b"\0\0\x08\x01" + struct.pack(">I", 9) + b"12345678"])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_damaged_file_of_fashion_mnist_is_one_line(tmp_path, end, content):
    write_fashion(tmp_path, end)
    file = tmp_path / f"train-labels-idx1-ubyte{end}"
    file.write_bytes(content)
    assert file.name in complaint(convert, dataset("fashion_mnist", tmp_path))


# -------------------------------------------------------------------------------------------------- lists of images

IDS = ["n01440764", "n01443537", "n01484850"]


@pytest.fixture
def lists(tmp_path, pngs):
    """A function: what differs in the config, to the data set of three classes that two lists name."""
    images = iter(pngs)
    for split, folder, per_class in (("train", "train", 3), ("test", "val", 1)):
        lines = []
        for label, one in enumerate(IDS):
            (tmp_path / folder / one).mkdir(parents=True)
            for number in range(per_class - (split == "train") * label):
                (tmp_path / folder / one / f"{number}.JPEG").write_bytes(next(images))
                lines.append(f"{folder}/{one}/{number}.JPEG {label}\n")
        (tmp_path / f"{split}.txt").write_text("".join(lines))

    def make(**settings) -> Dataset:
        named = {split: str(tmp_path / f"{split}.txt") for split in ("train", "test")}
        return Dataset(**{"source": "image_list", "path": str(tmp_path), "image_size": 28, "lists": named, **settings})

    return make


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def test_lists_become_a_manifest(lists, tmp_path):
    real = index_dataset(lists())
    write_manifest("real", real, tmp_path / "real.parquet")
    counts = real.groupby(["split", "label_name"]).size().to_dict()
    assert counts == {("train", "0"): 3, ("train", "1"): 2, ("train", "2"): 1} | {("test", c): 1 for c in "012"}
    assert real["usable"].all() and real["row"].isna().all()
    assert input_files(lists()) == [str(tmp_path / "train.txt"), str(tmp_path / "test.txt")]


def test_names_by_line_and_by_wordnet_id(lists, tmp_path):
    by_line = write(tmp_path / "line.txt", "tench", "goldfish", "great white shark")
    by_id = write(tmp_path / "id.txt", *(f"{one} {name}" for one, name in zip(IDS[::-1], "cba", strict=True)))
    assert set(index_dataset(lists(class_names=by_line))["label_name"]) == {"tench", "goldfish", "great white shark"}
    real = index_dataset(lists(class_names=by_id))
    assert real.groupby("label_name").size().to_dict() == {"a": 4, "b": 3, "c": 2}
    assert input_files(lists(class_names=by_id))[2:] == [by_id]


@pytest.mark.parametrize("chosen", [["0", "2"], [IDS[2], IDS[0]]])
def test_rows_of_other_classes_are_left_out_and_labels_numbered_again(lists, tmp_path, chosen):
    classes = write(tmp_path / "classes.txt", *chosen)
    real = index_dataset(lists(classes=classes))
    assert dict(zip(real["label_name"], real["label"], strict=True)) == {"0": 0, "2": 1}
    assert input_files(lists(classes=classes))[2:] == [classes]


@pytest.mark.parametrize("line", ["train/1.JPEG", "train/1.JPEG one", "7", "train/1.JPEG -1"])
def test_a_bad_line_is_named_by_its_number(lists, tmp_path, line):
    with (tmp_path / "train.txt").open("a") as file:
        file.write(f"\n{line}\n")
    said = complaint(index_dataset, lists())
    assert "train.txt: line 8" in said and line in said


def test_listed_files_that_are_not_there_or_lie_outside_are_rows_with_a_reason(lists, tmp_path):
    with (tmp_path / "train.txt").open("a") as file:
        file.write("train/gone.JPEG 0\n../outside.JPEG 0\n")
    reasons = index_dataset(lists())["reason"].dropna().tolist()
    assert len(reasons) == 2
    assert "No such file" in reasons[0] and "out of" in reasons[1]


def test_faults_of_the_files_beside_the_lists_are_one_line(lists, tmp_path):
    two = write(tmp_path / "two.txt", "crane", "fish", "crane")
    assert "classes 0 and 2 are both called 'crane'" in complaint(index_dataset, lists(class_names=two))
    assert "no class 2 (n01484850)" in complaint(
        index_dataset, lists(class_names=write(tmp_path / "few.txt", "a", "b"))
    )
    mixed = write(tmp_path / "mixed.txt", f"{IDS[0]} a", "b")
    assert "mixed.txt: line 2" in complaint(index_dataset, lists(class_names=mixed))
    other = write(tmp_path / "other.txt", "0", "n99999999")
    assert "other.txt: line 2" in complaint(index_dataset, lists(classes=other))
    assert "gone.txt does not exist" in complaint(input_files, lists(classes="gone.txt"))
    assert "is not a folder" in complaint(input_files, lists(path=str(tmp_path / "nowhere")))
    with (tmp_path / "test.txt").open("a") as file:
        file.write(f"val/{IDS[1]}/0.JPEG 0\n")
    assert "class 0 is n01443537 here and n01440764 elsewhere" in complaint(index_dataset, lists())


# ------------------------------------------------------------------------------------------------------- the config


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"source": "image_list"}, "lists is needed with source: image_list"),
        ({"source": "table", "lists": {"train": "a", "test": "b"}}, "lists is for source: image_list"),
        ({"source": "image_list", "lists": {"train": "a"}}, "lists needs a file for each of train, test"),
        ({"source": "folder", "classes": "a"}, "classes is for source: image_list"),
        ({"source": "table", "download": True}, "download is for source: cifar10"),
        ({"source": "cifar10", "largest_class": 5}, "no effect without imbalance_factor"),
        ({"source": "cifar10", "imbalance_factor": 0.01}, "dataset.imbalance_factor"),
    ],
)
def test_keys_that_do_not_fit_the_source(block, said):
    config = {"experiment": "e", "generation": {"model": "m"}, "recipes": {"plain": {"data": "real"}}}
    assert said in complaint(load_config, {**config, "dataset": {"path": "d", "image_size": 32, **block}})

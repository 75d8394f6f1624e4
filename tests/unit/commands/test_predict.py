"""`synaug predict`: the classes of images, from a network of the workflow."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from synaug.images.codec import decode_image
from synaug.networks.classifier import Classifier, save_classifier

CLASSES = ["cat", "dog", "T-shirt/top"]


@pytest.fixture
def model(tmp_path):
    """A network with random weights, in the folder where the workflow writes networks."""
    torch.manual_seed(0)
    network = Classifier("resnet8", 8, CLASSES, 16, 1)
    with torch.no_grad():
        network.head.weight.mul_(20)  # larger logits, so that probabilities differ
    network.set_normalisation(torch.randint(0, 256, (10, 1, 16, 16), dtype=torch.uint8))
    folder = tmp_path / "results/e/finetune/synaug/0"
    save_classifier(network, folder / "model.safetensors")
    return folder, network


@pytest.fixture
def photos(tmp_path, pngs):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number in range(5):
        (folder / ("more" if number == 4 else "") / f"{number}.PNG").write_bytes(pngs[number * 12])
    (folder / "notes.txt").write_text("no image")
    return folder


def test_classes_and_probabilities_are_those_of_the_network(synaug, model, photos, pngs):
    folder, network = model
    status, out, err = synaug("predict", photos, "--model", folder, "--top", 9, "--format", "json")
    assert (status, err) == (0, f"1 file of no known image format skipped: {photos / 'notes.txt'}\n")
    predictions = [json.loads(line) for line in out.splitlines()]
    assert [prediction["image"] for prediction in predictions] == [str(photos / f"{i}.PNG") for i in range(4)] + [
        str(photos / "more/4.PNG")
    ]
    pixels = np.stack([decode_image(pngs[i * 12], 16, "grey") for i in range(5)])
    expected = network.probabilities(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    for prediction, probabilities in zip(predictions, expected, strict=True):
        by_class = {entry["class"]: entry["probability"] for entry in prediction["classes"]}
        assert list(by_class) == [CLASSES[i] for i in np.argsort(-probabilities)]
        np.testing.assert_allclose([by_class[name] for name in CLASSES], probabilities, atol=1e-5)


def test_text_and_csv_have_the_same_content(synaug, model, photos):
    folder, _ = model
    text = synaug("predict", photos / "0.PNG", photos / "1.PNG", "--model", folder / "model.safetensors", "--top", 2)[1]
    table = synaug("predict", photos / "0.PNG", photos / "1.PNG", "--model", folder, "--top", 2, "--format", "csv")[1]
    rows = list(csv.DictReader(io.StringIO(table)))
    assert list(rows[0]) == ["image", "class", "probability", "class_2", "probability_2"]
    for line, row in zip(text.splitlines(), rows, strict=True):
        first, second = (f"{row[f'class{i}']} {float(row[f'probability{i}']):.3f}" for i in ("", "_2"))
        assert line == f"{row['image']}: {first}, {second}"


def test_a_class_name_with_a_line_break_is_shown_on_one_line(synaug, tmp_path, photos):
    save_classifier(Classifier("resnet8", 8, ["a\ncat"], 16, 1), tmp_path / "model.safetensors")
    arguments = ["predict", photos / "0.PNG", "--model", tmp_path / "model.safetensors"]
    assert synaug(*arguments)[1] == f"{photos / '0.PNG'}: a cat 1.000\n"
    table = synaug(*arguments, "--format", "csv")[1]  # a program reads the name as it is
    assert next(csv.DictReader(io.StringIO(table)))["class"] == "a\ncat"


def test_broken_images_are_named_and_the_others_classified(synaug, model, photos, pngs):
    (photos / "2.PNG").write_bytes(pngs[0][: len(pngs[0]) // 2])
    (photos / "3.PNG").write_text("words")
    status, out, err = synaug("predict", photos, "--model", model[0])
    assert status == 1
    assert len(out.splitlines()) == 3
    lines = err.splitlines()[1:]
    assert lines[0].startswith(f"{photos / '2.PNG'}: is damaged")
    assert lines[1:] == [f"{photos / '3.PNG'}: is not an image of a known format", "2 images of 5 cannot be used"]


def test_a_folder_is_read_as_a_data_set_is(synaug, model, photos, pngs):
    """Hidden files and those of a system are skipped; an image needs no suffix; a broken link and a HEIC are named."""
    (photos / "__MACOSX").mkdir()
    for name in ("._a.png", ".hidden.png", "__MACOSX/b.png", "5"):
        (photos / name).write_bytes(pngs[60] if name == "5" else b"attributes")
    (photos / "6.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (photos / "7.png").symlink_to(photos / "gone.png")
    status, out, err = synaug("predict", photos, "--model", model[0])
    assert status == 1
    assert len(out.splitlines()) == 6 and str(photos / "5:") in out
    assert err.splitlines() == [
        f"2 files of no known image format skipped, such as {photos / '6.heic'}",
        f"{photos / '7.png'}: cannot be read (No such file or directory)",
        "1 image of 7 cannot be used",
    ]


def test_an_experiment_without_a_choice_says_so(synaug, model, photos):
    home = model[0].parents[2]
    (home / "summary.parquet").touch()
    status, _, err = synaug("predict", photos, "--model", home)
    assert status == 2 and f"this experiment chooses no recipe; name a network, such as {model[0]}" in err


def test_only_broken_images(synaug, model, photos):
    (photos / "3.PNG").write_text("")
    status, out, err = synaug("predict", photos / "3.PNG", "--model", model[0])
    assert (status, out, err) == (1, "", f"{photos / '3.PNG'}: is empty (0 bytes)\n")


def test_missing_arguments_and_files_are_named(synaug, model, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").write_text("words")
    for arguments, message in (
        ([photos], "--model results/e/finetune/synaug/0"),
        ([photos, "--model", "empty"], "empty/model.safetensors: no such file"),
        ([photos, "--model", "words"], "is not a classifier of synaug"),
        (["gone", "--model", model[0]], "gone: no such file or folder"),
        (["empty", "--model", model[0]], "empty: holds no image"),
    ):
        status, out, err = synaug("predict", *arguments)
        assert (status, out) == (2, "") and message in err and err.count("\n") == 1


def test_a_name_that_is_not_utf_8_is_printed_as_it_is(model, photos, pngs):
    name = b"caf\xe9.png"
    (photos / os.fsdecode(name)).write_bytes(pngs[0])
    command = [sys.executable, "-m", "synaug.cli", "predict", str(photos), "--model", str(model[0])]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


def test_linked_folders_are_read_and_unreadable_ones_are_named(synaug, model, photos, pngs, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jfif").write_bytes(pngs[0])
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    (photos / "more" / "loop").symlink_to(photos)
    (photos / "twice").symlink_to(photos / "more")
    status, out, _ = synaug("predict", photos, "--model", model[0])
    assert status == 0
    assert f"{photos}/link/x.jfif" in out and len(out.splitlines()) == 6

    def scandir(path):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    original = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    status, out, err = synaug("predict", photos, "--model", model[0])
    assert status == 2 and not out and f"{photos}/more: cannot be read (Permission denied)" in err

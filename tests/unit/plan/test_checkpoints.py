"""The files and the version of a model."""

import pytest

from synaug.config import Adapter
from synaug.plan.checkpoints import adapter_files, check_variant, model_version
from synaug.runtime.errors import UserError


@pytest.mark.parametrize(
    ("lost", "complaint"),
    [("model_index.json", "model_index.json"), ("unet/model.safetensors", "no weights"), (None, "revision")],
)
def test_a_folder_that_is_no_checkpoint_is_a_user_error(checkpoint, tmp_path, lost, complaint):
    folder = checkpoint(tmp_path / "model")
    if lost:
        (folder / lost).unlink()
    with pytest.raises(UserError, match=complaint):
        model_version(str(folder) if lost else "someone/some-model", None)


def test_a_folder_with_the_name_of_a_file_is_no_part_of_a_model(checkpoint, tmp_path):
    folder = checkpoint(tmp_path / "model")
    version = model_version(str(folder), None)
    (folder / "notes.txt").mkdir()
    assert model_version(str(folder), None) == version


def test_the_version_of_a_hub_model_is_its_revision():
    assert model_version("someone/some-model", "abc123") == "abc123"


@pytest.mark.parametrize(
    ("files", "variant", "advice"),
    [
        (["model.safetensors"], "fp16", "of the variant 'fp16'; set it to null"),
        (["model.safetensors", "model.fp16.safetensors"], "ema", "of the variant 'ema'; set it to null or fp16"),
        (["model.fp16.safetensors"], None, "without a variant; set it to fp16"),
        (["model.fp16-00001-of-00002.safetensors"], None, "without a variant; set it to fp16"),
        (["model.safetensors", "model.fp16.safetensors"], None, None),
        (["model.safetensors", "model.fp16.safetensors"], "fp16", None),
        (["model-00001-of-00002.safetensors"], None, None),
        (["model.fp16-00001-of-00002.safetensors"], "fp16", None),
    ],
)
def test_a_variant_that_a_folder_lacks_is_refused_with_those_that_it_has(tmp_path, files, variant, advice):
    for file in files:
        (tmp_path / "unet").mkdir(exist_ok=True)
        (tmp_path / "unet" / file).touch()
    (tmp_path / "single_file.fp32.safetensors").touch()  # some checkpoints have all weights in one more file
    if advice is None:
        check_variant(str(tmp_path), variant)
        return
    with pytest.raises(UserError) as error:
        check_variant(str(tmp_path), variant)
    assert str(error.value) == f"generation.variant: {tmp_path} holds no weights {advice}"


@pytest.fixture
def adapter_folder(tmp_path):
    """A folder with adapters, one of them with brackets in its name."""
    for name in ("a[1].safetensors", "a1.safetensors", "b.safetensors", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.safetensors").mkdir()
    return tmp_path


@pytest.mark.parametrize("file", ["a[1].safetensors", "b.safetensors"])
def test_the_name_of_an_adapter_is_no_pattern(adapter_folder, file):
    for name in (file, str(adapter_folder / file)):
        adapter = Adapter(kind="lora", model=str(adapter_folder), file=name)
        assert adapter_files(adapter) == [str(adapter_folder / file)]


@pytest.mark.parametrize(
    "file",
    [None, "c.safetensors", "/nowhere/c.safetensors", "*.safetensors", "b[.safetensors", "**b", "notes.txt", "..",
     "folder.safetensors"],
)  # fmt: skip
def test_a_name_that_no_adapter_has_is_one_line(adapter_folder, file):
    with pytest.raises(UserError, match=r"must hold one \*\.safetensors file, or `file` must name it") as error:
        adapter_files(Adapter(kind="lora", model=str(adapter_folder), file=file))
    assert "\n" not in str(error.value)


def test_the_variant_of_a_hub_model_is_checked_when_it_is_loaded():
    check_variant("someone/model", "fp16")

"""The files and the version of a model."""

import pytest

from synaug.plan.checkpoints import check_variant, model_version
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


def test_the_variant_of_a_hub_model_is_checked_when_it_is_loaded():
    check_variant("someone/model", "fp16")

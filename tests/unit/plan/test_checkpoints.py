"""The files and the version of a model."""

import pytest

from synaug.plan.checkpoints import model_version
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

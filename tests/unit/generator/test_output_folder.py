"""Training a generator replaces its output folder: only a new or empty folder, or a model that it wrote itself."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from synaug.generator.output_folder import (
    ADAPTER_MARK,
    ADAPTER_WEIGHTS,
    check_adapter_folder,
    check_no_storage,
    check_output_folder,
)
from synaug.runtime.errors import UserError


@pytest.fixture(autouse=True)
def _working_directory(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


@pytest.fixture
def model(repository, tmp_path) -> Path:
    """A folder with the embedded generator, its card included."""
    return Path(shutil.copytree(repository / "resources/embedded_generator", tmp_path / "project" / "model"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(output, protected=()) -> str:
    """The message; all files of `output` are still there."""
    before = files(Path(output))
    with pytest.raises(UserError) as error:
        check_output_folder(output, protected)
    assert files(Path(output)) == before
    message = str(error.value)
    assert message.startswith(f"generator.output: {output} ") and "\n" not in message and "name a new" in message
    return message


def test_a_new_an_empty_and_our_own_folder_are_accepted(model):
    check_output_folder("results/mine/generator", ["data", "results", "results/mine"])
    Path("empty").mkdir()
    check_output_folder("empty")
    check_output_folder(model)
    check_output_folder(str(model) + "/")
    Path("link").symlink_to(model)
    check_output_folder("link")


def test_a_model_without_its_index_is_accepted(model):
    """Snakemake deletes model_index.json, the declared output, before the job starts."""
    (model / "model_index.json").unlink()
    check_output_folder(model)


@pytest.mark.parametrize("name", ["notes.txt", "images/1.png", "unet/notes.md", "vae/samples/1.png", ".git/HEAD"])
def test_a_folder_with_anything_else_is_refused(model, name):
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("kept")
    assert f"holds {name.split('/')[0]}" in refused(model)


def test_data_and_results_are_refused(tmp_path):
    data = tmp_path / "data"
    (data / "cat").mkdir(parents=True)
    (data / "cat" / "1.png").write_bytes(b"image")
    assert "holds cat" in refused(data)
    Path("results/mine").mkdir(parents=True)
    Path("results/mine/real.parquet").write_bytes(b"table")
    assert "holds mine" in refused("results")
    assert "holds real.parquet" in refused("results/mine")


def test_a_model_of_another_program_is_refused(model):
    """A Stable Diffusion in the same five folders: its autoencoder is another one."""
    config = model / "vae" / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"scaling_factor": 1.0', '"scaling_factor": 0.18215'))
    assert config.read_text() != text
    refused(model)
    config.write_text("no JSON")
    refused(model)
    shutil.rmtree(model / "vae")
    refused(model)


def test_a_file_is_refused():
    Path("model").write_text("kept")
    with pytest.raises(UserError, match=r"generator\.output: model is a file"):
        check_output_folder("model")
    assert Path("model").read_text() == "kept"


@pytest.mark.parametrize("output", [".", "..", "", "/", "../project", "results", "results/mine", "data"])
def test_folders_that_contain_what_must_stay_are_refused_although_they_are_empty(output):
    for folder in ("results/mine", "data"):
        Path(folder).mkdir(parents=True)
    with pytest.raises(UserError, match="is or contains"):
        check_output_folder(output, ["data/train", "results/mine"])
    assert Path("results/mine").is_dir() and Path("data").is_dir()


def test_links_to_what_must_stay_are_followed(tmp_path):
    disk = tmp_path / "disk"
    (disk / "data").mkdir(parents=True)
    Path("data").symlink_to(disk / "data")
    Path("link").symlink_to(disk)
    for output in (disk, "link", disk / "data", "data"):
        with pytest.raises(UserError, match="is or contains data"):
            check_output_folder(output, ["data"])


def test_the_code_is_never_replaced(repository):
    with pytest.raises(UserError, match="is or contains"):
        check_output_folder(repository)


def test_a_folder_that_cannot_be_read_is_refused(monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    Path("closed").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)  # root, too, may run this test
    with pytest.raises(UserError, match=r"closed cannot be read \(Permission denied\)"):
        check_output_folder("closed")


# ---------------------------------------------------------------------------------------------- adapters


def write_adapter(folder: Path, metadata: dict[str, str] | None = ADAPTER_MARK) -> Path:
    folder.mkdir()
    save_file({"weight": np.zeros(2)}, folder / ADAPTER_WEIGHTS, metadata)
    for name in ("history.parquet", "samples.png", "README.md"):
        (folder / name).write_text("x")
    return folder


def test_a_new_an_empty_and_our_own_adapter_folder_are_accepted():
    check_adapter_folder("results/mine/adapter", ["data", "results", "results/mine"])
    Path("empty").mkdir()
    check_adapter_folder("empty")
    adapter = write_adapter(Path("adapter"))
    check_adapter_folder(adapter)
    (adapter / ADAPTER_WEIGHTS).unlink()  # Snakemake deletes it before the job starts
    check_adapter_folder(adapter)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_an_adapter_of_another_program_is_refused(metadata):
    with pytest.raises(
        UserError, match=f"^adaptation.output: adapter holds {ADAPTER_WEIGHTS}, which adapt_generator did"
    ):
        check_adapter_folder(write_adapter(Path("adapter"), metadata))


@pytest.mark.parametrize("content", [b"", b"short", b"\x05\0\0\0\0\0\0\0[1,2]"])
def test_weights_that_are_no_safetensors_file_are_refused(content):
    (write_adapter(Path("adapter")) / ADAPTER_WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match="holds pytorch_lora"):
        check_adapter_folder("adapter")


def test_an_adapter_folder_with_anything_else_or_with_the_data_is_refused():
    (write_adapter(Path("adapter")) / "1.png").write_text("kept")
    with pytest.raises(UserError, match=r"adaptation\.output: adapter holds 1\.png"):
        check_adapter_folder("adapter")
    with pytest.raises(UserError, match=r"adaptation\.output: adapter is or contains adapter/data"):
        check_adapter_folder("adapter", ["adapter/data"])


def test_what_a_killed_training_of_an_adapter_left_does_not_refuse_the_next_one():
    Path("adapter").mkdir()
    Path("adapter", f".{ADAPTER_WEIGHTS}.node-1.tmp").write_bytes(b"half")
    check_adapter_folder("adapter")
    Path("adapter", ".other.tmp").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds \.other\.tmp"):
        check_adapter_folder("adapter")


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ((True, False), "generator: train_generator writes .* `snakemake .* train_generator` without a storage"),
        ((False, True), "adaptation: adapt_generator writes .* then remove the block adaptation"),
    ],
)
def test_what_is_trained_for_later_steps_is_refused_with_results_in_a_storage(blocks, expected):
    with pytest.raises(UserError, match=f"^{expected}"):
        check_no_storage(*blocks)


def test_a_storage_is_no_problem_if_no_generator_and_no_adapter_is_trained():
    check_no_storage(False, False)

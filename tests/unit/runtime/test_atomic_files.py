"""Files and folders are complete or not there, and nothing that a killed process left stays."""

import errno
import os
import platform
import resource
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from synaug.runtime.disk import space_for
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path, delete_all_leftovers, new_folder, temporary_folder

KILLED = """
import os, sys
from pathlib import Path
from synaug.runtime.files import atomic_path, new_folder, temporary_folder
path = Path(sys.argv[2])
if sys.argv[1] == "spill":
    with temporary_folder(path) as folder:
        (folder / "part").write_text("half")
        os._exit(9)
if sys.argv[1] == "file":
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        os._exit(9)
rename = Path.rename
def killed_after_the_first(source, target):
    rename(source, target)
    os._exit(9)
Path.rename = killed_after_the_first
with new_folder(path, replace=True) as folder:
    (folder / "new").write_text("new")
"""


def kill(*arguments) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)]).returncode == 9


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    kill("file", tmp_path / "a.parquet")
    (leftover,) = tmp_path.iterdir()
    with atomic_path(tmp_path / "b.parquet") as temporary:
        temporary.write_text("b")
    assert leftover.exists()  # of another file
    with atomic_path(tmp_path / "a.parquet") as temporary:
        temporary.write_text("a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_what_killed_processes_left_goes_with_files_of_other_names(tmp_path):
    for name in ("a.b.pixels", "[c].pixels", "d.ids"):
        kill("file", tmp_path / name)
    running = tmp_path / f".e.pixels.{platform.node()}-{os.getppid()}.tmp"
    running.touch()
    delete_all_leftovers(tmp_path, ".pixels")
    (of_ids,) = set(tmp_path.iterdir()) - {running}
    assert of_ids.name.startswith(".d.ids.")


def test_a_temporary_folder_goes_in_the_end_or_with_the_next_one(tmp_path):
    kill("spill", tmp_path / "a.parquet.spill")
    (leftover,) = tmp_path.iterdir()
    with temporary_folder(tmp_path / "a.parquet.spill") as folder:
        assert not leftover.exists() and list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())


def test_the_file_that_another_process_writes_stays(tmp_path):
    running = tmp_path / f".a.parquet.{platform.node()}-{os.getppid()}.tmp"
    elsewhere = tmp_path / ".a.parquet.another-machine-7.tmp"
    forgotten = tmp_path / ".a.parquet.another-machine-8.tmp"
    for path in (running, elsewhere, forgotten):
        path.touch()
    os.utime(forgotten, (0, 0))
    with atomic_path(tmp_path / "a.parquet") as temporary:
        temporary.write_text("a")
    assert running.exists() and elsewhere.exists() and not forgotten.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_or_broken_disk_is_one_line_that_names_the_file(tmp_path, monkeypatch, number):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    target = tmp_path / "a.parquet"
    target.write_text("old")
    line = r"a\.parquet: cannot be written, .*; .*run the workflow again"
    with pytest.raises(UserError, match=line) as caught, atomic_path(target, 2_500_000) as temporary:
        temporary.write_text("new")
    assert ("about 2.5 MB are needed" in str(caught.value)) == (number == errno.ENOSPC)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_is_recognised_in_the_error_of_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match="cannot be written, the file would be larger"), space_for(path, 800_000):
            save_file({"weights": np.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_that_is_replaced_is_not_lost_when_the_process_is_killed(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "README.md").write_text("by hand")
    kill("folder", model)  # the old folder is moved away, the new one is not yet there
    assert not model.exists()
    with new_folder(model, replace=True) as folder:
        assert (model / "README.md").read_text() == "by hand"
        (folder / "weights").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in model.iterdir()] == ["weights"]


@pytest.mark.parametrize("make", [temporary_folder, new_folder])
def test_what_a_killed_process_with_the_same_number_left_is_in_nobodys_way(tmp_path, make):
    """In a container that starts again, a job has the host name and the number of the one before."""
    path = tmp_path / "a"
    leftover = tmp_path / f".a.{platform.node()}-{os.getpid()}.tmp"
    (leftover / "part").mkdir(parents=True)
    with make(path) as folder:
        assert folder == leftover and not list(folder.iterdir())

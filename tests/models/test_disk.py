"""The disk becomes full in the middle of a shard: one clear error line, and finished images are kept."""

import errno
import os
import resource
from contextlib import contextmanager

import pytest

from synaug.generation import sampling
from synaug.generation.shards import generate_shard
from synaug.manifests import read_table
from synaug.runtime.disk import space_for
from synaug.runtime.errors import UserError


@contextmanager
def files_no_larger_than(size: int):
    """The kernel refuses to write beyond `size` bytes: a real failure of a real write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_with_figures(tmp_path, number):
    path = tmp_path / "new/folder/table.parquet"
    line = r"table\.parquet: cannot be written, .* 2\.5 MB are needed, .* are free"
    with pytest.raises(UserError, match=line) as caught, space_for(path, 2_500_000):
        raise OSError(number, os.strerror(number))
    assert "\n" not in str(caught.value)


def test_other_errors_pass(tmp_path):
    with pytest.raises(PermissionError), space_for(tmp_path, 1):
        raise PermissionError(errno.EACCES, "no")


def images_in(files) -> int:
    return sum(read_table("shard", file, ["image_id"]).num_rows for file in files)


@pytest.mark.parametrize("full_in", ["a batch", "the packing"])
def test_a_full_disk_loses_no_finished_image(plan, tmp_path, monkeypatch, full_in):
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    sampled, sample_batch = [], sampling.sample_batch
    monkeypatch.setattr(
        sampling, "sample_batch", lambda *arguments: sampled.append(len(arguments[1])) or sample_batch(*arguments)
    )
    undisturbed = tmp_path / "undisturbed.parquet"
    generate_shard(plan, 4, undisturbed, tmp_path / "work-undisturbed", [], 1)
    # The state that a job leaves when it is killed after its first batch.
    out, work = tmp_path / "shards" / "shard.parquet", tmp_path / "work"
    first = plan.sort_values(["prompt", "seed"], kind="stable").iloc[:4]
    generate_shard(first, 4, work / "first.parquet", tmp_path / "work-first", [undisturbed], 1)
    batch, shard = (work / "first.parquet").stat().st_size, undisturbed.stat().st_size
    limit, finished = {"a batch": (batch // 2, 4), "the packing": ((batch + shard) // 2, len(plan))}[full_in]
    with files_no_larger_than(limit), pytest.raises(UserError, match=r"MB are needed.*run the workflow again"):
        generate_shard(plan, 4, out, work, [], 1)
    assert not out.exists()
    assert not list(tmp_path.rglob("*.tmp"))
    assert images_in(work.glob("*.parquet")) == finished
    sampled.clear()
    generate_shard(plan, 4, out, work, [], 1)
    assert sum(sampled) == len(plan) - finished
    assert out.read_bytes() == undisturbed.read_bytes()

"""Two jobs that want the same shard at the same time."""

import errno
import fcntl
import logging
import threading

import pytest

from synaug.generation.locks import shard_lock


def test_the_second_waits_until_the_first_has_ended(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    happened, inside, waiting = [], threading.Event(), threading.Event()
    caplog.handler.addFilter(lambda record: waiting.set() or True)

    def second():
        inside.wait(10)
        with shard_lock(tmp_path, "a1"):
            happened.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with shard_lock(tmp_path, "a1"):
        inside.set()
        assert waiting.wait(10)
        happened.append("first")
    thread.join(10)
    assert happened == ["first", "second"]
    assert "another run makes shard a1" in caplog.text
    assert not list((tmp_path / ".locks").iterdir())


def test_other_shards_do_not_wait(tmp_path, caplog):
    with shard_lock(tmp_path, "a1"), shard_lock(tmp_path, "b2"):
        assert not caplog.records


def test_a_job_that_fails_releases_the_lock(tmp_path):
    with pytest.raises(ValueError), shard_lock(tmp_path, "a1"):
        raise ValueError
    with shard_lock(tmp_path, "a1"):
        pass


def test_many_jobs_run_one_after_the_other(tmp_path):
    inside, most, lock = 0, 0, threading.Lock()

    def job():
        nonlocal inside, most
        for _ in range(50):
            with shard_lock(tmp_path, "a1"):
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=job) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1


def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with shard_lock(tmp_path, "a1"):
        pass
    assert "cannot be locked (No locks available)" in caplog.text


def test_a_symbolic_link_in_the_place_of_a_lock_is_not_followed(tmp_path, caplog):
    (tmp_path / ".locks").mkdir()
    (tmp_path / "target").write_text("kept")
    (tmp_path / ".locks" / "a1").symlink_to(tmp_path / "target")
    with shard_lock(tmp_path, "a1"):
        pass
    assert "cannot be locked" in caplog.text
    assert (tmp_path / "target").read_text() == "kept"

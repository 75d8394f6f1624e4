"""Two jobs that want the same shard at the same time."""

import errno
import fcntl
import logging
import threading

import pytest

from synaug.generation.locks import one_at_a_time


def test_the_second_waits_until_the_first_has_ended(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    happened, inside, waiting = [], threading.Event(), threading.Event()
    caplog.handler.addFilter(lambda record: waiting.set() or True)

    def second():
        inside.wait(10)
        with one_at_a_time(tmp_path, "a1"):
            happened.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with one_at_a_time(tmp_path, "a1"):
        inside.set()
        assert waiting.wait(10)
        happened.append("first")
    thread.join(10)
    assert happened == ["first", "second"]
    assert "another run makes shard a1" in caplog.text
    assert not list((tmp_path / ".locks").iterdir())


def test_other_shards_do_not_wait(tmp_path, caplog):
    with one_at_a_time(tmp_path, "a1"), one_at_a_time(tmp_path, "b2"):
        assert not caplog.records


def test_the_lock_goes_when_the_job_fails(tmp_path):
    with pytest.raises(ValueError), one_at_a_time(tmp_path, "a1"):
        raise ValueError
    with one_at_a_time(tmp_path, "a1"):
        pass


def test_many_jobs_are_one_at_a_time(tmp_path):
    inside, most, lock = 0, 0, threading.Lock()

    def job():
        nonlocal inside, most
        for _ in range(50):
            with one_at_a_time(tmp_path, "a1"):
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


def test_a_file_system_without_locks_is_only_warned_of(tmp_path, monkeypatch, caplog):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with one_at_a_time(tmp_path, "a1"):
        pass
    assert "cannot be locked (No locks available)" in caplog.text

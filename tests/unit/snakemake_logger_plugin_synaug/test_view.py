"""A run as lines, and as rows at the bottom of a terminal."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from test_run import RECORDED, failed, finished, run_of, started

from snakemake_logger_plugin_synaug.run import Run
from snakemake_logger_plugin_synaug.view import Lines, Terminal, ended_line, open_display, planned_table, summary

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Screen:
    """A terminal of a given size, and what was written to it."""

    def __init__(self, columns: int, rows: int):
        self.master, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.file = os.fdopen(terminal, "w")

    def text(self) -> str:
        """What has been written since the last call."""
        os.set_blocking(self.master, False)
        text = b""
        while True:
            try:
                text += os.read(self.master, 65536)
            except BlockingIOError:
                return text.decode()

    def lines(self) -> list[str]:
        """The same as lines without escape sequences."""
        return [line.strip() for line in ESCAPES.sub("", self.text()).replace("\r", "").splitlines() if line.strip()]


@pytest.fixture(params=[(100, 20), (50, 8)], ids=["wide", "narrow"])
def screen(request):
    return Screen(*request.param)


def test_the_lines_of_a_recorded_run():
    run, lines = Run(Path("nowhere")), []
    for event in RECORDED:
        if job := run.feed(event):
            lines.append(ended_line(run, job))
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[ 1/15\] Index the real images: \d+ s", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d \[22/23\] Write the report: \d+ s", lines[-2])
    assert all(len(line) < 100 for line in lines)
    assert summary(run)[0].startswith("23 of 23 steps done in ")
    assert summary(run)[1] == "Report: results/look/report.html"


def test_a_failed_job_says_why_and_where_its_log_is():
    run = run_of(started(1, seed="0"), train=2)
    line = ended_line(run, run.feed(failed(1, 70.0)))
    assert line.endswith("[0/2] train, seed 0: failed after 1 min 10 s: no space (log: 1.log)")
    run.feed({"time": 100.0, "event": "ended"})
    assert summary(run) == ["Stopped after 1 min 40 s: 0 of 2 steps done, 1 failed"]


def test_a_dry_run_is_a_table_of_steps_and_reasons():
    reasons = {"train": {"output missing": 2, "settings changed": 1}, "report": {"new input": 1}}
    assert planned_table({"train": 2, "report": 1, "total": 3}, reasons) == [
        "  jobs  step    because",
        "     2  train   output missing, settings changed (1)",
        "     1  report  new input",
        "     3  in all (a dry run: nothing was made)",
    ]


def test_without_rich_a_terminal_shows_lines_only(screen, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    display = open_display(screen.file, capture=True)
    display.show("Train real: 5 s", "red")
    display.refresh(run_of(started(1), train=2))
    display.close()
    assert screen.lines() == ["Train real: 5 s"]


def test_elsewhere_than_on_a_terminal_there_are_lines_only(tmp_path, monkeypatch):
    with (tmp_path / "out").open("w") as file:
        display = open_display(file, capture=True)
        display.refresh(run_of(started(1), train=1))
        display.show("a line", "red")
        display.close()
    assert (tmp_path / "out").read_text() == "a line\n"
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_display(Screen(80, 20).file), Lines)


def test_a_terminal_shows_the_jobs_that_run_and_the_whole_run(screen, tmp_path, monkeypatch):
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now)
    (tmp_path / "1.log").write_text("10:00:01 step 10/20, loss 2.1, 10 s left\n")
    os.utime(tmp_path / "1.log", (now,) * 2)
    run = run_of(started(1, at=now - 10, recipe="real"), folder=tmp_path, train=2)
    run.started = now - 10
    display = Terminal(screen.file)
    display.refresh(run)
    job, whole = screen.lines()
    assert job.startswith("train, recipe r") and "step 10/20, 10 s left" in job
    assert whole.startswith("All steps") and "0/2, 10 s, about 30 s left" in whole
    display.show("a line")
    assert screen.lines()[0] == "a line"
    display.close()
    assert screen.text().endswith("\x1b[?25h\r" + "\x1b[1A\x1b[2K" * 2)  # the cursor is back, the rows are gone


def test_a_terminal_never_shows_more_than_fits(screen):
    run = run_of(*(started(i) for i in range(100)), train=100)
    display = Terminal(screen.file)
    display.refresh(run)
    lines = screen.lines()
    assert len(lines) in (6, 12) and re.fullmatch(r"and \d\d more", lines[-2])
    display.close()


def test_without_colors(screen, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    display = Terminal(screen.file)
    display.show("a line", "red")
    display.refresh(run_of(started(1), finished(1, 1.0), train=2))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", screen.text())
    display.close()


def test_what_others_write_to_the_terminal_is_above_the_rows():
    program = """
import os, subprocess, sys, time
from pathlib import Path
from snakemake_logger_plugin_synaug.run import Run
from snakemake_logger_plugin_synaug.view import Terminal
display, run = Terminal(sys.stderr, capture=True), Run(Path())
run.feed({"time": time.time(), "event": "run_info", "stats": {"total": 1}})
display.refresh(run)
print("from this process", file=sys.stderr)
subprocess.run(["echo", "from a child"])
subprocess.run([sys.executable, "-c", "import sys; sys.exit(sys.stderr.isatty())"], check=True)
display.close()
print("at the end", os.isatty(1), os.isatty(2))
"""
    screen = Screen(80, 20)
    subprocess.run([sys.executable, "-c", program], stdout=screen.file, stderr=screen.file, check=True)
    text = "\n".join(screen.lines())
    for line in ("from this process\n", "from a child\n", "at the end True True"):
        assert text.count(line) == 1, text
    assert text.endswith("at the end True True")

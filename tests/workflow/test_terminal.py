"""A small workflow through the logger: piped, on a terminal, with a job that fails, and seen by `synaug watch`."""

import os
import pty
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from workdir import ROOT, Run, call

SNAKEFILE = """
rule all:
    input: "results/x/report.html"

rule prepare:
    output: "results/x/{name}.txt"
    log: "logs/x/{name}.log"
    message: "Prepare {wildcards.name}"
    script: "job.py"

rule report:
    input: "results/x/a.txt", "results/x/b.txt"
    output: "results/x/report.html"
    log: "logs/x/report.log"
    script: "job.py"
"""
SCRIPT = """
import os, time
from synaug.runtime.errors import UserError
from synaug.runtime.logs import job_log
with job_log(snakemake.log[0]):
    print("step 1/2, loss 0.5, 1 s left")
    if os.environ.get("FAILING") and snakemake.wildcards.get("name") == os.environ["FAILING"]:
        raise UserError("no space")
    time.sleep(2)
    os.write(1, b"printed by a job\\n")
    open(snakemake.output[0], "w").close()
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "workflow_scripts")}
COMMAND = [sys.executable, "-m", "snakemake", "--cores", "2", "--logger", "synaug"]


@pytest.fixture
def small(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "job.py").write_text(SCRIPT)
    return tmp_path


def watch(folder) -> subprocess.CompletedProcess:
    program = "from synaug.cli import main; main()"
    command = [sys.executable, "-c", program, "watch", "results/x"]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)


def test_piped_it_is_a_line_per_step(small):
    done = call(small, COMMAND, ENVIRONMENT, timeout=600)
    assert done.status == 0, done.text
    assert "\x1b" not in done.text and "\r" not in done.text
    lines = [re.sub(r"\d+", "N", line) for line in done.text.splitlines() if line != "printed by a job"]
    assert lines[0] == "N steps to run"
    assert set(lines[1:3]) == {"N:N:N [N/N] Prepare a: N s", "N:N:N [N/N] Prepare b: N s"}
    assert lines[3:] == ["N:N:N [N/N] report: N s", "N of N steps done in N s", "Report: results/x/report.html"]
    assert done.jobs == ["prepare", "prepare", "report"]
    # Snakemake's own log is where it always is, and whole.
    (log,) = (small / ".snakemake" / "log").glob("*.snakemake.log")
    assert "4 of 4 steps (100%) done" in log.read_text()
    seen = watch(small)
    assert seen.returncode == 0 and seen.stdout.splitlines() == done.text.splitlines()[-2:]
    assert "Nothing to be done" in call(small, COMMAND, ENVIRONMENT, timeout=600).text


def test_a_job_that_fails_says_why_and_the_exit_status_stays(small):
    done = call(small, [*COMMAND, "--keep-going"], ENVIRONMENT | {"FAILING": "a"}, timeout=600)
    assert done.status == 1
    failure = r"^\d\d:\d\d:\d\d \[\d/4\] Prepare a: failed after \d s: no space \(log: logs/x/a\.log\)$"
    assert re.search(failure, done.text, re.MULTILINE), done.text
    assert re.search(r"^Stopped after \d+ s: 1 of 4 steps done, 1 failed$", done.text, re.MULTILINE)
    assert "Traceback" not in done.text and "CalledProcessError" not in done.text
    seen = watch(small)
    assert seen.returncode == 1
    assert seen.stdout.splitlines()[-1] == "synaug: error: no space  (log: logs/x/a.log)"


def test_a_dry_run_lists_steps_and_reasons_and_writes_nothing(small):
    done = call(small, [*COMMAND, "--dry-run"], ENVIRONMENT, timeout=600)
    assert done.status == 0
    assert "     2  prepare  output missing\n     1  report   output missing, new input\n" in done.text
    assert done.jobs == ["prepare", "prepare", "report"] and not done.events


def test_on_a_terminal_there_are_rows_and_the_jobs_that_print_do_not_mix_them_up(small):
    raw = on_a_terminal(COMMAND, small)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", raw).replace("\r", "")
    assert re.search(r"Prepare a .*step 1/2, [01] s left, loss 0\.5", text)
    assert re.search(r"All steps .*0/4, \d s", text)
    assert text.count("printed by a job\n") == 3
    assert text.endswith("\nReport: results/x/report.html\n")
    assert raw.rfind("\x1b[?25l") < raw.rfind("\x1b[?25h")  # the cursor is shown again


def on_a_terminal(command, folder) -> str:
    """What `command` writes to a terminal."""
    reading, terminal = pty.openpty()
    environment = ENVIRONMENT | {"TERM": "xterm"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=terminal, stderr=terminal, stdin=terminal)
    os.close(terminal)
    text = b""
    try:
        while part := os.read(reading, 65536):
            text += part
    except OSError:  # how Linux says that the other end is closed
        pass
    assert process.wait(60) == 0, text.decode()
    return text.decode()


def test_without_the_plugin_the_profile_still_runs(small):
    assert find_spec("snakemake_logger_plugin_synaug")
    (small / "profiles").symlink_to(ROOT / "profiles")
    # A package that is not there, in all processes of this run.
    (small / "sitecustomize.py").write_text(
        "import importlib.util, pkgutil\n"
        "name = 'snakemake_logger_plugin_synaug'\n"
        "find, listed = importlib.util.find_spec, pkgutil.iter_modules\n"
        "importlib.util.find_spec = lambda wanted, *rest: None if wanted == name else find(wanted, *rest)\n"
        "pkgutil.iter_modules = lambda *rest: (one for one in listed(*rest) if one.name != name)\n"
    )
    environment = ENVIRONMENT | {"PYTHONPATH": f"{small}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"}
    done: Run = call(small, COMMAND[:-2], environment, timeout=600)
    assert done.status == 0 and "4 of 4 steps (100%) done" in done.text, done.text
    assert not done.events
    refused = call(small, COMMAND, environment, timeout=600)
    assert refused.status == 2 and "invalid choice: 'synaug'" in refused.text

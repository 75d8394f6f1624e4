"""What all commands of `synaug` have: help with an example, completion, and a bar only where somebody looks at it."""

import os
import pty
import re
import subprocess
import sys

import pytest

from synaug import cli

COMMANDS = [one.name or one.callback.__name__.replace("_", "-") for one in cli.app.registered_commands]


def test_help_names_every_command(synaug):
    status, out, _ = synaug("--help")
    assert status == 0
    # Each with a sentence that is not cut.
    assert re.findall(r"^  ([a-z-]+)  +[A-Z].*[^.]\.$", out.split("Commands:")[1], re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example_that_could_be_called(synaug, command):
    status, out, _ = synaug(command, "--help")
    assert status == 0
    example = re.search(r"Example:\n +synaug (.*)\n", out)[1].split()
    assert example[0] == command
    # Only options that the command has.
    assert all(one in out.split("Options:")[1] for one in example if one.startswith("-"))


def test_no_command_is_imported_with_what_it_needs():
    """Help and completion must not wait for torch: 0.2 s, where nothing else is going on."""
    code = "import sys; from synaug import cli\n"
    code += "print([name for name in ('torch', 'pandas', 'pyarrow', 'PIL', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_completion_of_commands(tmp_path):
    environment = os.environ | {"_SYNAUG_COMPLETE": "complete_bash", "COMP_WORDS": "synaug ex", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['synaug']; from synaug import cli; cli.app(prog_name='synaug')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["export", "export-model"]


def test_a_bar_is_drawn_on_a_terminal_and_findings_go_where_they_are_sent(tmp_path):
    """Standard output into a file, standard error on a terminal: the file has what was found, and not the bar."""
    shard = tmp_path / "results/e/shards/a.parquet"
    shard.parent.mkdir(parents=True)
    shard.write_text("words")
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "synaug.cli", "verify"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal, text=True)
    os.close(terminal)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    assert done.returncode == 1
    assert "checking" in shown and "a.parquet" not in shown
    assert done.stdout.startswith("results/e/shards/a.parquet: ") and "checking" not in done.stdout

"""What all commands of `synaug` share: help with an example, completion, exit status, and the progress bar."""

import os
import pty
import re
import subprocess
import sys

import pytest

from synaug import cli


def run_python(code: str, *arguments: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, **settings)


def test_help_names_every_command(synaug):
    status, out, _ = synaug("--help")
    assert status == 0
    # Each with a sentence that is not cut.
    assert re.findall(r"^  ([a-z-]+)  +[A-Z].*[^.]\.$", out.split("Commands:")[1], re.MULTILINE) == list(cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_list_of_commands_has_the_first_line_of_their_help(command):
    assert cli.load_command(command).help.splitlines()[0] == cli.COMMANDS[command]


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command_has_an_example_with_existing_options(synaug, command):
    status, out, _ = synaug(command, "--help")
    assert status == 0
    example = re.search(r"Example:\n +synaug (.*)\n", out)[1].split()
    assert example[0] == command
    assert all(word in out.split("Options:")[1] for word in example if word.startswith("-"))


def test_help_and_completion_import_no_library():
    """So they take a tenth of a second."""
    code = "import sys; sys.argv = ['synaug', '--help']; from synaug import cli\n"
    code += "try: cli.main()\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'pandas', 'pyarrow', 'PIL', 'numpy') if name in sys.modules])"
    done = run_python(code, check=True)
    assert "regenerate" in done.stdout and "verify" in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_no_command_imports_torch_for_its_own_help_and_completion():
    code = "import sys; from synaug import cli\n"
    code += "for name in cli.COMMANDS: cli.load_command(name)\n"
    code += "print([name for name in ('torch', 'diffusers', 'transformers', 'matplotlib') if name in sys.modules])"
    assert run_python(code, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("words", "completions"), [("synaug ex", ["export", "export-model"]), ("synaug prune --d", ["--delete"])]
)
def test_completion(words, completions):
    position = str(len(words.split()) - 1)
    environment = os.environ | {"_SYNAUG_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": position}
    code = "import sys; sys.argv = ['synaug']; from synaug import cli; cli.app(prog_name='synaug')"
    assert run_python(code, env=environment).stdout.split() == completions


def test_version(synaug):
    assert synaug("--version")[:2] == (0, f"synaug {cli.__version__}\n")


@pytest.mark.parametrize("module", ["typer", "synaug.runtime.errors", "synaug.commands.show", "pyarrow"])
def test_ctrl_c_while_a_command_is_imported_ends_it_quietly(module):
    """In most commands that is the first second."""
    code = "import sys\n"
    code += "module = sys.argv[1]\n"
    code += "class CtrlC:\n"
    code += "    def find_spec(self, name, *_):\n"
    code += "        if name == module: raise KeyboardInterrupt\n"
    code += "sys.meta_path.insert(0, CtrlC())\n"
    code += "from synaug.cli import main\n"
    code += "sys.argv[1:] = ['show', 'gone.parquet']\n"
    code += "sys.exit(main())"
    done = run_python(code, module)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("arguments", [["regenerate"], ["verify", "--magic"], ["magic"]])
def test_a_wrong_call_is_status_2(synaug, arguments):
    assert synaug(*arguments)[0] == 2


def test_the_progress_bar_goes_to_the_terminal_and_findings_to_standard_output(tmp_path):
    """Standard output is a file, standard error a terminal: the file has the findings, and not the bar."""
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

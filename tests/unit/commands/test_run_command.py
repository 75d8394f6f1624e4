"""`synaug run`: what it passes on to snakemake, and what it refuses."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from synaug.commands import run as command
from synaug.runtime.errors import UserError

ROOT = Path(__file__).parents[3]
DEFAULT = ["--workflow-profile", f"{ROOT}/profiles/default"]


def added(*options: str) -> list[str]:
    """The arguments that are added to those of the user."""
    arguments = command.arguments(ROOT, Path("mine.yaml"), list(options))
    assert arguments[:4] == ["--configfile", "mine.yaml", "--snakefile", f"{ROOT}/Snakefile"]
    assert len(options) == 0 or arguments[-len(options) :] == list(options)
    return arguments[4 : len(arguments) - len(options)]


def test_it_uses_all_cores_and_the_default_profile():
    assert added() == ["--cores", "all", *DEFAULT]
    assert added("-n", "plan", "--jobscript", "x") == ["--cores", "all", *DEFAULT]


@pytest.mark.parametrize("options", [["-c", "2"], ["-c2"], ["--cores=2"], ["-j4"], ["--jobs", "4"], ["-e", "slurm"]])
def test_an_amount_that_is_given_stays(options):
    assert added(*options) == DEFAULT


@pytest.mark.parametrize("options", [["--workflow-profile", "my"], ["--workflow-profile=my"]])
def test_a_profile_that_is_given_replaces_the_default(options):
    assert added(*options) == []


def test_a_profile_of_the_workflow_needs_no_checkout_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = str(ROOT / "profiles" / "slurm")
    assert command.arguments(ROOT, Path("x"), ["--workflow-profile", "profiles/slurm"])[-1] == expected
    assert command.arguments(ROOT, Path("x"), ["--profile=profiles/slurm"])[-1] == f"--profile={expected}"
    (tmp_path / "profiles" / "slurm").mkdir(parents=True)  # the user's
    assert command.arguments(ROOT, Path("x"), ["--workflow-profile", "profiles/slurm"])[-1] == "profiles/slurm"


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Arguments of snakemake, which is not started; in an empty folder."""
    monkeypatch.chdir(tmp_path)
    calls = []
    monkeypatch.setattr(command.os, "execv", lambda program, arguments: calls.append(arguments[3:]))
    return calls


def test_without_a_config_it_copies_the_demo_once(started, capsys):
    command.run(SimpleNamespace(args=[]))
    assert "Copied the demo: resources/fashion_mnist_lt, " in capsys.readouterr().out
    assert Path("resources/fashion_mnist_lt/train.parquet").is_file()
    Path("config.yaml").write_text("experiment: mine")
    command.run(SimpleNamespace(args=["-n"]))
    assert Path("config.yaml").read_text() == "experiment: mine" and capsys.readouterr().out == ""
    assert [call[:2] for call in started] == [["--configfile", "config.yaml"]] * 2
    assert started[1][-1] == "-n"


def test_the_demo_needs_an_empty_folder(started):
    Path("images.yaml").touch()
    with pytest.raises(UserError, match=r"there is no config\.yaml here; name a config, or start the demo in an empty"):
        command.run(SimpleNamespace(args=["-n"]))
    assert [path.name for path in Path().iterdir()] == ["images.yaml"] and not started


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("missing.yaml", [], "missing.yaml: there is no such file; write it with synaug init"),
        (
            "--cores",
            ["4", "mine.yaml"],
            "mine.yaml: it follows an option; write synaug run mine.yaml, then the options",
        ),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(started, config, options, message):
    Path("mine.yaml").touch()
    with pytest.raises(UserError, match=message):
        command.run(SimpleNamespace(args=options), Path(config))
    assert not started


def test_a_config_that_is_no_yaml_is_one_line_with_its_place(started):
    Path("bad.yaml").write_text("experiment: nm\n  foo: [\n")
    with pytest.raises(UserError, match=r"bad\.yaml: cannot be read as YAML .*line 2"):
        command.run(SimpleNamespace(args=["-n"]), Path("bad.yaml"))
    assert not started

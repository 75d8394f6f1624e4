"""`synaug run --parts`: which calls of snakemake it makes, and what it refuses."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from synaug.commands import run as command
from synaug.manifests import write_manifest
from synaug.runtime.errors import UserError

CONFIG = """\
experiment: mine
dataset: {source: table, path: data, image_size: 16}
generation: {model: model, size: 16}
screening: {classifier: {min_confidence: 0.1}}
recipes: {real: {data: real}}
"""
BEFORE = ["results/mine/plan.parquet", "results/mine/screener/model.safetensors"]
SHARDS = [f"{number:016x}" for number in range(10)]


@pytest.fixture
def calls(tmp_path, monkeypatch, plan):
    """The calls of snakemake, which is not started: its first targets, and whether the shards count as made."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(CONFIG)
    plan = plan.head(len(SHARDS)).assign(shard=SHARDS)

    def status_of(arguments, environment=None):
        arguments = arguments[3 : arguments.index("--configfile")]
        if arguments == BEFORE:
            write_manifest("plan", plan, arguments[0])
        made.append((arguments, "SYNAUG_SHARDS_EXIST" in (environment or {})))
        return made.failing if len(made) == made.fails_at else 0

    class Made(list):
        fails_at, failing = 0, 3

    made = Made()
    monkeypatch.setattr(command, "status_of", status_of)
    return made


def run(parts: str) -> int:
    """The exit status."""
    with pytest.raises(typer.Exit) as left:
        command.run(SimpleNamespace(args=["-n"]), Path("mine.yaml"), parts)
    return left.value.exit_code


def scores(shards: list[str]) -> list[str]:
    return [f"results/mine/scores/{shard}.parquet" for shard in shards]


def test_the_plan_then_every_shard_once_then_the_rest(calls):
    assert run("3") == 0
    assert calls == [
        (BEFORE, False),
        (scores(SHARDS[:3]), False),
        (scores(SHARDS[3:6]), False),
        (scores(SHARDS[6:]), False),
        ([], True),
    ]


def test_one_part_is_the_same_part_without_the_rest(calls):
    assert run("2/3") == 0
    assert [targets for targets, _ in calls] == [BEFORE, scores(SHARDS[3:6])]


def test_more_parts_than_shards_make_each_shard_once(calls):
    run("23")
    parts = [targets for targets, _ in calls[1:-1]]
    assert [target for targets in parts for target in targets] == scores(SHARDS) and all(parts)


def test_the_first_call_that_fails_ends_the_command(calls):
    calls.fails_at = 2
    assert run("3") == calls.failing and len(calls) == 2


@pytest.mark.parametrize("parts", ["0", "4/3", "0/3", "x", "1/", "-2", ""])
def test_a_number_of_parts_that_makes_no_sense_is_one_line(calls, parts):
    with pytest.raises(UserError, match=r"--parts .*: should be a number of parts"):
        command.run(SimpleNamespace(args=[]), Path("mine.yaml"), parts)
    assert not calls


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{CONFIG}study: {{b: {{}}}}", "is a study, which has several plans; leave --parts out"),
        ("experiment: mine", "mine.yaml: dataset"),
        ("a: [", "cannot be read as YAML"),
        ("a", "should be a block of keys"),
    ],
)
def test_a_config_without_a_plan_of_its_own_is_one_line(calls, text, message):
    Path("mine.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        command.run(SimpleNamespace(args=[]), Path("mine.yaml"), "3")
    assert not calls


def test_a_dry_run_without_a_plan_is_one_line(calls):
    with pytest.raises(UserError, match=r"plan\.parquet: there is no plan yet; leave -n out"):
        command.scores_of_part(Path("results/mine"), 1, 3)


@pytest.mark.parametrize("option", ["--config", "-C", "--directory", "-d", "--directory=x"])
def test_options_that_change_config_or_folder_are_refused_with_parts(calls, option):
    with pytest.raises(UserError, match=f"--parts: does not know what {option} changes; write it into the config"):
        command.run(SimpleNamespace(args=[option, "experiment=other"]), Path("mine.yaml"), "3")
    assert not calls

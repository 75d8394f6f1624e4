"""`synaug run`: start the workflow from any folder, with or without a checkout of the project."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import synaug
from synaug.config import load_config, read_config_file
from synaug.plan.shards import fills_of_shards
from synaug.runtime.errors import UserError

# Options of Snakemake are passed on. -h stays that of this command.
CONTEXT_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
# What the demo needs: images and a generator, and the config that names them.
# The config is the last one: a copy that was interrupted is not taken for a demo.
DEMO = ("resources/fashion_mnist_lt", "resources/embedded_generator", "config.yaml")
# Options of Snakemake that say how many jobs may run at a time, or name a profile that does. -c8 is the same as -c 8.
LONG_AMOUNTS = {"--cores", "--jobs", "--executor", "--profile", "--workflow-profile"}
SHORT_AMOUNTS = ("-c", "-j", "-e")
# Options of Snakemake that change the config or the folder: --parts reads both before Snakemake does.
_OTHER_CONFIG = ("--config", "-C", "--directory", "-d")
_STORAGE = "--default-storage-provider"


def run(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(help="The config of the experiment.", show_default="config.yaml")
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Generate and score the shards in this number of parts, one after the other, then do the rest. i/N: "
            "only part i.",
        ),
    ] = None,
) -> None:
    """Start the workflow in the current folder.

    Everything after CONFIG is passed on to snakemake: targets, and its options. Without a number of cores it uses all.
    The exit status is that of snakemake. In an empty folder, `synaug run` copies the demo into it and runs it: 1,236
    images and a small generator, 9 MB.

    With --parts, snakemake is called for the plan, for each part, and for the rest, so that none of these calls has a
    graph of all shards. The first call that fails ends the command. Start it again to go on: what is finished stays.
    For another machine on the same folder, --parts i/N makes only the shards and scores of one part.

    \b
    Example:
      synaug run images.yaml
      synaug run images.yaml -n
      synaug run images.yaml --cores 8 plan
      synaug run images.yaml --workflow-profile profiles/slurm
      synaug run images.yaml --parts 20
    """
    root = workflow_folder()
    options = context.args
    if config and str(config).startswith("-"):  # there is no config, or it comes later
        config, options = None, [str(config), *options]
        if late := [option for option in options if option.endswith((".yaml", ".yml")) and Path(option).is_file()]:
            raise UserError(f"{late[0]}: it follows an option", advice=f"write synaug run {late[0]}, then the options")
    if config and not config.is_file():
        is_target = config.suffix not in (".yaml", ".yml") and Path("config.yaml").exists()
        advice = f"to make {config}, write synaug run config.yaml {config}" if is_target else None
        raise UserError(f"{config}: there is no such file", advice=advice or "write it with synaug init FOLDER")
    if config is None and not Path("config.yaml").exists():
        copy_demo(root)
    config = config or Path("config.yaml")
    read_config_file(config)  # a file that is no YAML is one line with its name
    given = arguments(root, config, options)
    if parts is not None and (elsewhere := [option for option in options if option.startswith(_OTHER_CONFIG)]):
        raise UserError(
            f"--parts: does not know what {elsewhere[0]} changes",
            advice="write it into the config, and call synaug run in the folder of results/",
        )
    if parts is not None and any(option.startswith(_STORAGE) for option in options):
        raise UserError(
            f"--parts: reads the plan on this machine, and {_STORAGE} keeps it elsewhere; leave one of them out"
        )
    if parts is None:
        # So that signals and the exit status are those of Snakemake.
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *given])
    else:
        raise typer.Exit(run_in_parts(config, given, *part_and_count(parts)))


def run_in_parts(config: Path, given: list[str], part: int, count: int) -> int:
    """Call snakemake for the plan, for part number `part` of `count` or for all (0), and then for the rest.

    given: arguments of each call. Returns the exit status of the first call that fails, or 0.
    """
    snakemake, before = [sys.executable, "-m", "snakemake"], files_before_shards(config)
    results = Path(before[0]).parent
    # Also what the parts share besides the plan: Snakemake locks it while it is made, and another part could not start.
    status = status_of([*snakemake, *before, *given])
    for number in [part] if part else range(1, count + 1):
        if not status and (scores := scores_of_part(results, number, count)):
            shards = sum(Path(file).parent.name == "scores" for file in scores)
            print(f"Part {number} of {count}: {shards} shards", flush=True)
            status = status_of([*snakemake, *scores, *given])
    if not status and not part:
        print("The rest", flush=True)
        status = status_of([*snakemake, *given], os.environ | {"SYNAUG_SHARDS_EXIST": "1"})
    return status


def part_and_count(parts: str) -> tuple[int, int]:
    """Number of the part, from 1 on, or 0 for all of them, and number of parts. parts: N or i/N."""
    found = re.fullmatch(r"(?:(\d+)/)?(\d+)", parts)
    part, count = (int(found[1] or 0), int(found[2])) if found else (0, 0)
    if not count or part > count or (found and found[1] and not part):
        raise UserError(f"--parts {parts}: should be a number of parts, or one of them as in 3/20")
    return part, count


def files_before_shards(config: Path) -> list[str]:
    """What all shards and their scores need, of the experiment with this config: first the plan.

    Raises UserError for a config that the workflow would refuse, and for a study.
    """
    experiment = load_config(read_config_file(config), str(config))
    if experiment.study:
        raise UserError(f"{config}: is a study, which has several plans", advice="leave --parts out")
    classifier = experiment.screening.classifier
    names = ["plan.parquet", *(["screener/model.safetensors"] if classifier and not classifier.model else [])]
    return [f"results/{experiment.experiment}/{name}" for name in names]


def scores_of_part(results: Path, part: int, count: int) -> list[str]:
    """Paths of the scores of the shards of a part, from 1 to `count`; all parts together have those of the plan.

    And of its shards that are lost: a score that exists asks for no shard. Raises UserError if there is no plan.
    """
    plan = results / "plan.parquet"
    if not plan.exists():
        raise UserError(f"{plan}: there is no plan yet", advice="leave -n out, or --parts")
    shards = list(fills_of_shards(str(plan), plan.stat().st_mtime_ns))
    chosen = shards[len(shards) * (part - 1) // count : len(shards) * part // count]
    scores, files = ([results / folder / f"{shard}.parquet" for shard in chosen] for folder in ("scores", "shards"))
    lost = [file for score, file in zip(scores, files, strict=True) if score.exists() and not file.exists()]
    return [str(file) for file in [*scores, *lost]]


def status_of(command: list[str], environment: dict[str, str] | None = None) -> int:
    """Run a command to its end; its exit status. Signals that would end this process end the command."""
    running = subprocess.Popen(command, env=environment)
    # Ctrl-C reaches the command by itself.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    terminated = signal.signal(signal.SIGTERM, lambda *_: running.terminate())
    try:
        return running.wait()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminated)


def workflow_folder() -> Path:
    """The folder with the Snakefile: in the installed package, or the checkout that synaug is installed from."""
    package = Path(synaug.__file__).parent
    installed = package / "workflow"
    return installed if installed.is_dir() else package.parents[1]


def copy_demo(root: Path) -> None:
    """Copy the files of the demo into the current folder. Raises UserError if it is not empty."""
    if any(not name.startswith(".") for name in os.listdir()):
        raise UserError("there is no config.yaml here", advice="name a config, or start the demo in an empty folder")
    for name in DEMO:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copyfile
        Path(name).parent.mkdir(exist_ok=True)
        copy(root / name, name)
    print(f"Copied the demo: {', '.join(DEMO)}", flush=True)


def arguments(root: Path, config: Path, options: list[str]) -> list[str]:
    """The arguments of snakemake. root: the folder with the Snakefile. options: those of the user."""
    given = {option.partition("=")[0] for option in options}
    # --configfile takes all that follows it up to the next option, so it is not the last one.
    added = ["--configfile", str(config), "--snakefile", str(root / "Snakefile")]
    if not given.intersection(LONG_AMOUNTS) and not any(option.startswith(SHORT_AMOUNTS) for option in options):
        added += ["--cores", "all"]
    if "--workflow-profile" not in given:
        added += ["--workflow-profile", str(root / "profiles" / "default")]
    # A profile of the workflow is found although the current folder has none.
    return added + [_in_workflow(root, option) for option in options]


def _in_workflow(root: Path, option: str) -> str:
    name, equals, path = option.rpartition("=")
    if path.startswith("profiles/") and not Path(path).exists() and (root / path).is_dir():
        return f"{name}{equals}{root / path}"
    return option

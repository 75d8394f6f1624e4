"""`synaug run`: start the workflow from any folder, with or without a checkout of the project."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

import synaug
from synaug.runtime.errors import UserError

# Options of Snakemake are passed on. -h stays that of this command.
CONTEXT_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
# What the demo needs: images and a generator, and the config that names them.
# The config is the last one: a copy that was interrupted is not taken for a demo.
DEMO = ("resources/fashion_mnist_lt", "resources/embedded_generator", "config.yaml")
# Options of Snakemake that say how many jobs may run at a time, or name a profile that does. -c8 is the same as -c 8.
LONG_AMOUNTS = {"--cores", "--jobs", "--executor", "--profile", "--workflow-profile"}
SHORT_AMOUNTS = ("-c", "-j", "-e")


def run(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(help="The config of the experiment.", show_default="config.yaml")
    ] = None,
) -> None:
    """Start the workflow in the current folder.

    Everything after CONFIG is passed on to snakemake: targets, and its options. Without a number of cores it uses all.
    The exit status is that of snakemake. In an empty folder, `synaug run` copies the demo into it and runs it: 1,236
    images and a small generator, 9 MB.

    \b
    Example:
      synaug run images.yaml
      synaug run images.yaml -n
      synaug run images.yaml --cores 8 plan
      synaug run images.yaml --workflow-profile profiles/slurm
    """
    root = workflow_folder()
    options = context.args
    if config and str(config).startswith("-"):  # there is no config, or it comes later
        config, options = None, [str(config), *options]
        if late := [option for option in options if option.endswith((".yaml", ".yml")) and Path(option).is_file()]:
            raise UserError(f"{late[0]}: it follows an option", advice=f"write synaug run {late[0]}, then the options")
    if config and not config.is_file():
        raise UserError(f"{config}: there is no such file", advice="write it with synaug init FOLDER")
    if config is None and not Path("config.yaml").exists():
        copy_demo(root)
    command = [sys.executable, "-m", "snakemake", *arguments(root, config or Path("config.yaml"), options)]
    os.execv(sys.executable, command)  # so that signals and the exit status are those of Snakemake


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

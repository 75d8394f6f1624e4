"""The command `synaug`: inspect, export and verify what the workflow made.

Exit status: 0 success, 1 a finding (a broken image, an image or a manifest that differs), 2 a user error, 130 Ctrl-C.
"""

import sys

try:
    import traceback
    from importlib import import_module
    from typing import Annotated, Any

    import typer
    from typer.core import TyperGroup

    from synaug import __version__
    from synaug.runtime.errors import ERROR_PREFIX, UserError
except KeyboardInterrupt:  # these imports take most of the time before `main`
    sys.exit(130)

# Name -> first line of its help, in the order of `synaug --help`. The rest is in `synaug.commands.<name>`.
COMMANDS = {
    "init": "Inspect your images and write a config for them.",
    "fetch": "Download what a config names, for jobs without a network.",
    "run": "Start the workflow in the current folder.",
    "watch": "Show the progress of a run and what failed.",
    "track": "Show training curves and results in MLflow.",
    "show": "Show the columns, counts and some rows of a manifest.",
    "diff": "Show the differences between two manifests.",
    "compare": "Show two finished experiments side by side on one page.",
    "export": "Write the balanced training set for other tools.",
    "export-model": "Write a trained network for use elsewhere.",
    "predict": "Classify images with a trained network.",
    "verify": "Check every stored image.",
    "regenerate": "Generate images again and compare them.",
    "prune": "List or delete unused shards and caches of decoded images.",
}


def load_command(name: str) -> Any:
    """The command `name` (a key of COMMANDS) of click: the function of that name in the module of that name."""
    python_name = name.replace("-", "_")
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    module = import_module(f"synaug.commands.{python_name}")
    app.command(name, context_settings=getattr(module, "CONTEXT_SETTINGS", None))(getattr(module, python_name))
    return typer.main.get_command(app)


class LazyGroup(TyperGroup):
    """Imports the module of a command when that command is called or completed, but not to list all commands."""

    def resolve_command(self, ctx, args):
        """Return the command itself instead of its placeholder in the list."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if placeholder else None, rest


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Start the workflow, and tools for the files in results/ that it makes.",
    epilog="Exit status: 0 success, 1 a finding, 2 an error in the arguments or the data.",
)
# Placeholders: `synaug --help` needs no more of a command than its name and first line.
for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(lambda: None)


def main() -> None:
    """Run the command. An error of the user is one line on standard error.

    Any other exception ends with status 2 too: Python's own status, 1, means a finding here.
    """
    try:
        app()
    except UserError as error:
        print(f"{ERROR_PREFIX}{error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # outside of what typer runs
        sys.exit(130)
    except OSError as error:
        if error.filename is None or error.strerror is None:
            traceback.print_exc()
        else:
            print(f"{ERROR_PREFIX}{error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        sys.exit(2)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"synaug {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()

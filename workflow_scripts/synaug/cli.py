"""The command `synaug`: look at what the workflow made, take it elsewhere, and prove that it is what its rows say.

Exit status: 0 success, 1 a finding (an image that differs, two manifests that do, a broken image), 2 a user error.
"""

import sys
from typing import Annotated

import typer

from synaug import __version__
from synaug.commands.diff import diff
from synaug.commands.export import export
from synaug.commands.export_model import export_model
from synaug.commands.init import init
from synaug.commands.predict import predict
from synaug.commands.prune import prune
from synaug.commands.regenerate import regenerate
from synaug.commands.show import show
from synaug.commands.verify import verify
from synaug.commands.watch import watch
from synaug.runtime.errors import ERROR_PREFIX, UserError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Everyday tools for what lies in results/. To make it, call snakemake.",
    epilog="Exit status: 0 success, 1 something found, 2 an error in what was asked for.",
)
# In the order of the help.
app.command()(init)
app.command()(watch)
app.command()(show)
app.command()(diff)
app.command()(export)
app.command()(export_model)
app.command()(predict)
app.command()(verify)
app.command()(regenerate)
app.command()(prune)


def main() -> None:
    """Run the command; an error of the user is one line on standard error."""
    try:
        app()
    except UserError as error:
        print(f"{ERROR_PREFIX}{error}", file=sys.stderr)
        sys.exit(2)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"synaug {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()

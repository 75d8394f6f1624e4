"""`synaug compare`: two finished experiments on one page: what differs between them, and their results side by side."""

from pathlib import Path
from typing import Annotated

import typer

from synaug.commands.terminal import progress


def compare(
    a: Annotated[Path, typer.Argument(help="Results of an experiment, results/<experiment>.")],
    b: Annotated[Path, typer.Argument(help="Results of another experiment with the same classes.")],
    output: Annotated[Path, typer.Option(metavar="HTML", help="The page to write.")] = Path("compare.html"),
) -> None:
    """Show two finished experiments side by side on one page.

    The page shows what differs in the config, in the images and in the results. Differences are paired by seed if both
    were tested on the same images. The page works offline.

    \b
    Example:
      synaug compare results/mine results/mine-v2 --output compare.html
    """
    # With matplotlib, which the help does not need.
    from synaug.report.compare_data import check_classes, network_pairs, paired, read_experiment
    from synaug.report.compare_page import compare_page, first_line
    from synaug.runtime.files import atomic_path

    with progress("comparing", None) as step:
        experiments = [read_experiment(folder) for folder in (a, b)]
        check_classes(*experiments)
        pairs, notes = paired(experiments, network_pairs(*experiments), step)
        text = compare_page(experiments, pairs, notes)
    with atomic_path(output, len(text)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    for line in (f"A: {a}", f"B: {b}", first_line(pairs[0], experiments), *notes, f"page: {output}"):
        print(line)

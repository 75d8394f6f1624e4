"""`synaug diff`."""

from pathlib import Path
from typing import Annotated

import typer

from synaug.commands.terminal import console, number_of, plain_table, progress

_NUMBERS = ("old", "new", "added", "removed", "changed")
_MOST = 40  # classes that are listed, those with the most differences


def diff(
    old: Annotated[Path, typer.Argument(help="A manifest.")],
    new: Annotated[Path, typer.Argument(help="Another one of the same kind.")],
) -> None:
    """Say what changed between two manifests.

    Rows that were added, removed and changed, in which columns, and of which classes.

    Exit status: 0 the same, 1 they differ, 2 an error.

    \b
    Example:
      synaug diff results/mine/balanced.parquet results/mine-v2/balanced.parquet
    """
    from synaug.tools.difference import compare

    with progress("comparing", None):
        found = compare(old, new)
    if not found:
        print(f"the same: manifest {found.kind}, {number_of(found.rows['old'], 'row')}")
        return
    numbers = found.rows
    print(
        f"manifest {found.kind}: {numbers['old']:,} -> {numbers['new']:,} rows; {numbers['added']:,} added, "
        f"{numbers['removed']:,} removed, {numbers['changed']:,} changed"
    )
    for what, names in (("only in OLD", found.columns_removed), ("only in NEW", found.columns_added)):
        if names:
            print(f"columns {what}: {', '.join(names)}")
    if found.columns:
        print("other values: " + ", ".join(f"{name} ({number_of(n, 'row')})" for name, n in found.columns.items()))
    for what, rows in found.examples.items():
        for row in rows:
            print(f"  {what}: {row}")
        if numbers[what] > len(rows):
            print(f"  {what}: ... {numbers[what] - len(rows):,} more")
    if found.by and len(found.classes):
        order = found.classes[["added", "removed", "changed"]].sum(axis=1).sort_values(ascending=False, kind="stable")
        table = plain_table(found.by, *_NUMBERS, numbers=len(_NUMBERS))
        for name in order.index[:_MOST]:
            table.add_row(str(name), *(f"{found.classes.loc[name, number]:,}" for number in _NUMBERS))
        console().print("", table, sep="\n", markup=False)
        if len(order) > _MOST:
            print(f"... {len(order) - _MOST:,} more")
    raise typer.Exit(1)

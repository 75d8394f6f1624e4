"""`synaug show`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synaug.commands.terminal import console, number_of, plain_table

if TYPE_CHECKING:
    from synaug.tools.summary import Counts, Manifest

_SAMPLES = 3
_ENDS = 10  # values with the most rows, and as many with the fewest, where there are many


def show(
    manifest: Annotated[Path, typer.Argument(help="A Parquet file of results/, or any other.")],
    images: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw some images of every class on a contact sheet.")
    ] = None,
) -> None:
    """Say what is in a manifest.

    Its columns and their meaning, how many rows there are per class, source, split and reason, and some of the rows.

    \b
    Example:
      synaug show results/mine/balanced.parquet --images sheet.png
    """
    from synaug.tools.summary import Manifest

    looked_at = Manifest(manifest)
    _print(looked_at)
    if images:
        from synaug.images.contact_sheet import draw_sheet_of

        drawn, cells = draw_sheet_of(manifest, images)
        some = f" of {cells:,}" if drawn < cells else ""
        print(f"\nContact sheet: {images} (images of {drawn:,}{some} classes, groups and sources)")


def _print(manifest: "Manifest") -> None:
    out = console()
    kind = f"manifest {manifest.kind}, schema version {manifest.version}" if manifest.kind else "Parquet"
    size = f"{manifest.bytes / 1e6:,.1f} MB" if manifest.bytes >= 1e5 else f"{manifest.bytes:,} bytes"
    out.print(f"{manifest.path}: {kind}, {number_of(manifest.rows, 'row')}, {size}", markup=False)
    table = plain_table("column", "type", "meaning")
    for column in manifest.columns():
        table.add_row(column.name, column.type, column.about)
    out.print("", table, sep="\n", markup=False)
    for counts in manifest.counts():
        out.print("", _counts_table(counts), sep="\n", markup=False)
    samples = manifest.sample(_SAMPLES)
    if samples:
        table = plain_table("column", *(["a row", "another", "and another"][: len(samples)]))
        for name in samples[0]:
            table.add_row(name, *(row[name] for row in samples))
        out.print("", table, sep="\n", markup=False)


def _counts_table(counts: "Counts"):
    """Rows per value; of many values those with the most and the fewest rows."""
    split = len(counts.parts) > 1
    heads = [*(counts.parts if split else []), "rows"]
    table = plain_table(counts.column, *heads, numbers=len(heads))
    rows = counts.rows
    left_out = len(rows) - 2 * _ENDS
    shown = rows if left_out <= 0 else [*rows[:_ENDS], None, *rows[-_ENDS:]]
    for row in shown:
        if row is None:
            table.add_row(
                f"... {left_out:,} more, {sum(sum(n) for _, n in rows[_ENDS:-_ENDS]):,} rows", *[""] * len(heads)
            )
            continue
        value, numbers = row
        table.add_row(value or "(empty)", *[f"{n:,}" for n in numbers] * split, f"{sum(numbers):,}")
    return table

"""Write the pages with results from their templates, so that every figure comes from a committed result.

    python docs/render.py            # write the pages
    python docs/render.py --check    # write nothing; exit status 1 if a page is not what its template gives

docs/templates/<page>.j2 is the template of <page>: docs/templates/docs/results.md.j2 gives docs/results.md. A template
is the page with expressions in place of the figures. It calls:

    variant(study, name)      the tables of one variant of a study (class `Variant`), from docs/results/<study>.md
    evidence(name)            the tables of one data set of benchmarks/evidence.py (class `Evidence`);
                              evidence(name, other): with the settings that were chosen for `other`
                              evidence(name, chosen_by="worst_cell"): settings chosen by accuracy in the worst cell
    benchmark(name)           the object in benchmarks/results/<name>.json
    measured(name)            when it was measured: date and commit
    claim(condition)          nothing, if the condition is true; otherwise an error. Place it behind a sentence whose
                              words depend on a figure ("beats all", "indistinguishable")
    number | places(1)        the number with one decimal and thousands separators
    mib | gb                  MiB as GB
    [mean, low, high] | interval     a `Figure`; | difference: one with a sign

docs/results/evidence/ holds what benchmarks/evidence.py wrote.
docs/results/<study>.md is the file study.md that the workflow writes for a study, copied unchanged. It is also a page.
"""

import argparse
import csv
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import jinja2

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / "docs/templates"
INTERVAL = re.compile(r"([+-]?\d+\.\d) \[(-?\d+\.\d), (-?\d+\.\d)\]")


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % interval, in % or points. As text: "83.2 [82.7, 83.6]", a difference "+1.7 [0.9, 2.6]"."""

    number: float
    low: float
    high: float
    is_difference: bool = False

    def __str__(self) -> str:
        return f"{self.mean} [{one_decimal(self.low)}, {one_decimal(self.high)}]"

    @property
    def mean(self) -> str:
        """The mean alone, a difference with its sign."""
        return f"{one_decimal(self.number):+}" if self.is_difference else str(one_decimal(self.number))

    @property
    def size(self) -> str:
        """The mean without its sign."""
        return str(abs(one_decimal(self.number)))

    @property
    def includes_zero(self) -> bool:
        """Whether the interval of a difference contains 0."""
        return self.low <= 0 <= self.high

    def __neg__(self) -> "Figure":
        return Figure(-self.number, -self.high, -self.low, self.is_difference)


def one_decimal(number: float) -> float:
    """Rounded to one decimal, never -0.0."""
    return round(number, 1) + 0.0


@dataclass(frozen=True)
class Variant:
    """The tables of one variant of a study. A table is: row -> title of the column -> text of the cell."""

    name: str
    results: dict[str, dict[str, str]]
    differences: dict[str, dict[str, str]]
    choices: list[dict[str, str]]

    def cell(self, row: str, column: str) -> str:
        """A cell of the table of results, as text."""
        return look_up(self.results, row, column, self.name)

    def value(self, row: str, column: str) -> Figure:
        """A cell of the table of results with a mean and an interval."""
        return read_figure(self.cell(row, column))

    def difference(self, row: str, other: str, column: str) -> Figure:
        """`row` minus `other`, paired by seed. The table may contain it the other way round."""
        if f"{row} minus {other}" not in self.differences and f"{other} minus {row}" in self.differences:
            return -self.difference(other, row, column)
        return read_figure(look_up(self.differences, f"{row} minus {other}", column, self.name), is_difference=True)

    def chosen(self, criterion: str, method: str) -> str:
        """The row of the setting that `criterion` chooses for `method`, whose settings are called <method>-<value>."""
        rows = [row[""] for row in self.choices if row["chosen by"] == criterion]
        (row,) = [row for row in rows if row.removesuffix(" + fine-tune").rsplit("-", 1)[0] == method]
        return row

    def best(self, column: str, without: tuple[str, ...] = ()) -> str:
        """The row with the highest mean, of those whose name begins with none of `without`."""
        rows = [row for row in self.results if not row.startswith(tuple(without))]
        return max(rows, key=lambda row: self.value(row, column).number)


def look_up(table: dict[str, dict[str, str]], row: str, column: str, place: str) -> str:
    """A cell. Raises KeyError with the names that exist."""
    if row not in table:
        raise KeyError(f"{place}: no row {row!r}; there are: {', '.join(table)}")
    if column not in table[row]:
        raise KeyError(f"{place}: no column {column!r}; there are: {', '.join(table[row])}")
    return table[row][column]


def read_figure(text: str, is_difference: bool = False) -> Figure:
    """The figure in a cell such as "83.2 [82.7, 83.6]". Raises ValueError if the cell contains something else."""
    match = INTERVAL.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a mean with an interval")
    return Figure(*map(float, match.groups()), is_difference)


def variant(study: str, name: str) -> Variant:
    """The tables of variant `name` in docs/results/<study>.md."""
    page = (ROOT / "docs/results" / f"{study}.md").read_text()
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    if name not in sections:
        raise KeyError(f"docs/results/{study}.md: no variant {name!r}; there are: {', '.join(sections)}")
    results, differences, choices = {}, {}, []
    for block in re.findall(r"(?:^\|.*\n)+", sections[name], re.MULTILINE):
        heads, _, *lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        rows = [dict(zip(heads, line, strict=True)) for line in lines]
        if heads[0] == "chosen by":
            choices = rows
        elif " minus " in rows[0][""]:
            differences = {row[""]: row for row in rows}
        else:
            results = {row[""]: row for row in rows}
    return Variant(f"docs/results/{study}.md, {name}", results, differences, choices)


@dataclass(frozen=True)
class Evidence:
    """The tables of one data set of benchmarks/evidence.py.

    results: (method, column) -> figure. differences: (method, other method, column) -> figure. settings: method -> its
    row of the table of settings. filled: the methods with synthetic images.
    """

    results: dict[tuple[str, str], Figure]
    differences: dict[tuple[str, str, str], Figure]
    settings: dict[str, dict[str, str]]
    filled: frozenset[str]

    def value(self, method: str, column: str) -> Figure:
        """Accuracy on the test images."""
        return self.results[method, column]

    def difference(self, method: str, other: str, column: str) -> Figure:
        """`method` minus `other`, paired by seed."""
        return self.differences[method, other, column]

    def validation(self, method: str) -> float:
        """Accuracy on the validation images by which the setting was chosen, in %."""
        return 100 * float(self.settings[method]["validation"])

    def best_on_test(self, filled: bool) -> str:
        """The method with synthetic images (`filled`) or without that has the highest accuracy on the test images."""
        methods = [name for name, column in self.results if column == "all classes" and (name in self.filled) == filled]
        return max(methods, key=lambda method: self.value(method, "all classes").number)

    def better_of(self, method: str) -> str:
        """`method` with or without Mixup (<method>_mixup): the better one on the validation images."""
        return max((name for name in (method, f"{method}_mixup") if name in self.settings), key=self.validation)

    def ranked(self, filled: bool) -> list[str]:
        """The methods with synthetic images (`filled`) or without, the best on the validation images first.

        Of a method with and without Mixup (<method>_mixup), the better one.
        """
        methods = [name for name in self.settings if (name in self.filled) == filled]
        best = {}
        for name in sorted(methods, key=self.validation, reverse=True):
            best.setdefault(name.removesuffix("_mixup"), name)
        return list(best.values())


def evidence(name: str, settings_of: str | None = None, chosen_by: str = "balanced") -> Evidence:
    """The tables docs/results/evidence/<name>_*.csv of the settings that were chosen by `chosen_by`.

    settings_of: the data set that the settings were chosen for, if it is another one. chosen_by: `balanced` (accuracy)
    or, for groups, `worst_cell`.
    """

    def rows(table: str, name: str = name) -> list[dict[str, str]]:
        with (ROOT / f"docs/results/evidence/{name}_{table}.csv").open() as file:
            return [row for row in csv.DictReader(file) if row["chosen_by"] == chosen_by]

    def figure(row: dict[str, str], **options: bool) -> Figure:
        return Figure(*(100 * float(row[key] or "nan") for key in ("mean", "low", "high")), **options)

    return Evidence(
        {(row["method"], row["column"]): figure(row) for row in rows("results")},
        {(row["method"], row["minus"], row["column"]): figure(row, is_difference=True) for row in rows("differences")},
        {row["method"]: row for row in rows("settings", settings_of or name)},
        frozenset(row["method"] for row in rows("results") if "synthetic images" in row["varied"]),
    )


def benchmark(name: str) -> dict:
    """The results of a benchmark."""
    return json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())


def measured(name: str) -> str:
    """When the results of a benchmark were measured: date and commit."""
    return f"{benchmark(name)['date']}, {benchmark(name)['commit']}"


def claim(condition: bool) -> str:
    """Nothing. Raises ValueError if the results no longer support the sentence before it."""
    if not condition:
        raise ValueError("the results do not support the sentence before this claim(): rewrite the sentence")
    return ""


def render(template: Path) -> tuple[Path, str]:
    """The page of a template, and its text."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.globals |= {"variant": variant, "evidence": evidence, "benchmark": benchmark}
    environment.globals |= {"measured": measured, "claim": claim}
    environment.filters |= {
        "places": lambda number, places=0: f"{number:,.{places}f}",
        "interval": lambda numbers: Figure(*numbers),
        "difference": lambda numbers: Figure(*numbers, is_difference=True),
        "gb": lambda mib: mib * 2**20 / 1e9,
    }
    page = template.relative_to(TEMPLATES).with_suffix("")
    note = f"<!-- Written by docs/render.py from {template.relative_to(ROOT)}: edit that file. -->\n"
    text = environment.from_string(template.read_text()).render()
    # The metadata block of a model card must come first.
    metadata = re.match(r"---\n.*?\n---\n", text, re.DOTALL)
    start = metadata.end() if metadata else 0
    return ROOT / page, text[:start] + note + text[start:]


def templates() -> list[Path]:
    """All templates."""
    return sorted(TEMPLATES.rglob("*.md.j2"))


def main(check: bool) -> int:
    """Write the pages, or compare them. Returns the exit status."""
    stale = 0
    for template in templates():
        page, text = render(template)
        if check and page.read_text() != text:
            print(f"{page.relative_to(ROOT)} is not what its template gives; run: python docs/render.py")
            stale = 1
        elif not check:
            page.write_text(text)
    return stale


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a page is stale")
    sys.exit(main(parser.parse_args().check))

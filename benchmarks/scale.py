"""What the bookkeeping costs at the size of ImageNet-LT, and how it grows from 10 thousand to 10 million rows.

    python benchmarks/scale.py [--quick] [--parts index plan ...] [--sizes 10000 100000] [--rounds 3]
                               [--jobs 100] [--job-seconds 2]
    python benchmarks/scale.py --hundred-million

Real are all the code, the manifests and the rules; images are cheap stand-ins (files of 32 x 32 random pixels, eight
bytes in a shard), and so are the scores of the screening, of which a tenth fails a check. Parts:

    index      real images in files, cold (their contents are in no cache) -> manifest `real`, by lists and by folders
    imbalance  `real` -> `imbalance`
    plan       `imbalance` -> `plan`; and again after the smallest, or the largest, class got one more image
    manifest   `scores` -> `synthetic` -> `balanced` -> `quality`, and `balanced` of a screening that rejects nothing
    workflow   `snakemake -n` with all shards there, of a finished experiment and of one without anything behind the
               shards; reading the rules alone; and --jobs shards made by jobs of the real rule, one after the other,
               in which a wait of --job-seconds stands in for model and sampling. What such a job costs beyond the
               wait does not depend on the wait: its share of jobs of one minute is worked out (with --job-seconds 60
               it is measured, which takes --jobs minutes)
    shards     `snakemake -n` as in workflow, with shards of 57 images: 20,000 shards are ImageNet-LT

Every figure comes from a process of its own, and peak memory is that process's. Seconds are the median of the rounds
(one round above the size that has limits) without the start of Python and its imports; processor seconds leave out
what the machine did for others. A size that does not fit into the memory that is free is left out, and the results say
so. Sizes are rows of the manifest that a part is about: `real`, `plan`, `scores`; of workflow, of `plan`; of shards,
their number. The last line is one JSON object. A part that ran at all its sizes replaces its figures in
benchmarks/results/scale.json, which has the date and the commit of each part, and in scale.svg beside it. Everything
else is written below the folder for temporary files (TMPDIR), which should be on a disk with 30 GB free.

--quick: small sizes, to see that it works. --hundred-million: plan, screening and balanced manifest of 100 million
rows, once each, to benchmarks/results/scale_100_million.json; an hour, and 40 GB of disk.
"""

import argparse
import json
import math
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

# Nothing heavy is imported before the end: a process has at least the peak memory of the one that starts it.
HERE = Path(__file__).parent
IMAGENET_LT = 1_164_154  # synthetic images that fill all classes
TEN_MILLION = 10_000_000
HUNDRED_MILLION = 100_000_000
SIZES = {
    "index": (10_000, 100_000, 300_000, 1_000_000),
    "imbalance": (10_000, 165_846, 1_000_000, 10_000_000),
    "plan": (10_000, 100_000, IMAGENET_LT, 3_000_000, 10_000_000),
    "manifest": (10_000, 100_000, IMAGENET_LT, 3_000_000, 10_000_000),
    "workflow": (10_000, 100_000, IMAGENET_LT),
    "shards": (5_000, 20_000),
}
# Where the limits stand: the sizes of ImageNet-LT (`real` has 50,000 test images besides), and 100,000 files.
LIMITED = dict.fromkeys(SIZES, IMAGENET_LT) | {"index": 100_000, "imbalance": 165_846, "shards": 20_000}
QUICK = dict.fromkeys(SIZES, (2_000, 10_000)) | {"workflow": (10_000,), "shards": (100,)}
# What runs at every size of a part; one round only of those behind the first `|`.
MEASURED = {
    "index": "index index_folder",
    "imbalance": "imbalance",
    "plan": "plan | replan_smallest replan_largest",
    "manifest": "screen balance_short | quality screen_none balance",
    "workflow": "dry_run",
    "shards": "| dry_run_shards",
}
AT_MOST = "at most"
# Figure -> limit, and how it is found among the results.
LIMITS = {
    "index_files_per_s": ("at least", 3000, lambda at: at("index", "files_per_s", 100_000)),
    "imbalance_s": (AT_MOST, 1, lambda at: at("imbalance", "seconds", 165_846)),
    "plan_s": (AT_MOST, 10, lambda at: at("plan", "seconds")),
    "plan_peak_mib": (AT_MOST, 1907, lambda at: at("plan", "peak_mib")),
    "plan_after_change_of_smallest_class_s": (AT_MOST, 10, lambda at: at("replan_smallest", "seconds")),
    "plan_after_change_of_largest_class_s": (AT_MOST, 10, lambda at: at("replan_largest", "seconds")),
    "parse_s": (AT_MOST, 3, lambda at: at("parse", "seconds")),
    "dry_run_finished_s": (AT_MOST, 15, lambda at: at("dry_run", "seconds")),
    "dry_run_only_shards_s": (AT_MOST, 15, lambda at: at("dry_run", "seconds_only_shards")),
    "screen_and_balance_s": (AT_MOST, 30, lambda at: at("screen", "seconds") + at("balance", "seconds")),
    "screen_and_balance_peak_mib": (
        AT_MOST, 3815, lambda at: max(at(one, "peak_mib") for one in ("screen", "balance", "balance_short"))
    ),
    "dry_run_20000_finished_shards_s": (AT_MOST, 90, lambda at: at("dry_run_shards", "seconds", 20_000)),
    "dry_run_20000_finished_shards_peak_mib": (AT_MOST, 5722, lambda at: at("dry_run_shards", "peak_mib", 20_000)),
    "index_1_million_peak_mib_over_300_thousand": (
        AT_MOST, 1.25, lambda at: at("index", "peak_mib", 1_000_000) / at("index", "peak_mib", 300_000)
    ),
    "overhead_percent": (AT_MOST, 5, lambda at: at("orchestration", "overhead_percent_with_jobs_of_a_minute")),
}  # fmt: skip
# At 10 million rows, and how they grow from those of ImageNet-LT.
for one in ("plan", "screen", "balance_short", "balance"):
    LIMITS |= {
        f"{one}_10_million_s": (AT_MOST, 180, lambda at, one=one: at(one, "seconds", TEN_MILLION)),
        f"{one}_10_million_peak_mib": (AT_MOST, 3815, lambda at, one=one: at(one, "peak_mib", TEN_MILLION)),
    }
    LIMITS |= {
        f"{one}_exponent_of_{key}": (
            AT_MOST, 1.05,
            lambda at, one=one, key=key: math.log(at(one, key, TEN_MILLION) / at(one, key))
            / math.log(TEN_MILLION / IMAGENET_LT),
        )
        for key in ("seconds", "peak_mib")
    }  # fmt: skip


class DoesNotFitError(Exception):
    """A process was refused the memory that it asked for."""


def free_bytes() -> int:
    """Memory that can be had without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def child(program: str, *arguments: str) -> dict:
    """What a process of its own prints as its last line. It may take nine tenths of the free memory, no more."""
    limit = free_bytes() * 9 // 10
    done = subprocess.run(
        [sys.executable, str(HERE / program), *arguments],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    if done.returncode:
        if any(word in done.stderr[-3000:] for word in ("MemoryError", "bad_alloc", "malloc of size")):
            verb, name, *_ = arguments
            raise DoesNotFitError(f"{verb} {name} needs more than {limit / 2**30:.1f} GiB, nine tenths of what is free")
        sys.exit(f"{program} {' '.join(arguments)}: exit status {done.returncode}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}


def measure(program: str, name: str, folder: Path, rounds: int) -> dict:
    """Medians of the rounds, and the most memory of all of them."""
    found = [child(program, "measure", name, "0", str(folder)) for _ in range(rounds)]
    figures = dict(found[0])
    for key in [key for key, value in figures.items() if isinstance(value, int | float)]:
        values = [one[key] for one in found]
        figures[key] = max(values) if key.startswith("peak_mib") else round(statistics.median(values), 4)
    print(f"{name}: {json.dumps(figures)}", file=sys.stderr, flush=True)
    return figures | {"rounds": rounds}


def run_part(part: str, sizes: list[int], rounds: int, orchestrated: tuple[str, str], place: Path) -> dict:
    """Name -> its figures, size by size; and `left_out`: why a size is not there."""
    program = "scale_workflow.py" if part in ("workflow", "shards") else "scale_parts.py"
    often, _, once = (names.split() for names in MEASURED[part].partition("|"))
    found: dict[str, list[dict]] = {name: [] for name in [*often, *once]}
    left_out = {}
    for size in sorted(sizes):
        folder = place / f"{part}-{size}"
        folder.mkdir()
        many = rounds if size <= LIMITED[part] else 1
        try:
            # Memory grows no faster than the rows: what is sure not to fit need not be tried.
            known = [one for rows in found.values() for one in rows if one.get("size", 0) > 900_000]
            most = max((one["peak_mib"] / one["size"] * size for one in known), default=0)
            if most * 2**20 > free_bytes():
                raise DoesNotFitError(f"needs about {most / 1024:.0f} GiB, {free_bytes() / 2**30:.1f} GiB are free")
            child(program, "prepare", part, str(size), str(folder))
            for name in [*often, *once]:
                found[name].append({"size": size} | measure(program, name, folder, many if name in often else 1))
        except DoesNotFitError as error:
            left_out[size] = str(error)
            print(f"{part}, {size} rows: {error}", file=sys.stderr, flush=True)
        if part == "workflow" and size == min(sizes):
            found["parse"] = [measure(program, "parse", folder, rounds)]
        if part == "workflow" and size == nearest(sizes, IMAGENET_LT):
            found["orchestration"] = [child(program, "measure", "orchestration", "0", str(folder), *orchestrated)]
        shutil.rmtree(folder)
    return found | ({"left_out": left_out} if left_out else {})


def measure_hundred_million(place: Path) -> dict:
    """Name -> figures of the three steps whose tables are as long as the plan, at 100 million rows, once each."""
    figures = {}
    for part, names in (("plan", ["plan"]), ("manifest", ["screen", "balance_short"])):
        folder = place / part
        folder.mkdir()
        child("scale_parts.py", "prepare", part, str(HUNDRED_MILLION), str(folder))
        figures |= {name: measure("scale_parts.py", name, folder, rounds=1) for name in names}
        shutil.rmtree(folder)
    return figures


def nearest(sizes: list[int], wanted: int) -> int:
    """The one of `sizes` that differs least from `wanted`."""
    return min(sizes, key=lambda one: abs(one - wanted))


def slope(points: list[tuple[float, float]]) -> float | None:
    """Exponent of growth between the two largest sizes: 1 is in proportion.

    At smaller ones what does not grow (1,000 classes, the libraries) hides what does.
    """
    if len(points) < 2:
        return None
    (small, first), (large, last) = sorted(points)[-2:]
    return round(math.log(last / first) / math.log(large / small), 2)


def verdicts(found: dict[str, list[dict]]) -> dict:
    """Every limit and what was measured; limits of what was not measured are not there."""

    def at(name: str, key: str, size: int = IMAGENET_LT) -> float:
        return {one.get("size", size): one for one in found[name]}[size][key]

    said = {}
    for name, (kind, limit, read) in LIMITS.items():
        try:
            value = read(at)
        except KeyError:
            continue
        met = value <= limit if kind == AT_MOST else value >= limit
        said[name] = {"wanted": f"{kind} {limit}", "measured": round(value, 2), "met": met}
    return said


def draw(found: dict[str, list[dict]], slopes: dict, path: Path) -> None:
    """Seconds and memory over rows; the rings are what is wanted."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    from synaug.report.plots import SERIES, svg

    figure = Figure(figsize=(9, 4))
    seconds, memory = figure.subplots(1, 2)
    shown = {"index": 33, "imbalance": 1, "plan": 10, "screen": 15, "balance": 15, "dry_run": 15}
    limits = {"plan": 1907, "screen": 3815, "balance": 3815}
    colours = dict(zip(shown, ("#0072B2", *SERIES), strict=False))
    for axes, key, wanted in ((seconds, "seconds", shown), (memory, "peak_mib", limits)):
        for name in (name for name in shown if found.get(name)):
            rows = [one["size"] for one in found[name]]
            label = f"{name} ({slopes[name][key]})"
            axes.plot(rows, [one[key] for one in found[name]], "o-", ms=4, color=colours[name], label=label)
            near = nearest(rows, LIMITED.get(name, IMAGENET_LT))
            if name in wanted:
                axes.plot(near, wanted[name], "o", ms=9, mfc="none", color=colours[name])
        axes.set(xscale="log", yscale="log", xlabel="rows", ylabel={"seconds": "seconds"}.get(key, "peak memory, MiB"))
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.35)  # the legend is above the lines
        for axis in (axes.xaxis, axes.yaxis):
            # The usual labels are formulas, which `svg` does not draw.
            axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.legend(frameon=False, fontsize=8, title="(exponent of growth)", title_fontsize=8, loc="upper left")
    path.write_text(svg(figure))


def main() -> None:
    """Measure, print, and (of all sizes) write the results files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--job-seconds", type=float)
    parser.add_argument("--hundred-million", action="store_true")
    arguments = parser.parse_args()
    if arguments.hundred_million:
        with tempfile.TemporaryDirectory() as place:
            figures = measure_hundred_million(Path(place))
        from hardware import measured_on

        result = figures | measured_on()
        (HERE / "results" / "scale_100_million.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result))
        return
    quick = arguments.quick
    rounds = arguments.rounds or (1 if quick else 3)
    jobs = arguments.jobs or (3 if quick else 100), arguments.job_seconds or (0.2 if quick else 2.0)
    kept = not (quick or arguments.sizes)
    result: dict = {}
    with tempfile.TemporaryDirectory() as place:
        for part in arguments.parts:
            sizes = arguments.sizes or (QUICK if quick else SIZES)[part]
            figures = run_part(part, list(sizes), rounds, tuple(map(str, jobs)), Path(place))
            # In a process of its own, which imports what this one must not (see above).
            with ProcessPoolExecutor(1, get_context("fork")) as process:
                result = process.submit(record, result, part, figures, kept).result()
    print(json.dumps(result))


def record(result: dict, part: str, figures: dict, kept: bool) -> dict:
    """`with_part`; kept: of benchmarks/results/scale.json, which is written anew, as scale.svg is."""
    if not kept:
        return with_part(result, part, figures)
    path = HERE / "results" / "scale.json"
    result = with_part(json.loads(path.read_text()) if path.exists() else {}, part, figures)
    path.write_text(json.dumps(result, indent=1) + "\n")
    draw(tables_of(result), result["exponent_of_growth"], path.with_suffix(".svg"))
    return result


def tables_of(result: dict) -> dict[str, list[dict]]:
    """Name -> its figures, size by size, of all parts in `result`."""
    return {name: rows for name, rows in result.items() if isinstance(rows, list)}


def with_part(result: dict, part: str, figures: dict) -> dict:
    """`result` with the figures of a part in place of its earlier ones; `parts` says when each was measured."""
    from hardware import measured_on

    measured = measured_on()
    left_out = {name: sizes for name, sizes in result.get("left_out", {}).items() if name != part}
    if "left_out" in figures:
        left_out[part] = figures.pop("left_out")
    tables = tables_of(result) | figures
    slopes = {
        name: {key: slope([(row["size"], row[key]) for row in rows]) for key in ("seconds", "peak_mib")}
        for name, rows in tables.items()
        if rows and "size" in rows[0]
    }
    parts = result.get("parts", {}) | {part: {key: measured[key] for key in ("date", "commit", "hardware")}}
    verdict = {"wanted": verdicts(tables), "exponent_of_growth": slopes, "left_out": left_out, "parts": parts}
    return verdict | tables | measured


if __name__ == "__main__":
    main()

"""How long the default experiment takes from nothing, how much memory, and what comes out.

    python benchmarks/demo.py [--quick] [--cores 2]

In a copy of the checkout: `snakemake --cores N`, and a `snakemake -n` that has nothing to do, are timed. Then come more
seeds, for tighter intervals; then the same seeds with networks that are trained for 150 steps only. --quick: one seed,
60 steps, few images, to see that it works. The last line is one JSON object; it is also written to
benchmarks/results/demo.json (not with --quick).
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
import psutil

from hardware import measured_on
from synaug.evaluation.intervals import mean_interval
from synaug.manifests import read_manifest

ROOT = Path(__file__).resolve().parents[1]
SHORT_STEPS = 150
SEEDS = 6  # the default config has three, for a short demo
COPIED = ("Snakefile", "rules", "workflow_scripts", "profiles", "envs", "resources", "config.yaml")


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds, and peak memory in GB (proportional set sizes of the process and its children), of `command`."""
    start = time.monotonic()
    # The library of the copy, so that work on the checkout does not disturb a run.
    environment = os.environ | {"PYTHONPATH": str(folder / "workflow_scripts")}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    peak = 0

    def watch() -> None:
        nonlocal peak
        root = psutil.Process(process.pid)
        while process.poll() is None:
            total = 0
            # A process may end between being listed and being asked.
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in [root, *root.children(recursive=True)]:
                    total += one.memory_full_info().pss
            peak = max(peak, total)
            time.sleep(0.5)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    if process.wait():
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}")
    return time.monotonic() - start, peak / 1e9


def accuracies(summary: pd.DataFrame) -> dict[str, list[float]]:
    """`recipe/stage/subset` -> mean and ends of the 95 % interval over seeds, in %."""
    shown = summary[(summary["metric"] == "accuracy") & summary["subset"].isin(["all", "many", "medium", "few"])]
    return {
        f"{row.recipe}/{row.stage}/{row.subset}": [round(100 * x, 2) for x in (row.mean, row.low, row.high)]
        for row in shown.itertuples()
    }


def finetune_gain(metrics: pd.DataFrame) -> list[float]:
    """What stage 2 adds to its own stage 1 over all images: mean and ends of the interval of the paired differences."""
    rows = metrics.query("recipe == 'synaug' and metric == 'accuracy' and subset == 'all'")
    stages = rows.pivot(index="seed", columns="stage", values="value")
    return [round(100 * x, 2) for x in mean_interval((stages["finetune"] - stages["train"]).to_numpy())]


def main() -> None:
    """Run the workflow in a copy, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, folder / name)
        command = [sys.executable, "-m", "snakemake", "--cores", str(arguments.cores)]
        quick = ["seeds=[0]", "balance={'strategy': 'fixed', 'target': 40}"] if arguments.quick else []
        full = ["--config", *quick, "training={'steps': 60}"] if quick else []
        seconds, memory = timed([*command, *full], folder)
        noop, _ = timed([*command, "-n", *full], folder)
        seeds = quick or [f"seeds={list(range(SEEDS))}"]
        timed([*command, "--config", *seeds, *full[-1:]], folder)
        # The margin depends on how far the networks are trained: the same images, and a fraction of the budget.
        timed([*command, "--config", "experiment=short", f"training={{'steps': {SHORT_STEPS}}}", *seeds], folder)
        accuracy, gain = {}, {}
        for name, experiment in (("default_budget", "fashion_mnist_lt"), ("short_budget", "short")):
            home = folder / "results" / experiment
            accuracy[name] = accuracies(read_manifest("summary", home / "summary.parquet"))
            gain[name] = finetune_gain(read_manifest("metrics", home / "metrics.parquet"))
    result = {
        "run_s": round(seconds, 1),
        "peak_memory_gb": round(memory, 2),
        "noop_dry_run_s": round(noop, 2),
        "accuracy_percent_mean_low_high": accuracy,
        "finetune_minus_its_stage1_percent_mean_low_high": gain,
        "short_budget_steps": SHORT_STEPS,
        "seeds": 1 if arguments.quick else SEEDS,
        "cores": arguments.cores,
        "quick": arguments.quick,
        **measured_on(),
    }
    if not arguments.quick:
        (ROOT / "benchmarks" / "results" / "demo.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

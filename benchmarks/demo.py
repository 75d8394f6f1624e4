"""How long the default experiment takes from nothing, how much memory, and what comes out.

    python benchmarks/demo.py [--quick] [--cores 2]

In a copy of the checkout: `snakemake --cores N`, then a `snakemake -n` that has nothing to do. --quick: one seed and a
tenth of the steps, to see that it works. The last line is one JSON object; it is also written to
benchmarks/results/demo.json (not with --quick).
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from hardware import hardware, versions
from synaug.manifests import read_manifest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("Snakefile", "rules", "workflow_scripts", "profiles", "envs", "resources", "config.yaml")


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds, and peak memory in GB (proportional set sizes of the process and its children), of `command`."""
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=folder)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            total = 0
            for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                try:
                    total += one.memory_full_info().pss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, total)
            time.sleep(0.5)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    if process.wait():
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}")
    return time.monotonic() - start, peak / 1e9


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
        quick = ["--config", "seeds=[0]", "training={'steps': 60}", "balance={'strategy': 'fixed', 'target': 40}"]
        command += quick if arguments.quick else []
        seconds, memory = timed(command, folder)
        noop, _ = timed([*command, "-n"], folder)
        summary = read_manifest("summary", next(folder.glob("results/*/summary.parquet")))
    shown = summary[summary["subset"].isin(["all", "few"])]
    result = {
        "run_s": round(seconds, 1),
        "peak_memory_gb": round(memory, 2),
        "noop_dry_run_s": round(noop, 2),
        "accuracy_percent_mean_low_high": {
            f"{row.recipe}/{row.stage}/{row.subset}": [round(100 * x, 2) for x in (row.mean, row.low, row.high)]
            for row in shown.itertuples()
        },
        "cores": arguments.cores,
        "quick": arguments.quick,
        "hardware": hardware(),
        "versions": versions(),
    }
    if not arguments.quick:
        (ROOT / "benchmarks" / "results" / "demo.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

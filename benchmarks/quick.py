"""Run every program of this folder with --quick and check that it ends in one JSON object. It measures nothing.

python benchmarks/quick.py [PROGRAM ...]
"""

import json
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# Modules that the programs import, and parts that they run in processes of their own.
NO_PROGRAMS = {"quick", "hardware", "results_file", "generation_models", "scale_parts", "scale_workflow"}


def main() -> None:
    """Exit status 1 if a program fails."""
    names = sys.argv[1:] or sorted({path.stem for path in FOLDER.glob("*.py")} - NO_PROGRAMS)
    failed = [name for name in names if not run(name)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    print(f"{len(names)} passed, 0 failed")


def run(name: str) -> bool:
    """Whether benchmarks/<name>.py ran to its end; its output is shown if it did not."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--quick"], cwd=FOLDER.parent, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    try:
        passed = done.returncode == 0 and {"hardware", "versions"} <= json.loads(lines[-1]).keys()
    except (IndexError, ValueError):
        passed = False
    print(f"{name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - start:.0f} s", flush=True)
    if not passed:
        print(done.stdout[-5000:], done.stderr[-5000:], f"exit status {done.returncode}", sep="\n", flush=True)
    return passed


if __name__ == "__main__":
    main()

"""How long it takes from a folder of one's own images to the report, and in how many commands.

    python benchmarks/new_user.py [--quick] [--cores 2]

The folder: about 3,000 images in 40 classes, <class>/<image>, no splits: the ten kinds of clothing of the embedded data
set (the images of both its splits), each painted in one of four colours, of which the first is 20 times as frequent as
the last. No image comes twice. In a copy of the checkout, the commands that a new user types are timed: `synaug init`,
and then `snakemake`, with the config as `init` wrote it: a small generator is trained on the images. --quick: 8
classes and few steps, to see that it works. The last line is one JSON object; it is also written to
benchmarks/results/new_user.json (not with --quick).
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from hardware import measured_on
from synaug.manifests import read_manifest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("Snakefile", "rules", "workflow_scripts", "profiles", "envs", "config.yaml")
# Colour -> share of the images of a kind that have it.
COLORS = {"red": ((230, 60, 50), 0.6), "white": ((255, 255, 255), 0.24), "blue": ((70, 110, 240), 0.09)}
COLORS["green"] = ((60, 200, 80), 0.03)
QUICK = {
    "training": {"steps": 20},
    "screening": {"classifier": {"steps": 5}},
    "generator": {"autoencoder_steps": 5, "denoiser_steps": 5},
    "recipes": {"real": {"data": "real"}, "synaug": {"data": "balanced", "stage2": {}}},
    "seeds": [0],
}


def make_folder(folder: Path, kinds: int | None, share: float) -> int:
    """Write <folder>/<colour>_<kind>/<number>.png for the first `kinds` kinds; returns the number of images.

    share: of the images of a kind, how many are used at all.
    """
    images: dict[str, list[bytes]] = {}
    for split in ("train", "test"):
        table = pq.read_table(ROOT / "resources" / "fashion_mnist_lt" / f"{split}.parquet")
        for row in table.select(["image", "label_name"]).to_pylist():
            images.setdefault(row["label_name"].replace("/", " or "), []).append(row["image"]["bytes"])
    count = 0
    for kind in sorted(images)[:kinds]:
        rest = iter(images[kind])
        for color, (rgb, part) in COLORS.items():
            place = folder / f"{color}_{kind}"
            place.mkdir(parents=True)
            for _ in range(max(2, int(part * share * len(images[kind])))):
                grey = np.asarray(Image.open(io.BytesIO(next(rest))).convert("L"), np.float32) / 255
                painted = (grey[..., None] * np.array(rgb)).round().astype(np.uint8)
                Image.fromarray(painted).save(place / f"{count}.png")
                count += 1
    return count


def timed(command: list[str], folder: Path) -> float:
    """Seconds of `command`, called in `folder` with the library that lies there."""
    start = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(folder / "workflow_scripts")}
    done = subprocess.run(command, cwd=folder, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
    return time.monotonic() - start


def main() -> None:
    """Make the folder, type the commands, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        checkout = Path(place) / "checkout"
        checkout.mkdir()
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, checkout / name)
        images = make_folder(checkout / "clothing", *((2, 0.2) if arguments.quick else (None, 1.0)))
        commands = [
            [sys.executable, "-m", "synaug.cli", "init", "clothing"],
            [sys.executable, "-m", "snakemake", "--cores", str(arguments.cores), "--configfile", "clothing.yaml"],
        ]
        if arguments.quick:
            commands[1] += ["--config", *(f"{key}={value}" for key, value in QUICK.items())]
        seconds = [timed(command, checkout) for command in commands]
        results = checkout / "results" / "clothing"
        if not (results / "report.html").is_file():
            sys.exit("there is no report")
        balanced = read_manifest("balanced", results / "balanced.parquet")
        summary = read_manifest("summary", results / "summary.parquet")
    shown = summary[(summary["metric"] == "accuracy") & summary["subset"].isin(["all", "balanced", "few"])]
    result = {
        "commands": len(commands),
        "minutes_to_report": round(sum(seconds) / 60, 2),
        "init_s": round(seconds[0], 1),
        "run_s": round(seconds[1], 1),
        "images": images,
        "classes": int(balanced["label_name"].nunique()),
        "synthetic_images": int((balanced["source"] == "synthetic").sum()),
        "accuracy_percent": {
            f"{row.recipe}/{row.stage}/{row.subset}": round(100 * row.mean, 2) for row in shown.itertuples()
        },
        "cores": arguments.cores,
        "quick": arguments.quick,
        **measured_on(),
    }
    if not arguments.quick:
        (ROOT / "benchmarks" / "results" / "new_user.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""What the report of a large experiment costs: seconds and memory to write, size, seconds until a browser shows it.

    python benchmarks/report.py [--quick] [--keep FOLDER]

The experiment has ImageNet-LT's shape: 1,000 classes, 115,846 real and 1.16 million synthetic images of which a tenth
is rejected, and 50,000 test images. Its manifests come from the real rules' code (those of plan, screening, balancing,
evaluation, and summary); made up are the scores, the answers of the networks, and the pictures: 2,500 images of
64 pixels with the spectrum of photographs that all rows share. The page is written in a process of its own, whose peak
memory counts; processor seconds leave out what the machine did for others. It is opened three times in a headless
Chromium: seconds until the load event (median), until a search for one class has been drawn, and whether the console
was silent. Without Chromium these are null. The last line is one JSON object; without --quick it also goes to
benchmarks/results/report.json. --quick: a hundredth of the images. --keep: where the experiment is left to look at.
"""

import argparse
import importlib.util
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import scale_parts as scale
from hardware import measured_on

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
PICTURES, SHARDS, SIDE = 500, 4, 64
# (stage, recipe, seed) -> accuracy of the smallest and of the largest class: invented, and close to ImageNet-LT, with
# means of 40 and 55 %.
ACCURACIES = {
    ("train", "real", 0): (0.10, 0.70),
    ("train", "synaug", 0): (0.35, 0.70),
    ("finetune", "synaug", 0): (0.40, 0.70),
}
NETWORKS = list(ACCURACIES)
COMPARED = [NETWORKS[0], NETWORKS[2]]


def photographs(count: int, seed: int) -> list[bytes]:
    """Encoded images, SIDE x SIDE, of noise whose amplitude falls with frequency as in photographs."""
    from synaug.images.codec import encode_image

    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij"))
    amplitude = 1 / np.maximum(frequency, 1 / SIDE) ** 1.2
    images = []
    for _ in range(count):
        # The three colours have most of their brightness in common.
        noise = rng.normal(size=(4, SIDE, SIDE // 2 + 1)) + 1j * rng.normal(size=(4, SIDE, SIDE // 2 + 1))
        fields = np.fft.irfft2(noise * amplitude, s=(SIDE, SIDE))
        colours = fields[3] + 0.3 * fields[:3]
        colours = 128 + 55 * (colours - colours.mean()) / colours.std()
        images.append(encode_image(colours.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)))
    return images


def write_pictures(results: Path, plan: pd.DataFrame) -> list[str]:
    """Tables of pictures, of the real ones and of the synthetic ones (as shards); their paths, the real ones first."""
    from synaug.manifests import write_manifest

    paths = [f"{results}/pictures.parquet"]
    pq.write_table(pa.table({"image": photographs(PICTURES, 0)}), paths[0])
    for number in range(1, SHARDS + 1):
        rows = plan.iloc[:PICTURES].drop(columns=["label", "fill", "index", "shard", "truncate"])
        pictures = photographs(PICTURES, number)
        rows = rows.assign(image=[{"bytes": one, "path": None} for one in pictures], sha256="0" * 64, threads=2)
        rows = rows.assign(width=SIDE, height=SIDE, batch_size=4, device="made up", libraries="none")
        paths.append(f"{results}/shards/{number:016}.parquet")
        write_manifest("shard", rows, paths[-1])
    return paths


def change(path: Path, columns: dict[str, pa.Array]) -> None:
    """Replace columns of a manifest; its rows stay where they are."""
    table = pq.read_table(path)
    for name, values in columns.items():
        number = table.schema.get_field_index(name)
        table = table.set_column(number, table.schema.field(number), values.cast(table.schema.field(number).type))
    pq.write_table(table, path, compression="ZSTD", row_group_size=131072)


def point_at(path: Path, pictures: list[str]) -> None:
    """Let the rows of a manifest share `pictures`."""
    at = np.arange(pq.read_metadata(path).num_rows)
    files = pa.DictionaryArray.from_arrays(pa.array((at // PICTURES % len(pictures)).astype(np.int32)), pictures)
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(at), np.int32)), ["image"])
    change(path, {"path": files, "row": pa.array(at % PICTURES), "column": column})


def write_networks(results: Path, factor: float) -> None:
    """Histories and predictions of the networks: a wrong prediction is any class, with a random probability."""
    from synaug.manifests import read_manifest, write_manifest

    columns = ["image_id", "split", "label", "label_name"]
    real = read_manifest("real", results / "real.parquet", columns)
    test = pa.Table.from_pandas(real[real["split"] == "test"], preserve_index=False)
    label = test["label"].to_numpy()
    for number, (stage, recipe, seed) in enumerate(NETWORKS):
        rng = np.random.default_rng(number)
        share = np.interp(label, (0, scale.CLASSES), ACCURACIES[stage, recipe, seed][::-1])
        predicted = np.where(rng.random(len(label)) < share, label, rng.integers(scale.CLASSES, size=len(label)))
        top = rng.beta(4, 3, len(label)).astype(np.float32)
        probabilities = np.repeat((1 - top)[:, None] / (scale.CLASSES - 1), scale.CLASSES, 1).astype(np.float32)
        probabilities[np.arange(len(label)), predicted] = top
        lists = pa.ListArray.from_arrays(
            pa.array(np.arange(0, probabilities.size + 1, scale.CLASSES, dtype=np.int32)), probabilities.ravel()
        )
        rows = test.append_column("predicted", pa.array(predicted, pa.int32())).append_column("probabilities", lists)
        folder = results / stage / recipe / str(seed)
        write_manifest("predictions", rows, folder / "predictions.parquet")
        steps = np.arange(50, 5001, 50)
        history = {"step": steps, "epoch": steps / 100, "loss": 7 * np.exp(-steps / 2000), "learning_rate": 0.1}
        write_manifest("history", pd.DataFrame(history), folder / "history.parquet")


def prepare(folder: Path, factor: float) -> dict:
    """Make the experiment in `folder`; the inputs of the report, name -> path or paths."""
    from evaluation import evaluate, summarise
    from screening import measure_quality
    from synaug.config import Config
    from synaug.manifests import read_manifest

    results = folder / "results" / "scale"
    paths = {name: str(results / f"{name}.parquet") for name in ("real", "imbalance", "plan", "scores", "synthetic")}
    paths |= {name: str(results / f"{name}.parquet") for name in ("balanced", "quality", "summary", "differences")}
    settings = Config.model_validate(scale.config(folder)).model_dump()
    scale.write_real(factor, results / "real.parquet")
    scale.imbalance(results)
    scale.plan(results)
    scale.write_scores(factor, results / "scores.parquet")
    columns = [field.name for field in pq.read_schema(paths["plan"])]
    plan = read_manifest("plan", paths["plan"], columns)
    pictures = write_pictures(results, plan)
    point_at(Path(paths["real"]), pictures[:1])
    point_at(Path(paths["scores"]), pictures[1:])
    # The scores have made-up ids, which name each other; both tables have their rows in the same order.
    change(Path(paths["plan"]), {"image_id": pq.read_table(paths["scores"], columns=["image_id"])["image_id"]})
    scale.screen(results, scale.SCREENING, "synthetic")
    scale.balance(results, "synthetic")
    quality = {
        key: value for key, value in settings["balance"].items() if key not in ("oversample", "shortfall", "keep")
    }
    measure_quality.main(paths["synthetic"], paths["balanced"], paths["imbalance"], None, quality, paths["quality"])
    write_networks(results, factor)

    def network_files(networks: list[tuple[str, str, int]], name: str) -> list[str]:
        return [f"{results}/{stage}/{recipe}/{seed}/{name}" for stage, recipe, seed in networks]

    stage1 = {"real": "real", "synaug": "synaug"}
    metrics = f"{results}/metrics.parquet"
    evaluate.main(
        network_files(NETWORKS, "predictions.parquet"),
        NETWORKS,
        paths["imbalance"],
        paths["real"],
        "test",
        group_columns=[],
        probes=[],
        baselines=["real"],
        stage1=stage1,
        metrics=metrics,
        differences=paths["differences"],
    )
    images = {"real": {"data": "real"}, "synaug": {"data": "balanced"}}
    summarise.main(
        metrics, paths["balanced"], paths["plan"], images, stage1, dict.fromkeys(stage1, 1), paths["summary"]
    )
    paths |= {"histories": network_files(NETWORKS, "history.parquet")}
    return paths | {"predictions": network_files(COMPARED, "predictions.parquet"), "config": settings}


def write(folder: Path) -> dict:
    """Rule report, in this process."""
    inputs = json.loads((folder / "inputs.json").read_text())
    results = folder / "results" / "scale"
    start = time.perf_counter(), time.process_time()

    import synaug

    # By its path: this program has the same name.
    spec = importlib.util.spec_from_file_location("rule", Path(synaug.__file__).parents[1] / "report" / "report.py")
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    names = ("fill", "gain", "classes", "confusion", "reliability", "history")
    figures = {name: f"{results}/figures/{name}.svg" for name in names}
    settings = inputs.pop("config")

    class Inputs(dict):
        __getattr__ = dict.__getitem__

    page, overview = f"{results}/report.html", f"{results}/overview.png"
    rule.main(Inputs(inputs), NETWORKS, COMPARED, settings, page, overview, figures)
    return {
        "write_s": round(time.perf_counter() - start[0], 2),
        "write_processor_s": round(time.process_time() - start[1], 2),
        "write_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def look(page: Path, rounds: int) -> dict:
    """What a browser says of the page."""
    from browser import Browser, find_chromium

    if not find_chromium():
        return dict.fromkeys(("chromium", "load_s", "search_s", "console_silent"))
    loads, searches, complaints, name = [], [], [], ""
    search = """new Promise((done) => { const start = performance.now(); location.hash = "#search=%22class%200500%22";
        requestAnimationFrame(() => setTimeout(() => done((performance.now() - start) / 1000), 0)); })"""
    for _ in range(rounds):
        with Browser() as browser:
            name = browser.call("Browser.getVersion")["product"]
            loads.append(browser.open(page))
            searches.append(browser.evaluate(search))
            assert browser.evaluate('document.querySelectorAll(".class:not([hidden])").length') == 1
            complaints += browser.complaints()
    return {
        "chromium": name,
        "load_s": round(statistics.median(loads), 2),
        "search_s": round(statistics.median(searches), 3),
        "console_silent": not complaints,
    }


def main() -> None:
    """Measure, print, and (without --quick) write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--part", choices=("prepare", "write"), help=argparse.SUPPRESS)  # a process of its own
    arguments = parser.parse_args()
    factor = 0.01 if arguments.quick else 1
    if arguments.part == "prepare":
        (arguments.keep / "inputs.json").write_text(json.dumps(prepare(arguments.keep, factor)))
        return
    if arguments.part == "write":
        print(json.dumps(write(arguments.keep)))
        return
    folder = (arguments.keep or Path(tempfile.mkdtemp(prefix="report-"))).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A process has at least the peak memory of the one that starts it: so this one does nothing large itself.
        command = [sys.executable, __file__, "--keep", str(folder), *(["--quick"] if arguments.quick else [])]
        subprocess.run([*command, "--part", "prepare"], check=True)
        done = subprocess.run([*command, "--part", "write"], stdout=subprocess.PIPE, text=True, check=True)
        results = folder / "results" / "scale"
        page = results / "report.html"
        counts = pd.read_parquet(results / "synthetic.parquet", columns=["accepted"])["accepted"]
        result = {
            "quick": arguments.quick,
            "classes": scale.CLASSES,
            "real_images": int(
                (pd.read_parquet(results / "real.parquet", columns=["split"])["split"] == "train").sum()
            ),
            "synthetic_images": len(counts),
            "rejected_images": int((~counts).sum()),
            "images_on_page": page.read_text().count("<img "),
            "page_mb": round(page.stat().st_size / 1e6, 2),
            **json.loads(done.stdout.splitlines()[-1]),
            **look(page, 1 if arguments.quick else 3),
            **measured_on("jinja2", "matplotlib", "pillow"),
        }
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)
    if not arguments.quick:
        path = Path(__file__).with_name("results") / "report.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

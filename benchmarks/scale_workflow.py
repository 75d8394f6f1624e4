"""Snakemake's own part of benchmarks/scale.py: parsing, planning what to run, and the cost of a job.

    python benchmarks/scale_workflow.py prepare workflow 10000 FOLDER    # a copy of the checkout with all its results
    python benchmarks/scale_workflow.py prepare shards 20000 FOLDER      # the same with 20,000 shards of 57 images
    python benchmarks/scale_workflow.py measure parse 0 FOLDER
    python benchmarks/scale_workflow.py measure dry_run 0 FOLDER         # nothing to do; then with nothing but shards
    python benchmarks/scale_workflow.py measure orchestration 0 FOLDER 100 2.0   # shards that are missing, seconds each

Real are the rules, the manifests up to the balanced one, the shards (but for the images in them), and Snakemake's
records of all jobs, which `snakemake --touch` makes (without its pause of 0.1 s after each file, and without choosing
among the jobs that are ready, which takes Snakemake time in proportion to their number, for every job). Networks,
figures and the report are empty files. A job of generate_shard is the real one, but that a wait stands in for model
and sampling.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

# Nothing heavy is imported here: a process that is started has at least the peak memory of the one that starts it.
ROOT = Path(__file__).resolve().parents[1]
COPIED = ("Snakefile", "rules", "workflow_scripts", "profiles", "envs")
HOME = Path("results", "scale")
NETWORKS = [f"{stage}/{seed}" for stage in ("train/real", "train/synaug", "finetune/synaug") for seed in range(3)]
EMPTY = [
    f"{one}/{file}" for one in NETWORKS for file in ("model.safetensors", "history.parquet", "predictions.parquet")
]
EMPTY += ["metrics.parquet", "differences.parquet", "summary.parquet", "quality.parquet", "overview.png", "report.html"]
BEHIND_SHARDS = ["scores", "scores.parquet", "synthetic.parquet", "balanced.parquet", "train", "finetune", *EMPTY[-6:]]
MINUTE = 60.0
IMAGES_PER_SHARD = 57  # of the part `shards`: 20,000 shards have the 1.16 million images of ImageNet-LT
TOUCH = """
import sys
from snakemake.cli import main
from snakemake.executors.touch import Executor
from snakemake.scheduling.greedy import Scheduler
Executor.SLEEPING_TIME = 0
Scheduler.select_jobs = lambda self, jobs, *others: list(jobs)
main(sys.argv[1:])
"""
# Takes the place of the function of this name in the copy. What it waited goes into a file of its own.
STAND_IN = """

def _sample_missing(rows, batch_size, work, threads, *_):
    import os, time
    start = time.perf_counter()
    time.sleep(float(os.environ["SCALE_SECONDS"]))
    count = len(rows)
    data = b"stand-in"
    image, sha256 = {"bytes": data, "path": "x.webp"}, hashlib.sha256(data).hexdigest()
    described = with_group(rows.assign(width=64, height=64, batch_size=1, device="none", threads=threads, libraries=""))
    names = [name for name in SCHEMAS["shard"].names if name not in ("image", "sha256")]
    file = work / "stand_in.parquet"

    def images(order):
        yield pa.table({"image": pa.array([image] * len(order), IMAGE), "sha256": [sha256] * len(order)})

    write_shard(described[names], images, file, len(data) * count, _BATCH_GROUP_BYTES)
    Path(os.environ["SCALE_OWN"], rows["shard"].iloc[0]).write_text(str(time.perf_counter() - start))
    return [_intact_images(rows["image_id"], [file])], {}
"""


def call(folder: Path, *arguments: str, **environment: str) -> tuple[dict, str]:
    """Run `python *arguments` in the copy; its seconds, peak memory (of it or a process it started) and text."""
    variables = os.environ | {"PYTHONPATH": str(folder / "workflow_scripts"), "HF_HUB_OFFLINE": "0"} | environment
    start = time.perf_counter()
    with open(folder / "said", "w") as said:
        command = [sys.executable, *arguments]
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    text = (folder / "said").read_text()
    if status:
        sys.exit(f"{' '.join(arguments)}: failed\n{text[-3000:]}")
    figures = {"seconds": round(seconds, 3), "processor_seconds": round(usage.ru_utime + usage.ru_stime, 3)}
    return figures | {"peak_mib": round(usage.ru_maxrss / 1024)}, text


def snakemake(folder: Path, *arguments: str, **environment: str) -> tuple[dict, str]:
    """`call` of Snakemake with the config of the copy."""
    return call(folder, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", "scale.json", **environment)


def prepare(rows: int, folder: Path, images_per_shard: int = 2000) -> None:
    """A copy of the checkout in `folder`, and all results of an experiment with about `rows` synthetic images."""
    import scale_parts
    from balance import build_balanced_manifest
    from imbalance import measure_imbalance
    from plan import plan_generation
    from screening import screen_synthetic

    folder.mkdir(exist_ok=True)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    os.chdir(folder)
    settings = scale_parts.config(Path("data"), images_per_shard)
    Path("scale.json").write_text(json.dumps(settings))
    Path("data/images").mkdir(parents=True)
    for split in ("train", "test"):
        Path(f"data/{split}.txt").write_text("")
    whole = scale_parts.Config.model_validate(settings).model_dump()
    factor, paths = rows / scale_parts.WANTED, {name: HOME / f"{name}.parquet" for name in scale_parts.SCHEMAS}
    scale_parts.write_real(factor, paths["real"])
    measure_imbalance.main(paths["real"], "train", whole["imbalance"], paths["imbalance"])
    plan_generation.main(paths["imbalance"], None, scale_parts.plan_settings(settings), paths["plan"])
    write_shards(paths["plan"])
    scale_parts.write_scores(factor, paths["scores"])
    screen_synthetic.main(paths["scores"], {}, paths["synthetic"])
    balanced = [paths[name] for name in ("real", "synthetic", "imbalance")]
    build_balanced_manifest.main(*balanced, "train", whole["balance"], paths["balanced"])
    for name in EMPTY:
        (HOME / name).parent.mkdir(parents=True, exist_ok=True)
        (HOME / name).touch()
    # Records of every job, as if Snakemake had run it: without them it would have less to compare.
    # The cores let all jobs that are ready start at once; no checksums, since nothing here is newer than its records.
    touched = ("--touch", "--forceall", "--scheduler", "greedy", "--max-checksum-file-size", "0")
    call(Path.cwd(), "-c", TOUCH, "--cores", "1000000", *touched, "--configfile", "scale.json")


def write_shards(plan: Path) -> None:
    """The shards of `plan`, every image eight bytes, and empty files with the scores of each shard."""
    import pyarrow as pa

    from synaug.manifests import read_manifest, write_manifest
    from synaug.manifests.schemas import IMAGE, SCHEMAS

    (HOME / "shards").mkdir()
    for name, rows in read_manifest("plan", plan).groupby("shard"):
        table = pa.Table.from_pandas(rows.sort_values("image_id"), preserve_index=False)
        columns = dict(zip(table.column_names, table.columns, strict=True))
        said = {"device": "none", "libraries": "", "sha256": "0" * 64, "width": 64, "height": 64}
        columns |= {key: [value] * len(rows) for key, value in (said | {"batch_size": 1, "threads": 2}).items()}
        columns["image"] = pa.array([{"bytes": b"stand-in", "path": "x.webp"}] * len(rows), IMAGE)
        write_manifest("shard", pa.table(columns).select(SCHEMAS["shard"].names), HOME / "shards" / f"{name}.parquet")
        (HOME / "scores").mkdir(exist_ok=True)
        (HOME / "scores" / f"{name}.parquet").touch()


def parse(folder: Path) -> dict:
    """`snakemake --list-rules`: all rules are read, no job is looked for; and what is imported for it.

    import_s: seconds of the costliest libraries, by themselves (measured apart, since measuring slows them down).
    import_beyond_snakemake_s: of those modules alone that Snakemake does not import by itself.
    """
    empty, _ = call(folder, "-m", "snakemake", "--version")
    figures, _ = snakemake(folder, "--list-rules")
    own = imports(folder, "--version")
    ours = imports(folder, "--list-rules", "--configfile", "scale.json")
    return figures | {
        "snakemake_version_s": empty["seconds"],
        "import_s": by_library(ours),
        "import_beyond_snakemake_s": by_library({name: ours[name] for name in ours if name not in own}),
        "torch_imported": "torch" in ours,
    }


def imports(folder: Path, *arguments: str) -> dict[str, float]:
    """Module -> seconds of its import without those that it imports, of `snakemake *arguments`."""
    _, said = call(folder, "-X", "importtime", "-m", "snakemake", *arguments)
    found = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)", said)
    return {name: int(microseconds) / 1e6 for microseconds, name in found}


def by_library(modules: dict[str, float]) -> dict[str, float]:
    """The ten libraries that take longest."""
    seconds: dict[str, float] = {}
    for name, value in modules.items():
        library = name.split(".")[0]
        seconds[library] = seconds.get(library, 0) + value
    return {name: round(seconds[name], 3) for name in sorted(seconds, key=seconds.get, reverse=True)[:10]}


def dry_run(folder: Path) -> dict:
    """`snakemake -n`, first of a finished experiment, then of one whose images are all there and no more."""
    shards = len(list((folder / HOME / "shards").iterdir()))
    finished, said = snakemake(folder, "-n")
    if "Nothing to be done" not in said:
        sys.exit(f"the finished experiment is not finished:\n{said[-3000:]}")
    aside = folder / "aside"
    aside.mkdir()
    for name in BEHIND_SHARDS:
        (folder / HOME / name).rename(aside / name)
    only_shards, said = snakemake(folder, "-n")
    left = re.findall(r"^ +\d+  (\w+)", said, re.MULTILINE)
    if "generate_shard" in left or "train" not in left:
        sys.exit(f"not what is left to do behind the shards:\n{said[-3000:]}")
    for name in BEHIND_SHARDS:
        (aside / name).rename(folder / HOME / name)
    aside.rmdir()
    return {"shards": shards, **finished, **{f"{key}_only_shards": value for key, value in only_shards.items()}}


def orchestration(folder: Path, missing: int, seconds: float) -> dict:
    """Make `missing` shards of those that are there again, one after the other, `seconds` of stand-in work each.

    own_s: what the stand-ins took. job_s: all processes of jobs, by Snakemake's records. What is beyond own_s does not
    depend on how long a job works; beside that of this run, its share of jobs of one minute is worked out.
    """
    for name in BEHIND_SHARDS:
        one = folder / HOME / name
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    shards = sorted((folder / HOME / "shards").iterdir())
    there = len(shards)
    for i in range(missing):
        shards[i * there // missing].unlink()
    with (folder / "workflow_scripts/synaug/generation/shards.py").open("a") as file:
        file.write(STAND_IN)
    own = folder / "own"
    own.mkdir()
    # All shards as targets: `--until generate_shard` does not see the jobs that the plan, a checkpoint, brings forth.
    arguments = [str(HOME / "shards" / shard.name) for shard in shards]
    planned, _ = snakemake(folder, "-n", *arguments)
    figures, said = snakemake(folder, *arguments, SCALE_SECONDS=str(seconds), SCALE_OWN=str(own))
    records = [json.loads(file.read_text()) for file in (folder / HOME / "benchmarks/generate_shard").iterdir()]
    own_s, job_s = sum(float(file.read_text()) for file in own.iterdir()), sum(float(one["s"]) for one in records)
    if len(records) != missing or len(list(own.iterdir())) != missing:
        sys.exit(f"{missing} shards were to be made, {len(records)} were:\n{said[-3000:]}")
    beyond, whole = figures["seconds"] - own_s, missing * MINUTE
    return {
        "shards": there,
        "jobs": missing,
        "stand_in_s": seconds,
        "wall_s": figures["seconds"],
        "own_s": round(own_s, 3),
        "job_s": round(job_s, 3),
        "before_first_job_s": planned["seconds"],
        "in_job_beyond_own_s_per_job": round((job_s - own_s) / missing, 3),
        "between_jobs_s_per_job": round((figures["seconds"] - job_s) / missing, 3),
        "overhead_percent_of_this_run": round(100 * beyond / own_s, 2),
        "overhead_percent_with_jobs_of_a_minute": round(100 * beyond / whole, 2),
        "overhead_percent_over_processes_with_jobs_of_a_minute": round(
            100 * (figures["seconds"] - job_s) / (whole + job_s - own_s), 2
        ),
        "peak_mib": figures["peak_mib"],
    }


if __name__ == "__main__":
    verb, name, size, place, *more = sys.argv[1:]
    if verb == "prepare" and name == "shards":
        # Not all shards of a plan are full: one image more for each gives `size` shards or more, if they are thousands.
        prepare(int(size) * (IMAGES_PER_SHARD + 1), Path(place).resolve(), IMAGES_PER_SHARD)
    elif verb == "prepare":
        prepare(int(size), Path(place).resolve())
    elif name == "orchestration":
        print(json.dumps(orchestration(Path(place).resolve(), int(more[0]), float(more[1]))))
    else:
        print(json.dumps({"parse": parse, "dry_run": dry_run, "dry_run_shards": dry_run}[name](Path(place).resolve())))

"""How the results were produced: software, devices, and the costs that were recorded."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

import synaug
from synaug.manifests import read_table

JOULES_PER_KWH = 3.6e6


def git_commit() -> str | None:
    """The git commit of this code, with `-dirty` if it is modified; None if it is not part of a repository."""
    package = Path(synaug.__file__).parent
    # Ask for a tracked file first: the package may be installed somewhere inside another repository.
    commands = (["ls-files", "--error-unmatch", "__init__.py"], ["describe", "--always", "--dirty", "--abbrev=12"])
    try:
        for command in commands:
            done = subprocess.run(["git", "-C", str(package), *command], capture_output=True, text=True, timeout=30)
            if done.returncode:
                return None
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip()


def libraries_and_devices(shards: Iterable[str]) -> tuple[list[str], list[str]]:
    """Library versions and device names of the synthetic images. shards: files that record them."""
    libraries: set[str] = set()
    devices: set[str] = set()
    for shard in shards:
        table = read_table("shard", shard, ["libraries", "device"]).to_pandas().drop_duplicates()
        libraries |= set(table["libraries"])
        devices |= set(table["device"])
    return sorted(libraries), sorted(devices)


def step_costs(results: Path, shards: list[str], networks: list[tuple[str, str, int]]) -> list[dict]:
    """A row per step: step, jobs, recorded (jobs with a record), seconds of devices, kwh, images, peak_bytes.

    None: unknown. From <results>/costs/ and <results>/benchmarks/. shards: names of all planned shards. networks:
    (stage, recipe, seed) of all networks. Costs are only informative: a missing or damaged record is not counted, and
    `recorded` shows that.
    """
    benchmarks = results / "benchmarks"
    rows = [_sampling_costs(results, shards)]
    # The config decides which of these jobs exist, so only existing records count, also those of earlier settings.
    for step, names in (
        ("training of the generator", ("train_generator", "adapt_generator")),
        ("preview and probe images", ("preview_images*", "generate_probe_images")),
    ):
        records = [_last_line(file) for name in names for file in sorted(benchmarks.glob(f"{name}.jsonl"))]
        if any(records):
            rows.append(_job_costs(step, list(filter(None, records))))
    files = [benchmarks / f"{rule}.jsonl" for rule in ("fit_screener", "score_real", "compare_images")]
    files += [benchmarks / "score_shard" / f"{shard}.jsonl" for shard in shards]
    screening = [_last_line(file) for file in files]
    rows.append(_job_costs("screening", [record for record in screening if record] or [{}]))
    features = [record for file in sorted(benchmarks.glob("extract_features-*.jsonl")) if (record := _last_line(file))]
    if features:
        rows.append(_job_costs("features of frozen backbones", features))
    for stage, step in (("train", "training"), ("finetune", "fine-tuning")):
        records = [
            _last_line(benchmarks / stage / f"{recipe}-{seed}.jsonl")
            for network_stage, recipe, seed in networks
            if network_stage == stage
        ]
        if records:
            rows.append(_job_costs(step, records))
    seeds = sorted({seed for _, _, seed in networks})
    final = [record for seed in seeds if (record := _last_line(benchmarks / "final" / f"{seed}.jsonl"))]
    if final:
        rows.append(_job_costs("training on all images", final))
    return rows


def _sampling_costs(results: Path, shards: list[str]) -> dict:
    """The row for sampling. A shard with only copied images has no file in costs/; the seconds of its job count."""
    sampled, copied = [], []
    for shard in shards:
        record = _last_line(results / "costs" / f"{shard}.json")
        sampled.append(record)
        copied.append({} if record else _last_line(results / "benchmarks" / "generate_shard" / f"{shard}.jsonl"))
    energy_known = any(record.get("energy_joules") for record in sampled)
    return {
        "step": "sampling",
        "jobs": len(shards),
        "recorded": sum(map(bool, sampled)) + sum(map(bool, copied)),
        "seconds": _sum(sampled, "seconds") + _sum(copied, "s"),
        "kwh": _sum(sampled, "energy_joules") / JOULES_PER_KWH if energy_known else None,
        "images": int(_sum(sampled, "images_sampled")),
        "peak_bytes": max((record.get("peak_memory_bytes") or 0 for record in sampled), default=0) or None,
    }


def _job_costs(step: str, records: list[dict]) -> dict:
    """The row of a step from what Snakemake measured: s (seconds) and max_rss (MiB)."""
    return {
        "step": step,
        "jobs": len(records),
        "recorded": sum(map(bool, records)),
        "seconds": _sum(records, "s"),
        "kwh": None,
        "images": None,
        "peak_bytes": int(2**20 * max(_number(record, "max_rss") for record in records)) or None,
    }


def _last_line(file: Path) -> dict:
    """The JSON object in the last line of `file`; an empty one if it cannot be read."""
    try:
        record = json.loads(file.read_text().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return {}
    return record if isinstance(record, dict) else {}


def _sum(records: list[dict], key: str) -> float:
    return sum(_number(record, key) for record in records)


def _number(record: dict, key: str) -> float:
    """0 for a value that is missing, or that Snakemake could not measure and wrote as the text NA."""
    value = pd.to_numeric(record.get(key), errors="coerce")
    return 0.0 if value is None or pd.isna(value) else float(value)

"""How the results were made: software, and what it cost, as far as that was noted."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

import synaug
from synaug.manifests import read_table


def commit() -> str | None:
    """The git commit of the code that runs, `-dirty` if it was changed; None if it is not in a repository."""
    here = Path(synaug.__file__).parent
    try:  # only if git knows this very file: it may be installed somewhere inside another repository
        for command in (
            ["ls-files", "--error-unmatch", "__init__.py"],
            ["describe", "--always", "--dirty", "--abbrev=12"],
        ):
            done = subprocess.run(["git", "-C", str(here), *command], capture_output=True, text=True, timeout=30)
            if done.returncode:
                return None
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip()


def generator_software(shards: Iterable[str]) -> tuple[list[str], list[str]]:
    """Library versions, and names of devices, of the synthetic images, as the files `shards` recorded them."""
    libraries: set[str] = set()
    devices: set[str] = set()
    for shard in shards:
        table = read_table("shard", shard, ["libraries", "device"]).to_pandas().drop_duplicates()
        libraries |= set(table["libraries"])
        devices |= set(table["device"])
    return sorted(libraries), sorted(devices)


def costs(results: Path, shards: list[str], networks: list[str]) -> list[dict]:
    """A row per step: step, jobs, noted (how many of them), seconds of devices, joules, images, peak_bytes.

    None: unknown. From <results>/costs/ and <results>/benchmarks/. shards: names of all that are planned. networks:
    <stage>/<recipe>/<seed>. Informative only: what is missing or damaged is not counted, and `noted` says so.
    """
    sampled = [_last_line(results / "costs" / f"{shard}.json") for shard in shards]
    copied = [
        _last_line(results / "benchmarks" / "generate_shard" / f"{shard}.jsonl") if not one else {}
        for shard, one in zip(shards, sampled, strict=True)
    ]
    rows = [
        {
            "step": "sampling",
            "jobs": len(shards),
            "noted": sum(bool(one or other) for one, other in zip(sampled, copied, strict=True)),
            "seconds": _sum(sampled, "seconds") + _sum(copied, "s"),
            "joules": _sum(sampled, "energy_joules") if any(one.get("energy_joules") for one in sampled) else None,
            "images": int(_sum(sampled, "images_sampled")),
            "peak_bytes": max((one.get("peak_memory_bytes") or 0 for one in sampled), default=0) or None,
        }
    ]
    jobs = {"screening": ["fit_screener", "score_synthetic"]}
    for stage, name in (("train", "training"), ("finetune", "fine-tuning")):
        parts = [network.split("/") for network in networks if network.startswith(f"{stage}/")]
        jobs[name] = [f"{stage}/{recipe}-{seed}" for _, recipe, seed in parts]
    for step, names in jobs.items():
        found = [_last_line(results / "benchmarks" / f"{name}.jsonl") for name in names]
        if step == "screening":  # which of the two there are depends on the config
            found = [one for one in found if one] or [{}]
        if found:
            rows.append(
                {
                    "step": step,
                    "jobs": len(found),
                    "noted": sum(map(bool, found)),
                    "seconds": _sum(found, "s"),
                    "joules": None,
                    "images": None,
                    "peak_bytes": int(2**20 * max(_number(one, "max_rss") for one in found)) or None,
                }
            )
    return rows


def _last_line(file: Path) -> dict:
    try:
        found = json.loads(file.read_text().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def _sum(rows: list[dict], key: str) -> float:
    return sum(_number(row, key) for row in rows)


def _number(row: dict, key: str) -> float:
    """Snakemake writes NA as text where it could not measure."""
    value = pd.to_numeric(row.get(key), errors="coerce")
    return 0.0 if value is None or pd.isna(value) else float(value)

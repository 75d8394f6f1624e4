"""One line for the person at the terminal: how far the generation of a whole experiment is."""

import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from synaug.manifests import read_table


class Progress:
    """Counts the images of finished shards and of finished batches of all jobs of an experiment.

    Nothing is shown where standard error is no terminal: there the logs have a line per batch.
    """

    def __init__(self, plan: str, experiment: Path) -> None:
        """plan: path of the manifest `plan`. experiment: folder with `shards/` and `work/`."""
        self.experiment = experiment
        self.shown = sys.__stderr__ is not None and sys.__stderr__.isatty()
        if self.shown:
            self.planned = read_table("plan", plan, ["shard"]).column("shard").to_pandas().value_counts().to_dict()
            self.start, self.first = time.monotonic(), self.count()

    def count(self) -> int:
        """Images of this experiment's plan that are on disk."""
        done = {path.stem for path in self.experiment.glob("shards/*.parquet")} & set(self.planned)
        images = sum(self.planned[shard] for shard in done)
        for shard in set(self.planned) - done:
            for file in self.experiment.glob(f"work/{shard}/*.parquet"):
                try:
                    images += pq.read_metadata(file).num_rows
                except Exception:  # moved or half written just now: counted next time
                    continue
        return images

    def show(self) -> None:
        """Write the line over the one before."""
        if not self.shown:
            return
        total, done = sum(self.planned.values()), self.count()
        rate = max(1e-9, (done - self.first) / (time.monotonic() - self.start))
        bar = f"[{'#' * (30 * done // total):<30}] {done:,} of {total:,} images"
        line = f"\r  generating {bar}, {rate:.1f} a second, {(total - done) / rate:,.0f} s left "
        print(line, end="" if done < total else "\n", file=sys.__stderr__, flush=True)

"""Two runs at the same time in one checkout, that want the same images for two experiments."""

import shutil
from concurrent.futures import ThreadPoolExecutor

from synaug.manifests import read_table


def test_no_image_is_made_twice(work):
    shutil.rmtree(work.path / "results")
    work.change(generation={"steps": 10}, balance={"strategy": "fixed", "target": 14})
    names = ("test", "other")
    with ThreadPoolExecutor(2) as both:
        runs = list(
            both.map(lambda name: work.run(f"results/{name}/scores.parquet", "--config", f"experiment={name}"), names)
        )
    assert [run.status for run in runs] == [0, 0], runs[0].text + runs[1].text
    shards = [sorted((work.path / "results" / name / "shards").glob("*.parquet")) for name in names]
    assert [path.name for path in shards[0]] == [path.name for path in shards[1]]
    wanted = sum(read_table("shard", path, ["image_id"]).num_rows for path in shards[0])
    assert sum(work.sampled(name) for name in names) == wanted
    assert not list((work.path / "results" / ".locks").iterdir())

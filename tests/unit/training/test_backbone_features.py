"""The table of backbone features: it is read into one array, in the order that is wanted."""

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from synaug.manifests import write_manifest
from synaug.runtime.errors import UserError
from synaug.training.features import read_features


def write_features(path: Path, count: int, width: int) -> np.ndarray:
    """Write the manifest `backbone_features` of images 000000, 000001 ...; returns their features."""
    features = np.arange(count * width, dtype=np.float32).reshape(count, width)
    columns = {
        "image_id": [f"{number:06}" for number in range(count)],
        "features": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * width, features.reshape(-1)),
    }
    write_manifest("backbone_features", pa.table(columns), path)
    return features


@pytest.mark.parametrize("share", [1, 0.25])
def test_features_are_in_memory_once(tmp_path, share):
    """Both memories count: that of numpy, and the pool of Arrow, which tracemalloc does not see."""
    features = write_features(tmp_path / "features.parquet", 12_000, 1280)
    order = np.random.default_rng(1).permutation(len(features))[: int(share * len(features))]
    image_ids = pd.Series([f"{number:06}" for number in order], index=order)
    default_pool = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(default_pool)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        read = read_features(tmp_path / "features.parquet", image_ids)
        peak = tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(default_pool)
    assert np.array_equal(read, features[order]) and read.dtype == np.float32
    assert peak < read.nbytes + 3e7


@pytest.mark.parametrize("wanted", [[5, 2, 5], [], list(range(40, -1, -1))])
def test_features_come_in_the_order_of_the_images_that_are_asked_for(tmp_path, wanted):
    features = write_features(tmp_path / "features.parquet", 41, 3)
    image_ids = pd.Series([f"{number:06}" for number in wanted], dtype="str")
    assert np.array_equal(read_features(tmp_path / "features.parquet", image_ids), features[wanted])


def test_an_image_that_the_table_lacks_is_named(tmp_path):
    write_features(tmp_path / "features.parquet", 4, 3)
    with pytest.raises(UserError, match=r"features.parquet: lacks image 000004; delete it and run again"):
        read_features(tmp_path / "features.parquet", pd.Series(["000001", "000007", "000004"]))


def test_a_damaged_table_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "features.parquet"
    write_features(path, 2000, 50)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 5000] = bytes(5000)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"features.parquet: .*damaged.*; delete it and run again"):
        read_features(path, pd.Series(["000001", "001999"]))

"""Damaged manifests, seeded: `verify` finds what changes the content, and `show` and `diff` end in one line.

SYNAUG_FUZZ_MANIFESTS sets the number of damages (default: 150).
"""

import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_verify_manifests import CHANGES, home, intact, path_of  # noqa: F401

from synaug.manifests import read_manifest
from synaug.manifests.content import CONTENT_KEY
from synaug.runtime.errors import UserError

COUNT = int(os.environ.get("SYNAUG_FUZZ_MANIFESTS", "150"))
KINDS = [*CHANGES, "quality"]


def of_rows(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """`rows` with one damage."""
    row = int(rng.integers(len(rows)))
    match rng.integers(6):
        case 0:
            return rows.drop(index=row)
        case 1:
            return pd.concat([rows, rows.iloc[[row]]]).sort_index(kind="stable")
        case 2:
            return rows.iloc[:row]
        case 3:
            order = np.arange(len(rows))
            other = int(rng.integers(len(rows)))
            order[[row, other]] = order[[other, row]]
            return rows.iloc[order]
        case _:
            column = str(rng.choice(rows.columns))
            values = rows[column].tolist()
            if isinstance(values[row], bool):
                values[row] = not values[row]
            elif isinstance(values[row], (int, float)):
                values[row] = values[row] + 1  # NaN stays
            elif isinstance(values[row], str):
                values[row] = str(rng.choice([value for value in values if isinstance(value, str)])) + "x"[: row % 2]
            return rows.assign(**{column: pd.Series(values, rows.index, object)})


def of_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with a flipped bit, some other bytes, or an end that is missing."""
    content, place = bytearray(data), int(rng.integers(len(data)))
    match rng.integers(3):
        case 0:
            content[place] ^= 1 << int(rng.integers(8))
        case 1:
            content[place : place + 8] = rng.bytes(len(content[place : place + 8]))
        case 2:
            del content[place:]
    return bytes(content)


def table_of(kind: str, path) -> pa.Table | str:
    """What the workflow reads; "damaged": it refuses to."""
    try:
        return pa.Table.from_pandas(read_manifest(kind, path), preserve_index=False)
    except UserError:
        return "damaged"


@pytest.mark.slow
def test_damages_that_change_the_content_are_found(synaug, home, capsys):  # noqa: F811
    rng, missed, changed = np.random.default_rng(20), [], 0
    intact_files = {kind: path_of(home, kind).read_bytes() for kind in KINDS}
    usual = findings(synaug)
    for number in range(COUNT):
        kind = str(rng.choice(KINDS))
        path = path_of(home, kind)
        before = pq.read_table(path)
        in_bytes = number % 2 == 1
        if in_bytes:
            path.write_bytes(of_bytes(intact_files[kind], rng))
        else:  # as a program that knows nothing of synaug changes rows
            rows = of_rows(before.to_pandas(strings_to_categorical=False), rng)
            pq.write_table(pa.Table.from_pandas(rows, before.schema, preserve_index=False), path)
        path_of_intact = path.with_name("intact")
        path_of_intact.write_bytes(intact_files[kind])
        after = table_of(kind, path)
        differs = isinstance(after, str) or not after.equals(table_of(kind, path_of_intact))
        path_of_intact.unlink()
        found = findings(synaug) != usual
        if differs:
            changed += 1
            if not found:
                missed.append((number, kind))
        elif not in_bytes:
            assert not found, (number, kind)
        for command in (["show", path], ["diff", path, path]):
            status, _, err = synaug(*command)
            assert status in (0, 2) and "Traceback" not in err, (number, kind, command, err)
            assert (err.startswith("synaug: error: ") and err.count("\n") == 1) if status else True
        path.write_bytes(intact_files[kind])
    with capsys.disabled():
        print(f"\n{changed} of {COUNT} damages change the content; verify finds {changed - len(missed)}")
    assert changed > COUNT / 3
    assert len(missed) <= changed / 100, missed


def findings(synaug) -> list[str]:
    """The findings, and no error."""
    status, out, err = synaug("verify")
    *lines, _ = out.splitlines()
    assert status == (1 if lines else 0) and err == "", err
    return lines


def test_a_manifest_of_an_older_version_is_read_and_counted(synaug, home):  # noqa: F811
    path = home / "plan.parquet"
    table = pq.read_table(path)
    metadata = {key: value for key, value in table.schema.metadata.items() if key != CONTENT_KEY.encode()}
    usual = findings(synaug)
    pq.write_table(table.replace_schema_metadata(metadata), path)
    assert findings(synaug) == usual
    assert synaug("verify")[1].endswith(
        "; 1 file of an older version has no digest, so that not every changed row is found\n"
    )


def test_the_shape_of_the_file_does_not_count(synaug, home):  # noqa: F811
    usual = findings(synaug)
    for kind in KINDS:
        path = path_of(home, kind)
        table = pq.read_table(path)
        padded = pa.concat_tables([table.slice(0, 1), table, table.slice(0, 3)])
        pieces = [padded.slice(1, 1), padded.slice(2, table.num_rows - 1)]
        pq.write_table(pa.concat_tables(pieces), path, row_group_size=2, compression="SNAPPY", use_dictionary=True)
    assert findings(synaug) == usual


def test_scores_of_shards_are_checked(synaug, home):  # noqa: F811
    from synaug.manifests import write_manifest

    path = home / "scores" / "0123456789abcdef.parquet"
    rows = pd.DataFrame({"image_id": ["a" * 24, "b" * 24], "sha256": ["c" * 64, "d" * 64], "row": [0, 1]})
    write_manifest("shard_scores", rows, path)
    usual = findings(synaug)
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    assert findings(synaug) == [*usual, f"results/e/scores/{path.name}: does not hold what was written to it; "
                                "delete it and run the workflow again"]  # fmt: skip
    shutil.rmtree(path.parent)

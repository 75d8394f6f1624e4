"""`synaug verify` on damaged manifests: each damage is a finding, and no remedy destroys images that may be needed."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.balance import build_balanced_manifest
from synaug.commands.verify import find_experiments
from synaug.config import Balance, Generation, Imbalance, Prompts
from synaug.imbalance import measure_imbalance
from synaug.manifests import read_manifest, read_table, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.rows import plan_generation
from synaug.plan.shards import shard_name

CLASSES = {"cat": 6, "dog": 3, "owl": 1}
CHANGES = {
    "real": ["label", "label_name", "split", "sha256", "usable", "image_id"],
    "imbalance": ["count", "label_name"],
    "plan": ["label", "label_name", "index", "shard", "image_id"],
    "scores": ["label", "label_name", "index", "sha256", "row", "image_id", "classifier_confidence", "path"],
    "synthetic": ["label", "label_name", "accepted", "sha256", "row", "path", "classifier_confidence", "image_id"],
    "balanced": ["label", "label_name", "source", "weight", "sha256", "row", "path", "image_id"],
    "predictions": ["label", "label_name", "split", "image_id"],
}  # fmt: skip


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """An experiment without shards and images, whose manifests agree."""
    home = tmp_path_factory.mktemp("intact") / "results" / "e"
    rows = []
    for label, (name, count) in enumerate(CLASSES.items()):
        for number in range(count + 2):
            digest = hashlib.sha256(f"{name}{number}".encode()).hexdigest()
            row = {"image_id": digest[:24], "sha256": digest, "label": label, "label_name": name, "usable": True}
            rows.append(row | {"split": "train" if number < count else "test", "path": f"data/{name}{number}.png"})
    unusable = {"image_id": "f" * 24, "sha256": "f" * 64, "label": 0, "label_name": "cat", "usable": False}
    rows.append(unusable | {"split": "train", "path": "data/x.png", "reason": "is empty (0 bytes)"})
    real = pd.DataFrame(rows)
    write_manifest("real", real, home / "real.parquet")
    real = read_manifest("real", home / "real.parquet")
    imbalance = measure_imbalance(real, "train", Imbalance())
    write_manifest("imbalance", imbalance, home / "imbalance.parquet")
    plan = plan_generation(
        imbalance, balance=Balance(), prompts=Prompts(), generation=Generation(model="m"), seed=0, image_size=28,
        color="grey", version="v",
    )  # fmt: skip
    write_manifest("plan", plan, home / "plan.parquet")
    scores = plan[["image_id", "label", "label_name", "group", "index"]].assign(
        sha256=[hashlib.sha256(image_id.encode()).hexdigest() for image_id in plan["image_id"]],
        path="results/e/" + "shards/" + plan["shard"] + ".parquet", row=range(len(plan)), column="image",
        classifier_confidence=np.linspace(0.1, 0.9, len(plan)).astype(np.float32),
    )  # fmt: skip
    write_manifest("scores", scores, home / "scores.parquet")
    rejected = scores["image_id"] == scores["image_id"].iloc[0]
    verdict = {"rejected_by": np.where(rejected, "classifier", None), "reason": np.where(rejected, "is no cat", None)}
    write_manifest("synthetic", scores.assign(accepted=~rejected, **verdict), home / "synthetic.parquet")
    synthetic = read_manifest("synthetic", home / "synthetic.parquet")
    balanced = build_balanced_manifest(real, synthetic, imbalance, "train", Balance())
    write_manifest("balanced", balanced, home / "balanced.parquet")
    kept = balanced[balanced["source"] == "synthetic"].groupby("label_name").size().rename("value").reset_index()
    quality = kept.assign(metric="kept", images_real=1, images_synthetic=1)
    write_manifest("quality", quality, home / "quality.parquet")
    tested = real[real["split"] == "test"][["image_id", "split", "label", "label_name"]]
    tested = tested.assign(predicted=0, probabilities=[np.array([1, 0, 0], np.float32)] * len(tested))
    write_manifest("predictions", tested, home / "train" / "real" / "0" / "predictions.parquet")
    return home


@pytest.fixture
def home(intact, tmp_path, monkeypatch):
    shutil.copytree(intact, tmp_path / "results" / "e")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results" / "e"


def path_of(home, kind: str):
    return home / ("train/real/0/predictions.parquet" if kind == "predictions" else f"{kind}.parquet")


def findings(synaug, kind: str) -> list[str]:
    """The findings but those about missing shards, of which this experiment has none."""
    status, out, err = synaug("verify")
    assert status in (0, 1) and err == "", err
    return [line for line in out.splitlines()[:-1] if "which does not exist" not in line]


def damaged(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """`rows` with another value in `column` of a row in the middle."""
    rows, row = rows.copy(), len(rows) // 2
    value = rows.loc[row, column]
    if column in ("image_id", "sha256"):
        other = "0123456789abcdef"[(int(value[0], 16) + 1) % 16] + value[1:]
    elif isinstance(value, (bool, np.bool_)):
        other = not value
    elif isinstance(value, str):
        others = [text for text in rows[column].dropna().unique() if text != value]
        other = others[0] if others else f"{value}x"
    else:
        other = 1 if pd.isna(value) else value + 1
    rows.loc[row, column] = other
    return rows


def test_an_intact_experiment_has_no_findings(synaug, home):
    assert findings(synaug, "") == []


@pytest.mark.parametrize("sort", [True, False], ids=["sorted", "in place"])
@pytest.mark.parametrize(("kind", "column"), [(kind, column) for kind, names in CHANGES.items() for column in names])
def test_a_changed_value_is_found(synaug, home, kind, column, sort):
    path = path_of(home, kind)
    rows = damaged(read_manifest(kind, path), column)
    with pytest.MonkeyPatch.context() as patch:
        if not sort:
            patch.setattr("synaug.manifests.tables._sort_order", _unsorted)
        write_manifest(kind, rows, path)
    assert findings(synaug, kind), (kind, column)


def _unsorted(table, keys):
    return pa.array(range(len(table)))


@pytest.mark.parametrize("kind", ["real", "imbalance", "plan", "scores", "synthetic", "balanced", "predictions"])
@pytest.mark.parametrize("damage", ["first row missing", "last row missing", "row twice", "empty", "half"])
def test_missing_and_repeated_rows_are_found(synaug, home, kind, damage):
    path = path_of(home, kind)
    rows = read_manifest(kind, path)
    changed = {
        "first row missing": rows.iloc[1:], "last row missing": rows.iloc[:-1], "empty": rows.iloc[:0],
        "row twice": pd.concat([rows, rows.iloc[[2]]]), "half": rows.iloc[: len(rows) // 2],
    }[damage]  # fmt: skip
    write_manifest(kind, changed[SCHEMAS[kind].names], path)
    assert findings(synaug, kind)


@pytest.mark.parametrize("kind", ["real", "imbalance", "plan", "scores", "synthetic", "balanced", "predictions"])
def test_a_truncated_manifest_and_a_flipped_page_are_one_line(synaug, home, kind):
    path = path_of(home, kind)
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    assert [line for line in findings(synaug, kind) if f"{path.name}: cannot be read" in line]
    broken = bytearray(data)
    broken[4:24] = b"\xff" * 20
    path.write_bytes(broken)
    assert [line for line in findings(synaug, kind) if path.name in line]
    for command in ("show", "diff"):
        arguments = [command, path] if command == "show" else [command, path, path]
        status, _, err = synaug(*arguments)
        assert status == 2 and err.startswith("synaug: error: ") and err.count("\n") == 1


@pytest.mark.parametrize("value", [None, -1, 10**6])
@pytest.mark.parametrize("kind", ["scores", "synthetic", "balanced"])
def test_a_row_that_no_table_has_is_found(synaug, home, kind, value):
    shard = home / "shards" / "0123456789abcdef.parquet"
    rows = read_manifest(kind, home / f"{kind}.parquet")
    last = rows.index[-1]
    rows.loc[last, "path"] = "results/e/shards/0123456789abcdef.parquet"
    rows.loc[last, "row"] = value
    write_manifest("shard", pd.DataFrame(columns=["image_id"]), shard)
    write_manifest(kind, rows, home / f"{kind}.parquet")
    assert any(kind in line and "names another image" in line for line in findings(synaug, kind))


@pytest.mark.parametrize("damage", ["truncated", "missing", "other shards"])
def test_without_an_intact_plan_no_shard_is_to_be_deleted(synaug, home, damage):
    shard = home / "shards" / "0123456789abcdef.parquet"
    shard.parent.mkdir()
    shard.write_bytes(b"no table")
    assert any("delete it: no plan names it" in line for line in findings(synaug, ""))
    plan = home / "plan.parquet"
    if damage == "missing":
        plan.unlink()
    elif damage == "truncated":
        plan.write_bytes(plan.read_bytes()[:-20])
    else:
        write_manifest("plan", read_manifest("plan", plan).assign(shard="f" * 16), plan)
    [line] = [line for line in findings(synaug, "") if shard.name in line]
    assert line.endswith("keep it, run the workflow again to make plan.parquet, and verify again")


def test_an_id_that_is_null_is_one_line(synaug, home):
    path = home / "plan.parquet"
    table = read_table("plan", path)
    ids = table.column("image_id").to_pylist()
    position = table.schema.get_field_index("image_id")
    field = table.schema.field(position).with_nullable(True)
    pq.write_table(table.set_column(position, field, [[None, *ids[1:]]]), path)
    assert [line for line in findings(synaug, "") if "column image_id has no value in 1 rows" in line]


def test_an_intact_experiment_with_two_fills_has_no_findings(synaug, home):
    """Images are numbered within a class and a fill, and `kept` is a row for each fill."""
    plan = read_manifest("plan", home / "plan.parquet")
    fills = [plan.assign(fill=name, image_id=name[0] + plan["image_id"].str[1:]) for name in ("first", "second")]
    both = pd.concat(fills).assign(shard=lambda rows: shard_name(list(rows["image_id"])))
    write_manifest("plan", both, home / "plan.parquet")
    quality = read_manifest("quality", home / "quality.parquet")
    halves = [quality.assign(fill=name) for name in ("first", "second")]
    halves[0]["value"] -= 1
    halves[1]["value"] = 1
    write_manifest("quality", pd.concat(halves), home / "quality.parquet")
    names = ("plan.parquet: the images of a class", "another number of synthetic images")
    assert not [line for line in findings(synaug, "") if any(name in line for name in names)]


def test_splits_with_equally_many_images_are_not_mistaken_for_each_other(synaug, home):
    """The split `another` comes before `train` in the alphabet."""
    real = read_manifest("real", home / "real.parquet")
    train = real[(real["split"] == "train") & real["usable"]]
    digests = [hashlib.sha256(f"copy {image_id}".encode()).hexdigest() for image_id in train["image_id"]]
    more = train.assign(split="another", sha256=digests, image_id=[digest[:24] for digest in digests])
    write_manifest("real", pd.concat([real.astype({"split": str}), more]), home / "real.parquet")
    assert findings(synaug, "") == []


def test_predictions_have_no_groups(synaug, home):
    """A network predicts classes: its predictions do not differ from `real` because that has groups."""
    rows = read_manifest("real", path_of(home, "real"))
    rows["group"] = np.where(rows["image_id"].str[0] < "8", "red", "blue")
    rows["attributes"] = [[group] for group in rows["group"]]
    write_manifest("real", rows, path_of(home, "real"))
    assert not [line for line in findings(synaug, "predictions") if "predictions.parquet" in line]


def test_an_experiment_that_was_interrupted_before_its_plan_is_known(synaug, home):
    for path in home.glob("*.parquet"):
        if path.name not in ("real.parquet", "imbalance.parquet"):
            path.unlink()
    for folder in ("shards", "work"):
        shutil.rmtree(home / folder, ignore_errors=True)
    status, out, err = synaug("verify", home)
    assert (status, err) == (0, "") and "no findings in 1 experiment" in out


@pytest.fixture
def disk(tmp_path) -> Path:
    """A folder like the root of a disk: none below it is an experiment, and one has the name of a folder of one."""
    for name in ("home/someone/model.parquet", "work/someone/table.parquet", "shards/someone/table.parquet"):
        (tmp_path / "disk" / name).parent.mkdir(parents=True)
        (tmp_path / "disk" / name).write_bytes(b"x")
    return tmp_path / "disk"


@pytest.mark.parametrize("command", ["verify", "prune"])
def test_a_folder_without_experiments_is_refused_and_not_searched(synaug, disk, command, monkeypatch):
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("the whole disk is searched"))
    status, out, err = synaug(command, disk)
    assert (status, out) == (2, "") and f"{disk}: holds no experiment" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["plan.parquet", "real.parquet", "shards/x.parquet", "work/0123456789abcdef/0.parquet"]
)
def test_what_makes_a_folder_an_experiment(tmp_path, name):
    file = tmp_path / "results/e" / name
    file.parent.mkdir(parents=True)
    file.touch()
    assert (
        find_experiments(tmp_path / "results") == find_experiments(tmp_path / "results/e") == [tmp_path / "results/e"]
    )


def refuse_to_enter(monkeypatch, folder: Path) -> None:
    stat = os.stat

    def refused(path, *arguments, **keywords):
        if folder in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **keywords)

    monkeypatch.setattr(os, "stat", refused)


def test_a_folder_that_cannot_be_entered_is_left_out_with_a_warning(synaug, home, disk, monkeypatch, caplog):
    (home.parent / "lost+found").mkdir()  # results/ is a disk of its own
    with monkeypatch.context() as patch:
        refuse_to_enter(patch, home.parent / "lost+found")
        assert "in 1 experiment" in synaug("verify", home.parent)[1]
    with monkeypatch.context() as patch:
        refuse_to_enter(patch, disk / "home")
        assert f"{disk}: holds no experiment" in synaug("verify", disk)[2]
    (home.parent / "private").mkdir()
    refuse_to_enter(monkeypatch, home.parent / "private")
    assert not caplog.text
    assert "in 1 experiment" in synaug("verify", home.parent)[1]
    assert f"{home.parent}/private: cannot be read (Permission denied), and is left out" in caplog.text


REWRITTEN = "was rewritten by another program"


@pytest.mark.parametrize("kind", [*CHANGES, "quality"])
def test_a_manifest_that_another_program_wrote_is_a_finding(synaug, home, kind):
    path = path_of(home, kind)
    rows = pd.read_parquet(path)
    rows.assign(path="nonsense").to_parquet(path) if "path" in rows else rows.to_parquet(path)
    assert any(line.startswith(f"results/e/{path.relative_to(home)}: {REWRITTEN}") for line in findings(synaug, kind))
    status, out, _ = synaug("verify", home)
    assert status == 1 and "older version" not in out


def test_so_it_is_if_it_is_not_named_after_its_kind(synaug, home):
    names = ("pilot", "scores/0123456789abcdef", "candidates/1", "domain_probes", "packed/index")
    for name in names:
        (home / name).parent.mkdir(exist_ok=True)
        pd.read_parquet(home / "plan.parquet").to_parquet(home / f"{name}.parquet")
    lines = findings(synaug, "")
    for name in names:
        assert any(line.startswith(f"results/e/{name}.parquet: ") for line in lines), name


def test_what_else_such_a_manifest_says_is_checked(synaug, home):
    """Also with a column that no manifest has, and no digest can be made of."""
    path = home / "real.parquet"
    table = pq.read_table(path).replace_schema_metadata(None)
    table = table.slice(0, len(table) - 1)
    pq.write_table(table.append_column("thumbnail", [[b"x"] * len(table)]), path)
    text = "\n".join(findings(synaug, "real"))
    assert f"real.parquet: {REWRITTEN}" in text and "imbalance.parquet: counts other images" in text
    assert "is damaged" not in text


def test_other_tables_in_an_experiment_are_no_manifests(synaug, home):
    for name in ("dataset", "mine", "export/data/train-00000-of-00001", "scores/mine"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"x": [1]}).to_parquet(home / f"{name}.parquet")
    assert findings(synaug, "") == []


def test_an_experiment_at_the_root_of_the_disk_is_checked(synaug, home, monkeypatch):
    monkeypatch.setattr("synaug.commands.verify.os.path.abspath", lambda path: f"/e/{path.name}")
    status, out, err = synaug("verify", home)
    assert (status, err) == (1, "") and "which does not exist" in out


def test_a_plan_that_another_program_wrote_decides_no_deletion(synaug, home):
    pd.read_parquet(home / "plan.parquet").to_parquet(home / "plan.parquet")
    status, _, err = synaug("prune", home.parent, "--delete")
    assert status == 2 and f"plan.parquet: {REWRITTEN}" in err

"""Groups through the real Snakefile: a coloured data set, its cells filled, methods for groups, and their metrics."""

import runpy

import pyarrow as pa
import pyarrow.parquet as pq
from workdir import ROOT, Workdir

from synaug.commands.predict import find_weights
from synaug.manifests import read_manifest


def test_a_colored_data_set_is_filled_cell_by_cell_and_scored_by_group(work: Workdir):
    train, test = (pq.read_table(work.path / "data" / f"{split}.parquet") for split in ("train", "test"))
    validation = test.set_column(2, "split", pa.array(["validation"] * test.num_rows))
    color_table = runpy.run_path(str(ROOT / "resources" / "fashion_mnist_colored" / "make.py"))["color_table"]
    (work.path / "colored").mkdir()
    colored = color_table(pa.concat_tables([test, train, validation]), strength=0.7, size=16)
    pq.write_table(colored, work.path / "colored" / "images.parquet")
    work.change(
        dataset={"path": "colored", "color": "rgb", "group_columns": ["color"], "validation_split": "validation"},
        prompts={"templates": ["a {group} {label}"], "names": {"red": "crimson"}},
        training={"sampling": "group_balanced"},
        recipes={
            "synaug": {"stage2": None},
            "subg": {"data": "subsampled", "stage1": {"group_dro": 0.01}},
            "dfr-1": {"stage1_of": "real", "stage2": {"method": "dfr", "draws": 2}},
            "dfr-2": {"stage1_of": "real", "stage2": {"method": "dfr", "draws": 2, "inverse_l1": 0.1}},
        },
        evaluation={"shortcut_images": 5, "choose_by": "worst_cell"},
    )
    done = work.run()
    assert done.status == 0, done.text
    cells = read_manifest("imbalance", work.results / "imbalance.parquet")
    cells = cells[cells["kind"] == "cell"].set_index(["label_name", "group"])["count"]
    plan = read_manifest("plan", work.results / "plan.parquet")
    assert plan.groupby(["label_name", "group"]).size().to_dict() == {
        key: cells.max() - count for key, count in cells.items() if count < cells.max()
    }
    assert set(plan.loc[plan["group"] == "red", "prompt"]) >= {"a crimson boot"}
    sizes = read_manifest("balanced", work.results / "balanced.parquet").groupby(["label_name", "group"]).size()
    assert set(sizes) == {cells.max()} and len(sizes) == 8  # cells without a real image, too
    summary = read_manifest("summary", work.results / "summary.parquet")
    assert {"worst_cell", "worst_group", "group:red", "groups:color"} <= set(summary["subset"])
    assert {"dfr-1", "subg"} <= set(summary["recipe"])
    # Images that are only evaluated on: five of each of the eight cells, and not in the plan.
    probe_images = read_manifest("shard", work.results / "probe_images.parquet", ["image_id", "label_name", "group"])
    assert set(probe_images.groupby(["label_name", "group"]).size()) == {5} and len(probe_images) == 40
    assert not set(probe_images["image_id"]) & set(plan["image_id"])
    probes = summary[summary["metric"].isin(["pair_probe", "swap_drop"])]
    assert set(probes["recipe"]) == set(summary["recipe"]) and probes["mean"].between(-1, 1).all()
    # The settings are chosen by the predictions of the validation images, which count nowhere else.
    chosen = read_manifest("selection", work.results / "selection.parquet").set_index(["method", "criterion"])
    assert chosen.loc[("dfr", "worst_cell"), "candidates"] == 2
    assert chosen.loc[("dfr", "worst_cell"), "recipe"] in ("dfr-1", "dfr-2")
    # One recipe is chosen of all, also by the validation images; the report says which and why.
    candidates = read_manifest("chosen", work.results / "chosen.parquet")
    assert set(zip(candidates["recipe"], candidates["stage"], strict=True)) == {
        ("real", "train"), ("synaug", "train"), ("subg", "train"), ("dfr-1", "finetune"), ("dfr-2", "finetune"),
    }  # fmt: skip
    assert candidates["chosen"].sum() == 1 and set(candidates["images"]) == {16}
    assert find_weights(work.results).is_file()
    predictions = read_manifest("predictions", work.results / "train" / "real" / "0" / "predictions.parquet")
    assert predictions.groupby("split").size().to_dict() == {"test": 16, "validation": 16}
    page = (work.results / "report.html").read_text()
    assert '<h2 id="groups">Groups</h2>' in page and "demographic parity" in page
    assert "4 classes and 2 groups" in page and "swap drop" in page and "Chosen settings</h2>" in page
    assert "<strong>Chosen: " in page and "Chosen recipe</h2>" in page
    assert work.run("-n").jobs == []


def test_a_missing_group_column_is_named(work: Workdir):
    work.change(dataset={"group_columns": ["sex"]}, prompts={"templates": ["a {group} {label}"]})
    done = work.run()
    assert done.status == 1
    assert "has no column 'sex'" in done.text and "set dataset.group_columns[0]" in done.text

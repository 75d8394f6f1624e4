"""Groups from the data to the balanced manifest: every cell is measured, planned and filled, or named."""

import numpy as np
import pandas as pd
import pytest

from synaug.balance import build_balanced_manifest
from synaug.config import Balance, Generation, Imbalance, Prompts, load_config
from synaug.datasets import index_dataset
from synaug.imbalance import class_rows, empty_cells, measure_imbalance
from synaug.manifests import read_manifest, write_manifest
from synaug.plan.estimate import Size, cost_table
from synaug.plan.prompts import cell_prompts
from synaug.plan.rows import plan_generation
from synaug.plan.targets import wanted_counts
from synaug.runtime.errors import UserError

# Waterbirds in miniature: class -> group -> training images. The last cell is empty.
COUNTS = {"bird": {"land": 6, "water": 2}, "duck": {"land": 0, "water": 4}}


@pytest.fixture
def real() -> pd.DataFrame:
    rows = [
        {"label": label, "label_name": name, "group": group, "attributes": [group], "split": "train"}
        for label, (name, groups) in enumerate(COUNTS.items())
        for group, count in groups.items()
        for _ in range(count)
    ]
    rows += [{"label": 1, "label_name": "duck", "group": "land", "attributes": ["land"], "split": "test"}]
    table = pd.DataFrame(rows).assign(usable=True, sha256="x", path="p", column=None)
    return table.assign(image_id=[f"r{i}" for i in range(len(table))], row=pd.array([None] * len(table), "Int64"))


@pytest.fixture
def imbalance(real) -> pd.DataFrame:
    return measure_imbalance(real, "train", Imbalance(many_above=5, few_below=3))


def cells_of(imbalance: pd.DataFrame) -> pd.DataFrame:
    return imbalance[imbalance["kind"] == "cell"].set_index(["label_name", "group"])


def make_plan(imbalance, balance=None, prompts=None, **settings) -> pd.DataFrame:
    return plan_generation(
        imbalance,
        balance=Balance(**(balance or {})),
        prompts=Prompts(templates=["a {label} on {group}"], **(prompts or {})),
        generation=Generation(model="m", images_per_shard=20, **settings),
        seed=0,
        image_size=28,
        color="rgb",
        version="v",
        group_columns=["place"],
    )


def test_cells_classes_groups_and_the_summary_are_measured(imbalance, tmp_path):
    write_manifest("imbalance", imbalance, tmp_path / "imbalance.parquet")
    table = read_manifest("imbalance", tmp_path / "imbalance.parquet")
    assert cells_of(table)["count"].to_dict() == {
        ("bird", "land"): 6, ("bird", "water"): 2, ("duck", "land"): 0, ("duck", "water"): 4,
    }  # fmt: skip
    assert class_rows(table).set_index("label_name")["count"].to_dict() == {"bird": 8, "duck": 4}
    assert table[table["kind"] == "group"].set_index("group")["count"].to_dict() == {"land": 6, "water": 6}
    (summary,) = table[table["kind"] == "summary"].to_dict("records")
    assert (summary["count"], summary["deficit"], summary["empty_cells"]) == (12, 12, 1)
    assert summary["imbalance_factor"] == 3


def test_cells_without_a_training_image_are_named(real, imbalance, caplog):
    assert empty_cells(cells_of(imbalance).reset_index()) == ["class 'duck', group 'land': no training image"]
    only_tested = real.tail(1).assign(group="sea", attributes=[["sea"]])
    table = measure_imbalance(pd.concat([real, only_tested]), "train", Imbalance(many_above=5, few_below=3))
    assert "group 'sea': no training image, only images of other splits" in caplog.text
    assert cells_of(table).xs("sea", level="group")["count"].tolist() == [0, 0]
    plan = make_plan(table)
    assert plan[plan["group"] == "sea"].groupby("label_name").size().to_dict() == {"bird": 6, "duck": 6}
    many = cells_of(table).reset_index().assign(count=0)
    lines = empty_cells(pd.concat([many.assign(group=f"g{i}", count=[0, 0, 1, 1, 1, 1]) for i in range(11)]))
    assert len(lines) == 21 and lines[-1] == "... and 2 more cells without a training image"


def test_association_of_class_and_group_by_hand(imbalance):
    (summary,) = imbalance[imbalance["kind"] == "summary"].to_dict("records")
    joint = np.array([[6, 2], [0, 4]]) / 12
    expected = np.outer([8 / 12, 4 / 12], [0.5, 0.5])
    there = joint > 0
    assert summary["mutual_information"] == pytest.approx((joint[there] * np.log(joint[there] / expected[there])).sum())
    assert summary["cramers_v"] == pytest.approx(np.sqrt(((joint - expected) ** 2 / expected).sum()))


@pytest.mark.parametrize(
    ("balance", "wanted"),
    [
        ({}, [0, 4, 6, 2]),
        ({"strategy": "largest_of_class"}, [0, 4, 4, 0]),
        ({"strategy": "largest_of_group"}, [0, 2, 6, 0]),
        ({"strategy": "fixed", "target": 5}, [0, 3, 5, 1]),
        ({"amount": 0.5}, [0, 2, 3, 1]),
        ({"amount": 2.0}, [0, 8, 12, 4]),
        ({"max_synthetic_per_real": 1.0}, [0, 2, 0, 2]),
    ],
)
def test_the_strategy_decides_the_wanted_images_of_each_cell(imbalance, balance, wanted):
    cells = imbalance[imbalance["kind"] == "cell"]
    assert wanted_counts(cells, Balance(**balance)).tolist() == wanted


def test_the_plan_has_a_prompt_for_every_cell_and_no_seed_twice(imbalance):
    plan = make_plan(imbalance, prompts={"names": {"land": "dry land"}})
    assert plan.groupby(["label_name", "group"]).size().to_dict() == {
        ("bird", "water"): 4, ("duck", "land"): 6, ("duck", "water"): 2,
    }  # fmt: skip
    assert set(plan["prompt"]) == {"a bird on water", "a duck on dry land", "a duck on water"}
    assert plan["seed"].is_unique and plan["image_id"].is_unique


def test_a_larger_target_adds_images_and_keeps_all_others(imbalance):
    before = make_plan(imbalance, {"strategy": "fixed", "target": 8})
    after = make_plan(imbalance, {"strategy": "fixed", "target": 9})
    assert set(before["image_id"]) < set(after["image_id"])


def test_image_to_image_needs_a_real_image_in_every_cell(imbalance, real):
    cells = imbalance[imbalance["kind"] == "cell"]
    with pytest.raises(UserError, match=r"class 'duck' in group 'land': has no real training image to start from"):
        plan_generation(
            cells,
            balance=Balance(),
            prompts=Prompts(),
            generation=Generation(model="m", pipeline="image-to-image", strength=0.5),
            seed=0,
            image_size=28,
            color="rgb",
            version="v",
            sources=real[real["split"] == "train"],
            group_columns=["place"],
        )


def test_each_group_column_has_a_placeholder():
    cells = pd.DataFrame({"label_name": ["female"], "attributes": [["Others", "child"]]})
    prompts = Prompts(templates=["a {race} {label}, {age}", "a {group} {label}"], names={"child": "who is a child"})
    assert cell_prompts(prompts, cells, ["race", "age"])[0] == [
        "a Others female, who is a child",
        "a Others who is a child female",
    ]


def test_every_cell_is_filled_and_a_shortfall_is_named(imbalance, real, tmp_path, caplog):
    plan = make_plan(imbalance)
    short = (plan["label_name"] == "duck") & (plan["group"] == "land") & (plan["index"] > 3)
    rows = plan[["image_id", "label", "label_name", "group", "index"]].assign(
        sha256="h", path="x", row=0, column="image", accepted=~short, rejected_by=None, reason="is blank"
    )
    rows.loc[short, "rejected_by"] = "contrast"
    write_manifest("synthetic", rows, tmp_path / "synthetic.parquet")
    synthetic = read_manifest("synthetic", tmp_path / "synthetic.parquet")
    balanced = build_balanced_manifest(real, synthetic, imbalance, "train", Balance())
    assert balanced.groupby(["label_name", "group"]).size().to_dict() == {
        ("bird", "land"): 6, ("bird", "water"): 6, ("duck", "land"): 4, ("duck", "water"): 6,
    }  # fmt: skip
    assert "class 'duck', group 'land': 4 of 6 wanted" in caplog.text


def test_the_cost_is_listed_per_cell(imbalance):
    table = cost_table(make_plan(imbalance), imbalance[imbalance["kind"] == "cell"], set(), None, Size(10.0, 1))
    assert table["label_name"].tolist() == ["bird | land", "bird | water", "duck | land", "duck | water"]
    assert table["to_make"].tolist() == [0, 4, 6, 2]


def test_a_table_has_group_columns(tmp_path, pngs):
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.array([{"bytes": data, "path": None} for data in pngs[:8]])
    columns = {"label": ["a", "b"] * 4, "split": ["train"] * 4 + ["test"] * 4}
    columns |= {"place": ["x"] * 4 + ["y"] * 4, "age": ["old", "old", "new", "new"] * 2}
    pq.write_table(pa.table({"image": image, **columns}), tmp_path / "t.parquet")
    config = {
        "source": "table",
        "path": str(tmp_path / "t.parquet"),
        "image_size": 28,
        "group_columns": ["place", "age"],
    }
    shared = {"experiment": "x", "generation": {"model": "m"}, "recipes": {"real": {"data": "real"}}}
    rows = index_dataset(load_config({**shared, "dataset": config}).dataset)
    assert set(rows["group"]) == {"x, old", "x, new", "y, old", "y, new"}
    assert rows["attributes"].iloc[0] == rows["group"].iloc[0].split(", ")
    # Group y is in the test alone: its cells are there, and empty.
    measured = measure_imbalance(rows, "train", Imbalance())
    assert (cells_of(measured)["count"] == 0).sum() == 4
    with pytest.raises(UserError, match=r"has no column 'sex' .*set dataset\.group_columns\[0\]"):
        index_dataset(load_config({**shared, "dataset": config | {"group_columns": ["sex"]}}).dataset)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (
            {"prompts": {"templates": ["a {label} on {group}"]}},
            r"unknown placeholder \{group\}; allowed here: \{label\}, \{modifier\}",
        ),
        ({"balance": {"strategy": "largest_of_class"}}, "needs dataset.group_columns"),
        ({"dataset": {"source": "folder", "group_columns": ["x"]}}, "group_columns is for source: table, "),
        ({"dataset": {"source": "table", "group_columns": ["x"], "imbalance_factor": 5}}, "leave one of the two out"),
    ],
)
def test_keys_that_need_groups(block, said):
    config = {"experiment": "x", "generation": {"model": "m"}, "recipes": {"real": {"data": "real"}}}
    config["dataset"] = {"source": "folder", "path": "d", "image_size": 32}
    merged = {**config, **block} | {"dataset": config["dataset"] | block.get("dataset", {})}
    with pytest.raises(UserError, match=said):
        load_config(merged)


def test_cells_and_groups_with_the_same_name_are_one_line(real):
    """Their names are joined with a comma, and everything behind the measurement takes them by name."""
    names = {"bird": ("a", "b, c"), "duck": ("a, b", "c")}
    columns = {"label_name": [names[name][0] for name in real["label_name"]]}
    groups = [names[name][1] for name in real["label_name"]]
    alike = real.assign(**columns, group=groups, attributes=[[group] for group in groups])
    with pytest.raises(
        UserError, match="class 'a' in group 'b, c' and class 'a, b' in group 'c' are both called 'a, b, c'"
    ):
        measure_imbalance(alike, "train", Imbalance())
    attributes = [["x, y", "z"] if number % 2 else ["x", "y, z"] for number in range(len(real))]
    with pytest.raises(UserError, match="are both called 'x, y, z'; rename the values"):
        measure_imbalance(real.assign(group="x, y, z", attributes=attributes), "train", Imbalance())

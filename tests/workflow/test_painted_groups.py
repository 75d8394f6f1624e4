"""Groups through the real Snakefile: a painted data set, its cells filled, methods for groups, and their figures."""

from workdir import Workdir

from synaug.manifests import read_manifest


def test_a_painted_data_set_is_filled_cell_by_cell_and_scored_by_group(work: Workdir):
    work.change(
        dataset={"color": "rgb", "group_columns": ["color"], "painted": {"strength": 0.7}},
        prompts={"templates": ["a {group} {label}"], "names": {"red": "crimson"}},
        training={"sampling": "group_balanced"},
        recipes={
            "subg": {"data": "even", "stage1": {"group_dro": 0.01}},
            "dfr": {"stage1_of": "real", "stage2": {"method": "dfr", "draws": 2}},
        },
    )
    done = work.run()
    assert done.status == 0, done.text
    assert done.jobs.count("paint_dataset") == 1
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
    assert {"dfr", "subg"} <= set(summary["recipe"])
    page = (work.results / "report.html").read_text()
    assert "<h2>Groups</h2>" in page and "demographic parity" in page
    assert work.run().jobs == []


def test_a_group_column_that_is_not_there_is_one_line(work: Workdir):
    work.change(dataset={"group_columns": ["sex"]}, prompts={"templates": ["a {group} {label}"]})
    done = work.run()
    assert done.status == 1
    assert "has no column 'sex'" in done.text and "set dataset.group_columns[0]" in done.text

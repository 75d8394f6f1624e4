"""One config for many experiments; images too large to be kept decoded; networks of a library."""

import zipfile

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from workdir import ROOT, Workdir

from synaug.manifests import read_manifest


def test_a_study_runs_its_variants_and_puts_them_into_one_table_and_figure(work: Workdir):
    work.change(
        study={
            "factor_9": None,
            "factor_2": {"dataset": {"imbalance_factor": 2.0, "largest_class": 2}, "recipes": ["synaug"]},
        },
        dataset={"imbalance_factor": 9.0},
        evaluation={"baseline": ["real", "synaug"], "domain_probe": True},
        recipes={"half": {"stage1_of": "synaug", "stage2": {"steps": 2}}},
    )
    done = work.run()
    assert done.status == 0, done.text
    table = read_manifest("study", work.results / "study.parquet")
    recipes = table.groupby("variant")["recipe"].unique().map(sorted).to_dict()
    assert recipes == {"factor_9": ["half", "real", "synaug"], "factor_2": ["synaug"]}
    assert (table["metric"] == "domain_probe").any()
    probe_images = read_manifest(
        "shard", work.path / "results" / "test-factor_9" / "probe_images.parquet", ["image_id"]
    )
    trained = read_manifest("balanced", work.path / "results" / "test-factor_9" / "balanced.parquet", ["image_id"])
    assert len(probe_images) == 16 and not set(probe_images["image_id"]) & set(trained["image_id"])
    sizes = {name: set(rows["real_images"]) for name, rows in table.groupby("variant")}
    # int(9 / 9^(c / 3)) of 9, 6, 3 and 1 images; int(2 / 2^(c / 3)).
    assert sizes == {"factor_9": {9 + 4 + 2 + 1}, "factor_2": {2 + 1 + 1 + 1}}
    text = (work.results / "study.md").read_text()
    assert "## factor_9" in text and "half + fine-tune minus synaug + fine-tune" in text
    assert (work.results / "study.png").stat().st_size > 5000
    page = (work.results / "report.html").read_text()
    for variant in recipes:
        link = f"../test-{variant}/report.html"
        assert f'href="{link}"' in page and (work.results / link).is_file()
    archived = work.run("--report", "report.zip")
    assert archived.status == 0, archived.text
    with zipfile.ZipFile(work.path / "report.zip") as archive:
        names = [name.rpartition("/")[2] for name in archive.namelist()]
    assert names.count("gain.svg") == 2 and names.count("study.png") == 1
    # The network of stage 1 is shared, and nothing is left to do.
    assert not (work.path / "results" / "test-factor_9" / "train" / "half").exists()
    assert work.run("-n").jobs == []
    # A shard that is lost is made again.
    min((work.path / "results" / "test-factor_9" / "shards").iterdir()).unlink()
    assert "factor_9_generate_shard" in work.run("-n").jobs


def test_replicates_have_their_own_images_and_one_result(work: Workdir):
    # An image more of the class that has one, so that it has a validation image.
    table = pq.read_table(work.path / "data/train.parquet")
    more = pq.read_table(ROOT / "resources/fashion_mnist_lt/train.parquet", columns=table.column_names)
    bags = more.filter(pc.equal(more["label_name"], "Bag")).slice(1, 3)
    pq.write_table(pa.concat_tables([table, bags.cast(table.schema)]), work.path / "data/train.parquet")
    work.change(
        study={f"fill_seed{seed}": {"seed": seed, "seeds": [seed]} for seed in (0, 1)},
        dataset={"validation_split": "val", "make_splits": {"val": 0.5}},
        recipes={"on_val": {"stage1_of": "real", "stage2": {"split": "val", "images_per_class": "all", "steps": 2}}},
    )
    done = work.run()
    assert done.status == 0, done.text
    blocks = [
        read_manifest("balanced", work.path / f"results/test-fill_seed{seed}/balanced.parquet") for seed in (0, 1)
    ]
    synthetic = [set(block.loc[block["source"] == "synthetic", "image_id"]) for block in blocks]
    assert all(synthetic) and not synthetic[0] & synthetic[1]
    table = read_manifest("study", work.results / "study.parquet")
    assert set(table["variant"]) == {"fill"} and set(table["seeds"]) == {2} and table["low"].notna().any()
    varied = table.groupby("recipe")["varied"].unique().map(list).to_dict()
    assert varied["synaug"] == ["training seed, synthetic images"] and varied["real"] == ["training seed"]
    differences = read_manifest("study_differences", work.results / "study_differences.parquet")
    assert set(differences["seeds"]) == {2}
    # A recipe that is trained on validation images is not chosen by them.
    chosen = read_manifest("study_selection", work.results / "study_selection.parquet")
    assert "on_val" not in set(chosen["recipe"]) and set(chosen["seeds"]) == {2}
    assert (work.path / "results/test-fill_seed0/finetune/on_val/0/model.safetensors").exists()
    assert work.run("-n").jobs == []


def test_large_images_are_packed_once_and_streamed(work: Workdir):
    work.change(
        dataset={"image_size": 72, "color": "rgb"},
        training={"backbone": "torchvision/mobilenet_v3_small", "width": None, "crop_area": 0.4, "randaugment": {}},
        generation={"format": "jpeg"},
    )
    done = work.run()
    assert done.status == 0, done.text
    assert done.jobs.count("pack_images") == 1
    assert work.run("-n").jobs == []
    # Other training images are packed, and their networks trained, before the report is written.
    work.change(balance={"amount": 0.5})
    done = work.run("--cores", "8")
    assert done.status == 0, done.text
    assert done.jobs.count("pack_images") == done.jobs.count("train") == 1
    assert work.run("-n").jobs == []
    # A new recipe trains only its own network, and nothing is packed again.
    work.change(recipes={"more": {"data": "real", "stage1": {"steps": 2}}})
    jobs = work.run("-n").jobs
    assert jobs.count("train") == 1 and not {"pack_images", "finetune", "generate_shard"} & set(jobs)


def test_features_of_a_frozen_backbone_are_computed_once_for_all_recipes(work: Workdir):
    import timm
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in timm.create_model("test_resnet").state_dict().items()}
    save_file(state, work.path / "weights.safetensors")
    frozen = {"backbone": "timm/test_resnet", "width": None, "pretrained": "weights.safetensors", "freeze": "backbone"}
    work.change(dataset={"image_size": 72, "color": "rgb"}, training=frozen)
    done = work.run()
    assert done.status == 0, done.text
    assert done.jobs.count("extract_features") == 1 and done.jobs.count("train") == 2
    assert "pack_images" not in done.jobs  # nothing reads the images again
    assert work.run("-n").jobs == []
    # Other training images train again, in the same run. With many cores, nothing else overtakes this.
    work.change(balance={"amount": 0.5})
    done = work.run("--cores", "8")
    assert done.status == 0, done.text
    assert done.jobs.count("extract_features") == 1 and done.jobs.count("train") == 1
    assert work.run("-n").jobs == []
    # Another training key uses the same features.
    work.change(training={"steps": 5})
    jobs = work.run("-n").jobs
    assert "extract_features" not in jobs and jobs.count("train") == 2
    # A recipe that trains its whole network needs the images.
    work.change(recipes={"real": {"data": "real", "stage1": {"freeze": "none"}}})
    jobs = work.run("-n").jobs
    assert jobs.count("pack_images") == 1 and "extract_features" not in jobs


def test_an_unknown_network_of_a_library_is_said_before_any_job(work: Workdir):
    work.change(training={"backbone": "torchvision/resnet51", "width": None})
    done = work.run()
    assert done.status == 1 and done.jobs == []
    assert "synaug: error: backbone: torchvision has no model 'resnet51'" in done.text
    assert "torchvision/resnet50" in done.text

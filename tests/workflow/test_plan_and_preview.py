"""What it will cost, and what it will look like, before anything is spent."""

import re
import shutil

import pytest
import yaml
from PIL import Image
from workdir import CLASSES, NAMES, Workdir

from synaug.manifests import read_manifest

LACKS = {name: max(CLASSES.values()) - count for name, count in CLASSES.items()}
SHARED = sum(min(4, lack) for lack in LACKS.values())  # 11 images of the preview that the plan wants, too


@pytest.fixture
def fresh(finished, quick_python, tmp_path) -> Workdir:
    """Checkout, data and config, without results."""
    shutil.copytree(
        finished.path, tmp_path / "checkout", ignore=shutil.ignore_patterns("results", "logs", ".snakemake")
    )
    return Workdir(tmp_path / "checkout", python=quick_python)


def to_sample(work) -> int:
    log = (work.path / "logs" / "test" / "preview_images.log").read_text()
    return int(re.search(r"(\d+) to sample", log)[1])


def test_plan_prints_the_cost_and_makes_no_image(fresh):
    done = fresh.run("plan")
    assert done.status == 0, done.text
    assert set(done.jobs) == {"index_dataset", "measure_imbalance", "plan_generation", "plan"}
    for name, count in CLASSES.items():
        assert re.search(rf"^{re.escape(NAMES[name])} +{count} +{LACKS[name]} +0 +{LACKS[name]} ", done.text, re.M)
    assert f"{sum(LACKS.values())} images in" in done.text
    assert "not known" in done.text
    assert "a photo of a boot" in done.text
    assert not (fresh.results / "shards").exists()


def test_a_preview_shows_every_class_and_nothing_of_it_is_made_twice(fresh):
    done = fresh.run("preview")
    assert done.status == 0, done.text
    assert "plan_generation" not in done.jobs
    assert to_sample(fresh) == 4 * len(CLASSES)
    images = read_manifest("shard", fresh.results / "preview.parquet", ["image_id", "label_name"])
    assert images["label_name"].value_counts().to_dict() == {name: 4 for name in NAMES.values()}
    with Image.open(fresh.results / "preview.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.height > 4 * 100
    assert fresh.run("-n", "preview").jobs == []
    fresh.change(generation={"images_per_shard": 3})  # these images are in no shard
    assert fresh.run("-n", "preview").jobs == []
    fresh.change(generation={"images_per_shard": 2000})

    done = fresh.run("plan")
    assert done.status == 0
    assert "images/s" in done.text, done.text
    assert f"{sum(LACKS.values()) - SHARED} images in" in done.text

    done = fresh.run("results/test/scores.parquet")
    assert done.status == 0, done.text
    assert fresh.sampled() == sum(LACKS.values()) - SHARED
    assert "Device hours: 0" in fresh.run("plan").text


def test_a_preview_of_image_to_image_starts_from_the_real_images(fresh):
    fresh.change(generation={"pipeline": "image-to-image", "strength": 0.5})
    done = fresh.run("preview")
    assert done.status == 0, done.text
    images = read_manifest("shard", fresh.results / "preview.parquet", ["source_image"])
    assert set(images["source_image"]) <= set(read_manifest("real", fresh.results / "real.parquet")["image_id"])


def test_a_preview_has_the_options_of_the_scheduler(fresh):
    fresh.change(generation={"scheduler": {"name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}})
    done = fresh.run("preview")
    assert done.status == 0, done.text
    schedulers = read_manifest("shard", fresh.results / "preview.parquet", ["scheduler"])["scheduler"]
    assert set(schedulers) == {'{"name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}'}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, "is for flow matching, and .* is a diffusion model"),
        (
            {"scheduler": {"name": "EulerDiscreteScheduler", "spacing": 1}},
            "EulerDiscreteScheduler has no option 'spacing'",
        ),
        ({"variant": "fp16"}, "holds no weights of the variant 'fp16'; set it to null"),
        ({"attention": "flash3"}, "generation.attention: 'flash3': diffusers has no such backend"),
    ],
)
def test_settings_that_do_not_suit_the_model_end_the_run_in_one_line_before_any_job(fresh, settings, expected):
    fresh.change(generation=settings)
    done = fresh.run()
    assert done.status == 1 and done.jobs == []
    (line,) = re.findall(r"synaug: error: .*", done.text)
    assert re.search(expected, line)


def test_a_preview_of_a_finished_run_makes_only_what_nobody_wanted(work, synaug):
    done = work.run("preview")
    assert done.status == 0, done.text
    assert set(done.jobs) == {"preview_images", "preview"}
    assert to_sample(work) == 4 * len(CLASSES) - SHARED
    orphan = work.results / "shards" / f"{'0' * 16}.parquet"
    shutil.copy(min(work.results.glob("shards/*.parquet")), orphan)
    status, out, _ = synaug("prune", work.path / "results", "--delete")
    assert status == 0 and set(out.splitlines()[:-1]) == {str(orphan), str(work.results / "pixels")}
    assert (work.results / "preview.parquet").is_file()
    assert work.run().jobs == []


def test_a_faulty_prompt_table_is_named_before_anything_is_made(fresh):
    (fresh.path / "prompts.csv").write_text("label,prompt\nBag,a bag\nBagg,a bag\n")
    fresh.change(prompts={"file": "prompts.csv"})
    done = fresh.run("plan")
    assert done.status != 0
    assert "prompts.csv: row 2" in done.text
    assert "did you mean 'Bag'" in done.text
    assert "Traceback" not in done.text


def test_without_a_model_networks_are_trained_on_real_images_alone(work):
    config = yaml.safe_load((work.path / "test.yaml").read_text())
    del config["generation"], config["recipes"]["synaug"]
    config["recipes"]["rebalanced"] = {"data": "real", "stage1": {"loss": {"name": "balanced_softmax"}}}
    (work.path / "test.yaml").write_text(yaml.safe_dump(config))
    done = work.run()
    assert done.status == 0, done.text
    assert "generate_shard" not in done.jobs
    assert done.jobs.count("train") == 1  # the network of the other recipe is there
    assert set(read_manifest("balanced", work.results / "balanced.parquet")["source"]) == {"real"}
    assert "none, so that there are no synthetic images" in (work.results / "report.html").read_text()
    assert work.run("-n").jobs == []
    assert "the config has no generation.model" in work.run("plan").text
    preview = work.run("preview")
    assert preview.status == 1 and preview.jobs == []
    assert "preview: there are no synthetic images; add generation.model to the config" in preview.text

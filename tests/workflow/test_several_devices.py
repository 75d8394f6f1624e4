"""Snakemake trains one network by two processes, on a machine without GPUs."""

from workdir import Workdir

from synaug.manifests import read_manifest


def test_a_recipe_with_two_devices_is_trained_and_what_it_logs_is_in_the_log_of_the_job(work: Workdir):
    work.change(recipes={"real": {"stage1": {"devices": 2}}})
    folder = work.results / "train" / "real" / "0"
    before = (folder / "model.safetensors").read_bytes()
    done = work.run()
    assert done.status == 0, done.text
    assert (folder / "model.safetensors").read_bytes() != before
    assert len(read_manifest("predictions", folder / "predictions.parquet")) > 0
    log = (work.path / "logs" / "test" / "train" / "real-0.log").read_text()
    assert log.count("step 4/4") == 1  # by one of the processes


def test_an_error_of_a_process_is_one_line_on_the_terminal(work: Workdir):
    work.change(recipes={"real": {"stage1": {"devices": 2, "sync_batch_norm": True}}})
    done = work.run()
    assert done.status != 0
    assert "synaug: error: sync_batch_norm: true needs NVIDIA GPUs" in done.text and "Traceback" not in done.text

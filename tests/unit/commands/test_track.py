"""`synaug track`: what MLflow has of an experiment, while networks train and afterwards."""

import html
import json
import os
import shutil
import sys
import time
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import yaml

import mlflow_stand_in
from small_experiment import NETWORKS, SETTINGS, Experiment
from synaug.commands.track import losses_of_log, networks_of
from synaug.config import Config
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.files import file_hash

NAME = SETTINGS["experiment"]
NAMES = {f"{stage}/{recipe}/{seed}" for stage, recipe, seed in NETWORKS}


class Server:
    """MLflow at `uri`. down: whether it refuses connections."""

    def __init__(self, uri: str, client_class: type) -> None:
        self.uri, self.down, self.client = uri, False, client_class(tracking_uri=uri)

    def runs(self) -> dict[str, object]:
        """Name -> run; of several with one name the newest."""
        return {run.info.run_name: run for run in reversed(self.all_runs())}

    def all_runs(self) -> list:
        """All runs, the newest first."""
        experiment = self.client.get_experiment_by_name(NAME)
        found, token = [], None
        while experiment:
            page = self.client.search_runs(
                [experiment.experiment_id], order_by=["attributes.start_time DESC"], page_token=token
            )
            found, token = found + list(page), page.token
            if not token:
                break
        return found

    def points(self, run, metric: str) -> list[tuple[int, float]]:
        """(step, value) of a metric, as often as it was logged."""
        history = self.client.get_metric_history(run.info.run_id, metric)
        return sorted((point.step, point.value) for point in history)


@pytest.fixture
def server(tmp_path, monkeypatch, capsys) -> Server:
    """The real MLflow with a local store, if it is installed."""
    monkeypatch.chdir(tmp_path)  # the real one makes a folder for artifacts
    mlflow = import_module("mlflow") if find_spec("mlflow") else mlflow_stand_in.install(monkeypatch)
    real = mlflow.MlflowClient
    server = Server(f"sqlite:///{tmp_path}/mlflow.db", real)

    class Client:
        def __init__(self, tracking_uri: str) -> None:
            self.client = real(tracking_uri=tracking_uri)

        def __getattr__(self, name: str):
            if server.down:
                raise ConnectionRefusedError(111, "Connection refused")
            return getattr(self.client, name)

    monkeypatch.setattr(mlflow, "MlflowClient", Client)
    capsys.readouterr()  # the real one says that it makes a database
    return server


def write_config(folder: Path, settings: dict, when: float = 0.0) -> None:
    """The config, which was changed last at `when` (seconds since the epoch): before any run."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(settings))
    os.utime(folder / "mine.yaml", (when, when))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pngs) -> Path:
    """The folder of a workflow with the results of an experiment."""
    folder = tmp_path_factory.mktemp("track")
    results = folder / "results" / NAME
    Experiment(results, pngs)
    (results / "report.html").write_text("<p>report</p>")
    write_config(folder, SETTINGS)
    return folder


@pytest.fixture
def here(finished, tmp_path, monkeypatch) -> Path:
    """A copy of it, which is the current folder."""
    shutil.copytree(finished, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


class Run:
    """A run of the workflow in `folder` that trains a network, whose files are not there yet."""

    def __init__(self, folder: Path, started: str = "2026-01-02T000000", network: str = "train/real/0") -> None:
        log = f"logs/{NAME}/{network.replace('real/0', 'real-0')}.log"
        self.events = folder / ".snakemake" / "log" / f"{started}.events.jsonl"
        self.log = folder / log
        self.network = folder / "results" / NAME / network
        for file in (self.events, self.log):
            file.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        shutil.rmtree(folder / "results" / NAME)
        self.network.mkdir(parents=True)
        self.write("job_info", jobid=1, rule_name="train", rule_msg="", wildcards={}, log=[log], output=[])

    def write(self, event: str, **fields) -> None:
        with self.events.open("a") as file:
            file.write(json.dumps({"time": time.time(), "event": event, **fields}) + "\n")

    def step(self, step: int) -> None:
        """One more line in the log of the network."""
        clock = datetime.now().strftime("%H:%M:%S")
        with self.log.open("a") as file:
            file.write(f"{clock} step {step}/200, loss {2 / step:.4f}, learning rate 0.1000, 5 s left\n")

    def finish(self) -> None:
        """The network is trained, and so the run is at its end."""
        steps = [50, 100, 150, 200]
        rows = {"step": steps, "epoch": 1.0, "loss": [2 / step for step in steps], "learning_rate": 0.1}
        write_manifest("history", pd.DataFrame(rows), self.network / "history.parquet")
        self.write("job_finished", job_id=1)
        self.write("ended")

    def fail(self) -> None:
        with self.log.open("a") as file:
            file.write("synaug: error: no space\n")
        self.write("job_error", jobid=1, error="no space")
        self.write("ended")


@pytest.fixture
def meanwhile(monkeypatch):
    """A function that takes what happens while `synaug track` waits, one action each time."""

    def meanwhile(*actions) -> None:
        waiting = iter(actions)
        monkeypatch.setattr("synaug.commands.track.time.sleep", lambda seconds: next(waiting)())

    return meanwhile


def test_every_network_of_a_finished_experiment_is_a_run(synaug, server, here):
    status, out, err = synaug("track", "mine.yaml", "--uri", server.uri)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == f"logged: {NAME}, at {server.uri}"
    runs = server.runs()
    assert runs.keys() == NAMES | {"summary"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}

    network = runs["finetune/synaug/1"]
    assert network.data.params["recipe"] == "synaug" and network.data.params["stage1.mixup.alpha"] == "0.5"
    assert network.data.params["stage2.steps"] == "2"
    assert not any(key.startswith("stage2") for key in runs["train/synaug/1"].data.params)
    assert server.points(network, "loss") == [(1, 2.0), (2, 1.0), (3, pytest.approx(2 / 3)), (4, 0.5)]
    metrics = read_manifest("metrics", here / "results" / NAME / "metrics.parquet")
    mine = metrics[(metrics["recipe"] == "synaug") & (metrics["stage"] == "finetune") & (metrics["seed"] == 1)]
    wanted = {f"{row.metric}/{row.subset}": row.value for row in mine.itertuples() if ":" not in row.subset}
    curves = {"loss", "learning_rate", "epoch"}
    assert {key: value for key, value in network.data.metrics.items() if key not in curves} == pytest.approx(wanted)

    summary = read_manifest("summary", here / "results" / NAME / "summary.parquet")
    few = summary[(summary["recipe"] == "real") & (summary["metric"] == "accuracy") & (summary["subset"] == "few")]
    assert runs["summary"].data.metrics["accuracy/few/train/real"] == pytest.approx(few["mean"].item())
    files = {file.path for file in server.client.list_artifacts(runs["summary"].info.run_id)}
    assert files == {"summary.parquet", "metrics.parquet", "report.html"}


def test_a_second_call_logs_nothing_and_a_network_trained_again_is_a_new_run(synaug, server, here):
    synaug("track", "mine.yaml", "--uri", server.uri)
    status, out, _ = synaug("track", "mine.yaml", "--uri", server.uri)
    assert (status, out) == (0, f"nothing new: {NAME}, at {server.uri}\n")
    assert len(server.all_runs()) == len(NAMES) + 1

    network = here / "results" / NAME / "train" / "real" / "0"
    write_manifest(
        "history", read_manifest("history", network / "history.parquet").head(3), network / "history.parquet"
    )
    later = (network / "predictions.parquet").stat().st_mtime + 100
    os.utime(network / "predictions.parquet", (later, later))
    _, out, _ = synaug("track", "mine.yaml", "--uri", server.uri)
    assert out.splitlines()[:-1] == [f"{NAME}: train/real/0: trained"]  # metrics.parquet is that of the old one
    of_network = [run for run in server.all_runs() if run.info.run_name == "train/real/0"]
    assert sorted(len(server.points(run, "loss")) for run in of_network) == [3, 4]
    assert sorted("accuracy/all" in run.data.metrics for run in of_network) == [False, True]


def test_it_follows_a_network_and_an_outage_in_the_middle_is_one_warning(synaug, server, here, meanwhile):
    run, seen = Run(here), []

    def look():
        network = server.runs()["train/real/0"]
        seen.append((network.info.status, [step for step, _ in server.points(network, "loss")]))

    def outage(down: bool):
        server.down = down
        run.step(100 if down else 150)

    run.step(50)
    meanwhile(look, lambda: outage(True), lambda: None, lambda: outage(False), look, run.finish)
    status, out, err = synaug("track", "mine.yaml", "--uri", server.uri, "--follow")
    assert status == 0, err
    assert seen == [("RUNNING", [50]), ("RUNNING", [50, 100, 150])]
    [warning] = err.splitlines()
    assert warning.startswith(f"synaug: warning: MLflow at {server.uri}: ") and "Connection refused" in warning
    assert out.splitlines()[:2] == [f"{NAME}: train/real/0: training", f"{NAME}: train/real/0: trained"]
    [network] = server.all_runs()
    assert network.info.status == "FINISHED"
    for metric in ("loss", "learning_rate", "epoch"):
        assert [step for step, _ in server.points(network, metric)] == [50, 100, 150, 200], metric


def test_mlflow_that_is_down_at_the_start_or_at_the_end_is_an_error(synaug, server, here, meanwhile):
    run = Run(here)
    run.step(50)
    server.down = True
    status, out, err = synaug("track", "mine.yaml", "--uri", server.uri, "--follow")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert f"MLflow at {server.uri}: [Errno 111] Connection refused; give the --uri" in err

    server.down = False
    meanwhile(lambda: setattr(server, "down", True) or run.step(100), run.finish)
    status, _, err = synaug("track", "mine.yaml", "--uri", server.uri, "--follow")
    assert status == 2 and [line.split(": ")[1] for line in err.splitlines()] == ["warning", "error"]
    server.down = False
    synaug("track", "mine.yaml", "--uri", server.uri)
    [network] = server.all_runs()
    assert [step for step, _ in server.points(network, "loss")] == [50, 100, 150, 200]


def test_a_network_that_failed_goes_on_in_the_same_run(synaug, server, here, meanwhile):
    run = Run(here)
    run.step(50)
    meanwhile(run.fail)
    assert synaug("track", "mine.yaml", "--uri", server.uri, "--follow")[0] == 0
    assert server.runs()["train/real/0"].info.status == "FAILED"
    run = Run(here, "2026-01-03T000000")
    run.step(100)
    synaug("track", "mine.yaml", "--uri", server.uri)
    [network] = server.all_runs()
    assert network.info.status == "RUNNING"
    assert [step for step, _ in server.points(network, "loss")] == [50, 100]


def with_mixup(alpha: float) -> dict:
    """The settings of the experiment with another value for the recipe synaug."""
    recipe = SETTINGS["recipes"]["synaug"] | {"stage1": {"mixup": {"alpha": alpha}}}
    return SETTINGS | {"recipes": SETTINGS["recipes"] | {"synaug": recipe}}


def write_report(folder: Path, settings: dict, when: float) -> None:
    """What the report says of the config with which its networks were trained."""
    text = html.escape(json.dumps(Config.model_validate(settings).model_dump(), indent=2))
    page = folder / "results" / NAME / "report.html"
    page.write_text(f'<pre class="scroll" aria-label="The whole config">{text}</pre>')
    os.utime(page, (when, when))


def test_after_a_change_of_the_config_networks_have_the_settings_that_they_were_trained_with(synaug, server, here):
    write_report(here, SETTINGS, time.time() + 10)
    write_config(here, with_mixup(0.9), time.time() + 20)
    status, _, err = synaug("track", "mine.yaml", "--uri", server.uri)
    assert (status, err) == (0, "")
    runs = server.runs()
    assert runs["train/synaug/0"].data.params["stage1.mixup.alpha"] == "0.5"
    assert runs["finetune/synaug/1"].data.params["stage2.steps"] == "2"

    network = here / "results" / NAME / "train" / "synaug" / "0"  # trained again, and the report is still the old one
    write_manifest(
        "history", read_manifest("history", network / "history.parquet").head(3), network / "history.parquet"
    )
    os.utime(network / "history.parquet", (time.time() + 30,) * 2)
    status, out, err = synaug("track", "mine.yaml", "--uri", server.uri)
    assert (status, err) == (0, "") and f"{NAME}: train/synaug/0: trained" in out.splitlines()
    assert server.runs()["train/synaug/0"].data.params["stage1.mixup.alpha"] == "0.9"


def test_settings_that_are_not_known_are_left_out_until_the_report_shows_them(synaug, server, here):
    write_config(here, with_mixup(0.9), time.time() + 20)  # the run was stopped before its report
    status, _, err = synaug("track", "mine.yaml", "--uri", server.uri)
    assert status == 0 and err.count("\n") == 1
    assert err.startswith(f"synaug: warning: {NAME}: train/real/0, ") and "the config has changed since" in err
    network = server.runs()["train/synaug/0"]
    assert network.data.params == {"recipe": "synaug", "stage": "train", "seed": "0", "final": "false"}
    assert len(server.points(network, "loss")) == 4

    write_report(here, SETTINGS, time.time() + 30)
    status, _, err = synaug("track", "mine.yaml", "--uri", server.uri)
    assert (status, err) == (0, "")
    assert server.runs()["train/synaug/0"].data.params["stage1.mixup.alpha"] == "0.5"
    assert len([run for run in server.all_runs() if run.info.run_name == "train/synaug/0"]) == 1


def test_a_config_that_is_changed_during_the_run_does_not_label_the_network_that_trains(synaug, server, here):
    """Its log is not read either: with JTT, another network comes first in it. What is logged already goes on."""
    run = Run(here)
    run.step(50)
    assert synaug("track", "mine.yaml", "--uri", server.uri)[0] == 0
    write_config(here, SETTINGS, time.time() + 20)
    run.step(100)
    status, _, err = synaug("track", "mine.yaml", "--uri", server.uri)
    assert status == 0 and err.count("\n") == 1 and f"{NAME}: train/real/0: " in err
    [network] = [run for run in server.all_runs() if run.info.run_name == "train/real/0"]
    assert network.info.status == "RUNNING" and "data" in network.data.params
    assert [step for step, _ in server.points(network, "loss")] == [50]


CHOOSING = SETTINGS | {
    "evaluation": {"choose_by": "balanced"},
    "dataset": SETTINGS["dataset"] | {"validation_split": "validation"},
}


def choose(recipe: str) -> None:
    """The manifest `chosen`: this recipe, of the two."""
    rows = pd.DataFrame({"recipe": ["real", "synaug"], "stage": ["train", "finetune"]})
    rows = rows.assign(chosen=rows["recipe"] == recipe, synthetic=False, metric="balanced", reason="it is better")
    rows = rows.assign(validation=0.5, standard_error=0.1, gain=0.1, gain_standard_error=0.1, seeds=2, images=1)
    Path("results", NAME).mkdir(parents=True, exist_ok=True)
    write_manifest("chosen", rows, Path("results", NAME, "chosen.parquet"))


def report_final_networks() -> None:
    """What the report says of the choice and of the final network."""
    folder = Path("results", NAME)
    files = {name: file_hash(folder / name) for name in ("chosen.parquet", "final/0/predictions.parquet")}
    page = f'<script type="application/json" id="final-networks">{json.dumps(files)}</script>'
    (folder / "report.html").write_text(page)


def test_a_final_network_of_an_earlier_choice_is_not_logged(synaug, server, here):
    write_config(here, CHOOSING | {"seeds": [0]})
    choose("real")
    final = Path(shutil.copytree(f"results/{NAME}/train/real/0", f"results/{NAME}/final/0"))
    report_final_networks()
    choose("synaug")  # with changed settings; the final network is that of `real`
    status, out, err = synaug("track", "mine.yaml", "--uri", server.uri)
    assert status == 0 and "final/0: " not in out and not any(name.startswith("final") for name in server.runs())
    assert err.startswith(f"synaug: warning: {NAME}: final/0: not logged: report.html does not show")
    assert err.endswith("run the workflow to its end first\n") and err.count("\n") == 1
    status, out, err = synaug("track", "mine.yaml", "--uri", server.uri)
    assert out.startswith("nothing new") and err.count("\n") == 1

    write_manifest("history", read_manifest("history", final / "history.parquet").head(3), final / "history.parquet")
    report_final_networks()
    status, out, err = synaug("track", "mine.yaml", "--uri", server.uri)
    assert (status, err) == (0, "") and f"{NAME}: final/0: trained" in out.splitlines()
    network = server.runs()["final/0"]
    assert network.data.params["recipe"] == "synaug" and network.data.params["final"] == "true"
    assert len(server.points(network, "loss")) == 3


def test_a_final_network_goes_on_in_its_run_until_the_report_shows_it(synaug, server, here, meanwhile):
    """It is trained before the report is written, which says that it belongs to the choice."""
    history = shutil.copy(f"results/{NAME}/train/real/0/history.parquet", here)
    predictions = shutil.copy(f"results/{NAME}/train/real/0/predictions.parquet", here)
    run, seen = Run(here, network="final/0"), []
    write_config(here, CHOOSING | {"seeds": [0]})
    choose("synaug")
    run.step(1)

    def trained():
        for file in (history, predictions):
            shutil.copy(file, run.network)
        run.write("job_finished", job_id=1)

    def reported():
        seen.append(server.runs()["final/0"].info.status)
        report_final_networks()
        run.write("ended")

    meanwhile(trained, reported)
    status, out, err = synaug("track", "mine.yaml", "--uri", server.uri, "--follow")
    assert (status, err) == (0, "") and seen == ["RUNNING"]
    assert out.splitlines()[:2] == [f"{NAME}: final/0: training", f"{NAME}: final/0: trained"]
    [network] = server.all_runs()
    assert network.info.status == "FINISHED"


def test_the_chosen_recipe_has_final_networks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config.model_validate(CHOOSING)
    assert {network.name for network in networks_of(config)} == NAMES
    choose("synaug")
    final = [network for network in networks_of(config) if network.name not in NAMES]
    assert [network.name for network in final] == ["final/0", "final/1"]
    assert {(network.recipe, network.stage, network.settings["final"]) for network in final} == {
        ("synaug", "finetune", "true")
    }


def test_the_times_of_a_log_have_its_date_and_the_second_stage_is_left_out(tmp_path):
    log = tmp_path / "0.log"
    lines = [
        *(
            "23:59:58 step 10/100, loss 3.0000, 9 s left",
            "23:59:59 step 50/100, loss 2.0000, learning rate 0.1, 5 s left",
        ),
        *("00:00:01 step 100/100, loss 1.0000, learning rate 0.0, 0 s left", "00:00:02 features are computed"),
        "00:00:03 step 50/50, loss 9.0000, learning rate 0.0, 0 s left",
    ]
    log.write_text("\n".join(lines))
    ended = datetime(2026, 3, 2, 0, 0, 3).timestamp()
    os.utime(log, (ended, ended))
    points = losses_of_log(log)
    assert [(point.step, point.value) for point in points] == [(50, 2.0), (100, 1.0)]
    assert [datetime.fromtimestamp(point.milliseconds / 1000) for point in points] == [
        datetime(2026, 3, 1, 23, 59, 59),
        datetime(2026, 3, 2, 0, 0, 1),
    ]
    assert losses_of_log(tmp_path / "gone.log") == []


def test_without_mlflow_the_error_names_the_extra(synaug, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    status, _, err = synaug("track", "mine.yaml")
    assert (status, err) == (2, "synaug: error: MLflow is not installed; pip install 'synaug[mlflow]'\n")


def test_the_losses_of_the_network_of_jtt_are_left_out(tmp_path):
    log = tmp_path / "0.log"
    helper = [
        f"10:00:0{i} step {step}/100, loss 9.0000, learning rate 0.1, 5 s left" for i, step in ((0, 50), (1, 100))
    ]
    main = [f"10:00:0{i} step {step}/150, loss 1.0000, learning rate 0.1, 5 s left" for i, step in ((2, 50), (3, 150))]
    stage2 = ["10:00:05 step 50/50, loss 7.0000, learning rate 0.1, 5 s left"]
    log.write_text("\n".join(helper))
    assert losses_of_log(log, has_jtt=True) == []
    log.write_text("\n".join([*helper, *main, *stage2]))
    assert [(point.step, point.value) for point in losses_of_log(log, has_jtt=True)] == [(50, 1.0), (150, 1.0)]

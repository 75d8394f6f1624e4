"""`synaug track`: the training curves and the results of an experiment in MLflow, also while networks train.

No job knows of it. It reads the files that jobs write anyway, so no result depends on it and no job waits for it. What
was logged is known from MLflow itself, so that a second call adds only what is new.
"""

import hashlib
import json
import logging
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from snakemake_logger_plugin_synaug.run import error_line
from synaug.commands.fetch import configs_of_file
from synaug.commands.predict import check_final_network
from synaug.commands.watch import Events, newest_run
from synaug.config import Config
from synaug.manifests import read_manifest
from synaug.runtime.errors import UserError, causes, short_text
from synaug.runtime.files import text_hash

WARNING_PREFIX = "synaug: warning: "
POLL_S = 10.0  # a log gets a line every 50 steps
SUMMARY = "summary"  # name of the run with the results of all networks
# Tags of runs in MLflow: the network, the hash of its settings, the hash of its history (or of the summary) once all of
# that is logged, and the hash of its metrics.
NETWORK, SETTINGS, LOGGED, METRICS = "synaug.network", "synaug.settings", "synaug.logged", "synaug.metrics"
# MLflow refuses larger batches.
_BATCH = 1000
# Lines of a training log: `14:01:30 step 50/600, loss 1.0057, learning rate 0.0833, 25 s left`.
_LOSS = re.compile(r"(\d\d:\d\d:\d\d) step (\d+)/(\d+), loss (\S+), learning rate .*")
# MLflow's client waits minutes for a server that is down, reports its use to its makers, and prints a lot. Values that
# the user has set are kept.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Network:
    """A network that the config asks for, trained or not.

    name: its folder in the results, <stage>/<recipe>/<seed> or final/<seed>. settings: of its recipe, flat, as text.
    """

    name: str
    recipe: str
    stage: str
    seed: int
    settings: dict[str, str]
    folder: Path
    log: Path

    @property
    def history(self) -> Path:
        """Its training history, which is there once it is trained."""
        return self.folder / "history.parquet"

    @property
    def has_jtt(self) -> bool:
        """Whether its training begins with the network of JTT."""
        return "stage1.jtt.steps" in self.settings and (self.name.startswith("train/") or self.is_final)

    @property
    def has_settings(self) -> bool:
        """Whether the settings of its recipe are known."""
        return "data" in self.settings  # a key of every recipe

    @property
    def is_final(self) -> bool:
        """Whether it is one of the chosen recipe that is trained on the validation images too."""
        return self.name.startswith("final/")

    @property
    def is_of_the_choice(self) -> bool:
        """Whether a trained final network belongs to the present choice. The report, which comes last, says so."""
        try:
            check_final_network(self.folder)
        except (UserError, OSError):  # a run may delete a file at the same time
            return False
        return True

    @property
    def settings_hash(self) -> str:
        """Hash of the settings."""
        return text_hash(self.settings)


@dataclass
class LoggedRun:
    """A run in MLflow. points: the metrics and steps that it has; None: MLflow was not asked yet."""

    id: str
    status: str
    tags: dict[str, str]
    metrics: Collection[str] = ()
    parameters: frozenset[str] = frozenset()
    points: set[tuple[str, int]] | None = None


@dataclass(frozen=True)
class Point:
    """A value of a metric. milliseconds: since the epoch."""

    metric: str
    value: float
    step: int
    milliseconds: int


class MLflow:
    """The client of MLflow. What it raises becomes a UserError."""

    def __init__(self, uri: str | None) -> None:
        """uri: of a server or a local store; None: as MLflow does it, by MLFLOW_TRACKING_URI or in the current folder.

        Raises UserError if MLflow is not installed.
        """
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            mlflow = import_module("mlflow")
        except ImportError:
            raise UserError("MLflow is not installed", advice="pip install 'synaug[mlflow]'") from None
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.entities = import_module("mlflow.entities")
        self.uri = uri or mlflow.get_tracking_uri()
        self.client = self.call(lambda: mlflow.MlflowClient(tracking_uri=self.uri))

    def __getattr__(self, method: str) -> Any:
        """The method of the client."""
        return lambda *args, **arguments: self.call(lambda: getattr(self.client, method)(*args, **arguments))

    def call(self, function: Callable[[], Any]) -> Any:
        """What `function` returns, which uses MLflow. Raises UserError whatever it raises: there are many types."""
        try:
            return function()
        except Exception as error:
            of_system = [cause for cause in causes(error) if isinstance(cause, OSError)]  # such as a refused connection
            reason = short_text([error, *of_system][-1])
            raise UserError(
                f"MLflow at {self.uri}: {reason}",
                advice="give the --uri of a server that runs, or call synaug track again when it does: what it has "
                "is not logged twice",
            ) from error


def networks_of(config: Config) -> Iterator[Network]:
    """All networks of an experiment; the final ones once their recipe is chosen."""
    results, logs = Path("results", config.experiment), Path("logs", config.experiment)

    def network(name: str, log: str, stage: str, recipe: str, seed: int) -> Network:
        keys = {"data", "fill", "stage1", *(["stage2"] if stage == "finetune" else [])}
        settings = _flat(config.recipes[recipe].model_dump(include=keys) | {"recipe": recipe, "stage": stage})
        settings |= {"seed": str(seed), "final": str(name.startswith("final/")).lower()}
        return Network(name, recipe, stage, seed, settings, results / name, logs / log)

    for recipe, its_settings in config.recipes.items():
        stages = [("train", not its_settings.stage1_of), ("finetune", its_settings.stage2 is not None)]
        for stage in [stage for stage, trained in stages if trained]:
            for seed in config.seeds:
                yield network(f"{stage}/{recipe}/{seed}", f"{stage}/{recipe}-{seed}.log", stage, recipe, seed)
    choice = results / "chosen.parquet"
    if config.evaluation.choose_by and choice.is_file():
        candidates = read_manifest("chosen", choice)
        [chosen] = candidates[candidates["chosen"]].itertuples()
        if chosen.recipe in config.recipes:
            for seed in config.seeds:
                yield network(f"final/{seed}", f"final/{seed}.log", str(chosen.stage), str(chosen.recipe), seed)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values by their keys with dots; those that are null are left out."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def losses_of_log(log: Path, has_jtt: bool = False) -> list[Point]:
    """The losses that a training has written to its log so far; of one with two stages, those of the first.

    has_jtt: whether the first losses in the log are those of the network whose errors JTT weights; they are left out.
    A line has a time of day. Its date follows from the date of the file, that is of the last line.
    """
    try:
        text, ended = log.read_text(errors="replace"), datetime.fromtimestamp(log.stat().st_mtime)
    except OSError:
        return []
    lines = [match.groups() for match in map(_LOSS.fullmatch, text.splitlines()) if match]
    steps = [(int(step), total) for _, step, total, _ in lines]
    # Where another network, or stage, begins.
    begins = [i for i in range(1, len(steps)) if steps[i][0] <= steps[i - 1][0] or steps[i][1] != steps[i - 1][1]]
    first, last, *_ = [0, *begins, *[len(steps)] * 2][int(has_jtt) :]
    points, moment = [], ended + timedelta(seconds=1)  # a line shows whole seconds
    for clock, step, _, loss in reversed(lines):
        earlier = datetime.combine(moment.date(), datetime.strptime(clock, "%H:%M:%S").time())
        moment = earlier if earlier <= moment else earlier - timedelta(days=1)
        points.append(Point("loss", float(loss), int(step), int(moment.timestamp() * 1000)))
    return points[::-1][first:last]


def points_of_history(history: list[dict[str, float]], network: Network) -> list[Point]:
    """The points of the rows of a training history. Their times are those of the log, as far as it has them."""
    milliseconds = {point.step: point.milliseconds for point in losses_of_log(network.log, network.has_jtt)}
    first = min(milliseconds.values(), default=_milliseconds(network.history))
    return [
        Point(metric, row[metric], int(row["step"]), milliseconds.get(int(row["step"]), first))
        for row in history
        for metric in ("loss", "learning_rate", "epoch")
    ]


def results_of_network(network: Network) -> list[Point]:
    """The metrics of a network on the test images, without those of single classes and groups.

    There are none if they are older than the network: then it was trained again, and is not evaluated yet. A final
    network has none in the manifest `metrics`.
    """
    if network.is_final:
        return []
    metrics = network.folder.parents[2] / "metrics.parquet"
    predictions = network.folder / "predictions.parquet"
    if not (metrics.is_file() and predictions.is_file() and _milliseconds(metrics) >= _milliseconds(predictions)):
        return []
    rows = read_manifest("metrics", metrics)
    mine = rows[(rows["recipe"] == network.recipe) & (rows["stage"] == network.stage) & (rows["seed"] == network.seed)]
    return [
        Point(_name_of(row), float(row.value), 0, _milliseconds(metrics))
        for row in mine.itertuples()
        if ":" not in row.subset
    ]


def _name_of(row: Any) -> str:
    """The name in MLflow of a row of the manifest `metrics` or `summary`."""
    # With groups, the metrics over all images have other weightings too.
    weighting = f"_{row.weighting}" if row.subset == "all" and row.weighting != "images" else ""
    return f"{row.metric}/{row.subset}{weighting}"


def _milliseconds(file: Path) -> int:
    """When `file` was changed."""
    return int(file.stat().st_mtime * 1000)


def _file_hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@dataclass
class Tracker:
    """Logs one experiment of the workflow to the experiment of this name in MLflow, one run per network."""

    config: Config
    mlflow: MLflow
    config_changed: float  # when the file of the config was changed last, seconds since the epoch
    experiment_id: str = ""
    not_logged: list[str] = field(default_factory=list)  # trained final networks that the report does not show (yet)
    unlabelled: list[str] = field(default_factory=list)  # networks whose settings are not known, and are left out
    runs: dict[str, list[LoggedRun]] | None = None  # by the name of the network, newest first; None: to be asked for

    def forget(self) -> None:
        """Ask MLflow again what it has. After a failed call it is not known whether that arrived."""
        self.runs = None

    def log_new(self, training: Collection[Path] | None, began: float) -> Iterator[str]:
        """Log what MLflow does not have yet. Yields a line for each network that has begun or is finished.

        training: the logs of the jobs that are running; None: no run is going. began: when the newest run began,
        seconds since the epoch by the clock of the files. Raises UserError if MLflow does not take it.
        """
        if self.runs is None:
            self.runs = self._runs_in_mlflow()
        self.not_logged, self.unlabelled = [], []
        shown = self._settings_on_report()
        for network in networks_of(self.config):
            network = self._as_trained(network, shown, began)
            run = None
            if network.history.is_file():
                run = yield from self._log_finished(network)
                if run is None and training is not None:  # the report may still come
                    continue
            elif network.log in (training or ()):
                if not network.has_settings:  # they say how to read its log: JTT trains another network first
                    self.unlabelled.append(network.name)
                    continue
                run = yield from self._log_training(network)
            for other in self.runs[network.name]:
                if other is not run and other.status == "RUNNING":  # interrupted, or with other settings
                    failed = error_line([network.log])
                    self._end(other, "FAILED" if failed else "KILLED", int(time.time() * 1000))
        yield from self._log_summary()

    def _settings_on_report(self) -> tuple[float, dict[str, dict[str, str]]]:
        """When the report was written, and network -> settings by its config; 0 and none without one."""
        page = Path("results", self.config.experiment, "report.html")
        if not page.is_file():
            return 0.0, {}
        from synaug.report.page import config_on_page  # imports matplotlib

        try:
            config = Config.model_validate(config_on_page(page) or {})
        except ValidationError:  # it shows none, or one of another version
            return 0.0, {}
        return page.stat().st_mtime, {network.name: network.settings for network in networks_of(config)}

    def _as_trained(self, network: Network, shown: tuple[float, dict[str, dict[str, str]]], began: float) -> Network:
        """`network` with the settings with which it was, or is being, trained; without those that are not known.

        The report is written last: its config is that of the networks that are older. Other networks have the settings
        of the present config, unless that was changed after the run began. shown: see `_settings_on_report`. began:
        see `log_new`.
        """
        trained = network.history.stat().st_mtime if network.history.is_file() else float("inf")
        written, settings = shown
        if trained <= written and network.name in settings:
            return replace(network, settings=settings[network.name])
        if self.config_changed <= min(began, trained):
            return network
        return replace(network, settings={key: network.settings[key] for key in ("recipe", "stage", "seed", "final")})

    def _runs_in_mlflow(self) -> dict[str, list[LoggedRun]]:
        name = self.config.experiment
        experiment = self.mlflow.get_experiment_by_name(name)
        self.experiment_id = experiment.experiment_id if experiment else self.mlflow.create_experiment(name)
        found, token = defaultdict(list), None
        while True:
            page = self.mlflow.search_runs(
                [self.experiment_id], order_by=["attributes.start_time DESC"], page_token=token
            )
            for run in page:
                tags, data = run.data.tags, run.data
                logged = LoggedRun(run.info.run_id, run.info.status, tags, list(data.metrics), frozenset(data.params))
                found[tags.get(NETWORK, "")].append(logged)
            token = page.token
            if not token:
                return found

    def _run(self, network: Network, logged: str, started: int) -> LoggedRun:
        """The run of `network` whose history has the hash `logged`, or one that goes on, or a new one.

        A network that is trained again, with other settings or images, gets a new run.
        """
        candidates = self.runs[network.name]
        same = [run for run in candidates if logged and run.tags.get(LOGGED) == logged]
        with_settings = [run for run in candidates if run.tags.get(SETTINGS) == network.settings_hash]
        incomplete = [run for run in with_settings if not run.tags.get(LOGGED)]
        tags = {SETTINGS: network.settings_hash}
        run = next(iter(same + incomplete), None) or self._new_run(network.name, tags, started)
        if "data" not in run.parameters:  # its settings are not logged yet
            new = {key: value for key, value in network.settings.items() if key not in run.parameters}
            if new:
                self.mlflow.log_batch(run.id, params=[self.mlflow.entities.Param(*item) for item in new.items()])
                run.parameters |= new.keys()
            if not network.has_settings:
                self.unlabelled.append(network.name)
        return run

    def _new_run(self, name: str, tags: dict[str, str], started: int) -> LoggedRun:
        tags = {NETWORK: name, **tags}
        created = self.mlflow.create_run(self.experiment_id, start_time=started, tags=tags, run_name=name)
        run = LoggedRun(created.info.run_id, "RUNNING", tags, points=set())
        self.runs[name].insert(0, run)
        return run

    def _log_training(self, network: Network) -> Generator[str, None, LoggedRun | None]:
        """Returns the run of a network that is being trained, once there is something to log."""
        points = losses_of_log(network.log, network.has_jtt)
        if not points:
            return None
        known = len(self.runs[network.name])
        run = self._run(network, "", points[0].milliseconds)
        if run.status != "RUNNING":  # it was interrupted
            self.mlflow.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"
        self._log_points(run, points)
        if len(self.runs[network.name]) > known:
            yield f"{network.name}: training"
        return run

    def _log_finished(self, network: Network) -> Generator[str, None, LoggedRun | None]:
        """Returns the run of a trained network; None: it is not logged, see `not_logged`."""
        history = read_manifest("history", network.history).to_dict("records")
        logged = text_hash(history)
        ended, is_new = _milliseconds(network.history), not self._has_logged(network.name, logged)
        if is_new and network.is_final and not network.is_of_the_choice:
            self.not_logged.append(network.name)
            return None
        points = points_of_history(history, network) if is_new else []
        run = self._run(network, logged, min((point.milliseconds for point in points), default=ended))
        if is_new:
            self._log_points(run, points)
            self._end(run, "FINISHED", ended, logged)
            yield f"{network.name}: trained"
        results = results_of_network(network)
        results_hash = text_hash([[point.metric, point.value] for point in results])
        if results and run.tags.get(METRICS) != results_hash:
            self._send(run, results)
            self._tag(run, METRICS, results_hash)
            yield f"{network.name}: evaluated"
        return run

    def _has_logged(self, name: str, logged: str) -> bool:
        return any(run.tags.get(LOGGED) == logged for run in self.runs[name])

    def _log_summary(self) -> Iterator[str]:
        """The means over seeds, and the report, once both are there."""
        results = Path("results", self.config.experiment)
        summary, report = results / "summary.parquet", results / "report.html"
        if not (summary.is_file() and report.is_file() and _milliseconds(report) >= _milliseconds(summary)):
            return
        logged, now = _file_hash(summary), _milliseconds(summary)
        if self._has_logged(SUMMARY, logged):
            return
        incomplete = [run for run in self.runs[SUMMARY] if not run.tags.get(LOGGED)]
        run = next(iter(incomplete), None) or self._new_run(SUMMARY, {}, now)
        rows = read_manifest("summary", summary)
        points = [
            Point(f"{_name_of(row)}/{row.stage}/{row.recipe}", float(row.mean), 0, now)
            for row in rows.itertuples()
            if ":" not in row.subset
        ]
        self._send(run, points)
        for file in (summary, results / "metrics.parquet", report):
            self.mlflow.log_artifact(run.id, str(file))
        self._end(run, "FINISHED", now, logged)
        yield f"{SUMMARY}: {report}"

    def _log_points(self, run: LoggedRun, points: list[Point]) -> None:
        """Log those of `points` whose step the metric in MLflow does not have."""
        if run.points is None:
            run.points = {
                (metric, point.step)
                for metric in {point.metric for point in points}.intersection(run.metrics)
                for point in self.mlflow.get_metric_history(run.id, metric)
            }
        new = [point for point in points if (point.metric, point.step) not in run.points]
        self._send(run, new)
        run.points.update((point.metric, point.step) for point in new)

    def _send(self, run: LoggedRun, points: list[Point]) -> None:
        metric_of = self.mlflow.entities.Metric
        for start in range(0, len(points), _BATCH):
            batch = points[start : start + _BATCH]
            metrics = [metric_of(point.metric, point.value, point.milliseconds, point.step) for point in batch]
            self.mlflow.log_batch(run.id, metrics=metrics)

    def _end(self, run: LoggedRun, status: str, milliseconds: int, logged: str = "") -> None:
        """logged: hash of what the run has as a whole; empty: it is interrupted, and may go on."""
        self.mlflow.set_terminated(run.id, status, milliseconds)
        run.status = status
        if logged:  # last: without it, all of this is done again
            self._tag(run, LOGGED, logged)

    def _tag(self, run: LoggedRun, name: str, value: str) -> None:
        self.mlflow.set_tag(run.id, name, value)
        run.tags[name] = value


def log_until_end(trackers: list[Tracker], follow: bool) -> bool:
    """Log what is there; with `follow`, until the run ends that is going in this folder.

    Returns whether there was anything new. Raises UserError if MLflow does not take it; in the middle of a run that is
    a warning instead, once.
    """
    events = _newest_run_of([tracker.config for tracker in trackers])
    logged, failing, first = False, False, True
    while True:
        going = events is not None and _is_going(events)
        again = going and follow
        training = _logs_of_running_jobs(events) if going else None
        began = events.run.started + events.run.file_server_ahead_s if events else float("inf")
        try:
            for tracker in trackers:
                for line in tracker.log_new(training, began):
                    print(f"{tracker.config.experiment}: {line}", flush=True)
                    logged = True
            failing = False
        except UserError as error:
            if first or not again:
                raise
            if not failing:
                print(f"{WARNING_PREFIX}{error.problem}; trying again until the run ends", file=sys.stderr, flush=True)
            failing = True
            for tracker in trackers:
                tracker.forget()
        if not again:
            for tracker in trackers:
                if names := ", ".join(tracker.not_logged):
                    problem = "not logged: report.html does not show them as networks of the recipe that is chosen now"
                    named = f"{tracker.config.experiment}: {names}"
                    print(f"{WARNING_PREFIX}{named}: {problem}; run the workflow to its end first", file=sys.stderr)
                if names := tracker.unlabelled:
                    named = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
                    named = f"{tracker.config.experiment}: {named}"
                    problem = "settings not known: the config has changed since, and report.html does not show them"
                    print(f"{WARNING_PREFIX}{named}: {problem}; run the workflow to its end", file=sys.stderr)
            if follow and first:
                print("no run is going in this folder: logged what is there")
            return logged
        first = False
        time.sleep(POLL_S)


def _newest_run_of(configs: list[Config]) -> Events | None:
    """The newest run of one of the experiments; None if there is no record of any."""
    found = []
    for config in configs:
        try:
            found.append(newest_run(Path("results", config.experiment)))
        except UserError:
            continue
    return max(found, key=lambda events: events.file.name, default=None)


def _is_going(events: Events) -> bool:
    """Read what is new in `events`, and say whether that run is still going."""
    for _ in events.read():
        pass
    return events.is_going(lambda line: print(line, file=sys.stderr, flush=True))


def _logs_of_running_jobs(events: Events) -> set[Path]:
    return {Path(log) for job in events.run.running() if events.run.has_begun(job) for log in job.logs}


def track(
    config: Annotated[
        Path | None, typer.Argument(help="The config of the experiment.", show_default="config.yaml")
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(help="Of MLflow: http://... or sqlite:///...  [default: MLFLOW_TRACKING_URI, or ./mlflow.db]"),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the run ends that is going in this folder.")
    ] = False,
) -> None:
    """Show training curves and results in MLflow.

    Every network gets a run in the MLflow experiment with the name of the experiment: its settings, its loss while it
    trains, and its learning rate, epochs and test metrics afterwards. The run `summary` has the means over seeds and
    report.html. What MLflow has already is not logged twice. A network that was trained again gets a new run.

    Start it in the folder of the workflow, in a second terminal. If MLflow stops answering, --follow warns once and
    goes on when it is back. The workflow never waits for it. It needs an extra: pip install 'synaug[mlflow]'.

    \b
    Example:
      synaug track mine.yaml --uri http://localhost:5000 --follow
    """
    file = config or Path("config.yaml")
    configs = configs_of_file(file)
    changed, mlflow = file.stat().st_mtime, MLflow(uri)
    try:
        logged = log_until_end([Tracker(experiment, mlflow, changed) for experiment in configs], follow)
    except KeyboardInterrupt:  # the run goes on, and the next call logs the rest
        return
    names = ", ".join(each.experiment for each in configs)
    print(f"{'logged' if logged else 'nothing new'}: {names}, at {mlflow.uri}")

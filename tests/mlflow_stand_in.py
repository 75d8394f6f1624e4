"""What `synaug track` uses of MLflow, in memory, for an environment without it.

The tests of the command take the real one, with a local store, where it is installed (`make test-mlflow`).
"""

import itertools
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

PAGE = 3  # runs in an answer


class Page(list):
    """Some of the runs that were found; token: for the rest."""

    token = None


class Store:
    """Experiments and runs of one URI."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, SimpleNamespace] = {}
        self.points: dict[str, list] = {}
        self.artifacts: dict[str, list[str]] = {}


class MlflowClient:
    """Like the class of this name. Like MLflow's database, it keeps only one of several equal values."""

    stores: dict[str, Store] = {}  # noqa: RUF012
    numbers = itertools.count()

    def __init__(self, tracking_uri: str) -> None:
        self.store = self.stores.setdefault(tracking_uri, Store())

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id=self.store.experiments[name]) if name in self.store.experiments else None

    def create_experiment(self, name: str) -> str:
        self.store.experiments[name] = f"experiment {next(self.numbers)}"
        return self.store.experiments[name]

    def search_runs(self, experiment_ids, order_by=None, page_token=None) -> Page:
        runs = [run for run in self.store.runs.values() if run.info.experiment_id in experiment_ids]
        runs.sort(key=lambda run: -run.info.start_time)
        first = int(page_token or 0)
        page = Page(runs[first : first + PAGE])
        page.token = str(first + PAGE) if first + PAGE < len(runs) else None
        return page

    def create_run(self, experiment_id, start_time, tags, run_name) -> SimpleNamespace:
        name = f"run {next(self.numbers)}"
        info = SimpleNamespace(
            run_id=name, experiment_id=experiment_id, run_name=run_name, status="RUNNING", start_time=start_time
        )
        data = SimpleNamespace(tags=dict(tags), params={}, metrics={})
        self.store.runs[name] = SimpleNamespace(info=info, data=data)
        self.store.points[name], self.store.artifacts[name] = [], []
        return self.store.runs[name]

    def log_batch(self, run_id, metrics=(), params=()) -> None:
        data = self.store.runs[run_id].data
        assert len(metrics) <= 1000 and all(data.params.get(one.key, one.value) == one.value for one in params)
        data.params.update((one.key, one.value) for one in params)
        data.metrics.update((one.key, one.value) for one in metrics)
        self.store.points[run_id] += [one for one in metrics if one not in self.store.points[run_id]]

    def set_tag(self, run_id, key, value) -> None:
        self.store.runs[run_id].data.tags[key] = value

    def set_terminated(self, run_id, status, end_time) -> None:
        self.store.runs[run_id].info.status = status

    def update_run(self, run_id, status) -> None:
        self.store.runs[run_id].info.status = status

    def get_metric_history(self, run_id, key) -> list:
        return [point for point in self.store.points[run_id] if point.key == key]

    def log_artifact(self, run_id, local_path) -> None:
        self.store.artifacts[run_id].append(Path(local_path).name)

    def list_artifacts(self, run_id) -> list:
        return [SimpleNamespace(path=name) for name in self.store.artifacts[run_id]]


def install(monkeypatch) -> ModuleType:
    """Put it where `import mlflow` finds it, without any run."""
    monkeypatch.setattr(MlflowClient, "stores", {})
    module, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    module.MlflowClient, module.get_tracking_uri = MlflowClient, lambda: "sqlite:///mlflow.db"
    entities.Metric = lambda key, value, timestamp, step: SimpleNamespace(
        key=key, value=value, timestamp=timestamp, step=step
    )
    entities.Param = lambda key, value: SimpleNamespace(key=key, value=value)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return module

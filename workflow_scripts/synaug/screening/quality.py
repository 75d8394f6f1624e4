"""Quality of the synthetic images that were kept: counts and metrics per class and for all classes, in long form.

They describe the images. Nothing is chosen or trained by them.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from synaug.config import Balance
from synaug.manifests import with_fill, with_group
from synaug.plan.targets import wanted_of_fills
from synaug.screening.features import Features
from synaug.screening.filters import FILTERS, Parts, read_as_its_class
from synaug.screening.metrics import METRICS

# Images of each set that are compared. More would take hours and change the third digit.
MAX_IMAGES = 10_000
# How often the images to compare are drawn.
DRAWS = 10
_CELL = ["label_name", "group"]
_GENERATED_COLUMNS = ["fill", "label_name", "accepted", "rejected_by", "classifier_prediction", "classifier_confidence"]


def measure_quality(
    synthetic: Parts,
    balanced: Parts,
    imbalance: pd.DataFrame,
    balance: Balance,
    features: Features | None = None,
    gate: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Rows of the manifest `quality`: counts, `agreement`, and, with `features`, the metrics of `METRICS`.

    synthetic, balanced: rows of the manifests of these names, in their order. They are only counted, and not held in
    memory together; with `features`, the ids and cells of `balanced` are. imbalance, gate: the manifests of these
    names. A label_name of "" stands for all classes together. agreement: share of the generated images that
    `read_as_its_class`, if there is a screening classifier.
    """
    cells = with_group(imbalance[imbalance["kind"] == "cell"]).sort_values("label")
    generated = pd.concat([_generated(rows) for rows in synthetic(_GENERATED_COLUMNS)])
    generated = generated.groupby(["fill", "label_name"]).sum()
    # A fill of which the gate leaves nothing has no image here.
    fills = sorted({*generated.index.unique("fill"), *([] if gate is None else gate["fill"])}) or [""]
    wanted = wanted_of_fills(cells, fills, balance, gate).groupby(["fill", "label_name"], sort=False).sum()
    used, compared = [], []
    for rows in balanced([*_CELL, "source", "image_id", "fill"]):
        rows = with_fill(with_group(rows))
        used.append(rows.groupby(["source", "fill", "label_name"]).size())
        if features is not None:
            compared.append(rows)
    images = pd.concat(compared, ignore_index=True) if compared else None
    trained_on = pd.concat(used).groupby(["source", "fill", "label_name"]).sum().reset_index(name="images")
    rows = []
    for fill in fills:
        of_fill = generated[generated.index.get_level_values("fill") == fill].droplevel("fill")
        rows += [row | {"fill": fill} for row in _counts(of_fill, _in_fill(trained_on, fill), wanted[fill])]
        if images is not None and features is not None:
            metrics = _compare(_in_fill(images, fill), list(wanted[fill].index), features)
            rows += [row | {"fill": fill} for row in metrics]
    return pd.DataFrame(rows)


def _generated(synthetic: pd.DataFrame) -> pd.DataFrame:
    """Numbers of generated images, index fill and label_name. synthetic: rows of the manifest of this name.

    planned, accepted, rejected_<filter>; agreeing: read as their class; classified: with a predicted class.
    """
    synthetic = with_fill(synthetic)
    counted = {
        "planned": True,
        "accepted": synthetic["accepted"],
        **{f"rejected_{name}": synthetic["rejected_by"] == name for name in FILTERS},
        "agreeing": read_as_its_class(synthetic),
        "classified": synthetic["classifier_prediction"].notna(),
    }
    rows = pd.DataFrame(counted, synthetic.index).astype(int)
    return rows.groupby([synthetic["fill"], synthetic["label_name"]]).sum()


def _in_fill(balanced: pd.DataFrame, fill: str) -> pd.DataFrame:
    """The rows of `balanced` with real images, and those of `fill`."""
    return balanced[(balanced["source"] == "real") | (balanced["fill"] == fill)]


def _counts(generated: pd.DataFrame, trained_on: pd.DataFrame, wanted: pd.Series) -> Iterator[dict]:
    """Rows of the manifest `quality` with the counts of a fill, for all classes ("") and for each class.

    generated: of `_generated`, index label_name. trained_on: source, label_name and images, a number. wanted: class
    name -> images, in the order of the classes.
    """
    classified = generated["classified"].any()
    used = trained_on.groupby(["source", "label_name"])["images"].sum()
    for name in ["", *wanted.index]:
        of_class = generated.sum() if name == "" else generated.reindex([name], fill_value=0).iloc[0]
        real, kept = (
            used.get((source, name), 0) if name else used[used.index.get_level_values("source") == source].sum()
            for source in ("real", "synthetic")
        )
        planned = of_class["planned"]
        values = {
            "wanted": wanted[name] if name else wanted.sum(),
            "planned": planned,
            "accepted": of_class["accepted"],
            "kept": kept,
            **{f"rejected_{filter_name}": of_class[f"rejected_{filter_name}"] for filter_name in FILTERS},
        }
        values["shortfall"] = values["wanted"] - kept
        if classified:
            values["agreement"] = of_class["agreeing"] / planned if planned else np.nan
        common = {"label_name": name, "images_real": real, "images_synthetic": kept}
        yield from (common | {"metric": metric, "value": float(value)} for metric, value in values.items())


def _compare(balanced: pd.DataFrame, names: list[str], features: Features) -> Iterator[dict]:
    """Rows of the manifest `quality` with the metrics of `METRICS`, for all classes ("") and for each of `names`.

    Both sets have equally many images of every cell: otherwise the metrics would measure that real and synthetic images
    are of different classes. Images are drawn DRAWS times, without replacement within a draw.
    """
    keys = pd.MultiIndex.from_frame(balanced[["source", "image_id"]])
    images = balanced.assign(position=features.positions.reindex(keys, fill_value=-1).to_numpy())
    images = images.loc[images["position"] >= 0, [*_CELL, "source", "image_id", "position"]].reset_index(drop=True)
    available = images.groupby([*_CELL, "source"], observed=True).size().unstack(fill_value=0)
    available = available.reindex(columns=["real", "synthetic"], fill_value=0)
    drawn = {name: _numbers_to_draw(available, name) for name in ["", *names]}
    # Once where both sides are drawn completely: every draw would have the same images.
    draws = {
        name: 1 if available.loc[numbers.index].eq(numbers, axis=0).all(axis=None) else DRAWS
        for name, numbers in drawn.items()
    }
    values, no_rows = {(name, metric): [] for name in drawn for metric in METRICS}, np.empty(0, int)
    for draw in range(DRAWS):
        ordered = _ordered_at_random(images, draw)
        rows_of_cell = ordered.groupby([*_CELL, "source"], observed=True).indices
        positions = ordered["position"].to_numpy()
        for name, numbers in drawn.items():
            if draw >= draws[name]:
                continue
            chosen = {
                source: [positions[rows_of_cell[*cell, source][:count]] for cell, count in numbers.items()]
                for source in ("real", "synthetic")
            }
            real, synthetic = (features.matrix[np.concatenate([no_rows, *rows])] for rows in chosen.values())
            for metric, compute in METRICS.items():
                values[name, metric].append(compute(real, synthetic))
    for (name, metric), results in values.items():
        count = int(drawn[name].sum())
        row = {"label_name": name, "metric": metric, "images_real": count, "images_synthetic": count}
        row |= {"features": features.extractor, "value": None, "low": None, "high": None}
        if None not in results:
            row["value"] = np.mean(results)
            if len(results) > 1:
                row["low"], row["high"] = np.quantile(results, [0.025, 0.975])
        yield row


def _numbers_to_draw(available: pd.DataFrame, name: str) -> pd.Series:
    """Images to draw from each side of each cell: index label_name and group, without cells that lack one side.

    available: index label_name and group, columns real and synthetic. name: a class, or "" for all. In all at most
    MAX_IMAGES, in the proportions of the cells.
    """
    if name:
        available = available[available.index.get_level_values("label_name") == name]
    numbers = available.min(axis=1)
    if numbers.sum() > MAX_IMAGES:
        numbers[:] = np.diff(numbers.cumsum() * MAX_IMAGES // numbers.sum(), prepend=0)
    return numbers[numbers > 0]


def _ordered_at_random(images: pd.DataFrame, draw: int) -> pd.DataFrame:
    """`images` in an order that depends on their ids and the number of the draw only, not on the order of the rows."""
    hashes = pd.util.hash_pandas_object(images["image_id"].astype(object), index=False, hash_key=f"{draw:016}")
    return images.assign(order=hashes).sort_values(["order", "image_id"], ignore_index=True)

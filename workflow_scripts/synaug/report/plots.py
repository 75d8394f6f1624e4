"""Figures. Each function returns a matplotlib figure; `svg` and `png` turn one into text or bytes for the page."""

import io

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

# Text stays text (it can be searched and scales), and the same figure gives the same bytes.
matplotlib.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "synaug", "font.family": "sans-serif", "axes.spines.top": False}
    | {"axes.spines.right": False, "figure.constrained_layout.use": True, "font.size": 9}
)
# Colours of Okabe and Ito (2008), which colour-blind people can tell apart.
REAL, SYNTHETIC = "#0072B2", "#E69F00"
SERIES = ("#999999", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#F0E442")


def fill_figure(cells: pd.DataFrame) -> Figure:
    """Stacked bars of images per class, real and synthetic. cells: label_name, real, synthetic; in plotting order."""
    figure = Figure(figsize=(7, 2.6))
    axes = figure.subplots()
    at = np.arange(len(cells))
    axes.bar(at, cells["real"], color=REAL, label="real")
    axes.bar(at, cells["synthetic"], bottom=cells["real"], color=SYNTHETIC, label="synthetic")
    if len(cells) <= 20:
        for x, count in zip(at, cells["real"], strict=True):
            axes.annotate(f"{count}", (x, count), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    _name_classes(axes, cells["label_name"])
    axes.set_ylabel("training images")
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def class_figure(scores: pd.DataFrame, order: list[str]) -> Figure:
    """Accuracy per class with 95 % intervals; of more series than colours a heat map of the means.

    scores: series, label_name, mean, low, high (0 to 1).
    """
    series = list(dict.fromkeys(scores["series"]))
    if len(series) > len(SERIES):
        return _heat_map(scores.pivot(index="series", columns="label_name", values="mean").loc[series, order])
    figure = Figure(figsize=(7, 2.8))
    axes = figure.subplots()
    width = 0.8 / len(series)
    for i, name in enumerate(series):
        one = scores[scores["series"] == name].set_index("label_name").reindex(order)
        at = np.arange(len(order)) + (i - (len(series) - 1) / 2) * width
        spread = np.stack([one["mean"] - one["low"], one["high"] - one["mean"]]).astype(float)
        mean = 100 * one["mean"].to_numpy(float)
        axes.bar(at, mean, width, label=name, color=SERIES[i % len(SERIES)])
        axes.errorbar(at, mean, 100 * np.nan_to_num(spread), fmt="none", ecolor="#333333", elinewidth=0.8)
    _name_classes(axes, order)
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False, ncols=len(series), loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def cell_figure(imbalance: pd.DataFrame, balanced: pd.DataFrame) -> Figure:
    """Training images per class and group, before and after the fill. imbalance, balanced: manifests of these names."""
    cells = imbalance[imbalance["kind"] == "cell"]
    before = cells.pivot(index="label_name", columns="group", values="count")
    after = balanced.groupby(["label_name", "group"]).size().unstack(fill_value=0)
    after = after.reindex(index=before.index, columns=before.columns, fill_value=0)
    figure = Figure(figsize=(7, 1.2 + 0.24 * len(before)))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, table, title in zip(panels, (before, after), ("real", "real and synthetic"), strict=True):
        values = table.to_numpy(int)
        image = axes.imshow(values, cmap="cividis", vmin=0, vmax=max(after.to_numpy().max(), 1), aspect="auto")
        if values.size <= 400:
            for y, x in np.ndindex(*values.shape):
                color = "white" if values[y, x] < image.norm.vmax / 2 else "black"
                axes.annotate(f"{values[y, x]}", (x, y), ha="center", va="center", fontsize=7, color=color)
        axes.set_yticks(np.arange(len(table)), table.index)
        axes.set_xticks(np.arange(len(table.columns)), table.columns, rotation=30, ha="right")
        axes.set_title(title, fontsize=9)
    return figure


def history_figure(histories: dict[str, list[pd.DataFrame]]) -> Figure:
    """Training loss against steps, one panel per kind of network and one line per seed."""
    columns = min(4, len(histories))
    rows = -(-len(histories) // columns)
    figure = Figure(figsize=(7, 2.2 if rows == 1 else 1.6 * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(histories) :]:
        axes.set_axis_off()
    for i, (axes, (name, runs)) in enumerate(zip(panels, histories.items(), strict=False)):
        for run in runs:
            axes.plot(run["step"], run["loss"], color=SERIES[i % len(SERIES)], linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("steps")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("loss, nats")
    return figure


def overview_figure(cells: pd.DataFrame, samples: list[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
    """The README's picture: the fill on the left; real and synthetic images side by side on the right.

    samples: (class name, real images, synthetic images), uint8, N x H x W x channels.
    """
    figure = Figure(figsize=(9, 3.4), dpi=150)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.5))
    axes = left.subplots()
    at = np.arange(len(cells))[::-1]
    axes.barh(at, cells["real"], color=REAL, label="real")
    axes.barh(at, cells["synthetic"], left=cells["real"], color=SYNTHETIC, label="synthetic")
    axes.set_yticks(at, cells["label_name"])
    axes.set_xlabel("training images")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    panels = right.subplots(len(samples), 2, squeeze=False)
    for row, (_, real, synthetic) in zip(panels, samples, strict=True):
        for axes, images in zip(row, (real, synthetic), strict=True):
            axes.imshow(_strip(images, 8), cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest")
            axes.set_axis_off()
    panels[0][0].set_title("real", color=REAL, fontsize=9)
    panels[0][1].set_title("synthetic", color=SYNTHETIC, fontsize=9)
    return figure


def svg(figure: Figure) -> str:
    """The figure as an <svg> element, without the XML prologue, so that it can stand in a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _heat_map(means: pd.DataFrame) -> Figure:
    """Accuracies, 0 to 1: a row per series, a column per class."""
    figure = Figure(figsize=(7, 0.8 + 0.22 * len(means)))
    axes = figure.subplots()
    values = 100 * means.to_numpy(float)
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    if values.shape[1] <= 20:
        for y, x in np.ndindex(*values.shape):
            color = "white" if values[y, x] < 50 else "black"
            axes.annotate(f"{values[y, x]:.0f}", (x, y), ha="center", va="center", fontsize=7, color=color)
    axes.set_yticks(np.arange(len(means)), means.index)
    _name_classes(axes, means.columns)
    figure.colorbar(image, label="accuracy, %")
    return figure


def _strip(images: np.ndarray, count: int) -> np.ndarray:
    """`count` images beside each other; white where there are fewer."""
    height, width, channels = images.shape[1:] if len(images) else (28, 28, 1)
    strip = np.full((height, count * width, channels), 255, np.uint8)
    for i, image in enumerate(images[:count]):
        strip[:, i * width : (i + 1) * width] = image
    return strip[..., 0] if channels == 1 else strip


def _name_classes(axes, names) -> None:
    if len(names) <= 40:
        axes.set_xticks(np.arange(len(names)), names, rotation=30, ha="right")
    else:
        axes.set_xlabel("classes, largest first")

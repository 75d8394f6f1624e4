"""Figures of the results. Each function returns a matplotlib figure."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from synaug.evaluation.classification import SHOTS
from synaug.report.confusion import PredictionCounts, binned_confusion, reliability_table
from synaug.report.plots import (
    BLACK,
    DARK,
    MOST_BARS,
    MOST_NUMBERED,
    REAL,
    SERIES,
    SYNTHETIC,
    draw_cells,
    label_classes,
)

MOST_NAMED = 40  # most classes that are named
MOST_UNBINNED = 60  # of more classes, a confusion matrix shows bins
BINS = 20  # of a confusion matrix
MOST_IN_A_ROW = 16  # most classes of which confusion matrices stand side by side
BEFORE, AFTER = "#999999", "#D55E00"


def accuracy_figure(accuracies: pd.DataFrame, order: list[str]) -> Figure:
    """Accuracy per class or group with 95 % intervals; with too many bars or series, a heat map of the means.

    accuracies: series, label_name, mean, low, high (0 to 1). order: names, in plotting order.
    """
    series = list(dict.fromkeys(accuracies["series"]))
    if len(series) > len(SERIES) or len(order) * len(series) > MOST_BARS:
        means = accuracies.pivot(index="series", columns="label_name", values="mean")
        return _heat_map(means.reindex(index=series, columns=order))
    figure = Figure(figsize=(7, 2.8))
    axes = figure.subplots()
    width = 0.8 / len(series)
    for i, name in enumerate(series):
        rows = accuracies[accuracies["series"] == name].set_index("label_name").reindex(order)
        x = np.arange(len(order)) + (i - (len(series) - 1) / 2) * width
        distances = np.stack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]).astype(float)
        mean = 100 * rows["mean"].to_numpy(float)
        axes.bar(x, mean, width, label=name, color=SERIES[i % len(SERIES)])
        axes.errorbar(x, mean, 100 * np.nan_to_num(distances), fmt="none", ecolor=DARK, elinewidth=0.8)
    label_classes(axes, order)
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False, ncols=len(series), loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def history_figure(histories: dict[str, list[pd.DataFrame]]) -> Figure:
    """Training loss against steps, one panel per series and one line per seed."""
    columns = min(4, len(histories))
    rows = -(-len(histories) // columns)
    figure = Figure(figsize=(7, 2.2 if rows == 1 else 1.6 * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(histories) :]:
        axes.set_axis_off()
    for i, (axes, (name, seeds)) in enumerate(zip(panels, histories.items(), strict=False)):
        for history in seeds:
            history = history.iloc[:: len(history) // 500 + 1]
            axes.plot(history["step"], history["loss"], color=SERIES[i % len(SERIES)], linewidth=1)
        axes.set_title(name.replace(" + ", "\n+ "), fontsize=8)
        axes.set_xlabel("steps")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("loss, nats")
    return figure


def gain_figure(classes: pd.DataFrame, names: list[str]) -> Figure:
    """Accuracy before and after per class, the largest first; for many classes the gain against their real images.

    classes: class table with accuracies (0 to 1) of `names`, one or two series.
    """
    if len(classes) > MOST_NAMED:
        return _size_scatter(classes, names)
    figure = Figure(figsize=(7, 1.0 + 0.24 * len(classes)))
    axes = figure.subplots()
    y = np.arange(len(classes))[::-1]
    before, after = 100 * classes["before"], 100 * classes["after"]
    if len(names) == 2:
        color = np.where(after >= before, AFTER, REAL)
        axes.hlines(y, before, after, colors=color, linewidth=2.5, alpha=0.6)
        axes.plot(before, y, "o", color=BEFORE, markersize=6, label=names[0])
    axes.plot(after, y, "s", color=AFTER, markersize=6, label=names[-1])
    axes.set_yticks(y, [f"{row.label_name} ({row.real})" for row in classes.itertuples()])
    axes.set_ylim(-0.6, len(classes) - 0.4)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("accuracy, % (in parentheses: real training images)")
    axes.grid(axis="x", color="#888888", alpha=0.3, linewidth=0.6)
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def _size_scatter(classes: pd.DataFrame, names: list[str]) -> Figure:
    figure = Figure(figsize=(7, 3.4))
    axes = figure.subplots()
    values = 100 * (classes["after"] - classes["before"] if len(names) == 2 else classes["after"])
    if len(names) == 2:
        axes.axhline(0, color=BLACK, linewidth=0.8)
    sign = "+" if len(names) == 2 else ""
    for shot, color, marker in zip(SHOTS, (REAL, SYNTHETIC, AFTER), "os^", strict=True):
        in_shot = (classes["shot"] == shot).to_numpy()
        if in_shot.any():
            sizes = np.maximum(classes["real"][in_shot], 0.5)  # a logarithmic axis has no 0
            label = f"{shot}: {values[in_shot].mean():{sign}.1f} on average"
            axes.plot(sizes, values[in_shot], marker, color=color, markersize=3.5, alpha=0.8, mew=0, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("real training images of the class")
    axes.set_ylabel(f"{names[1]} minus {names[0]},\npoints" if len(names) == 2 else "accuracy, %")
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def confusion_figure(counts: dict[str, PredictionCounts], classes: pd.DataFrame) -> Figure:
    """A matrix per series: share of the test images of a class (row) by the predicted class (column).

    classes: class table, in plotting order. Many classes are put into bins of classes with similar size.
    """
    order = classes["label"].to_numpy()
    unbinned = len(order) <= MOST_UNBINNED
    # Names of more classes would overlap in panels that stand side by side.
    stacked = MOST_IN_A_ROW < len(order) <= MOST_NAMED
    if stacked:
        figure = Figure(figsize=(7, 1.1 + 0.13 * len(order) * len(counts)))
        panels = figure.subplots(len(counts), 1, sharex=True, squeeze=False)[:, 0]
    else:
        figure = Figure(figsize=(7, 1.1 + min(3.2, 0.9 + 0.22 * (len(order) if unbinned else BINS))))
        panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, (name, count) in zip(panels, counts.items(), strict=True):
        shares = count.shares[np.ix_(order, order)] if unbinned else binned_confusion(count.confusion, order, BINS)
        image = draw_cells(axes, 100 * shares, 100, "{:.0f}", numbered=shares.size <= 144, hide_below=0.5)
        axes.set_title(name, fontsize=9)
        if unbinned:
            labels = classes["label_name"] if len(order) <= MOST_NAMED else [""] * len(order)
            size = 7 if stacked else None
            axes.set_yticks(np.arange(len(order)), labels, fontsize=size)
            axes.set_xticks(np.arange(len(order)), labels, fontsize=size, rotation=90)
        else:
            axes.set_yticks([0, BINS - 1], ["largest\nclasses", "smallest\nclasses"])
            axes.set_xticks([0, BINS - 1], ["largest", "smallest"])
            for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
                label.set_horizontalalignment(side)  # centred labels of adjacent panels would touch
        if not stacked or axes is panels[-1]:
            axes.set_xlabel("predicted class")
        if stacked or axes is panels[0]:
            axes.set_ylabel("true class")
    figure.colorbar(image, ax=panels, label="% of the true class")
    return figure


def reliability_figure(counts: dict[str, PredictionCounts], errors: dict[str, float]) -> Figure:
    """Accuracy against confidence (reliability diagram, Guo et al. 2017), a panel per series; below, the images.

    errors: calibration error (0 to 1) of each series.
    """
    figure = Figure(figsize=(7, 3.6))
    panels = figure.subplots(2, len(counts), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for (diagram, histogram), (name, count) in zip(panels.T, counts.items(), strict=True):
        table = reliability_table(count)
        width = 0.92 * (table["high"] - table["low"]).to_numpy()
        diagram.bar(table["low"], 100 * table["accuracy"], width, align="edge", color=AFTER, label="accuracy")
        diagram.plot([0, 1], [0, 100], color=BLACK, linewidth=0.8, linestyle="--", label="perfect calibration")
        diagram.plot(table["confidence"], 100 * table["accuracy"], "o", color=DARK, markersize=3)
        diagram.set_title(f"{name}: calibration error {100 * errors[name]:.1f} %", fontsize=9)
        share = 100 * table["images"] / max(table["images"].sum(), 1)
        histogram.bar(table["low"], share, width, align="edge", color=BEFORE)
        histogram.set_xlabel("probability of the predicted class")
        histogram.set_xlim(0, 1)
    panels[0][0].set_ylabel("accuracy, %")
    panels[1][0].set_ylabel("% of images")
    panels[0][0].legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def _heat_map(means: pd.DataFrame) -> Figure:
    """Accuracies, 0 to 1: a row per series, a column per class."""
    figure = Figure(figsize=(7, 0.8 + 0.22 * len(means)))
    axes = figure.subplots()
    values = 100 * means.to_numpy(float)
    numbered = values.shape[1] <= 20 and values.size <= MOST_NUMBERED
    image = draw_cells(axes, values, 100, "{:.0f}", numbered)
    axes.set_yticks(np.arange(len(means)), means.index)
    label_classes(axes, means.columns)
    figure.colorbar(image, label="accuracy, %")
    return figure

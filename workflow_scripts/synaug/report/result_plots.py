"""Figures of the results. Each function returns a matplotlib figure."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from synaug.evaluation.classification import SHOTS
from synaug.report.confusion import Answers, binned, reliability_table
from synaug.report.plots import BARS, BLACK, NUMBERED, ON_DARK, ON_LIGHT, REAL, SERIES, SYNTHETIC, name_classes

NAMED = 40  # most classes that are named
BINNED = 60  # of more classes, a confusion matrix shows bins
BEFORE, AFTER = "#999999", "#D55E00"


def class_figure(scores: pd.DataFrame, order: list[str]) -> Figure:
    """Accuracy per class with 95 % intervals; of more series than colours a heat map of the means.

    scores: series, label_name, mean, low, high (0 to 1).
    """
    series = list(dict.fromkeys(scores["series"]))
    if len(series) > len(SERIES) or len(order) * len(series) > BARS:
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
    name_classes(axes, order)
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False, ncols=len(series), loc="lower right", bbox_to_anchor=(1, 1))
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
            run = run.iloc[:: len(run) // 500 + 1]
            axes.plot(run["step"], run["loss"], color=SERIES[i % len(SERIES)], linewidth=1)
        axes.set_title(name.replace(" + ", "\n+ "), fontsize=8)
        axes.set_xlabel("steps")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("loss, nats")
    return figure


def gain_figure(classes: pd.DataFrame, names: list[str]) -> Figure:
    """Accuracy before and after by class, the largest first; of many classes the gain against their real images.

    classes: class table with accuracies (0 to 1) of `names`, one or two series.
    """
    if len(classes) > NAMED:
        return _size_scatter(classes, names)
    figure = Figure(figsize=(7, 1.0 + 0.24 * len(classes)))
    axes = figure.subplots()
    at = np.arange(len(classes))[::-1]
    before, after = 100 * classes["before"], 100 * classes["after"]
    if len(names) == 2:
        color = np.where(after >= before, AFTER, REAL)
        axes.hlines(at, before, after, colors=color, linewidth=2.5, alpha=0.6)
        axes.plot(before, at, "o", color=BEFORE, markersize=6, label=names[0])
    axes.plot(after, at, "s", color=AFTER, markersize=6, label=names[-1])
    axes.set_yticks(at, [f"{row.label_name} ({row.real})" for row in classes.itertuples()])
    axes.set_xlim(-2, 102)
    axes.set_xlabel("accuracy, %; in brackets: real training images")
    axes.grid(axis="x", color="#888888", alpha=0.3, linewidth=0.6)
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def _size_scatter(classes: pd.DataFrame, names: list[str]) -> Figure:
    figure = Figure(figsize=(7, 3.4))
    axes = figure.subplots()
    values = 100 * (classes["after"] - classes["before"] if len(names) == 2 else classes["after"])
    if len(names) == 2:
        axes.axhline(0, color=BLACK, linewidth=0.8)
    for shot, color, marker in zip(SHOTS, (REAL, SYNTHETIC, AFTER), "os^", strict=True):
        here = (classes["shot"] == shot).to_numpy()
        if here.any():
            sizes = np.maximum(classes["real"][here], 0.5)  # a logarithmic axis has no 0
            label = f"{shot}: {values[here].mean():{'+' if len(names) == 2 else ''}.1f} on average"
            axes.plot(sizes, values[here], marker, color=color, markersize=3.5, alpha=0.8, mew=0, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("real training images of the class")
    axes.set_ylabel(f"{names[1]} minus {names[0]},\npoints" if len(names) == 2 else "accuracy, %")
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def confusion_figure(answers: dict[str, Answers], classes: pd.DataFrame) -> Figure:
    """A matrix per series: share of the test images of a class (row) by the class that is answered (column).

    classes: class table, in the order to show. Of many classes: bins of classes of similar size.
    """
    order = classes["label"].to_numpy()
    few = len(order) <= BINNED
    figure = Figure(figsize=(7, 1.1 + min(3.2, 0.9 + 0.22 * (len(order) if few else 20))))
    panels = figure.subplots(1, len(answers), sharey=True, squeeze=False)[0]
    for axes, (name, one) in zip(panels, answers.items(), strict=True):
        shares = 100 * (one.shares[np.ix_(order, order)] if few else binned(one.confusion, order, 20))
        image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100, aspect="auto")
        if shares.size <= 144:
            for y, x in np.ndindex(*shares.shape):
                if shares[y, x] >= 0.5:
                    color = ON_DARK if shares[y, x] < 50 else ON_LIGHT
                    axes.annotate(f"{shares[y, x]:.0f}", (x, y), ha="center", va="center", fontsize=6, color=color)
        axes.set_title(name, fontsize=9)
        if few:
            shown = classes["label_name"] if len(order) <= NAMED else [""] * len(order)
            axes.set_yticks(np.arange(len(order)), shown)
            axes.set_xticks(np.arange(len(order)), shown, rotation=90)
        else:
            axes.set_yticks([0, 19], ["largest\nclasses", "smallest\nclasses"])
            axes.set_xticks([0, 19], ["largest", "smallest"])
        axes.set_xlabel("answer")
    panels[0].set_ylabel("true class")
    figure.colorbar(image, ax=panels, label="% of the true class")
    return figure


def reliability_figure(answers: dict[str, Answers], errors: dict[str, float]) -> Figure:
    """Accuracy against confidence (reliability diagram, Guo et al. 2017), a panel per series; below, the images.

    errors: calibration error (0 to 1) of each series.
    """
    figure = Figure(figsize=(7, 3.6))
    panels = figure.subplots(2, len(answers), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for column, (name, one) in zip(panels.T, answers.items(), strict=True):
        table = reliability_table(one)
        width = (table["high"] - table["low"]).to_numpy()
        column[0].bar(table["low"], 100 * table["accuracy"], 0.92 * width, align="edge", color=AFTER, label="accuracy")
        column[0].plot([0, 1], [0, 100], color=BLACK, linewidth=0.8, linestyle="--", label="calibrated")
        column[0].plot(table["confidence"], 100 * table["accuracy"], "o", color="#333333", markersize=3)
        column[0].set_title(f"{name}: calibration error {100 * errors[name]:.1f} %", fontsize=9)
        share = 100 * table["images"] / max(table["images"].sum(), 1)
        column[1].bar(table["low"], share, 0.92 * width, align="edge", color=BEFORE)
        column[1].set_xlabel("probability of the answer")
        column[1].set_xlim(0, 1)
    panels[0][0].set_ylabel("accuracy, %")
    panels[1][0].set_ylabel("% of images")
    panels[0][0].legend(frameon=False, loc="upper left", fontsize=8)
    return figure


def _heat_map(means: pd.DataFrame) -> Figure:
    """Accuracies, 0 to 1: a row per series, a column per class."""
    figure = Figure(figsize=(7, 0.8 + 0.22 * len(means)))
    axes = figure.subplots()
    values = 100 * means.to_numpy(float)
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    if values.shape[1] <= 20 and values.size <= NUMBERED:
        for y, x in np.ndindex(*values.shape):
            color = ON_DARK if values[y, x] < 50 else ON_LIGHT
            axes.annotate(f"{values[y, x]:.0f}", (x, y), ha="center", va="center", fontsize=7, color=color)
    axes.set_yticks(np.arange(len(means)), means.index)
    name_classes(axes, means.columns)
    figure.colorbar(image, label="accuracy, %")
    return figure

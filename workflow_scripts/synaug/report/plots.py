"""Figures of the data, and what all figures share. Each function returns a matplotlib figure; `svg` makes it text."""

import io
import re

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
BLACK = "#000000"
ON_LIGHT, ON_DARK = "#010101", "#ffffff"  # numbers in cells: not the page's text colour
BARS = 200  # most bars of a figure; most cells that are given their number
NUMBERED = 400


def fill_figure(cells: pd.DataFrame) -> Figure:
    """Stacked bars of images per class, real and synthetic. cells: label_name, real, synthetic; in plotting order."""
    figure = Figure(figsize=(7, 2.6))
    axes = figure.subplots()
    at = np.arange(len(cells))
    if len(cells) > BARS:  # two outlines: thousands of bars are slow to draw
        edges, total = np.arange(len(cells) + 1) - 0.5, cells["real"] + cells["synthetic"]
        axes.stairs(cells["real"], edges, color=REAL, fill=True, label="real")
        axes.stairs(total, edges, baseline=cells["real"], color=SYNTHETIC, fill=True, label="synthetic")
    else:
        axes.bar(at, cells["real"], color=REAL, label="real")
        axes.bar(at, cells["synthetic"], bottom=cells["real"], color=SYNTHETIC, label="synthetic")
    if len(cells) <= 20:
        for x, count in zip(at, cells["real"], strict=True):
            axes.annotate(f"{count}", (x, count), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    name_classes(axes, cells["label_name"])
    axes.set_ylabel("training images")
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
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
        if values.size <= NUMBERED:
            for y, x in np.ndindex(*values.shape):
                color = ON_DARK if values[y, x] < image.norm.vmax / 2 else ON_LIGHT
                axes.annotate(f"{values[y, x]}", (x, y), ha="center", va="center", fontsize=7, color=color)
        axes.set_yticks(np.arange(len(table)), table.index)
        axes.set_xticks(np.arange(len(table.columns)), table.columns, rotation=30, ha="right")
        axes.set_title(title, fontsize=9)
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
            axes.imshow(_strip(images, 8), aspect="auto", interpolation="nearest")
            axes.set_axis_off()
    panels[0][0].set_title("real", color=REAL, fontsize=9)
    panels[0][1].set_title("synthetic", color=SYNTHETIC, fontsize=9)
    return figure


def svg(figure: Figure, transparent: bool = True) -> str:
    """The figure as an <svg> element, without the XML prologue, so that it can stand in a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, transparent=transparent)
    return text.getvalue()[text.getvalue().index("<svg") :]


def inline_svg(figure: Figure, name: str) -> str:
    """The figure for a page: in the page's text colour where it is black, its ids unique on the page by `name`."""
    text = re.sub(r"<metadata>.*?</metadata>", "", svg(figure), flags=re.DOTALL)
    for black in (BLACK, "#333333"):
        text = text.replace(black, "currentColor")
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    return (
        re.sub(r' id="([^"]+)"', lambda one: f' id="{name}-{one[1]}"' if one[1] in used else "", text)
        .replace("url(#", f"url(#{name}-")
        .replace('href="#', f'href="#{name}-')
    )


def _strip(images: np.ndarray, count: int) -> np.ndarray:
    """`count` images (N x H x W x 3) beside each other; white where there are fewer."""
    height, width = images.shape[1:3] if len(images) else (1, 1)
    strip = np.full((height, count * width, 3), 255, np.uint8)
    for i, image in enumerate(images[:count]):
        strip[:, i * width : (i + 1) * width] = image
    return strip


def name_classes(axes, names) -> None:
    """Class names below the horizontal axis, if there is room for them."""
    if len(names) <= 40:
        axes.set_xticks(np.arange(len(names)), names, rotation=30, ha="right")
    else:
        axes.set_xlabel("classes, largest first")

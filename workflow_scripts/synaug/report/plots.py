"""Figures of the data, and what all figures share. Each function returns a matplotlib figure; `svg` makes it text."""

import io
import re

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Text stays text, so it can be searched, and a $ in the name of a class starts no formula. The same figure gives the
# same bytes.
matplotlib.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "synaug", "font.family": "sans-serif", "axes.spines.top": False}
    | {"text.parse_math": False, "axes.spines.right": False, "figure.constrained_layout.use": True, "font.size": 9}
    # The page or `svg_file` gives the background.
    | {"figure.facecolor": "none", "axes.facecolor": "none"}
)
# Colours of Okabe and Ito (2008), which are distinguishable with colour blindness.
REAL, SYNTHETIC = "#0072B2", "#E69F00"
SERIES = ("#999999", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#F0E442")
BLACK, DARK = "#000000", "#333333"  # both become the page's text colour, see `inline_svg`
ON_LIGHT, ON_DARK = "#010101", "#ffffff"  # numbers in cells, in any colour scheme of the page
MOST_BARS = 200
MOST_NAMED = 25  # most classes whose names have room below each other
MOST_NUMBERED = 400  # most cells that show their number


def fill_figure(classes: pd.DataFrame) -> Figure:
    """Stacked bars of training images per class, real and synthetic.

    classes: label_name, real, synthetic; in plotting order.
    """
    figure = Figure(figsize=(7, 2.6))
    axes = figure.subplots()
    x = np.arange(len(classes))
    if len(classes) > MOST_BARS:  # two outlines, because thousands of bars are slow to draw
        edges, total = np.arange(len(classes) + 1) - 0.5, classes["real"] + classes["synthetic"]
        axes.stairs(classes["real"], edges, color=REAL, fill=True, label="real")
        axes.stairs(total, edges, baseline=classes["real"], color=SYNTHETIC, fill=True, label="synthetic")
    else:
        axes.bar(x, classes["real"], color=REAL, label="real")
        axes.bar(x, classes["synthetic"], bottom=classes["real"], color=SYNTHETIC, label="synthetic")
    if len(classes) <= 20:
        for position, count in zip(x, classes["real"], strict=True):
            axes.annotate(f"{count}", (position, count), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    label_classes(axes, classes["label_name"])
    axes.set_ylabel("training images")
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def cell_figure(imbalance: pd.DataFrame, balanced: pd.DataFrame, order: list[str]) -> Figure:
    """Training images per class and group, real only and with the synthetic ones.

    imbalance: manifest of this name. balanced: counts of rows (column rows) of the manifest of this name. order: class
    names, in plotting order.
    """
    cells = imbalance[imbalance["kind"] == "cell"]
    before = cells.pivot(index="label_name", columns="group", values="count").loc[order]
    after = balanced.groupby(["label_name", "group"])["rows"].sum().unstack(fill_value=0)
    after = after.reindex(index=before.index, columns=before.columns, fill_value=0)
    figure = Figure(figsize=(7, 1.2 + 0.24 * len(before)))
    panels = figure.subplots(1, 2, sharey=True)
    largest = max(after.to_numpy().max(), 1)
    for axes, table, title in zip(panels, (before, after), ("real", "real and synthetic"), strict=True):
        draw_cells(axes, table.to_numpy(int), largest, "{:d}", numbered=table.size <= MOST_NUMBERED)
        axes.set_yticks(np.arange(len(table)), table.index)
        label_classes(axes, table.columns, "groups")
        axes.set_title(title, fontsize=9)
    return figure


def draw_cells(axes, values: np.ndarray, largest: float, text: str, numbered: bool, hide_below: float = 0.0):
    """Draw `values` (2-dimensional) as coloured cells, and return the image for a colour bar.

    largest: the value of the lightest colour; 0 is the darkest. text: format of the numbers in the cells, if
    `numbered`; cells below `hide_below` have none.
    """
    # Without interpolation: otherwise a figure with many columns mixes its rows.
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=largest, aspect="auto", interpolation="none")
    for y, x in np.ndindex(*values.shape) if numbered else ():
        if values[y, x] >= hide_below:
            color = ON_DARK if values[y, x] < largest / 2 else ON_LIGHT
            axes.annotate(text.format(values[y, x]), (x, y), ha="center", va="center", fontsize=7, color=color)
    return image


def overview_figure(classes: pd.DataFrame, samples: list[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
    """The picture of the README: images per class on the left; real and synthetic images on the right.

    classes: label_name, real, synthetic; in plotting order. samples: (class name, real images, synthetic images),
    uint8, N x H x W x channels.
    """
    figure = Figure(figsize=(9, 3.4), dpi=150)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.5))
    axes = left.subplots()
    y = np.arange(len(classes))[::-1]
    axes.barh(y, classes["real"], color=REAL, label="real")
    axes.barh(y, classes["synthetic"], left=classes["real"], color=SYNTHETIC, label="synthetic")
    named = len(classes) <= MOST_NAMED
    axes.set_yticks(y, classes["label_name"]) if named else axes.set_yticks([])
    axes.set_ylabel("" if named else "classes, largest first")
    axes.set_xlabel("training images")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    panels = right.subplots(len(samples), 2, squeeze=False)
    for row, (name, real, synthetic) in zip(panels, samples, strict=True):
        if len(samples) < len(classes):  # the images are not beside the bars of their classes
            place = ((0, 0.5), (-3, 0), "axes fraction", "offset points")
            row[0].annotate(name if len(name) <= 16 else f"{name[:15]}…", *place, fontsize=6, ha="right", va="center")
        for axes, images in zip(row, (real, synthetic), strict=True):
            axes.imshow(_strip(images, 8), aspect="auto", interpolation="nearest")
            axes.set_axis_off()
    panels[0][0].set_title("real", color=REAL, fontsize=9)
    panels[0][1].set_title("synthetic", color=SYNTHETIC, fontsize=9)
    return figure


def svg(figure: Figure) -> str:
    """The figure as an <svg> element with a transparent background, without the XML prologue."""
    text = io.StringIO()
    # `savefig` would draw the figure twice, the first time only for its layout, which `print_svg` computes too.
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def svg_file(text: str) -> str:
    """The text of an SVG file with a white background from the result of `svg`."""
    end = text.index(">") + 1
    return text[:end] + '\n <rect width="100%" height="100%" fill="#ffffff"/>' + text[end:]


def inline_svg(text: str, name: str) -> str:
    """The result of `svg` for a page: black becomes the page's text colour, and `name` makes ids unique on the page."""
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    tags = re.compile(r"<[^<>!][^<>]*>")  # not the text between them: a class may be called `#000000`
    referenced = {used for tag in tags.findall(text) for used in re.findall(r'(?:url\(#|href="#)([^)"]+)', tag)}

    def for_page(tag: re.Match) -> str:
        text = tag[0].replace(BLACK, "currentColor").replace(DARK, "currentColor")
        text = re.sub(r' id="([^"]+)"', lambda id_: f' id="{name}-{id_[1]}"' if id_[1] in referenced else "", text)
        return text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')

    return tags.sub(for_page, text)


def label_classes(axes, names, what: str = "classes, largest first") -> None:
    """Names of classes or groups below the horizontal axis, if there is room for them; slanted if they are long.

    what: the title of the axis if there is no room.
    """
    if len(names) > 40:
        axes.set_xlabel(what)
    elif sum(map(len, names)) <= 40:
        axes.set_xticks(np.arange(len(names)), names)
    else:
        axes.set_xticks(np.arange(len(names)), names, rotation=30, ha="right")


def _strip(images: np.ndarray, count: int) -> np.ndarray:
    """`count` images (N x H x W x 3) side by side; white where there are fewer."""
    height, width = images.shape[1:3] if len(images) else (1, 1)
    strip = np.full((height, count * width, 3), 255, np.uint8)
    for i, image in enumerate(images[:count]):
        strip[:, i * width : (i + 1) * width] = image
    return strip

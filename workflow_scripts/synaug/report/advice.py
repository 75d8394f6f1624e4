"""What to do next, as far as the tables say: every sentence names the figures that it rests on."""

import numpy as np
import pandas as pd

WEAK_BELOW = 0.10  # a class is weak if its accuracy is so far below the mean over classes
MOST_WEAK = 10
REJECTED_ABOVE = 0.30  # share of a class's synthetic images
UNSURE_BELOW = 0.50  # median confidence of the screening's classifier in a class's images
ENOUGH = 10  # images, below which a share says nothing
ONE_CLASS_TAKES = 0.50  # share of a class's wrong answers
COVERED_BELOW = 0.50  # share of the real images that a synthetic one is near to
DOMAINS_APART = 0.90  # share of images whose kind a linear classifier tells
CALIBRATION_WORSE = 0.02
FEW_TEST_IMAGES = 50


def about_classes(
    classes: pd.DataFrame,
    quality: pd.DataFrame,
    synthetic: pd.DataFrame,
    confusion: np.ndarray,
    few_below: int,
) -> tuple[list[dict], int]:
    """The weak classes, the weakest first, and how many there are. A dict: name, accuracy, real, reasons (sentences).

    classes: class table with accuracies, of which `after` counts. quality, synthetic: manifests. confusion: of the
    main recipe, numbers of images by label, all seeds together. few_below: config key imbalance.few_below.
    """
    accuracy = classes["after"]
    weak = classes[accuracy < accuracy.mean() - WEAK_BELOW].sort_values("after", kind="stable")
    counts = quality.pivot(index="label_name", columns="metric", values="value")
    sure = synthetic.groupby("label")["classifier_confidence"].median()
    names = classes.set_index("label")["label_name"]
    found = []
    for row in weak.head(MOST_WEAK).itertuples():
        figures = counts.loc[row.label_name].dropna() if row.label_name in counts.index else pd.Series(dtype=float)
        reasons = _reasons(figures, row.real, few_below, sure.get(row.label))
        wrong = confusion[row.label].copy()
        wrong[row.label] = 0
        if wrong.sum() >= ENOUGH and wrong.max() / wrong.sum() >= ONE_CLASS_TAKES and len(names) > 2:
            share, other = wrong.max() / wrong.sum(), names[int(wrong.argmax())]
            reasons.append(
                f"{100 * share:.0f} % of its misread images are taken for {other}: look at both in the gallery, and "
                "say in the prompts what tells them apart."
            )
        found.append(
            {
                "name": row.label_name,
                "accuracy": float(accuracy[row.Index]),
                "real": row.real,
                "reasons": reasons or ["The tables do not say why: look at its images in the gallery."],
            }
        )
    return found, len(weak)


def _reasons(figures: pd.Series, real: int, few_below: int, sure: float | None) -> list[str]:
    """Why a class may be weak. figures: its rows of the manifest `quality`."""
    reasons = []
    planned, accepted = (int(figures.get(name, 0)) for name in ("planned", "accepted"))
    if planned >= ENOUGH and (planned - accepted) / planned >= REJECTED_ABOVE:
        checks = figures[figures.index.str.startswith("rejected_")]
        reasons.append(
            f"{planned - accepted} of its {planned} synthetic images were rejected, most by the check "
            f"{checks.idxmax().removeprefix('rejected_')}: the model does not make them well. Try other prompts or "
            "another model."
        )
    if figures.get("shortfall", 0) > 0:
        reasons.append(
            f"It lacks {int(figures['shortfall'])} images that were wanted: raise balance.oversample, or loosen the "
            "check that rejects most."
        )
    if sure is not None and sure < UNSURE_BELOW:
        reasons.append(
            f"The classifier of the screening takes its synthetic images for the class with a median probability of "
            f"{sure:.2f} only: either they do not show it, or that classifier knows too few real ones."
        )
    if real < few_below:
        reasons.append("It has few real training images: more of them are the surest help.")
    if figures.get("coverage", 1) < COVERED_BELOW:
        reasons.append(
            f"Its synthetic images come near to {100 * figures['coverage']:.0f} % of the real ones only (coverage): "
            "more modifiers in the prompts or a lower guidance make them more varied."
        )
    return reasons


def about_all(
    classes: pd.DataFrame,
    names: list[str],
    differences: pd.DataFrame,
    summary: pd.DataFrame,
    quality: pd.DataFrame,
    test_images: np.ndarray,
    cells: list[dict],
) -> list[str]:
    """Sentences about the whole experiment.

    classes: class table with accuracies of `names`, one or two series. differences: rows of the
    manifest of the main recipe minus the baseline. summary: manifest with `series`. test_images: per class.
    cells: of the table of cells, those of groups; else none.
    """
    found = []
    known = sorted(
        (cell for cell in cells if cell["accuracies"][-1] is not None), key=lambda one: one["accuracies"][-1]
    )
    if known:
        worst = [
            f"{one['label_name']}, {one['group']}: {100 * one['accuracies'][-1]:.0f} % with {one['real']} real images"
            for one in known[:3]
        ]
        found.append(f"The weakest cells of {names[-1]} are {'; '.join(worst)}.")
    lost = differences[differences["subset"].str.startswith("class:") & (differences["high"] < 0)]
    if len(lost):
        worst = lost.sort_values("mean")["subset"].str.removeprefix("class:")
        more = f" and {len(worst) - MOST_WEAK} more" if len(worst) > MOST_WEAK else ""
        found.append(
            f"{names[-1]} is worse than {names[0]}, by more than the interval over seeds, on {len(worst)} of "
            f"{len(classes)} classes: {', '.join(worst.head(MOST_WEAK))}{more}. If these matter most, the baseline "
            "serves them better."
        )
    if len(names) == 2 and classes["synthetic"].gt(0).any():
        found.append(_more_images(classes, quality))
    probe = _figure(summary, names[-1], "domain_probe", "all")
    if probe is not None and probe > DOMAINS_APART:
        found.append(
            f"A linear classifier on the features of {names[-1]} tells real from synthetic training images in "
            f"{100 * probe:.0f} % of the cases: the domain gap is wide. Against it are Mixup between the two, the "
            "fine-tune on real images, and images nearer to the real ones (image-to-image, a fine-tuned model)."
        )
    errors = [_figure(summary, name, "ece", "all") for name in names]
    if len(errors) == 2 and None not in errors and errors[1] > errors[0] + CALIBRATION_WORSE:
        found.append(
            f"The calibration error rises from {100 * errors[0]:.1f} to {100 * errors[1]:.1f} %: use the answers of "
            f"{names[1]} as answers, and its probabilities only after calibrating them on real images that are not the "
            "test images."
        )
    if (summary["seeds"] == 1).any():
        found.append("Every network was trained once: with three seeds or more there are intervals over seeds.")
    few = int((test_images < FEW_TEST_IMAGES).sum())
    if few:
        least = max(1, int(test_images.min()))
        found.append(
            f"{few} of {len(test_images)} classes have fewer than {FEW_TEST_IMAGES} test images: with {least}, an "
            f"accuracy near 50 % is known to about ± {98 / np.sqrt(least):.0f} points. Compare such classes in groups "
            "(many, medium, few), not one by one."
        )
    return found


def _more_images(classes: pd.DataFrame, quality: pd.DataFrame) -> str:
    """What one amount of synthetic images says of another: not much."""
    filled = classes[classes["synthetic"] > 0]
    gain = 100 * (filled["after"] - filled["before"])
    text = (
        f"Would more synthetic images help? This experiment has one amount of them, so it cannot tell. Of the "
        f"{len(filled)} classes that got some, {int((gain > 0).sum())} gained, {gain.mean():+.1f} points on average. "
    )
    coverage = quality[(quality["label_name"] == "") & (quality["metric"] == "coverage")]["value"].dropna()
    if len(coverage) and coverage.iloc[0] < COVERED_BELOW:
        text += (
            f"They come near to {100 * coverage.iloc[0]:.0f} % of the real images (coverage), so more varied ones are "
            "worth a try before more of the same. "
        )
    return text + "A study with several values of balance.amount answers it; images that exist are not made again."


def _figure(summary: pd.DataFrame, series: str, metric: str, subset: str) -> float | None:
    here = summary[(summary["series"] == series) & (summary["metric"] == metric) & (summary["subset"] == subset)]
    return float(here["mean"].iloc[0]) if len(here) else None

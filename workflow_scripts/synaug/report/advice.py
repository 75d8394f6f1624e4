"""What to do next, derived from the tables. Every sentence names the numbers behind it."""

import numpy as np
import pandas as pd

from synaug.evaluation.choice import required_gain
from synaug.report.tables import CALIBRATION, Key, rows_with_key

WEAK_BELOW = 0.10  # a class is weak if its accuracy is this much below the mean over classes
MOST_CLASSES = 10  # classes listed by name
REJECTED_ABOVE = 0.30  # share of a class's synthetic images
UNSURE_BELOW = 0.50  # median confidence of the screening classifier for a class's images
ENOUGH = 10  # a share of fewer images is not meaningful
ONE_CLASS_ABOVE = 0.50  # share of a class's errors that go to one other class
AGREEMENT_BELOW = 0.80  # share of all generated images that the screening classifier reads as their class
COVERED_BELOW = 0.50  # share of the real images with a synthetic image nearby
DOMAINS_APART = 0.90  # accuracy of the domain probe
CALIBRATION_WORSE = 0.02
FEW_TEST_IMAGES = 50
DOMAIN_PROBE = ("domain_probe", "all", "domains")


def weak_classes(
    classes: pd.DataFrame,
    quality: pd.DataFrame,
    confidence: pd.Series,
    confusion: np.ndarray,
    few_below: int,
    uses_synthetic: bool = True,
) -> tuple[list[dict], int]:
    """The weak classes, the weakest first, and how many there are. A dict: name, accuracy, real, reasons (sentences).

    classes: class table with accuracies, of which `after` counts. quality: manifest. confidence: label -> median
    confidence of the screening classifier for the synthetic images. confusion: of the main recipe, numbers of images by
    label, all seeds together. few_below: config key imbalance.few_below. uses_synthetic: whether the main recipe trains
    on synthetic images.
    """
    accuracy = classes["after"]
    weak = classes[accuracy < accuracy.mean() - WEAK_BELOW].sort_values("after", kind="stable")
    quality_by_class = quality.pivot(index="label_name", columns="metric", values="value")
    name_of = classes.set_index("label")["label_name"]
    listed = []
    for row in weak.head(MOST_CLASSES).itertuples():
        known = uses_synthetic and row.label_name in quality_by_class.index
        metrics = quality_by_class.loc[row.label_name].dropna() if known else pd.Series(dtype=float)
        sure = confidence.get(row.label) if uses_synthetic else None
        reasons = _reasons(metrics, row.real, few_below, sure)
        errors = confusion[row.label].copy()
        errors[row.label] = 0
        if errors.sum() >= ENOUGH and errors.max() / errors.sum() >= ONE_CLASS_ABOVE and len(name_of) > 2:
            reasons.append(
                f"{100 * errors.max() / errors.sum():.0f} % of its misclassified images are predicted as "
                f"{name_of[int(errors.argmax())]}. Compare both classes in the gallery, and describe their difference "
                "in the prompts."
            )
        listed.append(
            {
                "name": row.label_name,
                "accuracy": float(accuracy[row.Index]),
                "real": row.real,
                "reasons": reasons or ["The tables show no reason. Look at its images in the gallery."],
            }
        )
    return listed, len(weak)


def _reasons(metrics: pd.Series, real: int, few_below: int, confidence: float | None) -> list[str]:
    """Why a class may be weak.

    metrics: its rows of the manifest `quality`. real: real training images. confidence: median confidence of the
    screening classifier for its synthetic images.
    """
    reasons = []
    planned, accepted = (int(metrics.get(name, 0)) for name in ("planned", "accepted"))
    if planned >= ENOUGH and (planned - accepted) / planned >= REJECTED_ABOVE:
        checks = metrics[metrics.index.str.startswith("rejected_")]
        reasons.append(
            f"{planned - accepted} of its {planned} synthetic images were rejected, most often by the "
            f"{checks.idxmax().removeprefix('rejected_')} check. The generator draws this class poorly: try other "
            "prompts or another model."
        )
    if metrics.get("shortfall", 0) > 0:
        reasons.append(
            f"It has {int(metrics['shortfall'])} fewer synthetic images than wanted. Raise balance.oversample, or "
            "relax the check that rejects most images."
        )
    if confidence is not None and confidence < UNSURE_BELOW:
        reasons.append(
            f"The screening classifier gives its synthetic images a median probability of only {confidence:.2f} for "
            "this class. Either the images do not show the class, or the classifier was trained on too few real images "
            "of it."
        )
    if real < few_below:
        reasons.append("It has few real training images. More real images are the most reliable remedy.")
    if metrics.get("coverage", 1) < COVERED_BELOW:
        reasons.append(
            f"Its synthetic images cover only {100 * metrics['coverage']:.0f} % of its real images (metric coverage). "
            "More modifiers in the prompts or a lower guidance increase variety."
        )
    return reasons


def experiment_advice(
    classes: pd.DataFrame,
    names: list[str],
    differences: pd.DataFrame,
    summary: pd.DataFrame,
    quality: pd.DataFrame,
    test_images: np.ndarray,
    cells: list[dict],
    uses_synthetic: bool = True,
    amounts: int = 1,
    stage1_recipe: str = "",
) -> list[str]:
    """Advice about the whole experiment, one text per topic.

    classes: class table with accuracies of `names`, one or two series. differences: rows of the manifest for the main
    recipe minus the baseline. summary: manifest with `series`. test_images: per class. cells: the table of cells of a
    data set with groups; otherwise empty. uses_synthetic: whether the last of `names` trains on synthetic images.
    amounts: how many different amounts of them the recipes use. stage1_recipe: whose stage 1 the last of `names` has.
    """
    advice = []
    tested = [cell for cell in cells if cell["accuracies"][-1] is not None]
    if tested:
        weakest = sorted(tested, key=lambda cell: cell["accuracies"][-1])[:3]
        listed = "; ".join(
            f"{cell['label_name']}, {cell['group']} ({100 * cell['accuracies'][-1]:.0f} %, "
            f"{counted(cell['real'], 'real training image')})"
            for cell in weakest
        )
        advice.append(f"The weakest cells of {names[-1]}: {listed}.")
    worse = differences[differences["subset"].str.startswith("class:") & (differences["high"] < 0)]
    worse = worse[worse["low"] < worse["high"]]  # seeds that agree say nothing
    if len(worse):
        worse_names = worse.sort_values("mean")["subset"].str.removeprefix("class:")
        more = f" and {len(worse) - MOST_CLASSES} more" if len(worse) > MOST_CLASSES else ""
        advice.append(
            f"{names[-1]} has a lower accuracy than {names[0]} on {len(worse)} of {len(classes)} classes, with 95 % "
            f"intervals over seeds below 0: {', '.join(worse_names.head(MOST_CLASSES))}{more}. If these classes matter "
            "most, the baseline is the better choice."
        )
    if len(names) == 2 and uses_synthetic and classes["synthetic"].gt(0).any():
        advice.append(_more_images(classes, quality, amounts))
    # It is measured on networks of stage 1, and stage 2 leaves the features as they are.
    probe = _value(summary, stage1_recipe, DOMAIN_PROBE)
    if probe is not None and probe > DOMAINS_APART:
        advice.append(
            f"A linear classifier on the features of {names[-1]} recognises {100 * probe:.0f} % of the images as real "
            "or synthetic: the domain gap is wide. Three measures reduce it: Mixup of real with synthetic "
            "images, the fine-tune on real images, and synthetic images closer to the real ones (image-to-image, or a "
            "fine-tuned generator)."
        )
    errors = [_value(summary, name, CALIBRATION) for name in names]
    if len(errors) == 2 and None not in errors and errors[1] > errors[0] + CALIBRATION_WORSE:
        advice.append(
            f"The calibration error rises from {100 * errors[0]:.1f} to {100 * errors[1]:.1f} %. Calibrate the "
            f"probabilities of {names[1]} before you use them, on real images outside the test set. Its predicted "
            "classes need no calibration."
        )
    if (summary["seeds"] == 1).all():  # a candidate that was dropped has fewer seeds than others
        advice.append("Networks were trained with one seed only. Intervals over seeds need three seeds or more.")
    few = int((test_images < FEW_TEST_IMAGES).sum())
    if few:
        least = max(1, int(test_images.min()))
        advice.append(
            f"{few} of {len(test_images)} tested classes have fewer than {FEW_TEST_IMAGES} test images. With "
            f"{counted(least, 'test image')}, an accuracy near 50 % is only known to about ± {98 / np.sqrt(least):.0f} "
            "points. Compare such classes by shot group (many, medium, few), not one by one."
        )
    return advice


def useful_fill(chosen: pd.DataFrame, quality: pd.DataFrame, has_gate: bool) -> str:
    """Why no recipe with synthetic images was chosen, as far as the tables tell, and what could change that.

    chosen, quality: the manifests of these names; quality of all fills. has_gate: whether a gate decides how many
    images a class gets.
    """
    of_fills = quality[quality["label_name"] == ""].pivot(index="fill", columns="metric", values="value")
    if "wanted" in of_fills and not of_fills["wanted"].any():
        if not has_gate:
            return (
                "None are wanted: no class has fewer images than the block balance asks for, or the config has no "
                "generation.model."
            )
        return (
            "The gate lets none of them through: the screening classifier recognises too few of them in every class "
            "(gate.parquet). A better generator, or an adapter that has learnt these classes (adaptation), comes first."
        )
    if "kept" in of_fills and not of_fills["kept"].any():
        return "None passed the screening. Look at the rejected ones, and change the generator, prompts or screening."
    if not chosen["synthetic"].any():
        return "No candidate uses them, so this experiment says nothing about their use."
    if "agreement" not in of_fills or of_fills["agreement"].isna().all():
        return (
            "To find out why they do not help, add the block screening.classifier: it measures how many of them show "
            "their class."
        )
    best = of_fills["agreement"].idxmax()
    values = of_fills.loc[best].dropna()
    of_best = f" of the fill {best}" if len(of_fills) > 1 else ""
    share = f"{100 * values['agreement']:.0f} %"
    agreement = f"The screening classifier reads {share} of the generated images{of_best} as their class"
    if values["agreement"] < AGREEMENT_BELOW:
        return (
            f"{agreement}. That is low: a better generator, or an adapter that has learnt these classes (adaptation), "
            "comes first."
        )
    if values.get("coverage", 1) < COVERED_BELOW:
        return (
            f"{agreement}, but those that are used cover only {100 * values['coverage']:.0f} % of the real images. "
            "More varied prompts (prompts.modifiers) or a lower guidance come first."
        )
    finalists = chosen[chosen["synthetic"] & (chosen["seeds"] == chosen["seeds"].max())]
    if finalists.empty:
        return f"{agreement}. Other amounts (fill) may help, and so do more validation images: they show smaller gains."
    error = finalists.sort_values("validation")["gain_standard_error"].iloc[-1]
    limit = 100 * required_gain(int(chosen["synthetic"].sum())) * error
    return (
        f"{agreement}. Other amounts (fill) may help. With these validation images and candidates, a gain below "
        f"{limit:.1f} points cannot be told from noise; more validation images show smaller gains."
    )


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 image`, `2 images`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _more_images(classes: pd.DataFrame, quality: pd.DataFrame, amounts: int) -> str:
    """Whether more synthetic images would help, which one experiment with one amount cannot answer."""
    gain = 100 * (classes["after"] - classes["before"])[classes["synthetic"] > 0].dropna()
    text = "Would more synthetic images help? "
    if amounts > 1:
        text += f"The recipes use {amounts} amounts of them; compare their results. "
    else:
        text += "This experiment has only one amount of them, so it cannot tell. "
    if len(gain):
        text += (
            f"Accuracy rose in {int((gain > 0).sum())} of the {len(gain)} tested classes with synthetic images, and "
            f"changed by {gain.mean():+.1f} points on average over these classes. "
        )
    coverage = quality[(quality["label_name"] == "") & (quality["metric"] == "coverage")]["value"].dropna()
    if len(coverage) and coverage.iloc[0] < COVERED_BELOW:
        text += (
            f"The synthetic images cover {100 * coverage.iloc[0]:.0f} % of the real images (metric coverage), so try "
            "more varied images before you try more of them. "
        )
    return text + "A study with several values of balance.amount answers the question; existing images are reused."


def _value(summary: pd.DataFrame, series: str, key: Key) -> float | None:
    rows = rows_with_key(summary[summary["series"] == series], key)
    return float(rows["mean"].iloc[0]) if len(rows) else None

"""Search for faults in the data: wrong labels, outliers, near-duplicates, and leaks between the splits."""

import logging
import warnings
from importlib.util import find_spec

import numpy as np
import pandas as pd

from synaug.config import EMBEDDED_BACKBONE, Dataset
from synaug.datasets.faults import faults_of
from synaug.datasets.splits import near_duplicates
from synaug.runtime.errors import UserError
from synaug.training.features import extract_features, select_features

log = logging.getLogger(__name__)
# Side of the images that the network sees, pixels. 224, its own, takes four times as long.
SIDE = 112
FOLDS = 5
# Inverse strength of the regularisation of the classifier. Of 3, 10, 30 and 100 the best one for flipped labels of
# Fashion-MNIST (docs/decisions.md).
_INVERSE_PENALTY = 3.0
# A label is an issue only if it is also less probable than this. Without it, half as many of the issues are real.
LOW_QUALITY = 0.05
NEIGHBOURS = 10
_BLOCK = 1 << 24  # similarities in memory at a time: 64 MB


def find_faults(rows: pd.DataFrame, dataset: Dataset, threads: int) -> pd.DataFrame:
    """`rows` of `index_dataset` with the columns label_quality to leak_of of the manifest `real`.

    The images must be readable at the paths of `rows`. threads: of the frozen network, EfficientNet-Lite0 with its
    ImageNet weights, which computes on the CPU: minutes for some ten thousand images. Raises UserError if the package
    cleanlab is missing.
    """
    if find_spec("cleanlab") is None:  # said before minutes are spent
        raise UserError(
            "dataset.faults.find: needs the package cleanlab",
            advice="pip install 'synaug[faults]', or set it to false",
        )
    # By id, which is a hash of the image: names and order of the files do not matter.
    usable = rows[rows["usable"]].sort_values("image_id")
    table = extract_features(usable, EMBEDDED_BACKBONE, "embedded", SIDE, dataset.color, "cpu", threads)
    features = select_features(table, usable["image_id"])
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    clusters = near_duplicates(usable.to_dict("records"))
    rows = rows.join(fault_columns(usable, features, clusters, dataset.splits))
    counts = faults_of(rows).groupby(rows["split"]).sum()
    for split, of_split in counts.iterrows():
        found = ", ".join(f"{kind.replace('_', ' ')}: {count}" for kind, count in of_split.items())
        log.info("faults found in split %r: %s", split, found)
    return rows


def fault_columns(images: pd.DataFrame, features: np.ndarray, clusters: np.ndarray, splits: list[str]) -> pd.DataFrame:
    """The columns label_quality to leak_of of the manifest `real` for `images`, with the same index.

    images: image_id, label, label_name, split; sorted by image_id. features: float32, N x D, each of length 1.
    clusters: int, N; near-duplicates have the same number. splits: the training split first, the test split second.
    """
    labels = images["label"].to_numpy()
    is_train = (images["split"] == splits[0]).to_numpy()
    probabilities = class_probabilities(features, labels, is_train, clusters)
    is_issue = np.zeros(len(labels), bool)
    counts = np.bincount(labels[is_train], minlength=probabilities.shape[1])
    for split in splits:
        # Each split alone, so that the test images decide nothing about the training images.
        of_split = np.flatnonzero(images["split"] == split)
        # A class that is rare among the training images may be frequent in the test split.
        shares = np.bincount(labels[of_split], minlength=len(counts)) / np.maximum(counts, 1)
        probabilities[of_split] *= shares
        probabilities[of_split] /= np.maximum(np.nansum(probabilities[of_split], axis=1, keepdims=True), 1e-12)
        judged = of_split[~np.isnan(probabilities[of_split, labels[of_split]])]
        if len(judged):
            is_issue[judged] = confident_issues(labels[judged], probabilities[judged])
    quality = probabilities[np.arange(len(labels)), labels]
    is_issue &= quality < LOW_QUALITY
    names = images.drop_duplicates("label").set_index("label")["label_name"]
    suggested = names.reindex(np.nan_to_num(probabilities).argmax(axis=1)).astype(object).to_numpy()
    found = pd.DataFrame(
        {
            # Rounded, because the last digits depend on the number of threads.
            "label_quality": quality.round(4).astype(np.float32),
            "suggested_label": np.where(is_issue, suggested, None),
            "outlier_score": outlier_scores(features, labels, is_train, clusters).round(3).astype(np.float32),
        },
        index=images.index,
    )
    return found.join(copies(images, clusters, is_issue, splits))


def class_probabilities(
    features: np.ndarray, labels: np.ndarray, is_train: np.ndarray, clusters: np.ndarray
) -> np.ndarray:
    """Probabilities of the classes by a logistic regression that was not fitted to the image: float64, N x C.

    Training images are predicted out of fold, with near-duplicates in one fold; the others by a classifier of all
    training images. NaN: a class that the classifier did not see.
    """
    from sklearn.linear_model import LogisticRegression

    # The folds of every class have equal numbers of clusters. A cluster belongs to the class of its first image.
    first = pd.DataFrame({"label": labels, "cluster": clusters})[is_train].drop_duplicates("cluster")
    fold_of_cluster = (first.groupby("label").cumcount() % FOLDS).set_axis(first["cluster"])
    folds = np.where(is_train, fold_of_cluster.reindex(clusters, fill_value=-1), -1)
    probabilities = np.full((len(labels), labels.max() + 1), np.nan)
    for fold in range(-1, FOLDS):
        predicted = folds == fold
        fitted = is_train & ~predicted
        if predicted.any() and len(np.unique(labels[fitted])) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # many classes for few images: so are the images of a user
                model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000).fit(features[fitted], labels[fitted])
            probabilities[np.ix_(predicted, model.classes_)] = model.predict_proba(features[predicted])
    return probabilities


def confident_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Whether confident learning takes each label for wrong: bool, N.

    C. Northcutt, L. Jiang, I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (2021), by the
    library cleanlab: images that both of its ways to prune (by class, and by noise rate) leave out.
    """
    from cleanlab.filter import find_label_issues

    # Classes that a split lacks, or no classifier saw, are left out: they have no threshold.
    present, numbers = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return np.zeros(len(labels), bool)
    probabilities = np.nan_to_num(probabilities[:, present])
    probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-12)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")  # in classes of few images
        return find_label_issues(numbers, probabilities, filter_by="both", n_jobs=1)


def outlier_scores(features: np.ndarray, labels: np.ndarray, is_train: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Modified z-score of the mean cosine distance to the nearest training images (of any class): float64, N.

    That is the distance minus the median of the training images of the class, divided by 1.4826 times the median
    absolute deviation from these medians. The neighbours are NEIGHBOURS images (or all, if there are fewer) that are
    no near-duplicates of the image or of each other. NaN without neighbours, or without a deviation.
    """
    others = np.flatnonzero(is_train)
    others = others[np.unique(clusters[others], return_index=True)[1]]
    own = pd.Series(np.arange(len(others)), clusters[others]).reindex(clusters, fill_value=-1).to_numpy()
    count = min(NEIGHBOURS, len(others) - 1)
    if count < 1:
        return np.full(len(labels), np.nan)
    distances = np.empty(len(labels))
    step = max(1, _BLOCK // len(others))
    for start in range(0, len(labels), step):
        similarity = features[start : start + step] @ features[others].T
        of_block = own[start : start + step]
        similarity[np.flatnonzero(of_block >= 0), of_block[of_block >= 0]] = -np.inf
        nearest = np.partition(similarity, -count, axis=1)[:, -count:]
        distances[start : start + step] = 1 - nearest.mean(axis=1)
    medians = pd.Series(distances[is_train]).groupby(labels[is_train]).median()
    excess = distances - medians.reindex(labels).to_numpy()
    deviation = 1.4826 * np.nanmedian(np.abs(excess[is_train]))
    return excess / deviation if deviation > 0 else np.full(len(labels), np.nan)


def copies(images: pd.DataFrame, clusters: np.ndarray, is_issue: np.ndarray, splits: list[str]) -> pd.DataFrame:
    """The columns duplicate_of and leak_of of the manifest `real`; arguments as for `fault_columns`.

    Of the near-duplicates in a split, the first by id without a label issue is the original. A leak is an image that
    has a near-duplicate in a split that is held out from it: for training images the test and the validation split,
    for validation images the test split.
    """
    table = pd.DataFrame({"cluster": clusters, "split": images["split"], "image_id": images["image_id"]}, images.index)
    best = table.assign(is_issue=is_issue).sort_values(["is_issue", "image_id"]).drop_duplicates(["cluster", "split"])
    originals = best.set_index(["cluster", "split"])["image_id"]

    def in_split(split) -> np.ndarray:
        keys = pd.MultiIndex.from_arrays([clusters, [split] * len(table) if isinstance(split, str) else split])
        return originals.reindex(keys).astype(object).to_numpy()

    own = in_split(table["split"])
    leak = np.full(len(table), None, object)
    train, *held_out = splits
    for number, split in enumerate(held_out):
        others = table["split"].isin([*held_out[number + 1 :], train])
        leak = np.where(others & pd.isna(leak), in_split(split), leak)
    return pd.DataFrame(
        {"duplicate_of": np.where(own == table["image_id"], None, own), "leak_of": np.where(pd.isna(leak), None, leak)},
        images.index,
    )

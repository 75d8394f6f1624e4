"""What `synaug init` gives up so that the run fits into a number of minutes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pandas as pd

from synaug.commands.init_estimate import Settings
from synaug.config.portfolio import portfolio
from synaug.runtime.errors import UserError

CPU_BUDGET, GPU_BUDGET = 20.0, 180.0  # minutes
# What a part is reduced to before the next part is. That less makes no sense has not been measured.
SHARES_OF_FILL = (0.75, 0.5, 0.25)
SHARES_OF_STEPS = (0.75, 0.5)
FEWEST_STEPS = (300, 450)  # of the two parts of the small generator
NO_GENERATOR = "synthetic images and the recipes with them"  # what is given up without a generator
# The recipes with synthetic images that stay: those that lost least, on average, on the validation images of the five
# folders of docs/results.md (docs/decisions.md).
FEWER_RECIPES = (("filled_quarter", "filled_as_many_as_real"), ("filled_quarter",))


def check_budget(minutes: float) -> None:
    """Raise UserError if `minutes` is not a time."""
    if not (math.isfinite(minutes) and minutes > 0):
        raise UserError(
            f"--budget-minutes: {minutes:g} is not a number of minutes above 0",
            advice=f"give a number such as {CPU_BUDGET:g}, or leave it out",
        )


def fit_to_budget(settings: Settings, counts: pd.Series) -> Settings:
    """Give up one part of the run after the other until it fits into `settings.budget`, or until nothing is left.

    counts: real training images per class, or per class and group.
    """
    smaller = _give_up(settings, counts, _no_search, _fewer_images, _fewer_recipes, _fewer_steps)
    if smaller.total_minutes <= settings.budget:
        return smaller
    # Without a generator, its steps and images need not be fewer.
    return _give_up(settings, counts, _no_search, _no_generator, _fewer_seeds)


def _give_up(settings: Settings, counts: pd.Series, *parts: Callable) -> Settings:
    """Give up each of `parts` only as far as needed before the next one.

    A part is a function of settings and counts that yields ever smaller settings, and what they give up.
    """
    for part in parts:
        words = None
        for smaller, description in part(settings, counts):
            if settings.total_minutes <= settings.budget:
                break
            settings, words = smaller, description
        if words:
            settings = replace(settings, given_up=(*settings.given_up, words))
    return settings


def fill_target(counts: pd.Series, limit: int) -> int:
    """The number of images to which every class is filled: that of the largest class, or less.

    It is the largest number for which at most `limit` images are missing. counts: real images per class.
    """
    low, high = 1, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        fits = missing(counts, middle) <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def missing(counts: pd.Series, target: int) -> int:
    """How many images the classes lack until each has `target`."""
    return int((target - counts).clip(lower=0).sum())


def _no_search(settings: Settings, counts: pd.Series) -> Iterator[tuple[Settings, str]]:
    if settings.find_faults:
        yield replace(settings, find_faults=False), "the search for faults in the data"


def _fewer_images(settings: Settings, counts: pd.Series) -> Iterator[tuple[Settings, str]]:
    before = settings.synthetic_images
    for share in SHARES_OF_FILL:
        target = fill_target(counts, int(share * before))
        number = missing(counts, target)
        if 0 < number < before:
            words = f"{number:,} synthetic images instead of {before:,}"
            yield replace(settings, target=target, synthetic_images=number), words


def _fewer_recipes(settings: Settings, counts: pd.Series) -> Iterator[tuple[Settings, str]]:
    if not settings.synthetic_images:
        return
    for kept in FEWER_RECIPES:
        recipes = portfolio(settings.fills)
        recipes = tuple(name for name in recipes if recipes[name]["data"] == "real" or name.startswith(kept))
        yield replace(settings, recipes=recipes), f"{len(recipes)} recipes instead of {len(settings.recipes)}"


def _fewer_steps(settings: Settings, counts: pd.Series) -> Iterator[tuple[Settings, str]]:
    if not settings.synthetic_images:
        return
    if settings.public_model:
        before = settings.adaptation_steps
        for share in SHARES_OF_STEPS if before else ():
            steps = int(share * before)
            yield replace(settings, adaptation_steps=steps), f"{steps:,} steps of the adaptation instead of {before:,}"
        if before:
            yield replace(settings, adaptation_steps=0), "the adaptation of the model"
        return
    before = (settings.autoencoder_steps, settings.denoiser_steps)
    for share in SHARES_OF_STEPS:
        first, second = (max(int(share * full), least) for full, least in zip(before, FEWEST_STEPS, strict=True))
        words = f"{first:,} and {second:,} steps of the generator instead of {before[0]:,} and {before[1]:,}"
        yield replace(settings, autoencoder_steps=first, denoiser_steps=second), words


def _no_generator(settings: Settings, counts: pd.Series) -> Iterator[tuple[Settings, str]]:
    if settings.synthetic_images:
        yield without_synthetic_images(settings), NO_GENERATOR


def _fewer_seeds(settings: Settings, counts: pd.Series) -> Iterator[tuple[Settings, str]]:
    for seeds in range(settings.seeds - 1, 0, -1):
        words = f"{settings.seeds - seeds} of {settings.seeds} seeds"
        words += ", and so the intervals over seeds" if seeds == 1 else ""
        yield replace(settings, seeds=seeds), words


def without_synthetic_images(settings: Settings) -> Settings:
    """The same with real images only: no fill, and the recipes that need none."""
    recipes = tuple(name for name, keys in portfolio().items() if keys["data"] == "real")
    return replace(settings, target=1, synthetic_images=0, fills=(), recipes=recipes)

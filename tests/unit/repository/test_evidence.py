"""benchmarks/evidence.py: every method has the same number of trials, and its configs are valid."""

import itertools
import sys
from pathlib import Path

import pandas as pd
import pytest

from synaug.config import load_config
from synaug.study import group_replicates, variant_configs

BENCHMARKS = str(Path(__file__).parents[3] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
import evidence  # noqa: E402

sys.path.remove(BENCHMARKS)  # or benchmarks/training.py would hide the scripts of the step training

PARTS = {part.name: part for part in evidence.parts()}


def first_trials(part: evidence.Part) -> list[evidence.Trial]:
    return [evidence.Trial(method, point, 1) for method in part.methods for point in method.points]


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_every_method_has_nine_trials_and_is_tuned_with_and_without_mixup(part):
    trials = first_trials(part)
    names = [method.name for method in part.methods]
    assert len(set(names)) == len(names)
    assert pd.Series([trial.method.name for trial in trials]).value_counts().tolist() == [9] * len(names)
    assert len({trial.recipe for trial in trials}) == len(trials)
    assert all(method.axes[0] == evidence.LEARNING_RATE for method in part.methods)
    # synaug is `filled_fine_tuned` with the Mixup of the paper; GroupDRO excludes Mixup.
    plain = {name for name in names if not name.endswith("_mixup")} - {"synaug", "group_dro"}
    assert {f"{name}_mixup" for name in plain} <= set(names)


def test_three_hyperparameters_have_an_orthogonal_array():
    method = next(method for method in evidence.CLASS_METHODS if len(method.axes) == 3)
    for first, second in itertools.combinations(range(3), 2):
        assert len({(point[first], point[second]) for point in method.points}) == 9


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_the_configs_of_both_studies_are_valid(part):
    trials = first_trials(part)
    tuning = {} if part.settings_of else variant_configs(evidence.tuning_config(part, trials))
    loaded = [load_config(config, where=name) for name, config in tuning.items()]
    assert sum(len(config.recipes) for config in loaded) == (0 if part.settings_of else len(trials))
    chosen = [trial for trial in trials if trial.point == trial.method.points[4]]
    configs = variant_configs(evidence.evidence_config(part, chosen))
    variants = {name: load_config(config, where=name) for name, config in configs.items()}
    results = group_replicates(variants)
    if part.generator:
        assert {name: len(seeds) for name, seeds in results.items()} == {"own_generator": 3}
        assert {config.generator.images for config in variants.values()} == {
            f"results/{config.experiment}/real.parquet" for config in variants.values()
        }
    else:
        assert {fill: len(results[fill]) for fill in part.fills} == dict.fromkeys(part.fills, 5)
    if part.name == "groups":
        # The images that settings are chosen by are no training images, not even of DFR.
        assert {config.dataset.test_split for config in loaded} == {"validation"}
        splits = {recipe.stage2.split for config in loaded for recipe in config.recipes.values() if recipe.stage2}
        assert splits == {None, "reweight"}


def test_recipes_with_the_same_stage_1_share_it():
    methods = {method.name: method for method in evidence.CLASS_METHODS}
    trials = [
        evidence.Trial(methods["crt"], (0.1, 0.3), 1),
        evidence.Trial(methods["crt"], (0.1, 0.1), 1),
        evidence.Trial(methods["crt"], (0.2, 0.1), 1),
        evidence.Trial(methods["cross_entropy"], (0.1, 0.0005), 1),  # the default weight decay
    ]
    recipes = evidence.recipes_of(trials, {"steps": 600})
    owners = [recipes[trial.recipe].get("stage1_of") for trial in trials]
    assert owners == ["cross_entropy-0.1x0.0005", "cross_entropy-0.1x0.0005", None, None]


def test_an_optimum_at_an_end_adds_the_next_value_in_the_same_ratio():
    method = next(method for method in evidence.CLASS_METHODS if method.name == "reweighted_effective_deferred")
    trials = [evidence.Trial(method, point, 1) for point in method.points]
    accuracies = pd.Series({trial.recipe: trial.point == (0.2, 0.67) for trial in trials}, dtype=float)
    best = evidence.best_trial(trials, accuracies)
    assert [point for _, point in evidence.wider_trials(best, method.axes)] == [(0.4, 0.67)]
    # deferred: 0.9 is at an end, but the next value would be above the limit.
    assert method.axes[1].next_to(0.9) is None
    assert method.axes[0].next_to(0.05) == 0.025


def test_a_part_uses_the_settings_that_were_chosen_for_another_one(tmp_path):
    part = PARTS["classes_10"]
    assert part.settings_of == "classes_100"
    with pytest.raises(SystemExit, match="run --only classes_100 first"):
        evidence.read_settings(part, tmp_path)
    synaug = next(method for method in part.methods if method.name == "synaug")
    trial = evidence.Trial(synaug, (0.1, 3.12e-05), 2)
    (tmp_path / "classes_100_settings.csv").write_text(
        f"part,method,chosen_by,recipe,validation,trials,seeds,at_end\nclasses_100,synaug,balanced,{trial.recipe},0.8,9,1,\n"
    )
    (tmp_path / "classes_100_trials.csv").write_text(
        "recipe,pass,hyperparameter_1,hyperparameter_2,hyperparameter_3\n"
        f"{trial.recipe},2,stage1.learning_rate=0.1,stage2.learning_rate=3.12e-05,\n"
    )
    settings, best = evidence.read_settings(part, tmp_path)
    assert best == {("synaug", "balanced"): trial}
    assert settings["at_end"].tolist() == [""]


def test_an_internal_part_has_the_methods_that_fill_and_those_that_they_are_compared_with():
    part, out = PARTS["classes_100_internal"], Path(__file__).parents[3] / "docs/results/evidence"
    settings, best = evidence.read_settings(part, out)
    real = {method.name for method in part.methods if method.data == "real"}
    assert set(settings["method"]) & real == {"cross_entropy", "balanced_softmax"}
    assert {method for method, _ in best} == set(settings["method"])
    filled = {method.name for method in part.methods if method.data == "balanced" and method.fill == "full"}
    assert set(settings["method"]) - real == filled


def test_the_smallest_study_has_methods_that_exist():
    for name, methods in evidence.QUICK_METHODS.items():
        assert [method.name for method in evidence.quick(PARTS[name]).methods if method.name in methods]
        assert set(methods) <= {method.name for method in PARTS[name].methods}

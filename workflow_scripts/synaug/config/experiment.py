"""The whole config of an experiment."""

import logging
import re
from collections.abc import Mapping
from itertools import combinations
from os.path import commonpath, realpath, relpath
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, WithJsonSchema, field_validator, model_validator

from synaug.config.adaptation import Adaptation
from synaug.config.balance import Balance
from synaug.config.base import Block, Name, Seed, normal_path
from synaug.config.dataset import Dataset
from synaug.config.errors import describe
from synaug.config.evaluation import Evaluation
from synaug.config.generation import Generation
from synaug.config.generator import Generator
from synaug.config.imbalance import Imbalance
from synaug.config.portfolio import portfolio
from synaug.config.prompts import Prompts
from synaug.config.screening import Screening
from synaug.config.training import Recipe, Stage1
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)

# Keys of `generation` that all fills share, because they belong to the jobs or to the report.
_OF_ALL_FILLS = ("compile", "attention", "batch_size", "images_per_shard", "keep_batches_in", "note")
# Key of `generation` -> keys that a fill with another value does not take over from there.
_BELONG_TO = {"model": ("revision", "variant", "adapters"), "pipeline": ("strength",)}
_MOST_VALUES, _DEEPEST = 1_000_000, 50
# Folders in results/<experiment>/ that the rules and their jobs write to.
_USED_FOLDERS = {
    "adaptation", "backbone_features", "benchmarks", "candidates", "checkpoints", "costs", "figures", "final",
    "finetune", "packed", "pixels", "scores", "screener", "shards", "train", "work",
}  # fmt: skip


class Config(Block):
    """An experiment, or a study of several experiments."""

    experiment: Name = Field(description="Name of the experiment. The results go to results/<experiment>/.")
    seed: Seed = Field(0, description="Base of all random seeds of generation. Another value gives other images.")
    dataset: Dataset
    imbalance: Imbalance = Imbalance()
    prompts: Prompts = Prompts()
    balance: Balance = Balance()
    generator: Generator | None = Field(
        None, description="A small generator that the target `train_generator` trains; null: none."
    )
    adaptation: Adaptation | None = Field(
        None, description="An adapter of generation.model that the target `adapt_generator` trains; null: none."
    )
    generation: Generation = Generation()
    fills: dict[Name, Annotated[Generation, WithJsonSchema({"type": "object"})]] = Field(
        {},
        description="Fill name -> keys of `generation` that differ. Each fill is a set of synthetic images that "
        "completes all classes, and a recipe uses one of them; without any, `generation` is the only one.",
    )
    screening: Screening = Screening()
    training: Stage1 = Field(Stage1(), description="Stage 1 of every recipe. The `stage1` of a recipe overrides it.")
    recipes: dict[Name, Recipe] = Field(
        min_length=1,
        description="Recipe name -> a way to train; or auto: seven recipes, three of them without synthetic images.",
    )
    seeds: list[Seed] = Field(
        [0, 1, 2],
        min_length=1,
        description="Random seeds of training. Each recipe is trained once with each seed, unless evaluation.halving "
        "drops it.",
    )
    evaluation: Evaluation = Evaluation()
    study: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], dict[str, Any] | None] | None = Field(
        None,
        description="Variant -> keys that differ. Each variant is an experiment called <experiment>-<variant>; null: "
        "a single experiment.",
    )

    @model_validator(mode="before")
    @classmethod
    def _recipes_inherit_training(cls, config: Any) -> Any:
        """Fill the `stage1` of each recipe with the keys of `training` that the recipe does not set.

        A recipe with `stage1_of` gets the images and the stage 1 of that recipe instead. `auto` stands for `portfolio`.
        """
        training, recipes = config.get("training") or {}, config.get("recipes")
        if recipes == "auto":
            fills = config.get("fills")
            recipes = portfolio(fills if isinstance(fills, dict) else ())
        if not isinstance(training, dict) or not isinstance(recipes, dict):
            return config
        complete = {}
        for name, recipe in recipes.items():
            overrides = recipe.get("stage1") if isinstance(recipe, dict) else None
            if isinstance(recipe, dict) and (overrides is None or isinstance(overrides, dict)):
                recipe = {**recipe, "stage1": {**training, **(overrides or {})}}
            complete[name] = recipe
        for name, recipe in complete.items():
            source = recipe.get("stage1_of") if isinstance(recipe, dict) else None
            if source is not None:
                complete[name] = _with_stage1_of(name, recipes[name], source, complete)
        return {**config, "recipes": complete}

    @model_validator(mode="before")
    @classmethod
    def _fills_inherit_generation(cls, config: Any) -> Any:
        """Fill each of `fills` with the keys of `generation` that it does not set.

        A fill with another model does not take over the revision, the variant and the adapters, nor one with another
        pipeline the strength.
        """
        generation, fills = config.get("generation"), config.get("fills")
        if not isinstance(generation, dict) or not isinstance(fills, dict):
            return config
        complete = {}
        for name, keys in fills.items():
            if isinstance(keys, dict):
                different = [
                    key for key in _BELONG_TO if key in keys and not _same_text(keys[key], generation.get(key))
                ]
                left_out = {belonging for key in different for belonging in _BELONG_TO[key]}
                keys = {key: value for key, value in generation.items() if key not in left_out} | keys
            complete[name] = keys
        return {**config, "fills": complete}

    @property
    def generation_of_fills(self) -> dict[str, Generation]:
        """Name of each fill -> its settings. Without `fills` it is one without a name, and without a model none."""
        return self.fills or ({"": self.generation} if self.generation.model else {})

    @property
    def used_balance(self) -> Balance:
        """The block `balance`; without a model, one that wants no synthetic image, not even in an empty cell."""
        if self.generation.model:
            return self.balance
        return Balance(strategy="fixed", target=1, max_synthetic_per_real=1.0)

    def trains_model(self, model: str | None) -> bool:
        """Whether `model`, the key of a fill, is the generator that this experiment trains."""
        return bool(self.generator and model and realpath(model) == realpath(self.generator.output))

    def trains_adapter(self, model: str) -> bool:
        """Whether `model`, the key of an adapter, is the adapter that this experiment trains."""
        return self.adaptation is not None and realpath(model) == realpath(self.adaptation.output)

    def plan_settings(self) -> dict[str, Any]:
        """The settings that the rows of the manifest `plan` depend on, as plain values, for `plan_from_settings`."""
        same_images = {"attention", "batch_size", "compile", "keep_batches_in", "note"}  # with any value of these keys
        settings = {
            "seed": self.seed,
            "image_size": self.dataset.image_size,
            "color": self.dataset.color,
            "train_split": self.dataset.train_split,
            "group_columns": self.dataset.group_columns,
            "balance": self.balance.model_dump(exclude={"shortfall", "keep"}),
            "prompts": self.prompts.model_dump(),
            "generation": self.generation.model_dump(exclude=same_images),
        }
        if any(recipe.stage1.crop_area < 1 for recipe in self.recipes.values()):
            settings["crops"] = True  # no key of experiments without crops, whose plans remain
        if self.fills:
            settings["fills"] = {name: fill.model_dump(exclude=same_images) for name, fill in self.fills.items()}
        return settings

    @model_validator(mode="after")
    def _synthetic_images_need_a_model(self):
        users = {f"recipes.{name}": recipe.data == "balanced" for name, recipe in self.recipes.items()}
        users |= {key: getattr(self, key) for key in ("fills", "adaptation")}
        users["screening"] = self.screening != Screening()
        users |= {f"evaluation.{key}": getattr(self.evaluation, key) for key in ("domain_probe", "shortcut_images")}
        needed_by = ", ".join(user for user, used in users.items() if used)
        blocks = {"generation": self.generation} | {f"fills.{name}": fill for name, fill in self.fills.items()}
        without = [name for name, block in blocks.items() if not block.model]
        if needed_by and without:
            raise ValueError(
                f"{without[0]}.model: is missing, and synthetic images are needed by {needed_by}; add the model, or "
                "leave these out"
            )
        return self

    @model_validator(mode="after")
    def _fills_differ(self):
        for name, fill in self.fills.items():
            for key in _OF_ALL_FILLS:
                if getattr(fill, key) != getattr(self.generation, key):
                    raise ValueError(f"fills.{name}.{key}: all fills share it; set it under generation")
        for first, second in combinations(self.fills, 2):
            fills = self.fills[first], self.fills[second]
            keys = [fill.model_dump(exclude={"steps", "guidance", "licence"}) for fill in fills]
            shared = [pair for pair in fills[0].steps_and_guidance if pair in fills[1].steps_and_guidance]
            if keys[0] == keys[1] and shared:
                steps, guidance = shared[0]
                raise ValueError(
                    f"fills.{second}: makes the same images as fills.{first} (steps {steps}, guidance {guidance:g}); "
                    "change it or leave it out"
                )
        return self

    @model_validator(mode="after")
    def _generator_sees_training_images_only(self):
        """A plain table says by its column `split` which images are held out, and by nothing else."""
        dataset = self.dataset
        leaves_out = bool(dataset.make_splits) or dataset.imbalance_factor is not None
        if self.generator and (leaves_out or dataset.split_column != "split"):
            results, images = f"results/{self.experiment}", realpath(self.generator.images)
            of_dataset = [realpath(path) for path in (dataset.path, f"{results}/dataset.parquet")]
            within = any(images == path or images.startswith(f"{path}/") for path in of_dataset)
            if within and images != realpath(f"{results}/real.parquet"):  # which knows the splits
                raise ValueError(
                    f"generator.images: the training cannot tell which images of {self.generator.images} are held out "
                    f"or left out; give {results}/real.parquet"
                )
        return self

    @model_validator(mode="after")
    def _trained_models_have_folders_of_their_own(self):
        """A training replaces its folder, and a later one refuses a folder with other files."""
        results, outputs = f"results/{self.experiment}", []
        for block, example in (("generator", "generator"), ("adaptation", "adapter")):
            if settings := getattr(self, block):
                outputs.append(realpath(settings.output))
                if relpath(outputs[-1], realpath(results)).split("/")[0] in _USED_FOLDERS:
                    raise ValueError(
                        f"{block}.output: {settings.output} is in a folder that the workflow uses itself; name another "
                        f"one, for example {results}/{example}"
                    )
        if len(outputs) > 1 and commonpath(outputs) in outputs:
            raise ValueError("generator.output and adaptation.output must not lie in each other; name another folder")
        return self

    @model_validator(mode="after")
    def _recipes_name_their_fill(self):
        names = ", ".join(self.fills)
        for recipe_name, recipe in self.recipes.items():
            fill_name = recipe.fill.name if recipe.fill else None
            if fill_name is not None and fill_name not in self.fills:
                advice = f"give one of {names}" if names else "add it to fills, or leave it out"
                raise ValueError(f"recipes.{recipe_name}.fill.name: {fill_name!r}: no such fill; {advice}")
            if fill_name is None and recipe.data == "balanced" and len(self.fills) > 1:
                raise ValueError(f"recipes.{recipe_name}.fill: needs `name`, one of {names}; add it")
        return self

    @model_validator(mode="after")
    def _probes_are_for_one_fill(self):
        for key in ("domain_probe", "shortcut_images"):
            if getattr(self.evaluation, key) and len(self.fills) > 1:
                raise ValueError(f"evaluation.{key}: is for experiments with one fill; leave it out")
        return self

    @model_validator(mode="after")
    def _the_gate_has_validation_images(self):
        classifier = self.screening.classifier
        if classifier and classifier.gate and not self.dataset.validation_split:
            raise ValueError("screening.classifier.gate needs dataset.validation_split; add it, or set gate to false")
        return self

    @model_validator(mode="after")
    def _negative_prompt_needs_a_model_that_reads_texts(self):
        pipelines = [fill.pipeline for fill in self.generation_of_fills.values()]
        if self.prompts.negative and "class-conditional" in pipelines:
            raise ValueError(
                f"prompts.negative: {self.prompts.negative!r} has no effect with generation.pipeline: "
                "class-conditional; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _adapter_is_for_a_model_that_reads_text(self):
        if self.adaptation and self.generation.pipeline == "class-conditional":
            raise ValueError("adaptation: needs a model that reads text; leave it out with pipeline: class-conditional")
        return self

    @model_validator(mode="after")
    def _images_are_kept_by_what_the_screening_computes(self):
        keep = self.balance.keep
        if keep != "score" and self.balance.oversample == 1:
            raise ValueError(
                f"balance.keep: {keep} has no effect with oversample: 1, which generates no spare images; raise it, "
                "for example to 2, or leave keep out"
            )
        if keep == "coverage" and not self.screening.feature_space:
            block = f"screening.{self.screening.features}"
            raise ValueError(f"balance.keep: coverage needs features of the images; add the block {block}")
        if keep == "uncertain" and not self.screening.classifier:
            raise ValueError("balance.keep: uncertain needs the predictions of the block screening.classifier; add it")
        return self

    @model_validator(mode="after")
    def _groups_exist_where_they_are_used(self):
        columns = self.dataset.group_columns
        allowed = ["label", "modifier", *(["group", *columns] if columns else [])]
        for template in self.prompts.templates:
            for name in re.findall(r"\{([^{}]*)\}?", template):
                if name not in allowed:
                    known = ", ".join(f"{{{placeholder}}}" for placeholder in allowed)
                    raise ValueError(
                        f"prompts.templates: {template!r}: unknown placeholder {{{name}}}; allowed here: {known}"
                    )
        if columns:
            return self
        users = {
            "evaluation.shortcut_images": self.evaluation.shortcut_images,
            f"balance.strategy: {self.balance.strategy}": self.balance.strategy.startswith("largest_of_"),
        }
        for name, recipe in self.recipes.items():
            users[f"recipes.{name}.stage1.group_dro"] = recipe.stage1.group_dro
            for key, stage in (("stage1", recipe.stage1), ("stage2", recipe.stage2)):
                users[f"recipes.{name}.{key}.sampling: group_balanced"] = stage and stage.sampling == "group_balanced"
        for user, used in users.items():
            if used:
                raise ValueError(f"{user} needs dataset.group_columns; set it to the columns that define the groups")
        return self

    @model_validator(mode="after")
    def _a_choice_has_validation_images(self):
        if self.evaluation.choose_by and not self.dataset.validation_split:
            raise ValueError("evaluation.choose_by needs dataset.validation_split; add it, or set choose_by to null")
        if self.evaluation.choose_by == "worst_cell" and not self.dataset.group_columns:
            raise ValueError("evaluation.choose_by: worst_cell needs dataset.group_columns; choose another metric")
        splits = [recipe.stage2 and recipe.stage2.split for recipe in self.recipes.values()]
        if self.evaluation.choose_by and all(split == self.dataset.validation_split for split in splits):
            raise ValueError(
                "evaluation.choose_by needs a recipe that is not trained on the validation images; remove stage2.split"
            )
        return self

    @model_validator(mode="after")
    def _stage2_uses_no_test_images(self):
        allowed = [split for split in self.dataset.splits if split != self.dataset.test_split]
        for name, recipe in self.recipes.items():
            split = recipe.stage2 and recipe.stage2.split
            if split and split not in allowed:
                raise ValueError(
                    f"recipes.{name}.stage2.split: {split!r} must be the training or the validation split "
                    f"({', '.join(allowed)}), since nothing is trained on test images; name one of them"
                )
        return self

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed may occur once only; remove the others")
        return seeds

    @field_validator("evaluation")
    @classmethod
    def _baselines_are_recipes(cls, evaluation: Evaluation, info: ValidationInfo) -> Evaluation:
        recipes = info.data.get("recipes", {})  # missing if the recipes themselves are wrong
        unknown = set(evaluation.baselines) - recipes.keys()
        if recipes and unknown:
            raise ValueError(
                f"baseline: {', '.join(sorted(unknown))}: no such recipe; give null, or some of {', '.join(recipes)}"
            )
        return evaluation


def _same_text(first: Any, second: Any) -> bool:
    """Whether two values that are not checked yet are equal, or the same path."""
    texts = isinstance(first, str) and isinstance(second, str)
    return normal_path(first) == normal_path(second) if texts else first == second


def _with_stage1_of(name: str, recipe: dict, source: Any, recipes: dict) -> dict:
    """`recipe`, called `name`, with the data and the stage 1 of the recipe `source`.

    Raises ValueError if `source` has no stage 1 of its own, or if the keys of `recipe` contradict it.
    """
    if not isinstance(source, str) or not isinstance(recipes.get(source), dict) or recipes[source].get("stage1_of"):
        possible = [
            other for other, settings in recipes.items() if isinstance(settings, dict) and not settings.get("stage1_of")
        ]
        raise ValueError(
            f"recipes.{name}.stage1_of: {source!r} must be a recipe with its own stage 1; there are: "
            f"{', '.join(possible)}"
        )
    # A config that was written out in full has these keys, with equal values.
    if any(key in recipe and recipe[key] != recipes[source].get(key) for key in ("data", "fill", "stage1")):
        raise ValueError(f"recipes.{name}: stage1_of takes data, fill and stage1 from {source}; leave these keys out")
    if recipe.get("stage2") is None:
        raise ValueError(f"recipes.{name}: without stage2 it is identical to {source}; add stage2 or remove the recipe")
    return {**recipe, **{key: recipes[source].get(key) for key in ("data", "fill", "stage1")}}


def load_config(config: dict[str, Any], where: str = "config") -> Config:
    """Check the parsed YAML `config`. Error messages begin with `where`.

    Raises UserError: one line that names each wrong key, its value, and what is allowed.
    """
    _refuse_too_many_values(config, where)
    try:
        return Config.model_validate(config)
    except ValidationError as error:
        faults = error.errors()
        inherited = {fault["loc"] for fault in faults if fault["loc"][:1] in (("training",), ("generation",))}
        faults = [fault for fault in faults if not _is_inherited(fault, inherited, config)]
        raise UserError(f"{where}: {describe(faults, config, Config)}") from None


def _is_inherited(fault: Mapping[str, Any], faults_of_blocks: set[tuple], config: dict[str, Any]) -> bool:
    """Whether a recipe or a fill has this fault only because it takes the keys of another block.

    faults_of_blocks: locations in `training` and `generation`. A recipe can also take the keys of another recipe.
    """
    match fault["loc"]:
        case ("recipes", _, "stage1", *location) if ("training", *location) in faults_of_blocks:
            return True
        case ("fills", _, *location) if ("generation", *location) in faults_of_blocks:
            return True
        case ("recipes", name, "stage1" | "data" | "fill", *_):
            recipes = config["recipes"]
            recipe = recipes.get(name) if isinstance(recipes, dict) else None
            return isinstance(recipe, dict) and bool(recipe.get("stage1_of"))
    return False


def _refuse_too_many_values(config: dict[str, Any], where: str) -> None:
    """Raise UserError if `config` is nested too deeply or has too many values.

    YAML's aliases make a few lines stand for billions of values, or for an endless nesting.
    """
    waiting, count = [(config, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > _DEEPEST or count + len(waiting) > _MOST_VALUES:
            raise UserError(
                f"{where}: has more than {_MOST_VALUES:,} values, or more than {_DEEPEST} levels of nesting",
                advice="remove aliases (*name) that repeat large parts",
            )
        if isinstance(value, dict):
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]

"""What all rules share: the validated config, and functions that name inputs. It holds no rule and no logic of its own.

Inputs: the parsed config. Outputs: CONFIG (a pydantic model; rules pass parts of it on as plain dicts, because Snakemake
does not notice a changed model object), DATASET (the block `dataset` with a local path), ORIGIN (of the data set, if it is
one of the hub), DATA_FILES, BASE_FILES (of the model that is adapted), FILES_OF_FILL (of model and adapters, by fill),
MODEL_FILES (of all fills), PROMPT_FILES, GATE, PILOT, PILOT_PLAN, and the functions below.
"""

import os
import re
import sys
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path

# Beside this file, wherever it is imported from; relative, so that a checkout that was moved has the same inputs.
SCRIPTS = Path(os.path.relpath(workflow.current_basedir.get_path_or_uri(secret_free=True))).parent / "workflow_scripts"
# This checkout's library, here and (`import_from`) in every job, whatever other copy is installed.
sys.path.insert(0, str(SCRIPTS.absolute()))

from snakemake.exceptions import IncompleteCheckpointException
from synaug.balance import manifests_hash
from synaug.config import check_config_file, load_config
from synaug.datasets import fingerprint
from synaug.datasets.hub import on_this_machine
from synaug.downloads import check_downloads
from synaug.evaluation.choice import chosen_candidate
from synaug.evaluation.halving import kept_candidates
from synaug.generator.output_folder import (
    ADAPTER_HISTORY,
    ADAPTER_SAMPLES,
    ADAPTER_WEIGHTS,
    check_adapter_folder,
    check_no_storage,
    check_output_folder,
    check_start_folder,
)
from synaug.plan.attention import check_attention
from synaug.plan.checkpoints import adapter_files, check_variant, model_files
from synaug.plan.compiling import COMPILE_SETTINGS
from synaug.plan.model_family import check_generation
from synaug.plan.prompts import caption_prompts, prompt_files
from synaug.plan.schedulers import check_scheduler
from synaug.plan.shards import fills_of_shards
from synaug.report.comparison import compared_networks
from synaug.runtime.code import code_hash, import_from, save_cache_at_exit
from synaug.runtime.devices import WHOLE_DEVICE, jobs_per_device
from synaug.runtime.errors import ERROR_PREFIX, UserError, exits_in_one_line
from synaug.runtime.files import check_no_braces, check_regular_file, text_hash
from synaug.runtime.logs import last_errors
from synaug.screening.checkpoints import screens_with_little_memory
from synaug.submissions import numbers_of_submissions, order_of_shards
from synaug.training.memory import needs_little_memory

import_from(SCRIPTS.absolute())
STARTED, STUDY = time.time(), []  # STUDY: the experiments of a study


include: "storage.smk"


def files_of_model(generation):
    """The files of the model of a fill, as inputs."""
    if CONFIG.trains_model(generation.model):  # rule train_generator makes it; it holds a hash of the weights
        return [f"{CONFIG.generator.output}/model_index.json"]
    return on_machine(model_files(generation.model, generation.revision))


def files_of_adapters(generation):
    """The files of the adapters of a fill, as inputs."""
    files = []
    for adapter in generation.adapters:
        if CONFIG.trains_adapter(adapter.model):  # rule adapt_generator makes it
            files.append(f"{CONFIG.adaptation.output}/{ADAPTER_WEIGHTS}")
        else:
            files += on_machine(adapter_files(adapter))
    return files


try:  # a mistake in the config is reported before any job starts, in one line
    for file in workflow.configfiles:
        check_config_file(file)
    CONFIG = load_config(config)
    for manifest in Path(f"results/{CONFIG.experiment}").glob("*.parquet"):  # the functions below open some of them
        check_regular_file(manifest)
    if IN_STORAGE:
        check_no_storage(CONFIG.generator is not None, CONFIG.adaptation is not None)
    for block in (CONFIG.generator, CONFIG.adaptation):
        for key in ("images", "start", "output"):
            check_no_braces(getattr(block, key, None) or "")
    if CONFIG.generator:  # here already: Snakemake deletes the declared output before the job can refuse
        check_output_folder(
            CONFIG.generator.output,
            protected=[
                CONFIG.dataset.path,
                CONFIG.generator.images,
                f"results/{CONFIG.experiment}",
                *([CONFIG.generator.start] if CONFIG.generator.start else []),
            ],
        )
        check_start_folder(CONFIG.generator.start)
    if CONFIG.adaptation:
        check_adapter_folder(
            CONFIG.adaptation.output,
            protected=[CONFIG.dataset.path, CONFIG.generation.model, f"results/{CONFIG.experiment}"],
        )
    CONFIG_FILE = os.path.relpath(workflow.configfiles[0]) if workflow.configfiles else "CONFIG"
    # The block `dataset` with a local path, and where that came from if it is a data set of the hub.
    DATASET, ORIGIN = on_this_machine(CONFIG.dataset, CONFIG_FILE)
    DATA_FILES = data_files(DATASET)
    BASE_FILES = files_of_model(CONFIG.generation) if CONFIG.adaptation else []
    FILES_OF_FILL = {}
    for name, generation in CONFIG.generation_of_fills.items():
        FILES_OF_FILL[name] = files_of_model(generation) + files_of_adapters(generation)
        check_variant(generation.model, generation.variant)
        check_scheduler(generation.scheduler_text)
        check_generation(generation, CONFIG.prompts.negative)
    check_attention(CONFIG.generation.attention or "")
    MODEL_FILES = list(dict.fromkeys(file for files in FILES_OF_FILL.values() for file in files))
    PROMPT_FILES = on_machine(prompt_files(CONFIG.prompts))
    # Jobs share a GPU only where this process starts them itself. A cluster gives each job its own.
    LOCAL = workflow.is_main_process and workflow.resource_settings.nodes is None
    TRAINING_JOBS = SCREENING_JOBS = 1  # that share a GPU
    if LOCAL:
        TRAINING_JOBS = jobs_per_device(
            all(needs_little_memory(recipe.stage1, CONFIG.dataset.image_size) for recipe in CONFIG.recipes.values())
        )
        SCREENING_JOBS = jobs_per_device(
            screens_with_little_memory(CONFIG.screening, CONFIG.training, CONFIG.dataset.image_size)
        )
except UserError as error:
    sys.exit(f"{ERROR_PREFIX}{error}")

# Snakemake's limit on `gpu` counts whole GPUs. `gpu_share` counts the same GPUs in thousandths, for jobs that share one.
if LOCAL and "gpu" in workflow.global_resources:
    workflow.register_resource("gpu_share", WHOLE_DEVICE * workflow.global_resources["gpu"].value)


# Jobs that share a submission run one after the other, if a profile gives each of them a `turn`. So a submission asks for
# what its largest job needs, for the sum of their run times.
resource_scopes:
    turn="local",


if not LOCAL:
    workflow.register_resource("turn", 1)


# With `synaug run --parts`, the last of its calls of Snakemake takes the shards and their scores as they are: the calls
# before have made them, and their jobs would make the graph too large.
SHARDS_EXIST = bool(os.environ.get("SYNAUG_SHARDS_EXIST"))


# The gate, and the number of images per class and fill that are made before it decides, if there is a pilot.
GATE = {}
PILOT, PILOT_PLAN = None, {}
if CONFIG.screening.classifier and CONFIG.screening.classifier.gate:
    GATE = {"gate": "<results>/gate.parquet"}
    PILOT = CONFIG.screening.classifier.pilot
    PILOT_PLAN = {"pilot": "<results>/pilot.parquet"} if PILOT else {}


# Size of the files of a model that counts as small, in bytes.
SMALL_MODEL = 100_000_000
# generation.compile as a resource of the rules that generate images, see rules/generation.smk.
COMPILE = {setting: number for number, setting in COMPILE_SETTINGS.items()}[CONFIG.generation.compile]


@exits_in_one_line
def check_downloads_of_jobs():
    """End the run if its jobs need what HF_HUB_OFFLINE=1 forbids to download, and nothing has downloaded it before."""
    if workflow.touch:  # no job runs
        return
    rules = {job.rule.name for job in workflow.dag.needrun_jobs()}
    variants = {f"{name}_": settings for name, settings in CONFIGS.items()} if STUDY else {"": CONFIG}
    for prefix, settings in variants.items():
        check_downloads(settings, {rule.removeprefix(prefix) for rule in rules if rule.startswith(prefix)}, CONFIG_FILE)


wildcard_constraints:
    shard="[0-9a-f]{16}",
    stage="train|finetune",
    recipe="|".join(CONFIG.recipes),
    seed=r"\d+",


def whole_gpus(jobs, devices=1):
    """The resource `gpu` of a job on `devices` GPUs: their number; 0 if it is one of several `jobs` that share a GPU."""
    return devices if jobs == 1 or devices > 1 else 0


def gpu_share(jobs, devices=1):
    """The resource `gpu_share` of the same job, in thousandths of a GPU. See docs/how-to/models.md."""
    return WHOLE_DEVICE // jobs if devices == 1 else WHOLE_DEVICE * devices


def share_submissions(name, number):
    """`group` of jobs that share submissions, if a profile says how many: its `group-components`, by `name`.

    number: a function of wildcards and that number of jobs. It says which submission a job belongs to, or None for a
    job that has one of its own. All jobs of a submission must appear, and change, at the same checkpoints.
    `--groups` of Snakemake 9.27 is not used: whenever a checkpoint has finished, it merges groups that it has merged
    before, so that a submission gets too many jobs. Here each submission has its name from the start.
    """

    def group(wildcards):
        jobs = workflow.group_settings.group_components.get(name)
        submission = number(wildcards, jobs) if jobs else None
        if submission is None:
            return None
        submission = f"{CONFIG.experiment}_{name}_{submission}"
        workflow.parent_groupids[submission] = name  # so that Snakemake knows how many jobs it may merge
        return submission

    return group


def code(script):
    """A parameter of a rule: the hash of the code that decides what `script` (<step>/<rule>.py) makes.

    It is a function, so that a Snakemake that runs one job on another machine reads the code of that job only.
    """
    return lambda wildcards: code_hash(SCRIPTS / script)


@exits_in_one_line  # a damaged plan
def shards_of_plan(planned=None, read=fills_of_shards, **options):
    """Shard -> its fill, of the plan that the checkpoint `planned` makes; Snakemake asks again once it is made.

    read: what reads the plan, with `options`; another function gives something else for each shard.
    """
    with (planned or checkpoints.plan_generation).get().output.plan.open("rb") as plan:
        return read(plan.name, os.fstat(plan.fileno()).st_mtime_ns, **options)


def is_of_pilot(shard):
    """Whether the pilot names `shard`. The whole plan has its images again, in shards that copy them."""
    return bool(PILOT) and shard in shards_of_plan(checkpoints.plan_pilot)


def submissions_of_shards(folder):
    """A function for `share_submissions`, of a rule that makes a file of each shard in this folder of the results."""

    def number(wildcards, jobs):
        pilot = is_of_pilot(wildcards.shard)
        planned = checkpoints.plan_pilot if pilot else checkpoints.plan_generation
        position = shards_of_plan(planned, order_of_shards, folder=folder)[wildcards.shard]
        return f"{'pilot' if pilot else 'plan'}_{position // jobs}"

    return number


def plan_of_shard(wildcards):
    """The plan that names a shard. Ancient, see rules/generation.smk."""
    return ancient("<results>/pilot.parquet" if is_of_pilot(wildcards.shard) else "<results>/plan.parquet")


def fill_of_shard(wildcards):
    """The fill of a shard."""
    if not CONFIG.fills:
        return ""
    planned = checkpoints.plan_pilot if is_of_pilot(wildcards.shard) else checkpoints.plan_generation
    return shards_of_plan(planned)[wildcards.shard]


def is_small(model):
    """Whether a model, by its local folder, is small like the embedded one, or like one that train_generator makes."""
    if CONFIG.trains_model(model):
        return True
    files = Path(model).rglob("*") if Path(model).is_dir() else []
    return 0 < sum(file.stat().st_size for file in files if file.is_file()) < SMALL_MODEL


# CPU threads of a job that generates images. With a small model, jobs of one thread need 15 % fewer core-seconds for the
# same images (docs/decisions.md). With a large model, each further job that runs at the same time needs its memory.
THREADS_OF_FILL = {
    fill: 1 if is_small(generation.model) else 2 for fill, generation in CONFIG.generation_of_fills.items()
}


def settings_of_fill(fill):
    """PLAN_SETTINGS (see rules/plan.smk) for the images of one fill."""
    if not fill:
        return PLAN_SETTINGS
    settings = PLAN_SETTINGS | {"generation": PLAN_SETTINGS["fills"][fill]}
    return {key: value for key, value in settings.items() if key != "fills"}


def settings_of_few_images(fill):
    """`settings_of_fill` for images that lie in no shard: another `images_per_shard` must not sample them again."""
    settings = settings_of_fill(fill)
    generation = {key: value for key, value in settings["generation"].items() if key != "images_per_shard"}
    return settings | {"generation": generation}


def sources_of_shard(wildcards):
    """Where the images of a shard start from: the real images, if its fill is image-to-image."""
    return ancient("<results>/real.parquet") if PIPELINES[fill_of_shard(wildcards)] == "image-to-image" else []


def preview_sources(wildcards):
    """What the preview images of a fill start from, if it is image-to-image."""
    return SOURCES["real"] if PIPELINES[PREVIEWS[wildcards.fill]] == "image-to-image" else []


@exits_in_one_line
def nothing_to_preview(wildcards):
    """The input of the preview without a model, which ends the run."""
    raise UserError("preview: there are no synthetic images", advice="add generation.model to the config")


def of_shards(folder, planned=None):
    """Paths of the files of all shards in a folder of the results. planned: see `shards_of_plan`."""
    return [f"<results>/{folder}/{name}.parquet" for name in shards_of_plan(planned)]


def shards(wildcards):
    """Paths of all shards."""
    return of_shards("shards")


def shard_scores(wildcards):
    """Paths of the scores of all shards."""
    return of_shards("scores")


def pilot_scores(wildcards):
    """Paths of the scores of the pilot's shards."""
    return of_shards("scores", checkpoints.plan_pilot)


def balanced_manifest(wildcards):
    """The balanced manifest, once it is made. Ancient: its content counts (`images_of`), not its date."""
    balanced = checkpoints.build_balanced_manifest.get().output.balanced
    with balanced.open("rb"), checkpoints.index_dataset.get().output.real.open("rb"):  # `images_of` reads both
        return ancient(balanced)


def balanced_of_recipe(wildcards):
    """The balanced manifest, if the recipe has synthetic images. Others train as soon as the real images are indexed."""
    if CONFIG.recipes[recipe_of(wildcards)].data == "balanced":
        return balanced_manifest(wildcards)
    with checkpoints.index_dataset.get().output.real.open("rb"):  # `images_of` reads it
        return []


@exits_in_one_line  # a damaged manifest
def images_of(data, fill=None):
    """Hash of the images that a recipe with these keys trains on, and of its evaluation images."""
    manifests = [checkpoints.index_dataset.get().output.real]
    if data == "balanced":
        manifests.append(checkpoints.build_balanced_manifest.get().output.balanced)
    with ExitStack() as opened:
        files = [opened.enter_context(manifest.open("rb")) for manifest in manifests]
        changed = tuple(os.fstat(file.fileno()).st_mtime_ns for file in files)
        results, splits = os.path.dirname(files[0].name), (CONFIG.dataset.train_split, tuple(CONFIG.dataset.held_out))
        return manifests_hash(results, data, fill, *splits, changed)


@exits_in_one_line  # a damaged table
def chosen():
    """(recipe, stage) that is chosen, once it is."""
    with checkpoints.choose_recipe.get().output.chosen.open("rb") as table:
        return chosen_candidate(table.name, os.fstat(table.fileno()).st_mtime_ns)


def recipe_of(wildcards):
    """The recipe of a network: of the final ones the chosen recipe."""
    return wildcards.get("recipe") or chosen()[0]


def data_of(recipe):
    """`data` and `fill` of a recipe."""
    return CONFIG.recipes[recipe].data, CONFIG.recipes[recipe].fill


def networks_of(settings):
    """(stage, recipe, seed) of every network of the experiment with this config."""
    return [
        (stage, recipe, seed)
        for recipe, way in settings.recipes.items()
        for stage in ("train", "finetune")
        if (not way.stage1_of if stage == "train" else way.stage2)
        for seed in settings.seeds
    ]


def stage1_owners(settings):
    """Recipe -> the recipe whose stage-1 networks it takes, which is itself or another."""
    return {name: recipe.stage1_of or name for name, recipe in settings.recipes.items()}


def baselines_of(settings):
    """The recipes that all others are compared with."""
    return settings.evaluation.baselines or [next(iter(settings.recipes))]


def trained_on_validation(settings):
    """The recipes of the experiment with this config whose stage 2 is trained on validation images."""
    stages = {name: recipe.stage2 for name, recipe in settings.recipes.items() if recipe.stage2}
    return [name for name, stage2 in stages.items() if stage2.split and stage2.split in settings.dataset.held_out]


@exits_in_one_line  # a damaged table of candidates
def kept_after(number):
    """(recipe, stage) of the candidates that stay after this round, by its table."""
    candidates = checkpoints.halve_candidates.get(round=str(number)).output.candidates
    with candidates.open("rb") as table:
        return kept_candidates(table.name, os.fstat(table.fileno()).st_mtime_ns)


def trained_networks(seeds=len(CONFIG.seeds)):
    """(stage, recipe, seed) of every network with one of the first `seeds` seeds that is trained.

    Rules that take files of many networks get the same list as a parameter. Which files exist does not count: files of
    candidates that are dropped may be there from an earlier run.
    """
    stay = {CONFIG.seeds[number]: kept_after(number) for number in range(1, seeds) if ROUNDS}
    return [
        (stage, recipe, seed)
        for stage, recipe, seed in NETWORKS
        if seed in CONFIG.seeds[:seeds]
        and (seed not in stay or recipe in NO_CANDIDATES or (recipe, stage) in stay[seed])
    ]


def trained_stage1_networks():
    """Those of `trained_networks` that are of stage 1."""
    return [network for network in trained_networks() if network[0] == "train"]


def trained_candidates(seeds=len(CONFIG.seeds)):
    """Those of `trained_networks` that are compared by the validation images."""
    return [network for network in trained_networks(seeds) if network[1] not in NO_CANDIDATES]


def networks_to_compare():
    """(stage, recipe, seed) of the two networks that the page compares, or may compare once a recipe is chosen."""
    pairs = compared_networks(CONFIG)
    return [network for network in trained_networks() if CHOICE or (network[1], network[0]) in pairs]


def of_networks(networks, file):
    """The path of `file` of each of the `networks`, which are (stage, recipe, seed)."""
    return [f"<results>/{stage}/{recipe}/{seed}/{file}" for stage, recipe, seed in networks]


def file_of_weights(pretrained):
    """The file that `pretrained`, a key of `training`, names, in a list; an empty one if it names none."""
    return [pretrained] if isinstance(pretrained, str) and pretrained != "embedded" else []


# Recipe -> file of the weights that it starts from, if it has one.
WEIGHTS = {name: file for name, recipe in CONFIG.recipes.items() for file in file_of_weights(recipe.stage1.pretrained)}
# Recipe -> name of the features that its networks are trained on, if its backbone is frozen.
FEATURES = {
    name: "-".join(
        [*recipe.stage1.backbone.split("/"), text_hash(recipe.stage1.backbone, recipe.stage1.pretrained)[:8]]
    )
    for name, recipe in CONFIG.recipes.items()
    if recipe.stage1.freeze == "backbone"
}


def training_state(output):
    """The folder in which the training of the generator `output` keeps its checkpoints.

    It belongs to the output and not to the experiment, or an experiment with another name would train it again.
    """
    output = os.path.normpath(output)
    folder, name = os.path.split(output)
    if os.path.dirname(folder) == "results":
        return f"{output}_training"
    return f"results/.training/{name}-{text_hash(output)[:8]}"


@exits_in_one_line
def weights_of(recipe):
    """The file of the weights that the networks of `recipe` start from, if it has one."""
    if recipe in WEIGHTS:
        check_regular_file(WEIGHTS[recipe])
    return on_machine([WEIGHTS[recipe]] if recipe in WEIGHTS else [])


def recipe_with(network):
    """A recipe that uses the features `network`; one that also trains on synthetic images, if there is one."""
    recipes = [name for name, features in FEATURES.items() if features == network]
    return max(recipes, key=lambda name: CONFIG.recipes[name].data == "balanced")


def images_with_features(network):
    """`data` (see rows_of_recipe) of the training images whose features are needed."""
    return "balanced" if CONFIG.recipes[recipe_with(network)].data == "balanced" else "real"


@cache
def existed(file):
    """Whether a file of the results was there when this run began."""
    return Path(f"results/{CONFIG.experiment}/{file}").exists()


def for_networks(made_by, file, **wildcards):
    """`file` of the results, an output of the checkpoint `made_by`, as an input of networks.

    Ancient: the images count (`images_of`), not the date. If it was there before this run, Snakemake waits for the checkpoint
    until it knows which networks it has to train. Otherwise jobs behind these networks could start before. If it was not,
    what needs it is known to be trained, and asking for the checkpoint would hide that from Snakemake.
    """
    if existed(file):
        made_by.get(**wildcards)
    return ancient(f"<results>/{file}")


def features_of(wildcards):
    """The features that a recipe trains on, if its backbone is frozen."""
    recipe = recipe_of(wildcards)
    if recipe not in FEATURES:
        return []
    return for_networks(
        checkpoints.extract_features, f"backbone_features/{FEATURES[recipe]}.parquet", network=FEATURES[recipe]
    )


@cache
def submissions_of_networks(jobs):
    """(stage, recipe, seed) of every small network -> its submission, if a submission holds this number of jobs."""
    units = {}  # what the networks wait for -> stage 1 -> it and the networks that are fine-tuned from it
    for stage, recipe, seed in sorted(NETWORKS, key=lambda network: network[0] == "finetune"):
        owner = STAGE1[recipe]
        if SHORT_MINUTES[recipe]:
            candidate = ROUNDS and ("train", owner, seed) not in WITH_ALL_SEEDS
            wait = f"{data_of(recipe)[0]}_seed{seed}" if candidate else data_of(recipe)[0]
            units.setdefault(wait, {}).setdefault((owner, seed), []).append((stage, recipe, seed))
    return {
        network: f"{wait}_{number}"
        for wait, same in units.items()
        for network, number in numbers_of_submissions(same.values(), jobs).items()
    }


def share_submissions_of(stage):
    """`group` of the rule of this stage. Networks with synthetic images wait for these, and share with their like."""

    def number(wildcards, jobs):
        return submissions_of_networks(jobs).get((stage, wildcards.recipe, int(wildcards.seed)))

    return share_submissions("networks", number)


def recipe_for_resources(wildcards):
    """The recipe of a network. Until that of the final networks is chosen, it is any: Snakemake asks again after that.

    Snakemake 9.27 ends with an error if a resource waits for a checkpoint, as inputs and parameters may.
    """
    try:
        return recipe_of(wildcards)
    except IncompleteCheckpointException:
        return next(iter(CONFIG.recipes))


def devices_of_network(wildcards):
    """Number of devices that train a network together."""
    return CONFIG.recipes[recipe_for_resources(wildcards)].stage1.devices


def threads_of_network(wildcards):
    """CPUs of a training."""
    return THREADS[recipe_for_resources(wildcards)] * devices_of_network(wildcards)


def minutes_of_network(stage):
    """The resource `runtime` of the rule of this stage, or for `train` also of the rule train_final."""
    return lambda wildcards, attempt: attempt * (SHORT_MINUTES[recipe_for_resources(wildcards)] or LONG_MINUTES[stage])

"""What all rules share: the validated config, and functions that name inputs. No rule, no logic of its own.

Inputs: the parsed config. Outputs: CONFIG (a pydantic model; rules pass parts of it on as plain dicts, since Snakemake
does not see a model object change), DATA_FILES, MODEL_FILES, PROMPT_FILES, and the functions below.
"""

import os
import sys
import time
from pathlib import Path

# Beside this file, wherever it is imported from; relative, so that a checkout that was moved has the same inputs.
SCRIPTS = Path(os.path.relpath(workflow.current_basedir.get_path_or_uri(secret_free=True))).parent / "workflow_scripts"
sys.path.insert(0, str(SCRIPTS.absolute()))

from synaug.balance import manifests_hash
from synaug.config import load_config
from synaug.datasets import fingerprint
from synaug.runtime.errors import ERROR_PREFIX, UserError
from synaug.runtime.logs import last_errors
from synaug.plan.checkpoints import adapter_files, model_files
from synaug.plan.shards import shard_names
from synaug.plan.prompts import prompt_files

STARTED, STUDY = time.time(), []  # STUDY: the experiments of a study


include: "storage.smk"


try:  # what is wrong is said before any job starts, in one line
    CONFIG = load_config(config)
    DATA_FILES = data_files(CONFIG.dataset)
    if CONFIG.generator_training and CONFIG.generator_training.output == CONFIG.generation.model:
        MODEL_FILES = [made_here(f"{CONFIG.generation.model}/model_index.json")]  # rule train_generator makes it
    else:
        MODEL_FILES = on_machine(model_files(CONFIG.generation.model, CONFIG.generation.revision))
    MODEL_FILES += on_machine([file for adapter in CONFIG.generation.adapters for file in adapter_files(adapter)])
    PROMPT_FILES = on_machine(prompt_files(CONFIG.prompts))
except UserError as error:
    sys.exit(f"{ERROR_PREFIX}{error}")


wildcard_constraints:
    shard="[0-9a-f]{16}",
    stage="train|finetune",
    recipe="|".join(CONFIG.recipes),
    seed=r"\d+",


def code(*names):
    """Files that a rule lists among its inputs, so that it is run again when their content changes.

    Snakemake's own `code` trigger is off: it goes by the time of the script's last change, which a checkout sets, and
    does not see modules. names: scripts and modules below workflow_scripts/, `*` for all of a folder.
    """
    return on_machine(sorted(str(path) for name in names for path in SCRIPTS.glob(name)))


def shards(wildcards):
    """Paths of all shards; Snakemake asks again once the plan is made."""
    plan = fetched(checkpoints.plan_generation.get().output.plan)
    return [f"<results>/shards/{name}.parquet" for name in shard_names(plan, Path(plan).stat().st_mtime_ns)]


def balanced_manifest(wildcards):
    """The balanced manifest, once it is made. Ancient: what it holds counts (`images_of`), not when it was made."""
    balanced = fetched(checkpoints.build_balanced_manifest.get().output.balanced)
    fetched(rules.index_dataset.output.real)  # which `images_of` reads too
    return ancient(balanced)


def images_of(data):
    """Hash of the images that a recipe with this `data` trains on, and of those that its networks are asked of."""
    balanced = checkpoints.build_balanced_manifest.get().output.balanced
    return manifests_hash(balanced, data, tuple(CONFIG.dataset.held_out), Path(balanced).stat().st_mtime_ns)

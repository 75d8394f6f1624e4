"""What all rules share: the validated config, and which code a rule depends on. No rule, no logic of its own.

Inputs: the parsed config. Outputs: CONFIG (a pydantic model; rules pass parts of it on as plain dicts, since Snakemake
does not see a model object change), DATA_FILES, MODEL_FILES, code().
"""

import sys
import time
from functools import lru_cache
from pathlib import Path

sys.path.insert(0, f"{workflow.basedir}/workflow_scripts")

from synaug.config import load_config
from synaug.datasets import fingerprint, input_files
from synaug.errors import ERROR_PREFIX, UserError, last_errors
from synaug.plan import model_files

STARTED = time.time()

# Before any job starts, as one line.
try:
    CONFIG = load_config(config)
    DATA_FILES = input_files(CONFIG.dataset)
    MODEL_FILES = model_files(CONFIG.generation.model, CONFIG.generation.revision)
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
    root = Path(workflow.basedir, "workflow_scripts")
    return sorted(str(path) for name in names for path in root.glob(name))

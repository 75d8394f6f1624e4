"""Results in a storage (--default-storage-provider): which files are in it, and which are on the machine of a job.

Everything that rules make is in the storage, and every job gets copies of its inputs. The code, and what the config names
(data, models, prompts), is not: it comes with the checkout, which travels with every job, or it has the same path on every
machine. Only a table of images may be in the storage too. Without a storage, these functions change nothing, except for
`kept`.
What this workflow trains for other steps, a generator or an adapter, is not made with a storage (`check_no_storage`).

Inputs: none. Outputs: functions for the other rules.
"""

from snakemake.io import sourcecache_entry
from synaug.datasets import input_files

IN_STORAGE = workflow.storage_settings.default_storage_provider is not None


@exits_in_one_line  # a path with braces
def on_machine(files):
    """`files` as inputs that every machine has. (Not `local`: a job with such an input would not be sent away.)"""
    for file in files:
        check_no_braces(file)
    return [sourcecache_entry(file, file) for file in files] if IN_STORAGE else files


def kept(path):
    """`path` as an output that Snakemake leaves where it is when its job starts again.

    Only for shards, whose name decides what is in them: if the job fails, Snakemake records the old file as its result. A
    storage has only files that are complete, and its jobs see no file of an earlier run.
    """
    return path if IN_STORAGE else update(path)


def data_files(dataset):
    """The files of the data set, as inputs. A table that is not on this machine is expected in the storage."""
    check_no_braces(dataset.path)
    stored = IN_STORAGE and dataset.path.endswith(".parquet") and not Path(dataset.path).exists()
    return [dataset.path] if stored else on_machine(input_files(dataset))


def real_images(wildcards):
    """The files with real images, for the rules that read them. Inputs only with a storage, which has to send them.

    Elsewhere they are left out: a data set may have millions of files, and real.parquet stands for them.
    """
    if not IN_STORAGE:
        return []
    return ancient(DATA_FILES if IMAGES is CONFIG.dataset else [IMAGES.path])


def all_images(wildcards):
    """The files with real and synthetic images, for the rules that read both; inputs only with a storage."""
    return [*real_images(wildcards), *ancient(shards(wildcards))] if IN_STORAGE else []


def images_of_recipe(wildcards):
    """The files with the images that a recipe trains on and is evaluated on; inputs only with a storage."""
    has_synthetic = CONFIG.recipes[recipe_of(wildcards)].data == "balanced"
    return all_images(wildcards) if has_synthetic and not PACKED else real_images(wildcards)

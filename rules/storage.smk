"""Results in a storage (--default-storage-provider): what lies there, and what is on the machine of a job.

All that rules make is in the storage, and every job gets copies of its inputs. The code, and what the config names (data,
models, prompts), is not: it comes with the checkout, which goes with every job, or lies on every machine in the same
place. Only a table of images may be in the storage too. Without a storage nothing of this changes anything.

Inputs: none. Outputs: functions for the other rules.
"""

from snakemake.io import sourcecache_entry
from synaug.datasets import input_files

IN_STORAGE = workflow.storage_settings.default_storage_provider is not None


def on_machine(files):
    """`files` as inputs that every machine has. (Not `local`: a job with such an input would not be sent away.)"""
    return [sourcecache_entry(file, file) for file in files] if IN_STORAGE else files


def data_files(dataset):
    """The files of the data set, as inputs. A table that is not here is looked for in the storage, by its path."""
    stored = IN_STORAGE and dataset.path.endswith(".parquet") and not Path(dataset.path).exists()
    return [dataset.path] if stored else on_machine(input_files(dataset))


def made_here(path):
    """`path`, unless results are in a storage: one declared file of the folder would be, and the others not."""
    if IN_STORAGE:
        raise UserError(
            "generation.model: is trained by this workflow, and a storage cannot hold its folder; run `snakemake "
            "--cores all train_generator` without a storage first, then remove the block generator_training"
        )
    return path


def real_images(wildcards):
    """The files that hold real images, for rules that read them: inputs only where they have to be fetched."""
    if not IN_STORAGE:
        return []
    return ancient(DATA_FILES if TABLE is CONFIG.dataset else [TABLE.path])


def all_images(wildcards):
    """The files that hold real and synthetic images, in the same way."""
    return [*real_images(wildcards), *ancient(shards(wildcards))] if IN_STORAGE else []


def fetched(file):
    """`file`, which a checkpoint made, once it can be read here."""
    with file.open("rb"):  # where it has to be fetched, this raises what makes Snakemake fetch it and ask again
        return file

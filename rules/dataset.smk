"""Step dataset: list the real images.

A data set in its authors' files (CIFAR, Fashion-MNIST), in tars or in Arrow files is first converted to a table. The table
belongs to the results and not to the data: their folder may be read-only, and a cut to a long tail belongs to the experiment.
Inputs: the data set of the config (dataset.path).
Outputs: <results>/real.parquet, one row per image of the splits that are used; <results>/dataset.parquet, the images, if
they were converted.
"""

from synaug.datasets import PACKED, PUBLISHED, as_table

CONVERTED = CONFIG.dataset.source in {*PUBLISHED, *PACKED}
# The data set that is indexed: the converted table, or the one of the config.
IMAGES = as_table(CONFIG.dataset, f"results/{CONFIG.experiment}/dataset.parquet") if CONVERTED else CONFIG.dataset


if CONVERTED:

    rule convert_dataset:
        input:
            data=DATA_FILES,
        output:
            images="<results>/dataset.parquet",
        log:
            "<logs>/convert_dataset.log",
        conda:
            # torchvision downloads data sets, and reads its own.
            "../envs/torch.yaml" if CONFIG.dataset.download or CONFIG.dataset.name else "../envs/data.yaml"
        params:
            # Keys that change no row are left out, so that with other values of them nothing is converted again.
            dataset=DATASET.model_dump(exclude={"faults", "image_size", "color", "unify_names"}),
            origin=ORIGIN,
            # Of the files of torchvision, which only torchvision knows.
            listing=lambda wildcards: fingerprint(CONFIG.dataset),
            code=code("dataset/convert_dataset.py"),
        message:
            "Convert the data set to a table"
        script:
            "../workflow_scripts/dataset/convert_dataset.py"


# A checkpoint: recipes without synthetic images train from here on, and their rules need the hash of these images.
checkpoint index_dataset:
    input:
        data=DATA_FILES if IMAGES is CONFIG.dataset else IMAGES.path,
    output:
        real="<results>/real.parquet",
    log:
        "<logs>/index_dataset.log",
    conda:
        # A network and a classifier look for faults.
        "../envs/torch.yaml" if IMAGES.faults.find else "../envs/data.yaml"
    threads: 4 if IMAGES.faults.find else 1
    params:
        dataset=IMAGES.model_dump(exclude={"image_size"}),  # it changes no row
        # Of the image files, which are too many to be inputs one by one.
        listing=lambda wildcards: "" if CONVERTED else fingerprint(CONFIG.dataset),
        code=code("dataset/index_dataset.py"),
    message:
        "Index the real images"
    script:
        "../workflow_scripts/dataset/index_dataset.py"

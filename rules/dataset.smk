"""The real images.

A data set in its authors' files (CIFAR, Fashion-MNIST), in tars or in Arrow files is first made into a table, here and
not beside those files: their folder may be read-only, and the cut belongs to the experiment.
Inputs: the data set of the config (dataset.path).
Outputs: <results>/real.parquet, one row per image of the training and the test split; where it
was made into a table also <results>/dataset.parquet, the images; of painted images <results>/painted.parquet.
"""

from synaug.datasets import PACKED, PUBLISHED, as_table

TABLE = CONFIG.dataset

if CONFIG.dataset.source in {*PUBLISHED, *PACKED}:
    GROUPS = [] if CONFIG.dataset.painted else CONFIG.dataset.group_columns
    TABLE = as_table(CONFIG.dataset, f"results/{CONFIG.experiment}/dataset.parquet", GROUPS)

    rule convert_dataset:
        input:
            data=DATA_FILES,
            code=code(
                "convert_dataset.py",
                *(f"synaug/datasets/{name}.py" for name in ("cifar", "fashion_mnist", "long_tail", "published")),
                *(f"synaug/datasets/{name}.py" for name in ("packed", "webdataset", "huggingface", "torchvision_set")),
                "synaug/images.py",
            ),
        output:
            images="<results>/dataset.parquet",
        log:
            "<logs>/convert_dataset.log",
        conda:
            # torchvision downloads, and reads its own.
            "../envs/torch.yaml" if CONFIG.dataset.download or CONFIG.dataset.name else "../envs/data.yaml"
        params:
            dataset=CONFIG.dataset.model_dump(),
        script:
            "../workflow_scripts/dataset/convert_dataset.py"


if CONFIG.dataset.painted:
    GREY, PAINTED = TABLE, CONFIG.dataset.model_dump(include={"painted", "color", "group_columns"})
    TABLE = as_table(CONFIG.dataset, f"results/{CONFIG.experiment}/painted.parquet", ["color"])

    rule paint_dataset:
        input:
            data=DATA_FILES if GREY is CONFIG.dataset else "<results>/dataset.parquet",
            code=code("paint_dataset.py", "synaug/datasets/colored.py", "synaug/datasets/table.py", "synaug/images.py"),
        output:
            images="<results>/painted.parquet",
        log:
            "<logs>/paint_dataset.log",
        conda:
            "../envs/data.yaml"
        params:
            dataset=GREY.model_dump() | PAINTED,
        script:
            "../workflow_scripts/dataset/paint_dataset.py"


rule index_dataset:
    input:
        data=DATA_FILES if TABLE is CONFIG.dataset else TABLE.path,
        code=code(
            "index_dataset.py",
            "synaug/datasets/*.py",
            "synaug/images.py",
            "synaug/manifests.py",
            "synaug/schemas.py",
            *(["synaug/screening/hashing.py"] if CONFIG.dataset.make_splits else []),
        ),
    output:
        real="<results>/real.parquet",
    log:
        "<logs>/index_dataset.log",
    conda:
        "../envs/data.yaml"
    params:
        dataset=TABLE.model_dump(),
        # Of a folder of images, which are too many to be inputs one by one.
        listing=lambda wildcards: fingerprint(CONFIG.dataset),
    script:
        "../workflow_scripts/dataset/index_dataset.py"

"""The real images.

Inputs: the data set of the config (dataset.path).
Outputs: <results>/real.parquet, one row per image of the training and the test split.
"""


rule index_dataset:
    input:
        data=DATA_FILES,
        code=code(
            "index_dataset.py", "synaug/datasets/*.py", "synaug/images.py", "synaug/manifests.py", "synaug/schemas.py"
        ),
    output:
        real="<results>/real.parquet",
    log:
        "<logs>/index_dataset.log",
    conda:
        "../envs/data.yaml"
    params:
        dataset=CONFIG.dataset.model_dump(),
        # Of a folder of images, which are too many to be inputs one by one.
        listing=lambda wildcards: fingerprint(CONFIG.dataset),
    script:
        "../workflow_scripts/index_dataset.py"

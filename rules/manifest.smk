"""Step 3, build: screen the synthetic images, and join the accepted ones with all real training images.

Inputs: <results>/real.parquet, <results>/plan.parquet, <results>/shards/*.parquet.
Outputs: <results>/synthetic.parquet, one row per synthetic image with its scores and the verdict;
<results>/balanced.parquet, one row per training image.
"""


rule screen_synthetic:
    input:
        plan="<results>/plan.parquet",
        shards=shards,
        code=code(
            "screen_synthetic.py",
            "synaug/screening.py",
            "synaug/images.py",
            "synaug/manifests.py",
            "synaug/schemas.py",
        ),
    output:
        synthetic="<results>/synthetic.parquet",
    log:
        "<logs>/screen_synthetic.log",
    conda:
        "../envs/data.yaml"
    params:
        screening=CONFIG.screening.model_dump(),
    script:
        "../workflow_scripts/screen_synthetic.py"


checkpoint build_balanced_manifest:
    input:
        real="<results>/real.parquet",
        synthetic="<results>/synthetic.parquet",
        code=code("build_balanced_manifest.py", "synaug/balance.py", "synaug/manifests.py", "synaug/schemas.py"),
    output:
        balanced="<results>/balanced.parquet",
    log:
        "<logs>/build_balanced_manifest.log",
    conda:
        "../envs/data.yaml"
    params:
        train_split=CONFIG.dataset.train_split,
    script:
        "../workflow_scripts/build_balanced_manifest.py"

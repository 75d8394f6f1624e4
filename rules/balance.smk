"""Step balance: join the best of the accepted synthetic images with all real training images.

Inputs: <results>/{real,imbalance,synthetic}.parquet; with a gate <results>/gate.parquet, with balance.keep: coverage
<results>/features.parquet.
Outputs: <results>/balanced.parquet, one row per training image.
"""


checkpoint build_balanced_manifest:
    input:
        **GATE,
        **(SCREENING_FEATURES if CONFIG.balance.keep == "coverage" else {}),
        real="<results>/real.parquet",
        synthetic="<results>/synthetic.parquet",
        imbalance="<results>/imbalance.parquet",
    output:
        balanced="<results>/balanced.parquet",
    log:
        "<logs>/build_balanced_manifest.log",
    conda:
        "../envs/data.yaml"
    params:
        train_split=CONFIG.dataset.train_split,
        balance=CONFIG.used_balance.model_dump(exclude={"oversample"}),
        fill_may_be_empty=CONFIG.evaluation.choose_by is not None,
        code=code("balance/build_balanced_manifest.py"),
    message:
        "Build the balanced manifest"
    script:
        "../workflow_scripts/balance/build_balanced_manifest.py"

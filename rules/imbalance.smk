"""Step imbalance: measure how uneven the classes (or class x group cells) are.

Inputs: <results>/real.parquet.
Outputs: <results>/imbalance.parquet, one row per class and a summary.
"""


rule measure_imbalance:
    input:
        real="<results>/real.parquet",
    output:
        imbalance="<results>/imbalance.parquet",
    log:
        "<logs>/measure_imbalance.log",
    conda:
        "../envs/data.yaml"
    params:
        train_split=CONFIG.dataset.train_split,
        shots=CONFIG.imbalance.model_dump(),
        code=code("imbalance/measure_imbalance.py"),
    message:
        "Measure the imbalance"
    script:
        "../workflow_scripts/imbalance/measure_imbalance.py"

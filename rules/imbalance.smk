"""Step 1, measure: how uneven the classes are.

Inputs: <results>/real.parquet.
Outputs: <results>/imbalance.parquet, one row per class and a summary.
"""


rule measure_imbalance:
    input:
        real="<results>/real.parquet",
        code=code("measure_imbalance.py", "synaug/imbalance.py", "synaug/manifests.py", "synaug/schemas.py"),
    output:
        imbalance="<results>/imbalance.parquet",
    log:
        "<logs>/measure_imbalance.log",
    conda:
        "../envs/data.yaml"
    params:
        train_split=CONFIG.dataset.train_split,
        shots=CONFIG.imbalance.model_dump(),
    script:
        "../workflow_scripts/imbalance/measure_imbalance.py"

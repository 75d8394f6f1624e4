"""Report: one self-contained page.

Inputs: all manifests, and the images they point at.
Outputs: <results>/report.html.
"""


rule report:
    input:
        **SELECTION,
        real="<results>/real.parquet",
        images=all_images,
        imbalance="<results>/imbalance.parquet",
        plan="<results>/plan.parquet",
        synthetic="<results>/synthetic.parquet",
        balanced="<results>/balanced.parquet",
        quality="<results>/quality.parquet",
        summary="<results>/summary.parquet",
        differences="<results>/differences.parquet",
        histories=expand("<results>/{network}/history.parquet", network=NETWORKS),
        code=code("report.py", "synaug/report/*", "synaug/images.py", "synaug/manifests.py", "synaug/schemas.py"),
    output:
        page="<results>/report.html",
        picture="<results>/overview.png",
    log:
        "<logs>/report.log",
    conda:
        "../envs/data.yaml"
    params:
        config=CONFIG.model_dump(),
    script:
        "../workflow_scripts/report.py"

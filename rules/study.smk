"""A study: many experiments from one config, each with its own chain of rules, and one table of all of them.

The rules of a variant are called <variant>_<rule>. Images that two variants share are sampled once.
Inputs: results/<experiment>-<variant>/{summary,differences}.parquet of every variant of the config's `study`, and
selection.parquet of those with a validation split.
Outputs: <results>/study.parquet, study_differences.parquet and study_selection.parquet, their manifests with a column `variant`;
<results>/study.md and <results>/study.png, a table and a figure; <results>/report.html, both on a page that links those of
the variants.
"""

from synaug.study import variant_configs

try:
    VARIANTS = variant_configs(config)
    CONFIGS = {name: load_config(changed, where=f"study.{name}") for name, changed in VARIANTS.items()}
except UserError as error:
    sys.exit(f"{ERROR_PREFIX}{error}")

STUDY = [variant.experiment for variant in CONFIGS.values()]
SELECTED = {name: variant.experiment for name, variant in CONFIGS.items() if variant.dataset.validation_split}
PREFIXED = {f"{name}_": changed for name, changed in VARIANTS.items()}

for prefix in PREFIXED:

    module:
        name: prefix
        snakefile:
            "../Snakefile"
        config:
            PREFIXED[prefix]

    use rule * from prefix as prefix*


rule summarise_study:
    input:
        summaries=expand("results/{experiment}/summary.parquet", experiment=STUDY),
        differences=expand("results/{experiment}/differences.parquet", experiment=STUDY),
        selections=expand("results/{experiment}/selection.parquet", experiment=SELECTED.values()),
    output:
        **({"selection": "<results>/study_selection.parquet"} if SELECTED else {}),
        summary="<results>/study.parquet",
        differences="<results>/study_differences.parquet",
        text="<results>/study.md",
        page=report(
            "<results>/report.html",
            caption="captions/study_page.rst",
            category="Study",
            labels={"figure": "all variants, tables"},
        ),
        picture=report(
            "<results>/study.png",
            caption="captions/study.rst",
            category="Study",
            labels={"figure": "all variants, figure"},
        ),
    log:
        "<logs>/summarise_study.log",
    conda:
        "../envs/data.yaml"
    params:
        variants={name: list(variant.recipes) for name, variant in CONFIGS.items()},
        selected=list(SELECTED),
        name=CONFIG.experiment,
        code=code("study/summarise_study.py"),
    message:
        "Summarise the study"
    script:
        "../workflow_scripts/study/summarise_study.py"

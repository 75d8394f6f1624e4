"""A study: many experiments from one config, each with its own chain of rules, and one table of all of them.

The rules of a variant are called <variant>_<rule>. Images that two variants share are sampled once.
Replicates, variants called <name>_seed<number>, are evaluated together as <name>: every seed has its own images.
Inputs: results/<experiment>-<variant>/{summary,differences}.parquet of every variant of the config's `study`, and
selection.parquet of those with a validation split; of replicates also the predictions.
Outputs: <results>/study.parquet, study_differences.parquet and study_selection.parquet, their manifests with a column `variant`;
<results>/study.md and <results>/study.png, a table and a figure; <results>/report.html, both on a page that links those of
the variants. For replicates, results/<experiment>-<name>/{metrics,differences,summary,selection}.parquet.
"""

from synaug.study import group_replicates, variant_configs, varied_by_replicates

try:
    VARIANTS = variant_configs(config)
    CONFIGS = {name: load_config(changed, where=f"study.{name}") for name, changed in VARIANTS.items()}
    RESULTS = group_replicates(CONFIGS)  # result -> its variants: one, or several replicates
except UserError as error:
    sys.exit(f"{ERROR_PREFIX}{error}")

STUDY = [variant.experiment for variant in CONFIGS.values()]
FIRST = {result: CONFIGS[variants[0]] for result, variants in RESULTS.items()}  # replicates have equal configs
SELECTED = [result for result, variant in FIRST.items() if variant.dataset.validation_split]
PREFIXED = {f"{name}_": changed for name, changed in VARIANTS.items()}

for prefix in PREFIXED:

    module:
        name: prefix
        snakefile:
            "../Snakefile"
        config:
            PREFIXED[prefix]

    use rule * from prefix as prefix*


def of_results(file, results):
    """The path of `file` of each of the `results`."""
    return [f"results/{CONFIG.experiment}-{result}/{file}" for result in results]


for result, variants in RESULTS.items():
    if len(variants) == 1:
        continue
    homes = [f"results/{CONFIGS[variant].experiment}" for variant in variants]
    home = f"results/{CONFIG.experiment}-{result}"
    networks = [network for variant in variants for network in networks_of(CONFIGS[variant])]
    predictions = [
        f"{folder}/{stage}/{recipe}/{seed}/predictions.parquet"
        for folder, variant in zip(homes, variants)
        for stage, recipe, seed in networks_of(CONFIGS[variant])
    ]
    evaluation = FIRST[result].evaluation
    probes = [
        f"{folder}/{file}.parquet"
        for folder in homes
        for file, measured in (("domain_probes", evaluation.domain_probe), ("shortcuts", evaluation.shortcut_images))
        if measured
    ]

    rule:
        name:
            f"{result}_evaluate_replicates"
        input:
            probes=probes,
            predictions=predictions,
            imbalance=f"{homes[0]}/imbalance.parquet",
            real=ancient(f"{homes[0]}/real.parquet"),
        output:
            metrics=f"{home}/metrics.parquet",
            differences=f"{home}/differences.parquet",
        log:
            f"<logs>/{result}_evaluate_replicates.log",
        conda:
            "../envs/data.yaml"
        params:
            networks=networks,
            test_split=FIRST[result].dataset.test_split,
            group_columns=FIRST[result].dataset.group_columns,
            baselines=evaluation.baselines or [next(iter(FIRST[result].recipes))],
            stage1={name: recipe.stage1_of or name for name, recipe in FIRST[result].recipes.items()},
            code=code("evaluation/evaluate.py"),
        message:
            f"Evaluate the networks of all replicates of {result}"
        script:
            "../workflow_scripts/evaluation/evaluate.py"

    rule:
        name:
            f"{result}_summarise_replicates"
        input:
            metrics=f"{home}/metrics.parquet",
            summaries=[f"{folder}/summary.parquet" for folder in homes],
        output:
            summary=f"{home}/summary.parquet",
        log:
            f"<logs>/{result}_summarise_replicates.log",
        conda:
            "../envs/data.yaml"
        params:
            varied=varied_by_replicates(FIRST[result]),
            code=code("study/summarise_replicates.py"),
        message:
            f"Average over the replicates of {result}"
        script:
            "../workflow_scripts/study/summarise_replicates.py"

    if FIRST[result].dataset.validation_split:

        rule:
            name:
                f"{result}_select_settings"
            input:
                predictions=predictions,
                real=ancient(f"{homes[0]}/real.parquet"),
            output:
                selection=f"{home}/selection.parquet",
            log:
                f"<logs>/{result}_select_settings.log",
            conda:
                "../envs/data.yaml"
            params:
                networks=networks,
                split=FIRST[result].dataset.validation_split,
                recipes=list(FIRST[result].recipes),
                trained_on_split=trained_on_validation(FIRST[result]),
                code=code("evaluation/select_settings.py"),
            message:
                f"Choose settings on the validation images of {result}"
            script:
                "../workflow_scripts/evaluation/select_settings.py"


rule summarise_study:
    input:
        summaries=of_results("summary.parquet", RESULTS),
        differences=of_results("differences.parquet", RESULTS),
        selections=of_results("selection.parquet", SELECTED),
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
        variants={result: list(FIRST[result].recipes) for result in RESULTS},
        replicates=RESULTS,
        selected=SELECTED,
        name=CONFIG.experiment,
        code=code("study/summarise_study.py"),
    message:
        "Summarise the study"
    script:
        "../workflow_scripts/study/summarise_study.py"

"""A study: many experiments from one config, each with its own chain of rules, and one table of all of them.

The rules of a variant are called <variant>_<rule>. Images that two variants share are sampled once.
Replicates, variants called <name>_seed<number>, are evaluated together as <name>: every seed has its own images.
Inputs: results/<experiment>-<variant>/{summary,differences}.parquet of every variant of the config's `study`, and
selection.parquet of those with a validation split; of replicates also the predictions.
Outputs: <results>/study.parquet, study_differences.parquet and study_selection.parquet, their manifests with a column `variant`;
<results>/study.md and <results>/study.png, a table and a figure; <results>/report.html, both on a page that links those of
the variants. For replicates, results/<experiment>-<name>/{metrics,differences,summary,selection}.parquet.
"""

from snakemake.checkpoints import Checkpoint
from synaug.datasets import PACKED, PUBLISHED
from synaug.study import check_trainings, group_replicates, variant_configs, varied_by_replicates

try:
    VARIANTS = variant_configs(config)
    CONFIGS = {name: load_config(changed, where=f"study.{name}") for name, changed in VARIANTS.items()}
    check_trainings(CONFIGS)
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


CONVERTED_OF_VARIANTS = [
    f"results/{variant.experiment}/dataset.parquet"
    for variant in CONFIGS.values()
    if variant.dataset.source in {*PUBLISHED, *PACKED}
]


def shards_of_variants(wildcards):
    """Paths of the shards of all variants."""
    # `checkpoints` has only those of this file, but knows which outputs of all are made.
    plans = [Checkpoint(getattr(rules, f"{prefix}plan_generation").rule, checkpoints) for prefix in PREFIXED]
    return [
        f"results/{variant.experiment}/shards/{shard}.parquet"
        for variant, plan in zip(CONFIGS.values(), plans, strict=True)
        for shard in shards_of_plan(plan)
    ]


def of_results(file, results):
    """The path of `file` of each of the `results`."""
    return [f"results/{CONFIG.experiment}-{result}/{file}" for result in results]


def of_replicates(file):
    """A function: wildcards -> the path of `file` of every replicate of a result."""
    return lambda wildcards: [f"results/{CONFIGS[name].experiment}/{file}" for name in RESULTS[wildcards.result]]


def first_of(file):
    """As `of_replicates`, of the first replicate only: for files that are the same for all of them."""
    return lambda wildcards: f"results/{FIRST[wildcards.result].experiment}/{file}"


def networks_of_replicates(wildcards):
    """(stage, recipe, seed) of every network of all replicates."""
    return [network for name in RESULTS[wildcards.result] for network in networks_of(CONFIGS[name])]


def predictions_of_replicates(wildcards):
    """The predictions of these networks, in the same order."""
    return [
        f"results/{CONFIGS[name].experiment}/{stage}/{recipe}/{seed}/predictions.parquet"
        for name in RESULTS[wildcards.result]
        for stage, recipe, seed in networks_of(CONFIGS[name])
    ]


def probes_of_replicates(wildcards):
    """The files with the metrics of the probes, if the config asks for them."""
    evaluation = FIRST[wildcards.result].evaluation
    asked = {"domain_probes.parquet": evaluation.domain_probe, "shortcuts.parquet": evaluation.shortcut_images}
    return [path for file, wanted in asked.items() if wanted for path in of_replicates(file)(wildcards)]


REPLICATED = [result for result, variants in RESULTS.items() if len(variants) > 1]

if REPLICATED:

    rule evaluate_replicates:
        input:
            probes=probes_of_replicates,
            predictions=predictions_of_replicates,
            imbalance=first_of("imbalance.parquet"),
            real=lambda wildcards: ancient(first_of("real.parquet")(wildcards)),
        output:
            metrics=f"results/{CONFIG.experiment}-{{result}}/metrics.parquet",
            differences=f"results/{CONFIG.experiment}-{{result}}/differences.parquet",
        log:
            "<logs>/evaluate_replicates/{result}.log",
        wildcard_constraints:
            result="|".join(REPLICATED),
        conda:
            "../envs/data.yaml"
        params:
            networks=networks_of_replicates,
            test_split=lambda wildcards: FIRST[wildcards.result].dataset.test_split,
            group_columns=lambda wildcards: FIRST[wildcards.result].dataset.group_columns,
            baselines=lambda wildcards: baselines_of(FIRST[wildcards.result]),
            stage1=lambda wildcards: stage1_owners(FIRST[wildcards.result]),
            code=code("study/evaluate_replicates.py"),
        message:
            "Evaluate the networks of all replicates of {wildcards.result}"
        script:
            "../workflow_scripts/study/evaluate_replicates.py"

    rule summarise_replicates:
        input:
            metrics=f"results/{CONFIG.experiment}-{{result}}/metrics.parquet",
            summaries=of_replicates("summary.parquet"),
        output:
            summary=f"results/{CONFIG.experiment}-{{result}}/summary.parquet",
        log:
            "<logs>/summarise_replicates/{result}.log",
        wildcard_constraints:
            result="|".join(REPLICATED),
        conda:
            "../envs/data.yaml"
        params:
            varied=lambda wildcards: varied_by_replicates(FIRST[wildcards.result]),
            code=code("study/summarise_replicates.py"),
        message:
            "Average over the replicates of {wildcards.result}"
        script:
            "../workflow_scripts/study/summarise_replicates.py"

    rule select_settings_of_replicates:
        input:
            predictions=predictions_of_replicates,
            real=lambda wildcards: ancient(first_of("real.parquet")(wildcards)),
        output:
            selection=f"results/{CONFIG.experiment}-{{result}}/selection.parquet",
        log:
            "<logs>/select_settings_of_replicates/{result}.log",
        wildcard_constraints:
            result="|".join(REPLICATED),
        conda:
            "../envs/data.yaml"
        params:
            networks=networks_of_replicates,
            split=lambda wildcards: FIRST[wildcards.result].dataset.validation_split,
            recipes=lambda wildcards: list(FIRST[wildcards.result].recipes),
            trained_on_split=lambda wildcards: trained_on_validation(FIRST[wildcards.result]),
            code=code("study/select_settings_of_replicates.py"),
        message:
            "Choose settings on the validation images of all replicates of {wildcards.result}"
        script:
            "../workflow_scripts/study/select_settings_of_replicates.py"


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

"""SYNAuG (arXiv 2308.00994): measure the imbalance, fill every class with images from a diffusion model, train on real
and synthetic images, fine-tune the last layer on a few real ones.

    snakemake --cores all                                  the experiment of config.yaml
    snakemake --cores all --configfile experiments/x.yaml  another one, or a study of many

Inputs: the data set and the model that the config names. Outputs: results/<experiment>/, one manifest per step.
"""

from snakemake.utils import min_version

min_version("9.27")


# A config file given on the command line is a whole experiment and replaces this one; --config changes single keys.
if "dataset" not in config:

    configfile: "config.yaml"


report: "rules/captions/workflow.rst"


include: "rules/common.smk"


pathvars:
    results=f"results/{CONFIG.experiment}",
    logs=f"logs/{CONFIG.experiment}",
    benchmarks=f"results/{CONFIG.experiment}/benchmarks",


if CONFIG.study:

    include: "rules/study.smk"

    rule all:
        default_target: True
        input:
            rules.summarise_study.output,
            expand("results/{experiment}/report.html", experiment=STUDY),
        localrule: True


if not CONFIG.study:

    include: "rules/dataset.smk"
    include: "rules/imbalance.smk"
    include: "rules/generator.smk"
    include: "rules/generation.smk"
    include: "rules/preview.smk"
    include: "rules/manifest.smk"
    include: "rules/training.smk"
    include: "rules/evaluation.smk"
    include: "rules/report.smk"

    rule all:
        default_target: True
        input:
            "<results>/report.html",
            "<results>/summary.parquet",
            "<results>/balanced.parquet",
            # Not only what is needed now: a shard that was deleted is made again, and so is a table of real images.
            shards,
            [] if TABLE is CONFIG.dataset else TABLE.path,
        localrule: True


onerror:
    for name in STUDY or [CONFIG.experiment]:
        for line in last_errors(f"logs/{name}", STARTED):
            print(line, file=sys.stderr)

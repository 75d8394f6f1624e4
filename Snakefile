"""SYNAuG (arXiv 2308.00994): measure the imbalance, fill every class with images from a diffusion model, train on real
and synthetic images, fine-tune the last layer on a few real ones.

    snakemake --cores all                                  the experiment of config.yaml
    snakemake --cores all --configfile experiments/x.yaml  another one, or a study of many

Inputs: the data set and the model that the config names. Outputs: results/<experiment>/, one manifest per step.
"""

from snakemake.settings.types import RerunTrigger
from snakemake.utils import min_version

min_version("9.27")


# A config given by --configfile is a whole experiment. It is not merged with config.yaml, whose class names and prompts
# would leak into it. (Snakemake does the same for a config given by a workflow that imports this one.) --config changes
# single keys of either.
if not workflow.overwrite_configfiles:

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
            # Also what no other rule needs now, so that a deleted shard or table of images is made again.
            shards_of_variants,
            CONVERTED_OF_VARIANTS,
        localrule: True


if not CONFIG.study:

    include: "rules/dataset.smk"
    include: "rules/imbalance.smk"
    include: "rules/plan.smk"
    include: "rules/generator.smk"

    if not SHARDS_EXIST:  # see rules/common.smk

        include: "rules/generation.smk"
    include: "rules/screening.smk"
    include: "rules/balance.smk"
    include: "rules/training.smk"
    include: "rules/evaluation.smk"
    include: "rules/report.smk"

    rule all:
        default_target: True
        input:
            "<results>/report.html",
            "<results>/summary.parquet",
            "<results>/balanced.parquet",
            # Also what no other rule needs now, so that a deleted shard or table of images is made again.
            shards,
            [] if IMAGES is CONFIG.dataset else IMAGES.path,
        localrule: True


save_cache_at_exit()


onstart:
    # What is up to date is decided by content, see the profile. Without its line, a changed file date runs jobs again.
    if RerunTrigger.CODE in workflow.rerun_triggers:
        print(
            "synaug: warning: this profile lacks `rerun-triggers: [mtime, params, input, software-env]`; add the line from "
            "profiles/default/profile.yaml, or every checkout runs finished jobs again",
            file=sys.stderr,
        )
    check_downloads_of_jobs()
    # The default limit of Snakemake, 100 jobs a second, adds a thread for each job that ends while others wait, and each
    # of these threads wakes the scheduler every second. Another limit, which the user sets, stays.
    limit = workflow.scheduler.job_rate_limiter
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


onerror:
    for name in [*STUDY, CONFIG.experiment]:
        for line in last_errors(f"logs/{name}", STARTED):
            sys.stderr.write(f"{line}\n")  # in one piece: the logger writes to the same stream

"""Put the results of all experiments of a study into one table and one figure."""

from synaug.errors import job_log
from synaug.manifests import atomic_path, read_manifest, write_manifest
from synaug.report.study import markdown, study_figure
from synaug.study import collect


def main(summaries: list[str], differences: list[str], variants: dict[str, list[str]], name: str, out) -> None:
    """Join manifests into the files `out.summary`, `out.differences`, `out.page` and `out.picture`.

    summaries, differences: one file per variant, in the order of `variants` (variant -> its recipes). name: its name.
    """
    summary = collect(variants, [read_manifest("summary", path) for path in summaries])
    deltas = collect(variants, [read_manifest("differences", path) for path in differences])
    write_manifest("study", summary, out.summary)
    write_manifest("study_differences", deltas, out.differences)
    with atomic_path(out.page) as temporary:
        temporary.write_text(markdown(summary, deltas, variants, name))
    with atomic_path(out.picture) as temporary:
        study_figure(summary, variants).savefig(temporary, format="png", dpi=150)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.summaries,
            snakemake.input.differences,
            snakemake.params.variants,
            snakemake.params.name,
            snakemake.output,
        )

"""Put the results of all variants of a study into one table, one figure and one page."""

from synaug.manifests import read_manifest, write_manifest
from synaug.report.study_page import markdown, study_figure, study_page
from synaug.runtime.files import atomic_path
from synaug.runtime.logs import job_log
from synaug.study import concatenate_variants


def main(
    summaries: list[str],
    differences: list[str],
    selections: dict[str, str],
    variants: dict[str, list[str]],
    replicates: dict[str, list[str]],
    name: str,
    out,
) -> None:
    """Join manifests into the files `out.summary`, `out.differences`, `out.text`, `out.page` and `out.picture`.

    summaries, differences: one file per variant, in the order of `variants` (variant -> its recipes). Replicates count
    as one variant here; replicates: variant -> its replicates, or itself. selections: variant -> the settings chosen on
    its validation images; if there are none, `out.selection` is not written. name: of the study.
    """
    summary = concatenate_variants(variants, [read_manifest("summary", path) for path in summaries])
    deltas = concatenate_variants(variants, [read_manifest("differences", path) for path in differences])
    chosen = concatenate_variants(selections, [read_manifest("selection", path) for path in selections.values()])
    write_manifest("study", summary, out.summary)
    write_manifest("study_differences", deltas, out.differences)
    if chosen is not None:
        write_manifest("study_selection", chosen, out.selection)
    texts = {
        out.text: markdown(summary, deltas, variants, name, chosen),
        out.page: study_page(summary, deltas, variants, name, chosen, replicates),
    }
    for path, text in texts.items():
        with atomic_path(path, len(text)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with atomic_path(out.picture) as temporary:
        study_figure(summary, variants, chosen).savefig(temporary, format="png", dpi=150, facecolor="white")


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.summaries,
            snakemake.input.differences,
            dict(zip(snakemake.params.selected, snakemake.input.selections, strict=True)),
            snakemake.params.variants,
            snakemake.params.replicates,
            snakemake.params.name,
            snakemake.output,
        )

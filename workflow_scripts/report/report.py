"""Write the report: imbalance before and after, images, results and training curves on one self-contained page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from synaug.config import Config
from synaug.report import faults, gallery, page, plots
from synaug.report.sections import (
    NetworkId,
    data_context,
    draw_figures,
    read_report_data,
    results_context,
    run_context,
)
from synaug.runtime.files import atomic_path
from synaug.runtime.logs import job_log

_PICTURE_BYTES = 10**6  # about the size of the picture of the page


def main(
    manifests,
    networks: Sequence[NetworkId],
    compared: Sequence[NetworkId],
    config: dict,
    out: str,
    picture: str,
    figures: Mapping[str, str],
) -> None:
    """Render the manifests (attributes of `manifests`: paths) to the page `out` and the overview `picture` (PNG).

    networks, compared: stage, recipe and seed of each of `manifests.histories` and of `manifests.predictions`.
    figures: name -> SVG file: fill, gain, classes, confusion, reliability, history; with groups also groups and cells.
    """
    settings = Config.model_validate(config)
    data = read_report_data(manifests, networks, compared, settings)
    drawn = {name: plots.svg(figure) for name, figure in draw_figures(data, settings).items()}
    shown = gallery.gallery(
        gallery.shown_classes(data.classes),
        data.balanced,
        data.synthetic,
        manifests.plan,
        settings.dataset.image_size,
        settings.dataset.color,
    )
    context = data_context(data) | results_context(data, settings) | run_context(data, Path(out).parent)
    context |= {
        "title": settings.experiment,
        "config": settings.model_dump(),
        "generation": settings.fills.get(data.fill, settings.generation).model_dump(),
        "config_text": json.dumps(config, indent=2, ensure_ascii=False),
        "gallery": shown,
        "faults": faults.faults_section(manifests.real, settings.dataset) if settings.dataset.faults.find else None,
        "figures": {name: page.svg_figure(text, name) for name, text in drawn.items()},
    }
    context["contents"] = page.contents(context)
    texts = {out: page.render("page.html.j2", context)}
    texts |= {path: plots.svg_file(drawn[name]) for name, path in figures.items()}
    for path, text in texts.items():
        with atomic_path(path, len(text)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with atomic_path(picture, _PICTURE_BYTES) as temporary:
        side = min(settings.dataset.image_size, gallery.SIDE)
        samples = [
            (row["label_name"], *(gallery.thumbnail_pixels(row[source], side) for source in ("real", "synthetic")))
            for row in shown[:: max(1, len(shown) // 10)][:10]
        ]
        plots.overview_figure(data.classes, samples).savefig(temporary, format="png", facecolor="white")


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        figures = dict(snakemake.output.items())
        main(
            snakemake.input,
            snakemake.params.networks,
            snakemake.params.compared,
            snakemake.params.config,
            figures.pop("page"),
            figures.pop("picture"),
            figures,
        )

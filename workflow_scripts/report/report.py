"""Put the imbalance before and after, images, results and training curves on one self-contained page."""

import json
from collections.abc import Mapping
from pathlib import Path

from synaug.config import Config
from synaug.report import gallery, page, plots
from synaug.report.sections import about_data, about_making, about_results, draw, read
from synaug.runtime.files import atomic_path
from synaug.runtime.logs import job_log


def main(manifests, config: dict, out: str, picture: str, figures: Mapping[str, str]) -> None:
    """Render the manifests (attributes of `manifests`: paths) to the page `out` and the overview `picture` (PNG).

    figures: name -> SVG file: fill, gain, classes, confusion, reliability, history; with groups also groups and cells.
    """
    settings = Config.model_validate(config)
    data = read(manifests, settings)
    drawn = draw(data, settings)
    shown = gallery.gallery(
        gallery.shown_classes(data.classes),
        data.balanced,
        data.synthetic,
        manifests.plan,
        settings.dataset.image_size,
        settings.dataset.color,
    )
    context = about_data(data) | about_results(data, settings) | about_making(data, Path(out).parent)
    context |= {
        "title": settings.experiment,
        "config": settings.model_dump(),
        "config_text": json.dumps(config, indent=2, ensure_ascii=False),
        "gallery": shown,
        "figures": {name: page.svg_figure(figure, name) for name, figure in drawn.items()},
    }
    context["contents"] = page.contents(context)
    with atomic_path(out) as temporary:
        temporary.write_text(page.render("page.html.j2", context))
    for name, path in figures.items():
        with atomic_path(path) as temporary:
            temporary.write_text(plots.svg(drawn[name], transparent=False))
    with atomic_path(picture) as temporary:
        side = min(settings.dataset.image_size, gallery.SIDE)
        samples = [
            (one["label_name"], *(gallery.pixels_of(one[kind], side) for kind in ("real", "synthetic")))
            for one in shown[:: max(1, len(shown) // 10)][:10]
        ]
        plots.overview_figure(data.classes, samples).savefig(temporary, format="png")


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        named = dict(snakemake.output.items())
        main(snakemake.input, snakemake.params.config, named.pop("page"), named.pop("picture"), named)

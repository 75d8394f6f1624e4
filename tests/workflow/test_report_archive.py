"""`snakemake --report`: the figures of a finished experiment, with captions, without a network."""

import zipfile

FIGURES = {"fill.svg", "gain.svg", "classes.svg", "confusion.svg", "reliability.svg", "history.svg"}


def test_the_archive_holds_the_page_and_its_figures_with_captions(work):
    done = work.run("--report", "report.zip")
    assert done.status == 0, done.text
    with zipfile.ZipFile(work.path / "report.zip") as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist() if "/data/" in name}
        index = archive.read("report/report.html").decode()
    assert names == FIGURES | {"report.html", "overview.png"}
    for text in (
        "Training images per class, real and synthetic.",
        "Reliability diagrams of the baseline",
        "calibration before",
    ):
        assert text in index
    assert "synthetic images from a diffusion model balance an imbalanced image data set" in index

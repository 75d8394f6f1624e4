"""What the Snakemake workflow catalog asks of every workflow, and what its settings file claims.

`make lint` passes `snakemake --lint` and `snakefmt`, which the catalog also calls.
"""

import re

import yaml


def test_the_catalog_finds_the_workflow(repository):
    readme = (repository / "README.md").read_text().lower()
    assert "snakemake" in readme and "workflow" in readme
    # With a folder of this name, the catalog would look for the Snakefile and the rules only there.
    assert not (repository / "workflow").exists()
    assert (repository / "Snakefile").is_file() and list((repository / "rules").glob("*.smk"))


def test_its_settings_say_what_works(repository):
    settings = yaml.safe_load((repository / ".snakemake-workflow-catalog.yml").read_text())
    assert settings.keys() == {"usage"}
    usage = settings["usage"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    rules = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    # Which scripts have an environment with what they import: test_environments.py.
    has = {name: re.search(rf"^ +{name}:$", rules, re.MULTILINE) is not None for name in ("conda", "container")}
    assert usage["software-stack-deployment"] == {
        "conda": has["conda"], "apptainer": has["container"], "apptainer+conda": has["conda"] and has["container"]
    }  # fmt: skip
    # tests/workflow/test_report_archive.py makes such a report.
    assert usage["report"] == bool(re.search(r"\breport\(", rules))


def test_it_is_not_listed_where_its_instructions_would_fail(repository):
    """docs/how-to/extend.md says why: such a page would tell people to use snakedeploy."""
    assert not (repository / "config").exists()
    assert "config/README.md" in (repository / "docs/how-to/extend.md").read_text()

"""docs/reference/steps.md names every rule, every script and every rule file, in the section of its step."""

import re

import pytest

# They define what the rules share, and contain no rule.
WITHOUT_RULES = {"common", "storage"}


@pytest.fixture
def sections(repository) -> dict[str, str]:
    """Step -> its section of the page."""
    page = (repository / "docs/reference/steps.md").read_text()
    titles_and_texts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)[1:]
    return dict(zip(titles_and_texts[::2], titles_and_texts[1::2], strict=True))


def test_every_rule_is_in_the_section_of_its_step(repository, sections):
    for path in (repository / "rules").glob("*.smk"):
        rules = set(re.findall(r"^ *(?:rule|checkpoint) (\w+):$", path.read_text(), re.MULTILINE)) - {"all"}
        assert bool(rules) == (path.stem not in WITHOUT_RULES), path
        for rule in rules:
            assert f"`{rule}`" in sections[path.stem], f"{path.name}: {rule}"


def test_every_script_is_in_the_section_of_its_step(repository, sections):
    packages = ("synaug", "snakemake_logger_plugin_synaug")
    scripts = [path for path in repository.glob("workflow_scripts/*/*.py") if path.parent.name not in packages]
    assert scripts
    for path in scripts:
        assert f"`{path.parent.name}/{path.name}`" in sections[path.parent.name], path


def test_the_overview_names_the_rule_file_and_the_scripts_of_every_step(repository, sections):
    overview = (repository / "docs/reference/steps.md").read_text().split("\n## ")[0]
    for step in sections.keys() - {"Outside the steps"}:
        (row,) = [line for line in overview.splitlines() if line.startswith(f"| [{step}](#{step}) |")]
        assert f"`rules/{step}.smk`" in row and (repository / f"rules/{step}.smk").exists()
        assert f"`workflow_scripts/{step}/`" in row


def test_no_rule_of_the_page_is_missing_in_the_rules(repository, sections):
    rules = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    for step in sections.keys() - {"Outside the steps"}:
        for rule in re.findall(r"^\| `(\w+)`", sections[step], re.MULTILINE):
            assert re.search(rf"^ *(?:rule|checkpoint) {rule}:$", rules, re.MULTILINE), f"{step}: {rule}"


def test_the_modules_that_the_page_names_exist(repository):
    page = (repository / "docs/reference/steps.md").read_text()
    listed = re.findall(r"\*\*Modules\*\* in `(synaug/\w+)/`:(.*?)(?=\n\n|\n- )", page, re.DOTALL)
    assert listed
    for package, names in listed:
        for name in re.findall(r"`(\w+)`", names):
            assert (repository / "workflow_scripts" / package / f"{name}.py").is_file(), f"{package}: {name}"

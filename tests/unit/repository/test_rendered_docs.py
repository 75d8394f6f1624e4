"""Every figure in README.md and docs/ comes from a committed result, through docs/render.py."""

import importlib.util
import re
from pathlib import Path

import pytest

from pages import FENCED, pages

ROOT = Path(__file__).parents[3]
SPEC = importlib.util.spec_from_file_location("render", ROOT / "docs/render.py")
render = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(render)

TEMPLATES = {render.ROOT / path.relative_to(render.TEMPLATES).with_suffix(""): path for path in render.templates()}
# Tables that the workflow wrote, and records of what was true on a date.
NOT_CHECKED = ("docs/results/", "docs/decisions.md", "CHANGELOG.md")
FROM_PAPERS = {"docs/method.md": ["measured 41.9 % on ImageNet-LT at guidance 1 and 26.6 % at 7.5"]}
RESULT = re.compile(
    r"-?\d+(\.\d+)? \[-?\d[\d.]*, -?\d[\d.]*\]"  # 83.2 [82.7, 83.6]
    r"|(?<![\w.])[+-]\d+\.\d+"  # +1.7
    r"|\d+\.\d+ (%|points|s|ms|MB|GB|TB|minutes|images/s|times)(?!\w)"  # 98.0 %
)
STUDY = """# name

## a_variant

|  | all classes | few |
| --- | ---: | ---: |
| real-1 | 75.0 [73.6, 76.3] | 12.0 [-1.0, 25.0] |
| synaug-2 + fine-tune | 82.2 [81.3, 83.1] | 9.0 [8.5, 9.5] |

Settings chosen by the validation images, and their figures on the test images:

| chosen by |  | of | validation |
| --- | --- | ---: | ---: |
| average (class) | real-1 | 3 | 73.4 |
| average (class) | synaug-2 + fine-tune | 3 | 82.8 |

Differences, paired by seed, in points:

|  | all classes |
| --- | ---: |
| synaug-2 + fine-tune minus real-1 | +7.2 [5.2, 9.3] |
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Variant `a_variant` of the study STUDY."""
    (tmp_path / "docs/results").mkdir(parents=True)
    (tmp_path / "docs/results/study.md").write_text(STUDY)
    monkeypatch.setattr(render, "ROOT", tmp_path)
    return render.variant("study", "a_variant")


@pytest.mark.parametrize("page", TEMPLATES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_is_what_its_template_gives(page):
    target, text = render.render(TEMPLATES[page])
    assert target == page
    assert page.read_text() == text, f"edit {TEMPLATES[page].relative_to(ROOT)}, then run: python docs/render.py"


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_result_is_written_by_hand(page):
    name = str(page.relative_to(ROOT))
    if name.startswith(NOT_CHECKED):
        return
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", "", TEMPLATES.get(page, page).read_text(), flags=re.DOTALL)
    text = " ".join(FENCED.sub("", text).split())
    for quote in FROM_PAPERS.get(name, []):
        assert quote in text
        text = text.replace(quote, "")
    found = [match[0] for match in RESULT.finditer(text)]
    assert not found, f"{name}: write a template for the page, and take these figures from a result: {found}"


@pytest.mark.parametrize("text", ["83.2 [82.7, 83.6]", "by -1.7 points", "in 98.0 % of", "took 1.5 s."])
def test_results_written_by_hand_are_recognised(text):
    assert RESULT.search(text)


def test_figures_are_those_of_the_table(study):
    assert str(study.value("synaug-2 + fine-tune", "all classes")) == "82.2 [81.3, 83.1]"
    assert study.value("real-1", "few").mean == "12.0"
    assert study.best("few") == "real-1"
    assert study.best("few", without=("real",)) == "synaug-2 + fine-tune"
    assert study.chosen("average (class)", "synaug") == "synaug-2 + fine-tune"


def test_a_difference_can_be_read_in_both_directions(study):
    gain = study.difference("synaug-2 + fine-tune", "real-1", "all classes")
    loss = study.difference("real-1", "synaug-2 + fine-tune", "all classes")
    assert (str(gain), gain.mean, gain.size) == ("+7.2 [5.2, 9.3]", "+7.2", "7.2")
    assert (str(loss), loss.mean, loss.size) == ("-7.2 [-9.3, -5.2]", "-7.2", "7.2")
    assert not gain.includes_zero
    assert render.Figure(0.0, -0.1, 0.1, is_difference=True).includes_zero
    assert str(-render.Figure(0.0, -0.1, 0.2, is_difference=True)) == "+0.0 [-0.2, 0.1]"


def test_a_figure_that_no_table_has_is_an_error(study):
    with pytest.raises(KeyError, match=r"no row 'fake'; there are: real-1, synaug-2 \+ fine-tune"):
        study.value("fake", "few")
    with pytest.raises(KeyError, match="no column 'many'; there are: , all classes, few"):
        study.value("real-1", "many")
    with pytest.raises(KeyError, match="no row 'real-1 minus real-2'"):
        study.difference("real-1", "real-2", "all classes")
    with pytest.raises(KeyError, match="no variant 'other'; there are: a_variant"):
        render.variant("study", "other")


def test_a_sentence_that_the_results_do_not_support_is_an_error():
    assert render.claim(True) == ""
    with pytest.raises(ValueError, match="rewrite the sentence"):
        render.claim(False)


def test_a_stale_page_is_reported_and_written_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(render, "ROOT", tmp_path)
    monkeypatch.setattr(render, "TEMPLATES", tmp_path / "docs/templates")
    (tmp_path / "docs/templates").mkdir(parents=True)
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    result = tmp_path / "benchmarks/results/demo.json"
    (tmp_path / "docs/templates/README.md.j2").write_text('It took {{ benchmark("demo").run_s | places(1) }} s.\n')
    result.write_text('{"run_s": 258.44}')
    assert render.main(check=False) == 0
    assert (tmp_path / "README.md").read_text().splitlines()[1] == "It took 258.4 s."
    assert render.main(check=True) == 0
    result.write_text('{"run_s": 1258}')
    assert render.main(check=True) == 1
    assert "README.md is not what its template gives; run: python docs/render.py" in capsys.readouterr().out
    assert render.main(check=False) == 0
    assert (tmp_path / "README.md").read_text().splitlines()[1] == "It took 1,258.0 s."

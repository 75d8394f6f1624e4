"""The page: its structure, its contents, and its behaviour in a browser."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from browser import Browser, find_chromium
from small_experiment import CLASSES, Experiment, decoded
from synaug.commands.predict import check_final_network
from synaug.config import Config
from synaug.manifests import read_manifest, write_manifest
from synaug.report.page import config_on_page
from synaug.runtime.errors import UserError

VOID = {"meta", "link", "img", "input", "br", "wbr", "path", "use", "rect", "image"}


class Page(HTMLParser):
    """The elements of a page as [tag, attributes, text, enclosing tags]."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        element = [tag, dict(attributes), "", [open_[0] for open_ in self._open]]
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), "", [open_[0] for open_ in self._open]])

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop()[0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def all(self, tag, **attributes):
        return [element for element in self.elements if element[0] == tag and attributes.items() <= element[1].items()]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, pngs) -> Experiment:
    experiment = Experiment(tmp_path_factory.mktemp("small"), pngs)
    experiment.write_choice()
    experiment.page = experiment.write_report()
    return experiment


@pytest.fixture(scope="module")
def text(experiment) -> str:
    return experiment.page.read_text()


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


@pytest.fixture(scope="module")
def with_groups(tmp_path_factory, pngs) -> Experiment:
    experiment = Experiment(tmp_path_factory.mktemp("groups"), pngs, groups=True)
    experiment.page = experiment.write_report()
    return experiment


def classes(page: Page) -> list[str]:
    return [heading[2].strip() for heading in page.all("h3") if heading[1].get("id", "").startswith("class-")]


def test_every_element_is_closed_and_every_id_is_unique_and_defined(page, with_groups):
    for parsed in (page, Page(with_groups.page.read_text())):
        assert not parsed._open
        ids = [element[1]["id"] for element in parsed.elements if "id" in element[1]]
        assert len(ids) == len(set(ids))
        links = [element[1]["href"][1:] for element in parsed.all("a") if element[1]["href"].startswith("#")]
        labels = [element[1]["aria-labelledby"] for element in parsed.elements if "aria-labelledby" in element[1]]
        urls = [
            target
            for element in parsed.elements
            for value in element[1].values()
            for target in re.findall(r"url\(#([^)]+)\)", value or "")
        ]
        assert set(links + labels + urls) <= set(ids)


def test_the_page_of_tables_in_many_row_groups_is_the_same(experiment, text, monkeypatch):
    monkeypatch.setattr("synaug.manifests.tables.ROW_GROUP", 7)
    for name in ("synthetic", "balanced"):
        write_manifest(name, read_manifest(name, experiment.paths[name]), experiment.paths[name])
    assert experiment.write_report().read_text() == text


def test_what_was_not_looked_for_has_no_section(page):
    assert not [element for element in page.elements if "faults" in (element[1].get("id"), element[1].get("class"))]


def test_the_page_is_self_contained(page, text):
    loaded = [element[1] for element in page.elements if element[0] in ("img", "link", "script")]
    sources = [attributes.get("src") or attributes.get("href") for attributes in loaded]
    assert all(source is None or source.startswith("data:") for source in sources)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)


def test_the_page_is_accessible(page):
    """Landmarks, headings without gaps, texts for images, table heads, names of scrollable regions."""
    assert [len(page.all(tag)) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    assert page.all("nav")[0][1]["aria-label"] and page.all("html")[0][1]["lang"] == "en"
    levels = [int(element[0][1]) for element in page.elements if re.fullmatch("h[1-6]", element[0])]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.all("a")[0][1]["href"] == "#main"  # the skip link comes first
    assert all(image[1].get("alt") for image in page.all("img"))
    assert all(head[1].get("scope") in ("row", "col", "colgroup") for head in page.all("th"))
    assert all(svg[3][-1] == "div" for svg in page.all("svg"))
    figures = page.all("div", role="img")
    assert len(figures) == len(page.all("svg")) == 6
    assert all(len(figure[1]["aria-label"]) > 30 for figure in figures)
    assert all(element[1].get("aria-label") for element in page.elements if element[1].get("tabindex") == "0")
    field = page.all("input")[0][1]["id"]
    assert page.all("label")[0][1]["for"] == field
    sections = page.all("section")
    assert len(sections) == 12 and all("aria-labelledby" in section[1] for section in sections)


def test_names_and_prompts_are_escaped(page):
    assert set(classes(page)) == set(CLASSES)
    assert not page.all("b") and not page.all("i")
    assert "A <note>." in page.all("p", **{"class": "note"})[0][2]


def test_every_class_has_real_synthetic_and_rejected_images_that_open(page, text):
    for name, count in CLASSES.items():
        alts = [image[1]["alt"].split(" ", 1) for image in page.all("img")]
        kinds = [kind for kind, rest in alts if rest.startswith(name)]
        assert kinds.count("real") == min(8, count)
        assert (kinds.count("synthetic") > 0) == (kinds.count("rejected") > 0) == (count < 30)
    assert all(decoded(image[1]["src"]).size == (28, 28) for image in page.all("img"))
    assert "is not taken for its class (confidence" in text and "is blank (contrast" in text
    assert "no image" in text and "is damaged" in text  # the damaged image is shown as such
    assert "real: is empty (0 bytes)" in text


def test_the_config_can_be_read_from_the_page(experiment):
    """`synaug compare` does: the results hold it nowhere else."""
    assert Config.model_validate(config_on_page(experiment.page)) == experiment.config


def test_run_details(page):
    tables = " ".join(table[2] for table in page.all("table"))
    assert "CC0" in tables and "torch 2" in tables and "28 pixels" in tables
    assert '"experiment": "small_one"' in page.all("pre")[0][2]
    assert "not recorded" in tables  # these results have no benchmarks


def test_advice_names_the_weak_class_and_why(page):
    (weak,) = [item[2] for item in page.all("li") if item[2].startswith("boot, ")]
    assert "few real training images" in weak and "are predicted as Stövel <b>" in weak and "were rejected" in weak


def test_groups_have_their_tables(with_groups):
    page = Page(with_groups.page.read_text())
    assert "Groups" in [heading[2] for heading in page.all("h2")] and len(page.all("div", role="img")) == 8
    (cells,) = page.all("div", **{"aria-label": "Table: all cells"})
    assert cells[2].count("red") == cells[2].count("green") == 3
    assert any("weakest cells" in item[2] for item in page.all("li"))


def test_figures_are_also_files(experiment, with_groups):
    assert len(list((experiment.folder / "figures").glob("*.svg"))) == 6
    assert len(list((with_groups.folder / "figures").glob("*.svg"))) == 8
    assert (experiment.folder / "overview.png").read_bytes().startswith(b"\x89PNG")


browser_needed = pytest.mark.skipif(not find_chromium(), reason="no Chromium is installed: `apt-get install chromium`")


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


def visible(browser) -> list[str]:
    return browser.evaluate(
        '[...document.querySelectorAll(".class:not([hidden]) h3")].map((heading) => heading.textContent)'
    )


@browser_needed
def test_the_page_opens_without_errors_and_shows_all_images(browser, experiment):
    browser.open(experiment.page)
    load = "Promise.all([...document.images].map((image) => { image.loading = 'eager'; return image.decode(); }))"
    browser.evaluate(load + ".then(() => true)")
    assert browser.evaluate("[...document.images].every((image) => image.naturalWidth === 28)")
    assert visible(browser) == sorted(CLASSES, key=lambda name: -CLASSES[name])
    assert browser.complaints() == []


@browser_needed
def test_search(browser, experiment):
    browser.open(experiment.page, "#search=boot")
    assert visible(browser) == ["boot"]
    browser.open(experiment.page, "#search=rejected%20confidence%3C0.45")
    assert set(visible(browser)) == set(CLASSES) - {'it\'s "wide"'}
    rows = browser.evaluate(
        "[...document.querySelectorAll('.class:not([hidden]) tbody tr:not([hidden])')].map((row) => row.textContent)"
    )
    assert rows and all("rejected" in row for row in rows)
    shown = browser.evaluate(
        "document.querySelectorAll('.class:not([hidden]) li[data-generated]:not([hidden])').length"
    )
    assert shown == len(rows) == int(browser.evaluate("document.querySelector('output').textContent").split()[0])
    seed = re.search(r"\d{19}", rows[0])[0]
    for query, expected in ((seed, 1), ('"dark stövel"', 1), ("nothing has this", 0), ("", 3)):
        browser.evaluate(
            f"(() => {{ const field = document.querySelector('#query'); field.value = {query!r};"
            " document.querySelector('#search').requestSubmit(); })()"
        )
        assert len(visible(browser)) == expected, query
    assert browser.complaints() == []


@browser_needed
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_readable_on_a_phone_and_in_dark_mode(experiment, dark, tmp_path):
    """Only tables and figures are wider than a phone; text has the contrast that WCAG 2.2 AA requires."""
    with Browser(390, 844, dark) as phone:
        phone.open(experiment.page)
        assert phone.evaluate("document.documentElement.scrollWidth") == 390
        color_pairs = """["--text", "--soft-text", "--link"].flatMap((front) => ["--back", "--soft"].map((back) =>
            [front, back].map((name) => getComputedStyle(document.documentElement).getPropertyValue(name))))"""
        for front, back in phone.evaluate(color_pairs):
            lighter, darker = sorted((luminance(front), luminance(back)), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (front, back)
        back = phone.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", back))) < 150) == dark
        phone.pdf(tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def luminance(color: str) -> float:
    """Relative luminance of #rgb or #rrggbb, as WCAG defines it."""
    digits = color.strip().lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_first_line_says_which_recipe_was_chosen_and_why(page):
    [line] = page.all("p", **{"class": "chosen"})
    text = " ".join(line[2].split())
    assert text.startswith("Chosen: synaug. The best recipe with synthetic images, synaug, is 25.0 points better")
    assert "real, the best recipe without synthetic images on the validation images and the baseline, has" in text
    assert "The final networks of this recipe" in text
    assert page.all("h2", id="choice") and "Synthetic images are not used" not in text
    titles, values = ([" ".join(element[2].split()) for element in page.all(tag)] for tag in ("dt", "dd"))
    assert titles[0] == "synaug, chosen" and titles[1].startswith("real, the best recipe without synthetic images")
    for value in values[:2]:  # the others are those of the glossary
        assert re.fullmatch(r"\d+\.\d \[.*\] few-shot \d+\.\d \[.*\]", value), value
    [note] = [element[2] for element in page.all("p") if "Balanced accuracy on the test images" in element[2]]
    assert "have 20 of the 60 test images" in " ".join(note.split())


def test_the_page_says_which_final_networks_belong_to_the_choice(experiment):
    check_final_network(experiment.folder / "final" / "0")
    with pytest.raises(UserError, match="the config has no such seed"):
        check_final_network(experiment.folder / "final" / "1")


def test_the_page_warns_of_the_licence_of_a_restricted_model(with_groups):
    plan = read_manifest("plan", with_groups.paths.plan)
    write_manifest("plan", plan.assign(model="facebook/DiT-XL-2-256"), with_groups.paths.plan)
    restricted = Page(with_groups.write_report().read_text())
    write_manifest("plan", plan, with_groups.paths.plan)
    notes = [note[2] for note in restricted.all("p", **{"class": "note"})]
    assert any("Licence of facebook/DiT-XL-2-256: CC-BY-NC-4.0" in note for note in notes)
    free = Page(with_groups.write_report().read_text()).all("p", **{"class": "note"})
    assert not any("Licence of" in note[2] for note in free)


def test_the_page_compares_the_chosen_network_with_the_baseline(page, with_groups):
    [classes] = page.all("div", **{"aria-label": "Table: all classes"})
    assert "real, %synaug, %" in classes[2]  # the chosen network is of stage 1
    [classes] = Page(with_groups.page.read_text()).all("div", **{"aria-label": "Table: all classes"})
    assert "real, %synaug + fine-tune, %" in classes[2]  # nothing was chosen

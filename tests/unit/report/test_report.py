"""The page: its structure, what stands in it, and how it behaves in a browser."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from browser import Browser, find_chromium
from small_experiment import CLASSES, Experiment, decoded

VOID = {"meta", "link", "img", "input", "br", "wbr", "path", "use", "rect", "image"}


class Page(HTMLParser):
    """The elements of a page as (tag, attributes, text, tags around it)."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        element = [tag, dict(attributes), "", [one[0] for one in self._open]]
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), "", [one[0] for one in self._open]])

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop()[0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def all(self, tag, **attributes):
        return [one for one in self.elements if one[0] == tag and attributes.items() <= one[1].items()]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, pngs) -> Experiment:
    made = Experiment(tmp_path_factory.mktemp("small"), pngs)
    made.page = made.write_report()
    return made


@pytest.fixture(scope="module")
def text(experiment) -> str:
    return experiment.page.read_text()


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


@pytest.fixture(scope="module")
def with_groups(tmp_path_factory, pngs) -> Experiment:
    made = Experiment(tmp_path_factory.mktemp("groups"), pngs, groups=True)
    made.page = made.write_report()
    return made


def classes(page: Page) -> list[str]:
    return [one[2].strip() for one in page.all("h3") if one[1].get("id", "").startswith("class-")]


def test_every_element_is_closed_and_every_id_is_there_once(page, with_groups):
    for one in (page, Page(with_groups.page.read_text())):
        assert not one._open or [element[0] for element in one._open] == []
        ids = [element[1]["id"] for element in one.elements if "id" in element[1]]
        assert len(ids) == len(set(ids))
        inside = [element[1]["href"][1:] for element in one.all("a") if element[1]["href"].startswith("#")]
        named = [element[1]["aria-labelledby"] for element in one.elements if "aria-labelledby" in element[1]]
        used = [
            target
            for element in one.elements
            for value in element[1].values()
            for target in re.findall(r"url\(#([^)]+)\)", value or "")
        ]
        assert set(inside + named + used) <= set(ids)


def test_the_page_asks_for_nothing_outside_itself(page, text):
    sources = [one[1].get("src") or one[1].get("href") for one in page.elements if one[0] in ("img", "link", "script")]
    assert all(source is None or source.startswith("data:") for source in sources)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)


def test_people_who_do_not_see_find_their_way(page):
    """Landmarks, headings without gaps, texts for images, heads of tables, names of what can be scrolled."""
    assert [len(page.all(tag)) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    assert page.all("nav")[0][1]["aria-label"] and page.all("html")[0][1]["lang"] == "en"
    levels = [int(one[0][1]) for one in page.elements if re.fullmatch("h[1-6]", one[0])]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.all("a")[0][1]["href"] == "#main"  # the skip link comes first
    assert all(one[1].get("alt") for one in page.all("img"))
    assert all(one[1].get("scope") in ("row", "col", "colgroup") for one in page.all("th"))
    for one in page.all("svg"):
        assert one[3][-1] == "div"
    drawn = [one for one in page.all("div", role="img")]
    assert len(drawn) == len(page.all("svg")) == 6 and all(len(one[1]["aria-label"]) > 30 for one in drawn)
    assert all(one[1].get("aria-label") for one in page.elements if one[1].get("tabindex") == "0")
    field = page.all("input")[0][1]["id"]
    assert page.all("label")[0][1]["for"] == field
    sections = page.all("section")
    assert len(sections) == 11 and all("aria-labelledby" in one[1] for one in sections)


def test_names_and_prompts_are_text(page, text):
    assert set(classes(page)) == set(CLASSES)
    assert not page.all("b") and not page.all("i")
    assert "A <note>." in page.all("p", **{"class": "note"})[0][2]


def test_every_class_has_real_synthetic_and_rejected_images_that_open(page, text):
    for name, count in CLASSES.items():
        alts = [one[1]["alt"] for one in page.all("img") if one[1]["alt"].split(" ", 1)[1].startswith(name)]
        kinds = [alt.split()[0] for alt in alts]
        assert kinds.count("real") == min(8, count)
        assert (kinds.count("synthetic") > 0) == (kinds.count("rejected") > 0) == (count < 30)
    assert all(decoded(one[1]["src"]).size == (28, 28) for one in page.all("img"))
    assert "is not taken for its class (confidence" in text and "is blank (contrast" in text
    assert "no image" in text and "is damaged" in text  # what cannot be opened is said
    assert "real: is empty (0 bytes)" in text


def test_what_was_done_is_said(page):
    table = " ".join(one[2] for one in page.all("table"))
    assert "CC0" in table and "torch 2" in table and "28 pixels" in table
    assert '"experiment": "small_one"' in page.all("pre")[0][2]
    assert "not noted" in table  # no benchmarks beside these results


def test_advice_names_the_weak_class_and_why(page):
    (weak,) = [one[2] for one in page.all("li") if one[2].startswith("boot, ")]
    assert "few real training images" in weak and "are taken for Stövel <b>" in weak and "were rejected" in weak


def test_groups_have_their_tables(with_groups):
    page = Page(with_groups.page.read_text())
    titles = [one[2] for one in page.all("h2")]
    assert "Groups" in titles and len(page.all("div", role="img")) == 8
    (cells,) = [one for one in page.all("div") if one[1].get("aria-label") == "Table: all cells"]
    assert cells[2].count("red") == cells[2].count("green") == 3
    assert any("weakest cells" in one[2] for one in page.all("li"))


def test_figures_are_files_as_well(experiment, with_groups):
    assert len(list((experiment.folder / "figures").glob("*.svg"))) == 6
    assert len(list((with_groups.folder / "figures").glob("*.svg"))) == 8
    assert (experiment.folder / "overview.png").read_bytes().startswith(b"\x89PNG")


browser_needed = pytest.mark.skipif(not find_chromium(), reason="no Chromium is installed: `apt-get install chromium`")


@pytest.fixture(scope="module")
def browser():
    with Browser() as one:
        yield one


def visible(browser) -> list[str]:
    return browser.evaluate('[...document.querySelectorAll(".class:not([hidden]) h3")].map((one) => one.textContent)')


@browser_needed
def test_it_opens_in_silence_and_shows_all_images(browser, experiment):
    browser.open(experiment.page)
    shown = "Promise.all([...document.images].map((one) => { one.loading = 'eager'; return one.decode(); }))"
    browser.evaluate(shown + ".then(() => true)")
    assert browser.evaluate("[...document.images].every((one) => one.naturalWidth === 28)")
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
    shown = browser.evaluate("document.querySelectorAll('.class:not([hidden]) li[data-made]:not([hidden])').length")
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
def test_it_can_be_read_on_a_phone_and_in_the_dark(experiment, dark, tmp_path):
    """Nothing but tables and figures is wider than a phone; text has the contrast that WCAG 2.2 AA asks for."""
    with Browser(390, 844, dark) as phone:
        phone.open(experiment.page)
        assert phone.evaluate("document.documentElement.scrollWidth") == 390
        colours = """["--text", "--soft-text", "--link"].flatMap((front) => ["--back", "--soft"].map((back) =>
            [front, back].map((name) => getComputedStyle(document.documentElement).getPropertyValue(name))))"""
        for front, back in phone.evaluate(colours):
            lighter, darker = sorted((luminance(front), luminance(back)), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (front, back)
        back = phone.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", back))) < 150) == dark
        phone.pdf(tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, as WCAG defines it."""
    digits = colour.strip().lstrip("#")
    digits = "".join(2 * one for one in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

"""The script of the tables, in a browser: sorting by mouse and keyboard, the filter, and what is printed."""

from pathlib import Path

import pytest

import synaug.report
from browser import Browser, find_chromium

pytestmark = pytest.mark.skipif(not find_chromium(), reason="no Chromium is installed: `apt-get install chromium`")

REPORT = Path(synaug.report.__file__).parent
NAMES = ["class 10", "class 9", "Bag", "ankle boot"]
GAINS = ["+1.5<br><small>[0.3, 2.7] s</small>", "-", "-12.0<br><small>[-14.0, -9.9] s</small>", "+10.2"]
ROWS = "".join(
    f"<tr><th scope=row>{name}</th><td>{count}</td><td>{100 - count}</td><td>{gain}</td></tr>"
    for name, count, gain in zip(NAMES, (20, 3, 100, 1), GAINS, strict=True)
)
TABLE = f"""<div class=scroll role=region tabindex=0 aria-label="Table: all classes"><table><thead>
<tr><th scope=col rowspan=2>class</th><th scope=colgroup colspan=2>images</th><th scope=col rowspan=2>gain</th></tr>
<tr><th scope=col>A</th><th scope=col>B</th></tr></thead><tbody>{ROWS}</tbody></table></div>"""
LONG = "".join(f"<tr><th scope=row>class {i}</th><td>{'few' if i % 4 else 'many'}</td></tr>" for i in range(20))
LONG = f"""<div class=scroll role=region tabindex=0 aria-label="Table: shots"><table>
<thead><tr><th scope=col>class</th><th scope=col>shot</th></tr></thead><tbody>{LONG}</tbody></table></div>"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    page = tmp_path_factory.mktemp("page") / "page.html"
    style, script = ((REPORT / name).read_text() for name in ("page.css", "tables.js"))
    content = f"<section>{TABLE}<details><summary>more</summary>{LONG}</details></section>"
    page.write_text(f"<!doctype html><meta charset=utf-8><style>{style}</style>{content}<script>{script}</script>")
    with Browser() as browser:
        browser.page = page
        yield browser


SHORT_ROWS, LONG_ROWS = (f"[...document.querySelectorAll('table')[{i}].tBodies[0].rows]" for i in (0, 1))
HEADS = "[...document.querySelectorAll('table')[0].querySelectorAll('th[aria-sort]')]"


def names(browser) -> list[str]:
    return browser.evaluate(f"{SHORT_ROWS}.map((row) => row.cells[0].textContent)")


def type_into_filter(browser, words: str) -> None:
    field = "document.querySelector('.filter input')"
    browser.evaluate(f"{field}.value = '{words}'; {field}.dispatchEvent(new Event('input'))")


def click(browser, head: str) -> None:
    browser.evaluate(f"[...document.querySelectorAll('thead button')].find((b) => b.textContent === '{head}').click()")


@pytest.mark.parametrize(
    ("head", "ascending"),
    [
        ("class", ["ankle boot", "Bag", "class 9", "class 10"]),  # numbers in names count as numbers
        ("A", ["ankle boot", "class 9", "class 10", "Bag"]),
        ("B", ["Bag", "class 10", "class 9", "ankle boot"]),  # the second column below a common head
        ("gain", ["Bag", "class 10", "ankle boot", "class 9"]),  # by the mean; what has no value is last
    ],
)
def test_a_click_sorts_up_then_down_then_as_before(browser, head, ascending):
    browser.open(browser.page)
    click(browser, head)
    assert names(browser) == ascending
    click(browser, head)
    empty = ["class 9"] if head == "gain" else []
    assert names(browser) == [name for name in ascending[::-1] if name not in empty] + empty
    click(browser, head)
    assert names(browser) == NAMES
    assert browser.complaints() == []


def test_the_keyboard_sorts_and_aria_sort_says_how(browser):
    browser.open(browser.page)
    browser.evaluate("document.querySelector('.scroll').focus()")
    for key in ["Tab"] * 3 + ["Enter"]:
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, text="\r" if key == "Enter" else "",
                     windowsVirtualKeyCode={"Tab": 9, "Enter": 13}[key])  # fmt: skip
        browser.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)
    states = f"{HEADS}.map((head) => [head.textContent, head.ariaSort])"
    assert dict(browser.evaluate(states)) == {"class": "none", "gain": "none", "A": "ascending", "B": "none"}
    assert names(browser)[0] == "ankle boot"


def test_a_long_table_has_a_filter(browser):
    browser.open(browser.page)
    browser.evaluate("document.querySelector('details').open = true")
    labels = browser.evaluate("[...document.querySelectorAll('.filter label')].map((label) => label.textContent)")
    assert labels == ["Filter shots"]  # the other table is short
    for words, count in (("MANY", 5), ("many 1", 2), ("nothing", 0), ("", 20)):
        type_into_filter(browser, words)
        assert browser.evaluate(f"{LONG_ROWS}.filter((row) => row.checkVisibility()).length") == count
        said = browser.evaluate("document.querySelector('.filter output').textContent")
        assert said == (f"{count} of 20 rows" if words else "")


def test_paper_shows_all_rows_and_no_controls(browser):
    browser.open(browser.page)
    type_into_filter(browser, "nothing")
    browser.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate(f"{LONG_ROWS}.every((row) => row.checkVisibility())")
    assert not browser.evaluate("document.querySelector('.filter').checkVisibility()")
    browser.call("Emulation.setEmulatedMedia", media="")

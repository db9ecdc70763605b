"""The report in a real browser: headless Chromium, where it is installed."""

import base64
import gzip
import re

import albums as albums_of
import pytest
from browser import Browser, browser  # noqa: F401 (a fixture)
from hostile import HOSTILE, run_with_text
from paths import ROOT

from bench.output.page import chapter
from bench.output.plots import kinds
from bench.record.run import Run

pytestmark = pytest.mark.process

TABLES = "return [...document.querySelectorAll('table')].map(t => [t.tBodies[0].rows.length, t.offsetHeight > 0])"
PLOTS = "return [...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height > 50)"


@pytest.fixture(scope="session")
def plain() -> str:
    return chapter.render_page([Run(ROOT / "results/reference/cpu-2-cores")])


@pytest.fixture(scope="session")
def pages(browser: Browser, plain: str, tmp_path_factory) -> dict:  # noqa: F811
    """A real Run; two, with few plots, that have hostile text wherever a file can have one; a training and a
    prediction."""
    folder = tmp_path_factory.mktemp("pages")
    found = {name: folder / f"{name}.html" for name in ("plain", "hostile", "albums")}
    albums = [albums_of.trained(folder), albums_of.predicted(folder)]
    found["albums"].write_text(chapter.render_page([], folders=albums), encoding="utf-8")
    found["plain"].write_text(plain, encoding="utf-8")
    runs = [run_with_text(folder / f"r{number}", text) for number, text in enumerate(HOSTILE[:2])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "KINDS", {"times": kinds.KINDS["times"]})
        found["hostile"].write_text(chapter.render_page(runs), encoding="utf-8")
    return found


def test_every_plot_is_there_or_says_why_it_is_not(plain):
    kinds = re.findall(r'<figure id="run1-(\w+)-figure">', plain)
    assert kinds == ["times", "distribution", "series", "roofline", "history"]
    left = re.findall(r'<p class="note">(\w[\w ]*) not drawn: ([^;]*);', plain)
    assert left == [
        ("Throughput", "there is one batch"),
        ("Layers by time", "this Run is not a profile"),
        ("Loaders", "this Run has no loaders"),
        ("Scaling", "this Run has one device"),
    ]


@pytest.mark.parametrize(
    ("name", "scheme"), [("plain", "light"), ("plain", "dark"), ("hostile", "dark"), ("albums", "light")]
)
def test_the_page_loads_without_browser_errors(browser, pages, name, scheme):  # noqa: F811
    browser.open(pages[name], scheme=scheme)
    assert browser.log() == []
    assert "alexnet-bench report" in browser.driver.title  # no text of a file ran
    assert browser.faults() == []


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_no_wider_than_the_window(browser, pages, width):  # noqa: F811
    for name in pages:
        browser.open(pages[name], width=width)
        assert browser.run("return document.documentElement.scrollWidth") == width


def test_on_a_phone_a_scrolled_row_still_has_its_name(browser, pages):  # noqa: F811
    browser.open(pages["plain"], width=360)
    browser.run("document.querySelector('.scroll').scrollLeft = 300")
    head = "const [table, head] = ['.scroll', '.scroll th[scope=row]'].map(s => document.querySelector(s));"
    left, width = browser.run(
        f"{head} const [a, b] = [table, head].map(e => e.getBoundingClientRect()); return [b.left - a.left, b.width]"
    )
    assert abs(left) < 1
    assert width < 180


def test_landmarks_of_two_runs_have_names_of_their_own(browser, pages):  # noqa: F811
    browser.open(pages["hostile"])
    names = browser.run(
        "return [...document.querySelectorAll('section, [role=region], nav')].map(e => e.ariaLabel || "
        "e.getAttribute('aria-labelledby').split(' ').map(i => document.getElementById(i).textContent).join(' '))"
    )
    assert len(names) == len(set(names))


def test_without_scripts_the_page_is_complete(browser, pages):  # noqa: F811
    browser.open(pages["plain"])
    tables, plots = browser.run(TABLES), browser.run(PLOTS)
    assert len(tables) >= 4
    assert all(seen for _, seen in tables)
    assert plots
    assert all(plots)
    browser.open(pages["plain"], scripts=False)

    def count(selector: str) -> int:
        document = browser.cdp("DOM.getDocument")["root"]["nodeId"]  # another call makes it invalid
        return len(browser.cdp("DOM.querySelectorAll", nodeId=document, selector=selector)["nodeIds"])

    assert count("th button") == 0
    assert count("figure svg") == len(plots)
    assert count("tbody tr") == sum(rows for rows, _ in tables)


def test_a_dark_page_has_dark_paper_and_light_ink_in_plots_too(browser, pages):  # noqa: F811
    def lightness(script: str) -> float:
        red, green, blue = browser.run(f"return {script}.match(/\\d+/g).slice(0, 3).map(Number)")
        return (red + green + blue) / 765

    ink = "getComputedStyle(document.querySelector('figure svg text')).fill"
    browser.open(pages["plain"], scheme="dark")
    assert lightness("getComputedStyle(document.body).backgroundColor") < 0.2
    assert lightness(ink) > 0.8
    browser.media("dark", "print")
    assert lightness(ink) < 0.2
    browser.media("light")
    assert lightness(ink) < 0.2


def test_a_table_sorts_from_the_keyboard(browser, pages):  # noqa: F811
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["plain"])
    table = browser.driver.find_element("css selector", "#run1 table")
    names = [one.text for one in table.find_elements("css selector", "thead th")]
    at = names.index("median ms")
    button = table.find_elements("css selector", "thead th button")[at]

    def column() -> list[float]:
        cells = table.find_elements("css selector", f"tbody tr > :nth-child({at + 1})")
        return [float(one.get_attribute("data-value")) for one in cells]

    given = column()
    for key, order, said in (
        (Keys.ENTER, sorted(given), "ascending"),
        (Keys.SPACE, sorted(given, reverse=True), "descending"),
        (Keys.ENTER, given, None),
    ):
        browser.run("arguments[0].focus()", button)
        browser.driver.switch_to.active_element.send_keys(key)
        assert column() == order
        head = table.find_elements("css selector", "thead th")[at]
        assert head.get_attribute("aria-sort") == said
        status = browser.driver.find_element("id", "sorted").get_attribute("textContent")
        assert status == (f"sorted by median ms, {said}" if said else "in the original order")


def test_a_download_is_the_run(browser, pages, tmp_path):  # noqa: F811
    browser.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.open(pages["plain"])
    from selenium.webdriver.support.wait import WebDriverWait

    browser.run("document.querySelector(\"a[download='run.jsonl.gz']\").click()")
    WebDriverWait(browser.driver, 20).until(lambda _: (tmp_path / "run.jsonl.gz").exists())
    data = gzip.decompress((tmp_path / "run.jsonl.gz").read_bytes())
    assert data == (ROOT / "results/reference/cpu-2-cores/run.jsonl").read_bytes()


def test_the_page_prints(browser, pages):  # noqa: F811
    browser.open(pages["plain"], width=688)
    browser.media("light", "print")
    cut = "return [...document.querySelectorAll('table, pre, figure')].filter(e => e.scrollWidth > 688).length"
    assert browser.run(cut) == 0
    assert browser.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    assert base64.b64decode(browser.cdp("Page.printToPDF")["data"]).startswith(b"%PDF")

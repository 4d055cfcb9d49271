"""The page in a real Chromium: it shows everything, asks for nothing, fits a phone, and can be read by anyone."""

from itertools import pairwise
from pathlib import Path

import pytest

from lorweb.evaluation.report import render
from tests.browser import LAPTOP, PHONE, scrolls_sideways, window
from tests.evaluation.report_cases import report_data

pytestmark = [pytest.mark.slow, pytest.mark.browser]
SCHEMES = ("light", "dark")
SMALLEST = (375, 667)  # px
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return null;
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || node.closest("title, .skip")) continue;
    const style = getComputedStyle(node), back = behind(node);
    const ink = parse(node instanceof SVGElement ? style.fill : style.color);
    const [x, y] = [light(ink), light(back)].sort((p, q) => q - p);
    found.push([(x + 0.05) / (y + 0.05), walk.currentNode.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """The page on disk: it must work without a server."""
    path: Path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render(report_data()), encoding="utf-8")
    return path.as_uri()


def open_all(page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(found => found.open = true)")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [LAPTOP, PHONE, SMALLEST])
def test_it_fits_and_is_silent(chromium, address, size, scheme):
    asked: list[str] = []
    with window(chromium, size, color_scheme=scheme) as (page, seen):
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        assert not scrolls_sideways(page)
        open_all(page)
        assert not scrolls_sideways(page), page.evaluate(
            "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
            " && !e.closest('.scroll')).map(e => e.outerHTML.slice(0, 90))"
        )
        assert not seen.errors and not seen.foreign
    assert asked[0] == address and all(url.startswith("data:") for url in asked[1:])


def test_every_image_decodes_and_every_link_leads_somewhere(chromium, address):
    from playwright.sync_api import expect

    with window(chromium) as (page, _):
        page.goto(address)
        open_all(page)
        sizes = page.evaluate(
            "Promise.all([...document.images].map(async i => (await i.decode(), [i.naturalWidth, i.alt])))"
        )
        assert len(sizes) > 60 and all(width > 0 and alt for width, alt in sizes)
        links = page.evaluate("[...document.links].map(a => a.getAttribute('href'))")
        assert len(links) > 12
        for link in links:
            assert page.evaluate("link => !!document.getElementById(link.slice(1))", link), link
        page.click("nav a[href='#atoms']")
        expect(page.locator("#atoms")).to_be_in_viewport()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out(chromium, address, scheme):
    with window(chromium, color_scheme=scheme) as (page, _):
        page.goto(address)
        open_all(page)
        found = page.evaluate(CONTRAST)
    assert len(found) > 300
    faint = sorted({(round(ratio, 2), text) for ratio, text in found if ratio < 4.5})
    assert not faint, faint[:10]


def test_the_schemes_differ(chromium, address):
    shades = []
    for scheme in SCHEMES:
        with window(chromium, color_scheme=scheme) as (page, _):
            page.goto(address)
            shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    light, dark = (sum(int(part) for part in shade[4:-1].split(",")) for shade in shades)
    assert light > 700 and dark < 120


def test_keys_reach_the_content_and_scroll_wide_tables(chromium, address):
    with window(chromium, PHONE, bypass_csp=True) as (page, _):  # polling evaluates text
        page.goto(address)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        page.keyboard.press("Enter")
        assert page.url.endswith("#main")
        page.focus("[aria-label='numbers of seen']")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector(\"[aria-label='numbers of seen']\").scrollLeft > 0")


def test_a_screen_reader_finds_landmarks_names_and_headings(chromium, address):
    with window(chromium) as (page, _):
        page.goto(address)
        open_all(page)
        for role in ("banner", "navigation", "main", "contentinfo"):
            assert page.get_by_role(role).count() == 1, role
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
        assert levels[0] == 1 and levels.count(1) == 1 and len(levels) > 12
        assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
        unnamed = page.evaluate(
            "[...document.querySelectorAll('[role=region],[role=img],section,nav')]"
            ".filter(e => !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')).length"
        )
        assert unnamed == 0

"""The page as text: what is in it, that it is whole, and that nothing in the data can break out of it."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lorweb.evaluation.glossary import described
from lorweb.evaluation.pictures import png_bytes
from lorweb.evaluation.report import ReportData, render, write_report
from lorweb.evaluation.report_judge import outcome_names
from lorweb.evaluation.report_views import bar_groups, best_models
from lorweb.evaluation.results import CELLS
from lorweb.evaluation.thumbnails import LARGEST_SIDE, thumbnail
from lorweb.evaluation.verdicts import show
from tests.evaluation.report_cases import MODELS, STRANGE, TASKS, report_data
from tests.kontext_tiny import drawn_image

VOID = {"meta", "link", "img", "br", "wbr", "line", "polyline", "rect"}


class Page(HTMLParser):
    """Tags with their attributes, ids, links, text, and tags that were never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data()


@pytest.fixture(scope="module")
def text(data) -> str:
    return render(data)


def test_it_is_whole_and_asks_for_nothing(text):
    page = Page(text)
    assert not page.open and len(page.tags) > 400
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    links = [attributes["href"] for attributes in page.all("a")]
    assert len(links) > 10 and all(link[0] == "#" and link[1:] in ids for link in links)
    assert all(image["src"].startswith("data:image/webp;base64,") and image["alt"] for image in page.all("img"))
    assert not page.all("script") and not re.findall(r"https?://|url\(|@import|<iframe", text)
    assert "default-src 'none'" in text


def test_tables_say_what_their_headers_head(text):
    page = Page(text)
    assert len(page.all("table")) > 10
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))
    regions = [div for div in page.all("div") if div.get("role") == "region"]
    assert len(regions) > 8 and all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    assert [tag for tag, _ in page.tags if tag in ("header", "nav", "main", "footer")] == [
        "header",
        "nav",
        "main",
        "footer",
    ]


def test_names_from_the_data_are_text_and_never_markup(text):
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    assert "".join(Page(text).text).count(STRANGE) > 5


def test_models_and_metrics_that_nobody_described_are_there(text, data):
    page = Page(text)
    cells = re.findall(r"<caption>([^:<]+):", text)
    assert cells == list(data.metrics)
    main = [cell for cell in cells if cell in CELLS]  # these have a table of differences as well
    assert text.count("brand_<wbr>new</a>") == len(cells) + len(main) == 14
    assert "metric-brand_new" in [a.get("id") for _, a in page.tags]
    assert all(re.search(rf"<th scope=\"row\">{model}</th>", text) for model in ("somebody_elses",))
    assert len(re.findall(r'<th scope="row">single LoRA</th>', text)) == len(cells)


def test_what_is_not_there_leaves_no_heading(data):
    bare = replace(
        data,
        pictures={},
        failures=None,
        mixes=None,
        atoms=None,
        curves={},
        stages={},
        facts={},
        paired={},
        by_metric={},
        judge={},
        tasks=[],
    )
    text = render(bare)
    assert not Page(text).open
    for name in ("pictures", "failures", "mix", "atoms", "health", "training", "data", "exemplar", "judge", "tasks"):
        assert f'id="{name}"' not in text and f'href="#{name}"' not in text
    assert 'id="summary"' in text and 'id="read"' in text


def test_the_same_data_give_the_same_bytes(data, text, tmp_path):
    write_report(report_data(), tmp_path / "index.html")
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_bars_are_ordered_and_to_scale(data):
    metric = described(data.headline)
    groups = bar_groups(data.tasks, metric)
    assert [len(group["bars"]) for group in groups] == [2, 1, 1, 1]
    values = [bar["value"] for bar in groups[0]["bars"]]
    assert values == sorted(values)
    top = max([value for bar in groups[0]["bars"] for value in (bar["value"], *(mark[2] for mark in bar["marks"]))])
    for bar in groups[0]["bars"]:
        assert float(bar["width"]) == pytest.approx(100 * bar["value"] / top, abs=0.06)
    up = [{"task": t, "holdout": "none", "ssim_to_truth": v} for t, v in (("x", 0.2), ("y", 0.9), ("z", -0.1))]
    (group,) = bar_groups(up, described("ssim_to_truth"))
    assert [bar["task"] for bar in group["bars"]] == ["y", "x", "z"]
    assert [bar["width"] for bar in group["bars"]] == ["100.0", "30.0", "0.0"]


def section(text: str, name: str) -> str:
    """The section of the page under a heading."""
    found = re.search(rf'<section aria-labelledby="{name}">(.*?)</section>', text, re.S)
    assert found, f"no section {name}"
    return found[1]


def words(html: str) -> list[str]:
    """The text of every cell of a table, row after row."""
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", html, re.S)
    return [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in cells]


def test_the_judge_is_named_counted_and_its_preferences_are_shown(text, data):
    found = section(text, "judge")
    assert "a/&lt;judge&gt; 1234abcd" in found and "92 asked, 59 valid, 31 invalid, 2 unanswered" in found
    outcomes = outcome_names(data.judge)
    assert outcomes[:4] == ["wins", "ties", "losses", "invalid"]
    for cell in ("seen", "unseen", "unseen_edit"):
        versus = data.judge["preferences"][cell]["single_lora"]
        at = words(found).index("single LoRA", words(found).index(cell))
        rate, wilson, *counted, first = words(found)[at + 1 : at + 4 + len(outcomes)]
        assert rate.startswith(f"{show(versus['win_rate']['mean'])} ")
        assert wilson == "–".join(f"{end:.3f}" for end in versus["wilson_95"])
        assert counted == [str(versus[name]) for name in outcomes]
        assert first == f"{versus['first_share']:.3f}"
    assert "no verdict" in found, "a rival of whom every reply was invalid"
    assert 'id="judge"' not in render(replace(data, judge={"judge": None}))


def test_a_metric_that_some_answers_lack_says_how_many_it_is_of(text, data):
    seen = data.metrics["seen"]["single_lora"]
    assert (seen["judge_accuracy"]["n"], seen[data.headline]["n"]) == (5, 6)
    table = text[text.index('aria-label="numbers of seen"') :]
    (row,) = re.findall(r'<th scope="row">single LoRA</th>(.*?)</tr>', table[: table.index("</table>")], re.S)
    assert row.count("<small>of 5 in 2</small>") == 2, "both grades, and no other metric"


def test_every_metric_has_its_differences_in_every_main_cell(text, data):
    found = section(text, "exemplar")
    assert found.count("differences by every metric in") == 5
    for metric in data.by_metric:
        assert found.count(f'href="#metric-{metric}"') == 5
    assert f"this page has {sum(len(c) for p in (data.paired, *data.by_metric.values()) for c in p.values())}" in text


def test_failures_name_every_rival(text, data):
    found = section(text, "failures")
    assert "at least one of these: copy of b; base; single LoRA.\n" in found


def test_the_best_of_a_column_follows_the_direction_of_its_metric(data):
    metrics = [described(name) for name in (data.headline, "ssim_to_truth", "brand_new")]
    for cell, best in best_models(data.metrics, metrics).items():
        means = {m: {k: v["mean"] for k, v in data.metrics[cell][m].items()} for m in MODELS if m != "codec_truth"}
        assert best[data.headline] == min(means, key=lambda m: means[m][data.headline])
        assert best["ssim_to_truth"] == max(means, key=lambda m: means[m]["ssim_to_truth"])
        assert best["brand_new"] is None


def test_small_pictures_keep_every_pixel_and_large_ones_shrink():
    import base64

    for side in (16, 64, 96):
        image = drawn_image(3, side, side)
        found = Image.open(io.BytesIO(base64.b64decode(thumbnail(png_bytes(image)).split(",")[1]))).convert("RGB")
        assert np.array_equal(np.asarray(found), np.asarray(image))
    large = drawn_image(3, 640, 320)
    found = Image.open(io.BytesIO(base64.b64decode(thumbnail(png_bytes(large)).split(",")[1]))).convert("RGB")
    assert found.size == (LARGEST_SIDE, LARGEST_SIDE // 2)
    small = np.asarray(large.resize(found.size, Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(np.asarray(found).astype(int) - small).mean() < 6


def test_every_task_is_a_row_of_the_mixes(text):
    rows = re.findall(r'class="band" role="img" aria-label="largest: LoRA \d+ with ([\d.]+); smallest', text)
    assert len(rows) == len(TASKS) and all(0 < float(row) <= 1 for row in rows)
    assert text.count("held out</small>") == len(TASKS) - 2

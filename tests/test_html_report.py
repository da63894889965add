"""The page of a report: self-contained, complete, escaped, whole or not at all."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from html.parser import HTMLParser

import numpy as np
import pytest
from test_plotting import SPECIAL, sample_report

from lowrankflow.render import pictures_of, to_html, write_html
from lowrankflow.report import Claim, Control, Curve, Figure, Hypothesis, Report, Table

INLINE = {"a", "b", "code", "data", "em", "span", "strong", "sub", "sup"}
VOID = {"col", "meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements, their attributes and the text of a page; refuses tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.data = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in INLINE:
            self.words.append(" ")  # as a reader sees it
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.data += data
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    @property
    def plain(self) -> str:
        """The text with its typographic signs (minus, times, dash) as on a keyboard."""
        return self.text.translate({0x2212: "-", 0xD7: "x", 0x2013: "-"})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    report = sample_report()
    write_html(report, path)
    return report, path.read_text(encoding="utf-8"), path


@pytest.fixture(scope="module")
def page(written):
    return Page(written[1])


def _page(report: Report, tmp_path) -> Page:
    write_html(report, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_nothing_comes_from_elsewhere(written, page):
    _, text, _ = written
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form", "audio", "video")
        assert not any(name.startswith("on") for name in attributes)  # no handler
        for name in ("src", "href", "srcset", "action", "poster", "background", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
        if tag == "script":
            assert attributes == {"type": "application/json", "id": "report"}
        if tag == "link":
            assert attributes == {"rel": "icon", "href": "data:,"}
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    assert "url(" not in style and "@import" not in style and "http" not in style
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none';")


def bare(text):
    """A text without what typesetting takes away: spaces, and the marks of scripts."""
    for typed, shown in (("sigma", "σ"), ("lambda", "λ"), ("||", "‖"), ("<=", "≤"), (">=", "≥"), ("->", "→"), ("-", "−")):
        text = text.replace(typed, shown)
    return re.sub(r"[\s_^{}]", "", text)


def test_every_claim_is_there_with_its_numbers_in_words(written, page):
    report, _, _ = written
    for claim in report:
        assert claim.name in page.text and claim.source in page.text
        for text in (claim.statement, claim.detail):  # whose formulas are typeset
            assert bare(text) in bare(page.text)
    assert page.text.count("✓ passed") == 7 + 1  # and once in the glossary
    assert page.text.count("✗ failed") == 2 + 1
    assert page.text.count("○ not claimed") == 1 + 1
    for words in ("4.10 x 10-12", "≤ 3.00 x 10-11", "in [0.9, 1.1]", "≥ 0.7", "wrong depth: 0.31 caught",
                  "one factor scaled at half time: 8.00 x 10-13 not caught", "a control was not caught",
                  "the measurement is not a number", "stationary at the end: 0.31 not met",
                  "balanced start: 3.1 x 10-16 met", report.summary()):  # fmt: skip
        assert words in page.plain, words


def test_verdict_links_to_the_claims_that_failed(page):
    assert "2 of 10 claims failed: balance, dissipation. 1 is not claimed, because a hypothesis" in page.text
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for t, a in page.tags if t == "a"]
    assert {"#claim-6", "#claim-7"} <= set(links) and all(link[1:] in ids for link in links)


def test_the_problem_is_shown_at_every_depth(page):
    for words in ("digits", "1797", "numerical rank", "centred yes", "0.1 (10 times)", "t end -", "horizon ∞", "rtol 10-10",
                  "10, 11, … (100 values)", "0.005", "mean over samples, 1/2 ||W X - Y||^2 / n"):  # fmt: skip
        assert words in page.plain, words


def test_text_is_never_markup(written, page):
    _, text, _ = written
    assert "<b>5" not in text and "alert(1)</script>" not in text and "<script>alert" not in text
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    # name, statement, source, detail, hypothesis and its value, control, problem, title, caption, a label
    assert page.text.count(SPECIAL) >= 11


def test_a_claim_named_like_markup_is_shown_as_written(tmp_path):
    claim = Claim("<b>x</b>", "s", "d", 0.0, "<=", 1.0)
    page = _page(Report("verify <i>", {"<u>": "<u>"}, [claim], version="<s>", environment={"<em>": "<em>"}), tmp_path)
    assert "<b>x</b>" in page.text and page.text.count("<u>") == 2 and page.text.count("<em>") == 2
    # the page's own bold words: verdicts of controls; there is none here
    assert not {"b", "i", "u", "s"} & {tag for tag, _ in page.tags}


def test_the_json_inside_is_the_report(written, page):
    report, _, _ = written
    assert json.loads(page.data) == report.to_dict()


def test_every_figure_is_inside_with_a_text(written, page):
    report, _, _ = written
    images = [a for t, a in page.tags if t == "img"]
    assert len(images) == len(report.figures) + 1
    for image in images:
        assert image["src"].startswith(("data:image/svg+xml;base64,", "data:image/png;base64,"))
        assert len(image["alt"]) > 20
    for figure in report.figures:
        assert figure.title in page.text and figure.caption in page.text
    assert "The 18 points of this figure" in page.text


def test_the_page_is_small_and_readable_by_others(written):
    _, text, path = written
    assert len(text.encode()) < 3_000_000
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_drawing_too_large_becomes_pixels(tmp_path):
    rng = np.random.default_rng(0)
    t = np.arange(3000.0)
    curves = [Curve("noise", list(t), list(rng.standard_normal(t.size)), "a") for _ in range(6)]
    page = _page(Report("verify", {}, figures=[Figure("f", "t", "c", "x", "y", curves)]), tmp_path)
    (image,) = (a for t, a in page.tags if t == "img")
    assert image["src"].startswith("data:image/png;")


def test_tables_have_headers(page):
    heads = [a for t, a in page.tags if t == "th"]
    assert heads and all(a.get("scope") in ("row", "col") for a in heads)
    assert ("html", {"lang": "en"}) in page.tags


GOOD = Claim("good", "s", "d", 0.1, "<=", 1.0, controls=(Control("changed", 2.0, 1.0),))
BAD = Claim("bad", "s", "d", 2.0, "<=", 1.0)
OPEN = Claim("open", "s", "d", 0.1, "<=", 1.0, (Hypothesis("h", False, "no"),))


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ([GOOD], "✓ The one claim holds, and the one control was caught."),
        ([GOOD, GOOD], "✓ All 2 claims hold, and all 2 controls were caught."),
        ([GOOD, OPEN], "✓ 1 claim holds, and the one control was caught. 1 is not claimed, because a hypothesis"),
        ([GOOD, BAD], "✗ 1 of 2 claims failed: bad."),
        ([OPEN], "○ Nothing could be claimed: no claim has all its hypotheses met."),
        ([], "○ There are no claims."),
    ],
)
def test_one_sentence_says_how_it_went(tmp_path, claims, sentence):
    assert sentence in _page(Report("verify", {}, claims), tmp_path).text


def test_an_interrupted_run_says_so(tmp_path):
    assert "The run was interrupted" in _page(Report("verify", {}, [GOOD], interrupted=True), tmp_path).text


def test_the_words_of_a_report_stand_at_its_head(tmp_path):
    words = {
        "title": f"Is it so? {SPECIAL}", "lead": f"W = W_N ... W_1 {SPECIAL}", "repeats": f"lowrankflow verify {SPECIAL}",
        "headline": f"digits: W is 3 x 3\nclock {SPECIAL}",
    }  # fmt: skip
    report = Report("verify", {}, [GOOD], **words)
    shown = _page(report, tmp_path)
    assert f"verify Is it so? {SPECIAL} ✓ The one claim holds" in shown.text
    assert bare(f"W = WN ... W1 {SPECIAL}") in bare(shown.text)  # its subscripts are lowered
    assert sum(tag == "msub" for tag, _ in shown.tags) == 2
    headline = f"The problem digits: W is 3 × 3 clock {SPECIAL} To repeat it: lowrankflow verify {SPECIAL}"
    assert bare(headline) in bare(shown.text)
    at = next(i for i, (_, attributes) in enumerate(shown.tags) if attributes.get("class") == "repeats")
    assert shown.tags[at + 1] == ("code", {})
    assert ".repeats code{" in to_html(report) and "user-select:all" in to_html(report)  # one click takes it all


def test_a_report_of_ones_own_has_a_page_without_these_words(tmp_path):
    shown = _page(Report("check_transpose", {"shape": [8, 6]}, [GOOD]), tmp_path)
    assert "lowrankflow report · check_transpose check_transpose ✓ The one claim holds" in shown.text
    classes = {attributes.get("class") for _, attributes in shown.tags}
    assert not {"lead", "headline", "repeats"} & classes
    assert "A lowrankflow report ○ There are no claims" in _page(Report("", {}), tmp_path).text


def test_values_of_numpy_and_text_that_is_no_utf8_are_written(tmp_path):
    problem = {
        "file": "bad\udc80name", "h": {"full rank": {"met": False, "value": 1.23456e-9}}, "a": np.float64(1e-7),
        "b": np.arange(3), "c": np.bool_(True), "d": -math.inf,
    }  # fmt: skip
    page = _page(Report("verify", problem, [GOOD]), tmp_path)
    for words in ("bad?name", "10-7", "0, 1, 2", "yes", "-∞", "1.23 x 10-9 not met"):
        assert words in page.plain


@pytest.mark.parametrize("name", ["missing/report.html", "file/report.html", "folder"])
def test_a_path_that_cannot_be_written_leaves_nothing(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"^`path` must be a file that can be written, got .* Choose another\.$"):
        write_html(Report("verify", {}, [GOOD]), tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_old_page_stays_if_the_new_one_cannot_be_made(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    bad = Report("verify", {"object": object()}, [GOOD])  # no JSON
    with pytest.raises(TypeError):
        write_html(bad, path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_tables_stand_on_the_page_escaped_and_in_full(tmp_path):
    rows = (("depth 3", 4, 0.001, math.inf, None, SPECIAL), (SPECIAL, 2, -2.5e-7, math.nan, 1.0, "gradient"))
    table = Table("t", f"Side {SPECIAL}", f"Read {SPECIAL}", ("metric", "n", "x", "y", "none", SPECIAL), rows)
    shown = _page(Report("compare", {}, [], tables=[table]), tmp_path)
    for word in (f"Side {SPECIAL}", f"Read {SPECIAL}", "depth 3", "-2.5", "gradient", "∞", "nan"):
        assert word in shown.plain
    assert sum(tag == "th" and attributes.get("scope") == "col" for tag, attributes in shown.tags) == 6
    assert ("a", {"href": "#tables"}) in shown.tags and ("section", {"id": "tables"}) in shown.tags
    assert json.loads(shown.data)["tables"][0]["rows"][0][:4] == ["depth 3", 4, 0.001, "inf"]


def test_a_report_without_tables_has_no_section_for_them(tmp_path):
    shown = _page(Report("verify", {}, []), tmp_path)
    assert ("section", {"id": "tables"}) not in shown.tags and ("a", {"href": "#tables"}) not in shown.tags


def test_words_stand_to_the_left_and_numbers_to_the_right(tmp_path):
    table = Table("t", "T", "C", ("metric", "n", "why"), (("a", 1, "gradient"), ("b", None, "time")))
    shown = _page(Report("compare", {}, tables=[table]), tmp_path)
    sides = [attributes.get("class") for tag, attributes in shown.tags if tag in ("th", "td")]
    assert sides[:9] == ["words", None, "words", None, None, "words", None, None, "words"]


def test_pictures_of_another_report_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        to_html(sample_report(), pictures=pictures_of(Report("verify", {})))

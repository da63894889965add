"""The page as a reader meets it: its tab, its words, its formulas, dark and narrow screens."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow import cli
from lowrankflow.render import to_html
from lowrankflow.render.formulas import typeset


def row(*parts):
    return f"<mrow>{''.join(parts)}</mrow>"


def mi(letter):
    return f"<mi>{letter}</mi>"


TYPESET = {
    "W_N": f"<math><msub>{mi('W')}{row(mi('N'))}</msub></math>",
    "W_{j+1}^T": f"<math><msubsup>{mi('W')}{row(mi('j'), '<mo>+</mo>', '<mn>1</mn>')}{row(mi('T'))}</msubsup></math>",
    "sigma_1^(2-2/N)": "<math><msubsup><mi>σ</mi>" + row("<mn>1</mn>")
    + row("<mn>2</mn>", "<mo>−</mo>", "<mn>2</mn>", "<mo>/</mo>", mi("N")) + "</msubsup></math>",
    "||Z||_F^2": f"‖<math>{mi('Z')}</math><math><msubsup><mo>‖</mo>{row(mi('F'))}{row('<mn>2</mn>')}</msubsup></math>",
    "A_1^{-1}": f"<math><msubsup>{mi('A')}{row('<mn>1</mn>')}{row('<mo>−</mo>', '<mn>1</mn>')}</msubsup></math>",
    "4 x 4, a <= b": "4 × 4, a ≤ b",
    "see `W_1` <b>": "see <code>W_1</code> &lt;b&gt;",
}  # fmt: skip


@pytest.mark.parametrize(("text", "made"), TYPESET.items(), ids=list(TYPESET))
def test_formulas_are_mathml(text, made):
    assert typeset(text) == made


@pytest.mark.parametrize(
    "text", ["max_evaluations", "W_1.npy", "t_span", "A depth-N flow", "the loss's own", "a b c", "snake_case_x", "x-ray", "C:_x"]
)
def test_what_is_no_formula_stays_text(text):
    assert "<" not in typeset(text)


def test_any_text_gives_balanced_markup_and_keeps_its_letters(rng):
    letters = list("W_^{}()|`<>&'\"\\ sigmaN12-+/.x")
    for _ in range(300):
        text = "".join(rng.choice(letters, 12))
        shown = str(typeset(text))
        tags = re.findall(r"<(/?)([a-z]+)>", shown)
        stack = []
        for close, name in tags:
            if close:
                assert stack.pop() == name
            else:
                stack.append(name)
        assert not stack
        assert shown.count("<") == len(tags)  # nothing of the text became a tag


class Words(HTMLParser):
    """The text of a page by the element that it stands in."""

    def __init__(self, page):
        super().__init__()
        self.stack, self.texts = [], {}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "link", "img", "br", "col"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        self.stack.pop()

    def handle_data(self, text):
        for tag in set(self.stack):
            self.texts[tag] = self.texts.get(tag, "") + text


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page that the command line wrote."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.standard_normal((30, 3)))
    line = ["verify", "--inputs", str(folder / "x.npy"), "--depth", "2", "--rank", "2", "--natural-end", "2", "--quiet"]
    assert cli.main([*line, "--out", str(folder / "out")]) == 0
    return (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_the_tab_says_what_the_page_is_of(page):
    words = Words(page).texts
    assert re.fullmatch(r".*x\.npy.*, depth 2, rank 2, passed · verify · lowrankflow", words["title"])


def test_what_was_run_where_and_for_how_long(page):
    environment = page[page.index('id="environment"') :]
    for name in ("BLAS", "threads", "date", "duration", "numpy", "lowrankflow"):
        assert f'<th scope="row">{name}</th>' in environment
    assert "lowrankflow verify --inputs" in page[: page.index('id="environment"')]


def test_every_word_of_the_problem_is_explained(page):
    """But those that say what they are: names and descriptions."""
    problem = page[page.index('id="problem"') : page.index('id="picture"')]
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th><td>(.*?)</tr>', problem, flags=re.DOTALL)
    assert len(rows) > 25
    open_words = {name for name, cell in rows if "<small>" not in cell and "<table" not in cell}
    assert open_words <= {"name", "description", "factor flow", "Riemannian flow", "inputs", "targets"}


def test_no_formula_is_left_as_it_is_typed(page):
    body = page[page.index("<body>") : page.index("<footer>")]
    shown = Words(re.sub(r"<code>.*?</code>", "", body, flags=re.DOTALL) + "</body>")
    typed = re.findall(r"\S*[A-Za-z|]_\{?\w+\}?\^\S*|\bsigma_\w+|\|\|\S*", "".join(shown.texts["body"]))
    assert not typed


def test_figures_follow_dark_mode_and_narrow_screens_scroll(page):
    assert re.search(r"prefers-color-scheme:dark\).*?img\{filter:invert", page, flags=re.DOTALL)
    assert page.count('<div class="scroll picture" tabindex="0"><img') == page.count("<img")
    assert page.count("<math>") == page.count("</math>") > 30


def test_columns_with_text_stand_to_the_left():
    columns = ("name", "value", "number")
    table = lrf.report.Table("t", "t", "c", columns, (("a", "declared", 1.0), ("b", 2.5, 2.0)))
    assert [table.has_words(i) for i in range(3)] == [True, True, False]
    html = to_html(lrf.Report("verify", {}, tables=[table]))
    assert '<th scope="col" class="words">value</th>' in html and '<th scope="col">number</th>' in html

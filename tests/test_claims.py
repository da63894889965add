"""A claim has one home: its words stand on what measures it, and all that is written of it comes from there."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow.batched import almost_every_start
from lowrankflow.checks import LOSS_CLAIMS, MANIFOLD_CLAIMS, METRIC_CLAIMS
from lowrankflow.claims import CLAIMS, OF_METRICS, OF_THE_LANDSCAPE, VERIFIED, Measurement, claim
from lowrankflow.claims.checkpoints import RUN
from lowrankflow.claims.landscape import LANDSCAPE
from lowrankflow.claims.page import markdown, page
from lowrankflow.claims.training import TRAINING
from lowrankflow.scalar.verification import SCALAR
from lowrankflow.statements import generator, measured

ROOT = Path(__file__).parents[1]
GROUPS = {
    "verify": VERIFIED, "compare": OF_METRICS,
    "landscape": (*LANDSCAPE, *OF_THE_LANDSCAPE), "descent": TRAINING, "run": RUN, "scalar": SCALAR,
    "check_loss": LOSS_CLAIMS, "check_metric": METRIC_CLAIMS, "check_manifold": MANIFOLD_CLAIMS,
    "batched": (almost_every_start,),
}  # fmt: skip


@claim("half", statement="x is at most a half.", source="none", meaning="x.", hypotheses="x > 0", controls="x + 1")
def half(x):
    """Half."""
    if x is None:
        return None
    hypothesis = lrf.Hypothesis("positive", x > 0, x)
    return Measurement(x, "<=", 0.5, (hypothesis,), (lrf.Control("x + 1", x + 1, 0.5),), "seen")


def test_a_statement_is_called_like_its_measure_and_returns_a_claim():
    found = half(0.25)
    assert (found.name, found.statement, found.source) == ("half", "x is at most a half.", "none")
    assert (found.measured, found.bound, found.detail, found.verdict) == (0.25, 0.5, "seen", "passed")
    assert half(0.75).verdict == "failed" and half(-1.0).verdict == "not claimed"


def test_a_claim_that_does_not_apply_is_left_out():
    assert half(None) is None
    assert measured([half, half], None) == []
    assert [c.measured for c in measured([half, half], 0.1)] == [0.1, 0.1]


def test_a_statement_and_its_words_are_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        half.name = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        half.words.statement = "other"
    with pytest.raises(TypeError):
        CLAIMS["half"] = half.words


@pytest.mark.parametrize("group", GROUPS)
def test_names_are_the_claims_own_and_every_word_is_there(group):
    names = [c.name for c in GROUPS[group]]
    assert len(set(names)) == len(names)
    for one in GROUPS[group]:
        for field, text in dataclasses.asdict(one.words).items():
            assert text.strip() and text == text.strip(), (one.name, field)
        assert one.words.statement.endswith(".") and one.words.meaning.endswith(".")
        assert not one.words.hypotheses.endswith(".") and not one.words.controls.endswith(".")


def test_all_words_are_known_by_name():
    assert len(CLAIMS) == sum(map(len, GROUPS.values()))
    assert CLAIMS["trajectory"] is VERIFIED[4].words
    assert CLAIMS["check_metric gradient"] is not CLAIMS["check_loss gradient"] is not CLAIMS["gradient"]


def test_the_page_of_the_claims_is_what_the_words_say():
    written = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert written == page(), "run `python docs/claims.py`"
    for name, words in CLAIMS.items():
        assert f"### {name}\n\n*{markdown(words.statement)}*\n\n{markdown(words.meaning)}" in written


def test_markdown_keeps_formulas_as_they_stand():
    assert markdown("W_j <= `a_b` * c, docs/theory.md#one-step") == r"W\_j \<= `a_b` \* c, [one step](theory.md#one-step)"


def test_generators_go_by_seed_and_name():
    def draw(*key):
        return generator(*key).standard_normal(4)

    np.testing.assert_array_equal(draw(3, "rank"), draw(3, "rank"))
    assert not np.array_equal(draw(3, "rank"), draw(4, "rank"))
    assert not np.array_equal(draw(3, "rank"), draw(3, "lift"))


@pytest.mark.parametrize("name", ["check_loss", "check_metric", "check_manifold"])
def test_claims_of_a_check_do_not_depend_on_each_other(name, monkeypatch):
    """Measured from the last to the first, they have the same numbers."""
    from lowrankflow.pymanopt_manifold import FixedRank

    rng = np.random.default_rng(0)
    w = lrf.random_point(6, 5, 3, rng=rng)
    loss = lrf.losses.LeastSquares(rng.standard_normal((5, 9)), rng.standard_normal((6, 9)))
    manifold = FixedRank(6, 5, 2, lrf.DepthMetric(3))  # whose points the check draws from a seed of its own
    run = {
        "check_loss": lambda: lrf.check_loss(loss, w),
        "check_metric": lambda: lrf.check_metric(lrf.DepthMetric(3), w),
        "check_manifold": lambda: lrf.check_manifold(manifold),
    }[name]
    forwards = {c.name: c for c in run()}
    module = __import__(f"lowrankflow.checks.{ {'check_loss': 'losses', 'check_metric': 'metrics'}.get(name, 'manifolds')}",
                        fromlist=["CLAIMS"])  # fmt: skip
    monkeypatch.setattr(module, "CLAIMS", module.CLAIMS[::-1])
    backwards = {c.name: c for c in run()}
    assert list(backwards) == list(forwards)[::-1] and backwards == forwards

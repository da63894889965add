"""The theory of the landscape on random problems: every claim passes, catches a fault of what it tests, and has its words."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_landscape import dense_hessian, gradient

import lowrankflow as lrf
from lowrankflow import landscape
from lowrankflow.claims import (
    OF_THE_LANDSCAPE,
    any_loss,
    canonical_forms,
    closed_forms,
    counterexamples,
    critical_points,
    explain,
    passages,
    populations,
    ways_out,
)
from lowrankflow.claims.populations import Population, factor_gradients, factor_hessian
from lowrankflow.cli import main
from lowrankflow.compare import Interrupted, verify_landscape
from lowrankflow.landscape import canonical, places
from lowrankflow.landscape import counterexamples as examples

CLAIMS = {one.name: one for one in OF_THE_LANDSCAPE}
POINTS = 20


@pytest.fixture(scope="module")
def report():
    return verify_landscape(POINTS, rng=3)


def test_every_claim_passes_and_every_control_is_caught(report):
    assert [(c.name, c.verdict) for c in report] == [(name, "passed") for name in CLAIMS]
    assert all(c.controls and all(k.caught for k in c.controls) for c in report)
    assert [t.name for t in report.tables] == ["classes", "staircase"]
    assert report.repeats == "lowrankflow landscape --verify --points 20 --seed 3"
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def test_a_claim_does_not_depend_on_the_others(report):
    some = verify_landscape(POINTS, rng=3, claims=["kink", "orders", "values"])
    assert [c.name for c in some] == ["kink", "orders", "values"] and not some.repeats
    assert all(c == report[c.name] for c in some)


def test_numbers_go_with_the_seed(report):
    again, other = (verify_landscape(POINTS, rng=seed, claims=["orders"])["orders"].measured for seed in (3, 4))
    assert again == report["orders"].measured != other


@pytest.mark.slow
@pytest.mark.parametrize("seed", [10])
def test_no_seed_makes_a_claim_fail(seed):
    assert [c.name for c in verify_landscape(POINTS, rng=seed).failed] == []


# ---------------------------------------------------------------------------------------------------------------------
# faults: of what a claim tests, each changed by a little


def changed(function, **fields):
    """What a function returns, with fields computed from it."""
    return lambda *args, **kwargs: (
        lambda found: replace(found, **{name: value(found) for name, value in fields.items()})
    )(function(*args, **kwargs))


def of_the_place(**fields):
    return [(populations, "classify", changed(populations.classify, **fields))]


def scaled(function, factor):
    return lambda *args, **kwargs: factor * function(*args, **kwargs)


def one_factor(network, factor):
    first, *others = network.factors
    return lrf.LinearNetwork([factor * first, *others])


def crooked(form):
    """The factors of a form, the last a thousandth too large."""
    *others, last = FACTORS(form)
    return (*others, 1.001 * last)


def of_another_set(loss, index_set):
    s, t = list(index_set), lrf.landscape.classify(lrf.landscape.random_minimiser(loss, 2, widths=9), loss).rank
    return landscape.critical_matrix(loss, s[:-1] + [i for i in range(1, t + 1) if i not in s][:1] or [1])


def without_order(*args, order=2, **kwargs):
    return landscape.saddle(*args, order=2, **kwargs)


def blunt(*args, **kwargs):
    """A line that is none: every direction the same number."""
    out = landscape.escape(*args, **kwargs)
    return replace(out, directions=tuple(np.ones_like(v) for v in out.directions))


def of_one_size(flow, start, **options):
    return lrf.integrate(flow, lrf.LinearNetwork([0.1 * f / np.linalg.norm(f, 2) for f in start.factors]), **options)


FACTORS, FORM = canonical.Canonical.factors, canonical.canonical_form
FAULTS = {
    "built points": [(canonical.Canonical, "factors", crooked)],
    "values": of_the_place(critical_value=lambda p: p.critical_value * (1 + 1e-9) + 1e-9),
    "index sets": of_the_place(index_set=lambda p: p.index_set and p.index_set[:-1]),
    "classes": [(places, "is_leading", lambda problem, index_set: True)],
    "pivots": of_the_place(kind=lambda p: places.STRICT if p.kind == places.NON_STRICT else p.kind),
    "depth two": of_the_place(kind=lambda p: places.NON_STRICT if p.morse_index == 1 else p.kind),
    "both kinds": [(critical_points, "saddle", without_order)],
    "balanced points": [(critical_points, "critical_matrix", of_another_set)],
    "inertia": [(places, "inversions", lambda problem, index_set: 0)],
    "cyclic products": [(canonical.Canonical, "relative_gradient", lambda form: 0.0)],
    "residual problem": [(canonical.Canonical, "factors", crooked)],
    "round trip": [(canonical_forms, "canonical_form", changed(FORM, blocks=lambda f: tuple(1.01 * z for z in f.blocks)))],
    "minimisers": [
        (canonical_forms, "random_minimiser", lambda *a, **k: one_factor(landscape.random_minimiser(*a, **k), 1.001))
    ],
    "trained networks": [
        (canonical_forms, "canonical_form", changed(FORM, bases=lambda f: tuple(1.01 * d for d in f.bases[:-1]) + f.bases[-1:]
                                                    if len(f.bases) > 1 else tuple(d + 0.01 for d in f.bases)))
    ],
    "exchange of pairs": [(ways_out, "escape", changed(landscape.escape, rise=lambda e: 1.001 * e.rise))],
    "every pivot": of_the_place(pivots=lambda p: tuple(replace(v, tightened=False) for v in p.pivots)),
    "steepest line": [(ways_out, "escape", blunt)],
    "orders": [(ways_out, "escape", changed(landscape.escape, rise=lambda e: 1.001 * e.rise))],
    "falls in a ball": of_the_place(order=lambda p: p.order and p.order + (p.kind == places.NON_STRICT)),
    "escape times": [(passages, "saddle", without_order)],
    "escape at a rate": [(passages, "saddle", lambda *a, order, **k: landscape.saddle(*a, order=3, **k))],
    "staircase": [(passages, "follow", lambda *a, **k: landscape.follow(*a, **k)[1:])],
    "flat plateaus": [(passages, "integrate", of_one_size)],
    "no spurious minima": [
        (any_loss, "descend", lambda loss, net, **k: (lrf.LinearNetwork([0 * f for f in net.factors]), 1))
    ],
    "kick keeps the loss": [(any_loss, "kick", changed(landscape.kick, network=lambda k: one_factor(k.network, 1.0001)))],
    "kick gives a gradient": [(any_loss, "kick", lambda net, **k: replace(landscape.kick(net, **k), network=net))],
    "order of a kick": [(any_loss, "kick", lambda net, size, rng: landscape.kick(net, size=size**1.5, rng=rng))],
    "kick and descend": [(any_loss, "kick_and_descend", changed(landscape.kick_and_descend, value=lambda f: f.value_before))],
    "kink": [
        (counterexamples, "kinked_example", changed(examples.kinked_example, value=lambda e: 1.01))
    ],
    "identity at the kink": [
        (examples.KinkedExample, "identity_defect", scaled(lambda example, net: net.factors[0][0, 1], 1e-10))
    ],
    "descent at the kink": [
        (counterexamples, "subgradient_descent",
         lambda loss, net, **k: lrf.LinearNetwork([np.eye(2), np.array([[0.0, 0.0], [1.0, 0.0]])]))
    ],
    "bottleneck": [(counterexamples, "bottleneck_example", lambda omega=4.0: examples.bottleneck_example(omega + 1e-6))],
    "bottleneck widened": [
        (counterexamples, "kick_and_descend", changed(landscape.kick_and_descend, value=lambda f: f.value_before))
    ],
    "critical matrices": [(closed_forms, "critical_matrix", of_another_set)],
    "Morse index of matrices": [
        (closed_forms, "manifold_hessian", lambda *a: (landscape.manifold_hessian(*a)[0], landscape.manifold_hessian(*a)[1] + 1))
    ],
    "decayed values": [(closed_forms, "mode_values", scaled(closed_forms.mode_values, 1.0001))],
    "switch of a mode": [(closed_forms, "switch_value", scaled(landscape.switch_value, 1.05))],
    "origin under decay": [(closed_forms, "least_curvature", scaled(closed_forms.least_curvature, 1.001))],
    "flattest minimisers": [(closed_forms, "least_sharpness", scaled(landscape.least_sharpness, 1.001))],
    "learning coefficient": [
        (closed_forms, "learning_coefficient", lambda *a: landscape.learning_coefficient(*a)._replace(multiplicity=1))
    ],
}  # fmt: skip


def test_every_claim_has_a_fault():
    assert set(FAULTS) == set(CLAIMS)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_what_a_claim_tests_fails_it(name, monkeypatch):
    for home, attribute, fault in FAULTS[name]:
        monkeypatch.setattr(home, attribute, fault)
    assert CLAIMS[name](Population(60, 1)).verdict == "failed"


# ---------------------------------------------------------------------------------------------------------------------
# the oracles of the claims are those of the tests, which were written apart


def test_dense_formulas_agree_with_those_of_the_tests(rng):
    for p in Population(40, 0).points:
        f = [a + 0.3 * rng.standard_normal(a.shape) for a in p.network.factors]  # critical or not
        a, b = factor_hessian(f, p.inputs, p.targets), dense_hessian(f, p.inputs, p.targets)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max())
        for g, h in zip(factor_gradients(f, p.inputs, p.targets), gradient(f, p.inputs, p.targets), strict=True):
            np.testing.assert_allclose(g, h, rtol=0, atol=1e-12 * max(np.abs(h).max(), 1e-300))


# ---------------------------------------------------------------------------------------------------------------------
# the command, and what is refused


def test_at_the_command_line(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["landscape", "--verify", "--points", "20", "--seed", "3", "--out", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out.startswith(f"{len(CLAIMS)} passed, 0 failed, 0 not claimed")
    page = json.loads((out / "report.json").read_text())
    assert page["command"] == "landscape" and page["problem"]["points"] == 20 and (out / "report.html").exists()
    for name in ("classes", "landscape classes"):
        assert main(["landscape", "--explain", name]) == 0
        assert capsys.readouterr().out.strip() == explain("landscape classes")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--verify", "--data", "iris", "--depth", "3"], "`--verify` draws its own problems, got --data, --depth."),
        (["--points", "30"], "`--points` is of --verify"),
        (["--verify", "--points", "3"], "`--points` must be at least 20, got 3."),
        (["--explain", "x"], "`--explain` must be one of landscape critical, "),
    ],
)
def test_wrong_arguments_are_one_line(arguments, says, capsys):
    assert main(["landscape", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_wrong_calls():
    for call, error, says in (
        (lambda: verify_landscape(19), ValueError, "`points` must be at least 20, got 19"),
        (lambda: verify_landscape(20, claims=["x"]), ValueError, "`claims` must be one of built points"),
        (lambda: verify_landscape(20, claims="kink"), TypeError, "`claims` must be a list of names"),
        (lambda: verify_landscape(20, claims=["kink", "kink"]), ValueError, "`claims` must name each claim once"),
        (lambda: verify_landscape(20, progress=3), TypeError, "`progress` must be callable"),
    ):
        with pytest.raises(error, match=says):
            call()


def test_what_is_measured_stays_where_it_is_stopped():
    told = []

    def stop(stage, fraction):
        told.append(fraction)
        if stage == "orders":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        verify_landscape(20, claims=["values", "kink", "orders"], progress=stop)
    assert stopped.value.report.interrupted and [c.name for c in stopped.value.report] == ["values", "kink"]
    assert told == sorted(told)

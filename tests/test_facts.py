"""What a loss and a metric can do is asked once, in one place, and the answer is true."""

import copy
import pickle
from functools import cached_property

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow import losses, metrics, validation
from lowrankflow.checks.tables import loss_table, metric_table
from lowrankflow.claims import ABOUT_THE_LIMIT
from lowrankflow.compare import natural_time_unit
from lowrankflow.losses import facts
from lowrankflow.losses.least_squares import Spectrum
from lowrankflow.matrices import requirements

M, N = 5, 4


class Plain:
    """||W - Y||^2 / 2 and nothing else; an option adds an attribute."""

    def __init__(self, rng=None, **parts):
        self.y = np.diag([3.0, 2.0, 1.0, 0.5, 0.25])[:, :N] if rng is None else rng.standard_normal((M, N))
        self.shape = (M, N)
        self.__dict__.update(parts)

    def value(self, w):
        return 0.5 * float(np.sum((w.to_dense() - self.y) ** 2))

    def gradient(self, w):
        return w.to_dense() - self.y


class Full(Plain):
    """With all that can be asked."""

    curvature, convex, twice_differentiable, fixed_rank, exponential_tail = 1.0, True, True, False, False
    differentiable_by_autograd, normalisation, lower_bound = False, "half the square", 0.0

    def hessian(self, w, z):
        return z.to_dense()

    def value_and_gradient(self, w):
        return self.value(w), self.gradient(w)

    def margins(self, w):
        return np.ones(3)

    def best_value(self, rank):
        return 0.5 * float((np.linalg.svd(self.y)[1][rank:] ** 2).sum())

    def minimiser(self, rank):
        return lrf.LowRankMatrix.from_dense(self.y, rank)

    def whiten(self, w):
        return lrf.Product(*w.split())

    @cached_property
    def spectrum(self):
        u, s, vt = np.linalg.svd(self.y, full_matrices=False)
        return Spectrum(np.eye(N), np.ones(N), u, s, vt, 0.0)


NUMBERS = ["lower_bound"]
METHODS = ["hessian", "margins", "best_value", "minimiser", "whiten"]
UNKNOWN = ["convex", "twice_differentiable"]
FLAGS = ["fixed_rank", "exponential_tail", "differentiable_by_autograd"]
LAZY = ["curvature", "spectrum"]


@pytest.fixture
def w(rng):
    return lrf.random_point(M, N, 2, rng=rng, singular_values=[0.2, 0.1])


# ---------------------------------------------------------------------------------------------------------------------
# each capability: missing, None, there


@pytest.mark.parametrize("name", [*METHODS, *UNKNOWN, *LAZY, *NUMBERS])
def test_what_is_missing_or_none_is_absent(name):
    assert getattr(facts(Plain()), name) is None
    assert getattr(facts(Plain(**{name: None})), name) is None
    assert getattr(facts(Full(**{name: None})), name) is None  # control: though its class has it
    assert getattr(facts(Full()), name) is not None


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_that_is_missing_or_none_is_false(name):
    assert getattr(facts(Plain()), name) is False
    assert getattr(facts(Plain(**{name: None})), name) is False
    assert getattr(facts(Plain(**{name: np.bool_(True)})), name) is True


@pytest.mark.parametrize("name", [*METHODS, "value_and_gradient"])
def test_a_method_that_cannot_be_called_is_absent(name):
    said = facts(Plain(**{name: "yes"}))
    assert said.shares is False if name == "value_and_gradient" else getattr(said, name) is None


@pytest.mark.parametrize("own", [True, False])
def test_value_and_gradient_can_always_be_called(own, w):
    loss = Full() if own else Plain()
    said = facts(loss)
    value, g = said.value_and_gradient(w)
    assert said.shares is own and value == loss.value(w)
    np.testing.assert_array_equal(g, loss.gradient(w))


def test_what_costs_is_asked_once_and_late():
    asked = []

    class Slow(Plain):
        @property
        def curvature(self):
            asked.append("curvature")
            return 2.0

        @property
        def spectrum(self):
            asked.append("spectrum")

    said = facts(Slow())
    assert said.costs("curvature") and said.costs("spectrum") and not asked
    assert [said.curvature, said.curvature] == [2.0, 2.0] and said.spectrum is None and said.spectrum is None
    assert asked == ["curvature", "spectrum"]
    assert not said.costs("curvature")


def test_a_spectrum_of_another_kind_is_none_of_ours():
    assert facts(Plain(spectrum=np.ones(3))).spectrum is None
    assert facts(Full()).spectrum.sigma[0] == 3.0


def test_normalisation_is_the_loss_in_one_line():
    assert facts(Full()).normalisation == "half the square"
    for other in (None, 3, lambda: "a method"):
        loss = Plain(normalisation=other)
        assert facts(loss).normalisation == "Plain"  # not a repr that is an address: another in every process

    class Named(Plain):
        def __repr__(self):
            return "a loss of mine"

    assert facts(Named()).normalisation == "a loss of mine"


@pytest.mark.parametrize("name", [*UNKNOWN, *FLAGS])
def test_a_flag_is_true_false_or_none(name):
    with pytest.raises(TypeError, match=rf"`loss\.{name}` must be True, False or None, got 'yes'\."):
        facts(Plain(**{name: "yes"}))


def test_facts_of_facts_are_themselves():
    for ask, thing in ((facts, Plain()), (metrics.facts, lrf.DepthMetric(3))):
        said = ask(thing)
        assert ask(said) is said


# ---------------------------------------------------------------------------------------------------------------------
# properties: what says that it is missing, and what is broken


class Missing(Plain):
    @property
    def curvature(self):
        raise AttributeError("curvature")

    @property
    def minimiser(self):
        return self.inner.minimiser  # what is wrapped has none

    inner = Plain()


class Broken(Plain):
    @property
    def curvature(self):
        return self.lamda_1

    @property
    def hessian(self):
        return self.hesian


def test_a_property_may_say_that_it_is_missing():
    assert facts(Missing()).curvature is None and facts(Missing()).minimiser is None


def test_a_mistake_inside_a_property_is_not_hidden(w):
    with pytest.raises(AttributeError, match="hesian"):
        facts(Broken())
    with pytest.raises(AttributeError, match="hesian"):
        lrf.check_loss(Broken(), w)
    Late = type("Late", (Plain,), {"curvature": Broken.curvature})
    said = facts(Late())
    with pytest.raises(AttributeError, match="lamda_1"):
        said.curvature  # noqa: B018
    assert getattr(Late(), "curvature", None) is None  # control: what the usual lookup makes of it


def test_a_proxy_is_asked_through(w):
    class Proxy:
        def __init__(self, loss):
            self.loss = loss

        def __getattr__(self, name):
            return getattr(self.loss, name)

    assert facts(Proxy(Full())).hessian is not None and facts(Proxy(Full())).curvature == 1.0
    assert facts(Proxy(Plain())).hessian is None and facts(Proxy(Plain())).curvature is None
    with pytest.raises(AttributeError, match="lamda_1"):
        facts(Proxy(type("Late", (Plain,), {"curvature": Broken.curvature})())).curvature  # noqa: B018


def test_optional_takes_what_slots_and_classes_have():
    class Slotted:
        __slots__ = ("curvature",)

    assert validation.optional(Slotted(), "curvature") is None
    assert validation.optional(Slotted(), "anything") is None


# ---------------------------------------------------------------------------------------------------------------------
# sums and what wraps a loss: hasattr says what can be called


def measured(link):
    return losses.Measured(losses.Inputs(np.eye(N), M), link)


class Cauchy:
    """A link without a Hessian."""

    def value(self, z):
        return float(np.log1p(z**2).sum())

    def gradient(self, z):
        return 2 * z / (1 + z**2)


FIT = losses.LeastSquares(np.eye(N), np.eye(M)[:, :N])
LABELS = np.where(np.eye(M)[:, :N] > 0, 1.0, -1.0)
WRAPPED = {
    "sum": (losses.Sum(FIT, FIT), {"hessian", "curvature"}),
    "sum of one without": (losses.Sum(FIT, Plain()), set()),
    "sum with None": (losses.Sum(FIT, Full(hessian=None)), {"curvature"}),
    "sum of what has all": (losses.Sum(Full(), Full()), {"hessian", "curvature"}),
    "multiple": (losses.Scaled(Full(), 2.0), {"hessian", "curvature", "margins"}),
    "multiple of the plain": (losses.Scaled(Plain(), 2.0), set()),
    "multiple of a multiple": (losses.Scaled(losses.Scaled(Plain(), 2.0), 2.0), set()),
    "mean": (losses.Mean(measured(losses.Logistic(LABELS)), FIT), {"hessian", "curvature"}),
    "classifier": (measured(losses.Logistic(LABELS)), {"hessian", "curvature", "margins"}),
    "multiple of a classifier": (
        losses.Scaled(measured(losses.Logistic(LABELS)), 2.0),
        {"hessian", "curvature", "margins"},
    ),
    "Poisson": (measured(losses.Poisson(np.ones((M, N)))), {"hessian"}),
    "link without a Hessian": (measured(Cauchy()), set()),
    "logarithm": (losses.Logarithm(FIT), set()),
    "tampered": (lrf.checks.Tampered(FIT, 2.0), {"hessian"}),
    "tampered plain": (lrf.checks.Tampered(Plain(), 2.0), set()),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_hasattr_is_true_exactly_where_it_can_be_called(name, w):
    loss, has = WRAPPED[name]
    for what in ("hessian", "margins", "curvature"):
        assert hasattr(loss, what) is (what in has)
        assert (getattr(facts(loss), what) is not None) is (what in has)
    if "hessian" in has:
        h = loss.hessian(w, w) @ np.eye(N)
        assert h.shape == (M, N) and np.isfinite(h).all()
    if "margins" in has:
        assert np.asarray(loss.margins(w)).size
    if not name.startswith("tampered"):
        lrf.check_loss(loss, w).raise_if_failed()


@pytest.mark.parametrize("how", ["pickle", "copy", "deepcopy"])
@pytest.mark.parametrize("name", [name for name in WRAPPED if "link" not in name])
def test_copies_can_do_the_same(name, how, w):
    loss, has = WRAPPED[name]
    other = pickle.loads(pickle.dumps(loss)) if how == "pickle" else getattr(copy, how)(loss)
    assert other.value(w) == loss.value(w)
    np.testing.assert_array_equal(other.gradient(w) @ np.eye(N), loss.gradient(w) @ np.eye(N))
    assert {what for what in ("hessian", "margins", "curvature") if hasattr(other, what)} == has
    if "hessian" in has:
        np.testing.assert_array_equal(other.hessian(w, w) @ np.eye(N), loss.hessian(w, w) @ np.eye(N))


def test_what_is_set_on_an_instance_comes_first(w):
    """As with any method: a subclass of yours may bring the Hessian that its link lacks."""
    loss = measured(Cauchy())
    loss.hessian = lambda w, z: z.to_dense()
    assert facts(loss).hessian(w, w).shape == (M, N)
    assert losses.Sum(loss, FIT).hessian(w, w) is not None
    with pytest.raises(AttributeError, match="'Measured' object has no 'hessian'"):
        measured(Cauchy()).hessian  # noqa: B018
    assert losses.Measured.hessian.__doc__ and losses.Sum.margins.__doc__


def test_a_sum_asks_its_terms_once(w):
    """value_and_gradient = None is not called; before, the sum found the attribute and called None."""
    both = losses.Sum(Full(value_and_gradient=None), Plain())
    value, g = both.value_and_gradient(w)
    assert value == both.value(w)
    np.testing.assert_array_equal(g, both.gradient(w))
    assert losses.Logarithm(Plain(value_and_gradient=None)).value_and_gradient(w)[0] == np.log(Plain().value(w))


def test_a_logarithm_says_what_its_loss_says_of_smoothness():
    kinked = measured(losses.Huber(np.ones((M, N))))
    assert facts(losses.Logarithm(kinked)).twice_differentiable is False
    assert facts(losses.Logarithm(losses.Schatten((M, N), depth=2))).fixed_rank is True
    assert facts(losses.Logarithm(FIT)).fixed_rank is False


# ---------------------------------------------------------------------------------------------------------------------
# what is there is used, what is not there is done without


ALONE = {
    "minimiser": {"minimiser": Full().minimiser},
    "minimiser and curvature": {"minimiser": Full().minimiser, "curvature": 1.0},
    "spectrum": {"spectrum": Full().spectrum},
    "whiten": {"whiten": Full().whiten},
    "whiten and spectrum": {"whiten": Full().whiten, "spectrum": Full().spectrum},
    "best_value": {"best_value": Full().best_value},
    "all that is None": dict.fromkeys([*METHODS, *UNKNOWN, *LAZY, *FLAGS, "value_and_gradient", "normalisation"]),
}


@pytest.mark.parametrize("name", ALONE)
def test_one_capability_without_the_others_sets_a_unit_of_time(name, w):
    loss = Plain(**ALONE[name])
    unit = natural_time_unit(loss, w, 2)
    if name.startswith("minimiser"):  # sigma_1 = 3 at the best matrix, curvature 1
        assert abs(unit - 1 / (2 * 3)) < 1e-6
    else:  # of the sharpness at the start, at most ||G||_2 + 2 s_1 <= 3.2 + 0.4: no minimiser was asked
        assert 1 / 3.6 <= unit < 1 / 2
    lrf.check_loss(loss, w).raise_if_failed()


#: the claims that ask for more than value and gradient, and one that does not
ASKING = ["trajectory", *(claim.name for claim in ABOUT_THE_LIMIT)]


@pytest.mark.parametrize("name", ["minimiser", "spectrum", "whiten", "whiten and spectrum", "best_value"])
def test_one_capability_without_the_others_is_verified(name, w):
    report = lrf.verify_equivalence(Plain(**ALONE[name]), w, depth=2, rtol=1e-6, claims=ASKING)
    report.raise_if_failed()
    found = {claim.name for claim in report}
    assert ("index_set" in found) is (name == "whiten and spectrum") and "best_loss" not in found


def test_control_what_knows_all_has_both_claims(w):
    report = lrf.verify_equivalence(Full(margins=None), w, depth=2, rtol=1e-6, claims=ASKING)
    assert report["index_set"].verdict == report["best_loss"].verdict == "passed"
    assert report.problem["loss"] == "half the square"


def test_a_comparison_of_metrics_takes_a_minimiser_alone(w):
    loss = Plain(minimiser=Full().minimiser)
    report = lrf.compare_metrics(loss, w, [lrf.EmbeddedMetric(), lrf.DepthMetric(2)], rtol=1e-6)
    assert report.table("limits").column("ended by") == ("gradient", "gradient")


# ---------------------------------------------------------------------------------------------------------------------
# metrics


class Counting:
    """A metric of a user that counts what it is asked."""

    def __init__(self, **parts):
        self.asked = 0
        self.__dict__.update(parts)

    def coefficients(self, s):
        self.asked += 1
        return lrf.Coefficients(core=0.5 + s[:, None] + s, up=0.5 + s, vp=0.5 + s)


METRIC_METHODS = [
    "root_coefficients", "frame_rates", "differences", "mix_differences", "flat_coordinates", "from_flat_coordinates",
]  # fmt: skip


@pytest.mark.parametrize("name", [*METRIC_METHODS, "transposable", "name"])
def test_what_a_metric_lacks_is_absent(name):
    there = {"transposable": False, "name": "mine"}.get(name, np.ones_like)
    assert getattr(metrics.facts(Counting()), name) is None
    assert getattr(metrics.facts(Counting(**{name: None})), name) is None
    assert getattr(metrics.facts(Counting(**{name: there})), name) is there
    if name in METRIC_METHODS:
        assert getattr(metrics.facts(Counting(**{name: 3})), name) is None


def test_the_rest_of_a_metric_has_its_default():
    said = metrics.facts(Counting())
    assert (said.symmetric, said.root) == (False, 1.0)
    assert metrics.facts(Counting(symmetric=None, root=None)).root == 1.0
    assert metrics.facts(lrf.metrics.BuresWassersteinMetric()).symmetric is True
    assert metrics.facts(lrf.DepthMetric(2.5)).root == 2.5


def test_a_mistake_inside_a_metric_is_not_hidden():
    class Wrong(Counting):
        @property
        def differences(self):
            return self.diferences

    with pytest.raises(AttributeError, match="diferences"):
        metrics.facts(Wrong())


def test_a_root_without_coefficients_of_its_own_is_taken(w):
    """Before, the chart called a method that was not there."""
    loss = Plain()
    ends = [
        lrf.integrate(lrf.RiemannianFlow(loss, metric), w, t_span=(0, 0.5), rtol=1e-10).points[-1].to_dense()
        for metric in (Counting(root=2.0), Counting())
    ]
    assert np.linalg.norm(ends[0] - ends[1]) < 1e-8 * np.linalg.norm(ends[1])


@pytest.mark.parametrize("root", [None, 1.0, 2.5])
@pytest.mark.parametrize("own_rates", [False, True])
def test_one_velocity_asks_the_metric_once(root, own_rates, w):
    metric = Counting(**({"frame_rates": lambda s: (0.5 / s + 1, 0.5 / s + 1)} if own_rates else {}))
    flow = lrf.RiemannianFlow(Plain(), metric)
    system = lrf.SingularFrame(root=root).bind(flow, w)
    before = metric.asked
    system.velocity(0.0, system.y0)
    assert metric.asked == before + 1


def test_facts_stand_for_their_metric(w):
    s, metric = w.s, lrf.metrics.TwoFactorMetric()
    said = metrics.facts(metric)
    for root in (1.0, 2.0):
        ours, block = metrics.root_coefficients(said, s, root)
        theirs, other = metrics.root_coefficients(metric, s, root)
        np.testing.assert_array_equal(ours.left, theirs.left)
        np.testing.assert_array_equal(block.core, other.core)


# ---------------------------------------------------------------------------------------------------------------------
# the tables


def test_the_tables_list_all_that_can_be_asked():
    """Every field of the facts but what they are of, and the docstrings of the protocols, name by name."""
    fields = set(losses.LossFacts.__dataclass_fields__) - {"loss", "shares"} | set(LAZY)
    of_a_loss = loss_table(facts(Full())).column("capability")
    of_a_metric = metric_table(metrics.facts(Counting())).column("capability")
    assert set(of_a_loss) == fields
    assert set(of_a_metric) == set(metrics.MetricFacts.__dataclass_fields__) - {"metric", "coefficients"}
    for protocol, names in ((losses.Loss, [*of_a_loss, "normalisation"]), (metrics.Metric, of_a_metric)):
        assert all(f"``{name}" in protocol.__doc__ for name in names)


def test_check_loss_shows_what_the_loss_can_do(w, tmp_path):
    report = lrf.check_loss(Full(), w)
    table = dict(zip(report.table("facts").column("capability"), report.table("facts").column("value"), strict=True))
    assert table["hessian"] == "yes" and table["curvature"] == 1.0 and table["fixed_rank"] == "no"
    plain = lrf.check_loss(Plain(), w).table("facts").column("value")
    assert set(plain) == {"no", "not known"}
    assert "What the loss can do" in str(report)
    report.to_json(tmp_path / "r.json")
    assert lrf.Report.from_json(tmp_path / "r.json").table("facts") == report.table("facts")
    lrf.write_html(report, tmp_path / "r.html")
    assert "What the loss can do" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_check_metric_shows_what_the_metric_can_do(w):
    table = lrf.check_metric(lrf.DepthMetric(3), w).table("facts")
    assert dict(zip(table.column("capability"), table.column("value"), strict=True))["root"] == 3.0
    assert lrf.check_metric(Counting(), w).table("facts").column("value")[0] == "not known"


def test_a_table_computes_nothing():
    class Slow(Plain):
        @property
        def spectrum(self):
            raise MemoryError

        curvature = spectrum

    assert loss_table(facts(Slow())).column("value").count("not asked") == 2


# ---------------------------------------------------------------------------------------------------------------------
# the check of W runs only where something is wrong


CHECKED = {
    "least squares": lambda: FIT,
    "completion": lambda: losses.Completion([0, 1], [1, 0], [2.0, 3.0], shape=(M, N)),
    "measured": lambda: measured(losses.LogCosh(np.ones((M, N)))),
    "function": lambda: losses.from_function(lambda w: (w * w).sum(), (M, N)),
    "Schatten": lambda: losses.Schatten((M, N), depth=3),
    "Bures-Wasserstein": lambda: losses.BuresWasserstein(np.eye(M), N),
}


@pytest.mark.parametrize("name", CHECKED)
def test_the_check_is_not_called_for_what_is_right(name, w, monkeypatch):
    loss = CHECKED[name]()
    calls = []

    def counted(*args):
        calls.append(args)
        return check(*args)

    check = requirements.require_matrix
    monkeypatch.setattr("lowrankflow.matrices.requirements.require_matrix", counted)
    for x in (w, w.to_dense(), lrf.Product(*w.split())):
        loss.value(x), loss.gradient(x)
    assert calls == []
    with pytest.raises(ValueError, match="Did you mean the transpose"):  # control
        loss.value(w.T)
    assert len(calls) == 1


class Shaped:
    """A matrix that says its shape in its own way."""

    def __init__(self, w, shape):
        self.w, self.shape = w, shape

    def __matmul__(self, x):
        return self.w @ x


@pytest.mark.parametrize("shape", [[M, N], (np.int64(M), np.int64(N))], ids=["list", "int64"])
def test_other_ways_to_say_a_shape_are_taken(shape, w):
    assert FIT.value(Shaped(w, shape)) == FIT.value(w)


@pytest.mark.parametrize("wrong", [[[1.0] * N] * M, None, type("Sized", (), {"shape": (M, N)})()])
def test_what_is_no_matrix_is_still_refused(wrong):
    with pytest.raises(TypeError, match="`w` must be an array, LowRankMatrix, Product or LinearNetwork"):
        FIT.value(wrong)

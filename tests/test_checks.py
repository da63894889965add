"""check_loss and the fresh differentiation."""

import autograd.numpy as anp
import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow.checks import Tampered, directional_derivative, gradient_error


class LogCosh:
    """A user's loss, sum of log cosh(W - Y), in the ten lines that the README promises."""

    differentiable_by_autograd = True

    def __init__(self, y):
        self.y, self.shape = y, y.shape

    def value(self, w):
        dense = w if not hasattr(w, "to_dense") else w.to_dense()
        return anp.sum(anp.log(anp.cosh(dense - self.y)))

    def gradient(self, w):
        return np.tanh(w.to_dense() - self.y)


class WrongGradient(LogCosh):
    """Off by a tenth of a per cent."""

    def gradient(self, w):
        return 1.001 * super().gradient(w)


class WrongTranspose(LogCosh):
    """A gradient whose transpose belongs to another matrix."""

    def gradient(self, w):
        return _Skew(super().gradient(w))


class _Skew:
    def __init__(self, g):
        self.g, self.shape = g, g.shape

    @property
    def T(self):
        return 1.01 * self.g.T

    def __matmul__(self, x):
        return self.g @ x


class KnowsItsArgument(LogCosh):
    """A value that depends on the representation of W."""

    def value(self, w):
        return super().value(w) * (1 + 1e-6 * isinstance(w, lrf.LinearNetwork))


class WrongHessian(lrf.losses.LeastSquares):
    def hessian(self, w, z):
        return super().hessian(w, z) * 2.0


@pytest.fixture
def w(rng):
    return lrf.random_point(5, 4, 2, rng=rng)


def test_shipped_losses_and_a_users_pass(w, rng):
    x, y = rng.standard_normal((4, 12)), rng.standard_normal((5, 12))
    kept = rng.permutation(20)[:11]
    for loss in (
        lrf.losses.LeastSquares(x, y),
        lrf.losses.Completion(kept // 4, kept % 4, rng.standard_normal(11), (5, 4)),
        LogCosh(rng.standard_normal((5, 4))),
    ):
        report = lrf.check_loss(loss, w)
        report.raise_if_failed()
        assert report.passed
        assert {c.name for c in report} >= {"gradient", "adjoint", "representations"}
        assert ("hessian" in {c.name for c in report}) == hasattr(loss, "hessian")


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda y: WrongGradient(y), "gradient"),
        (lambda y: WrongTranspose(y), "adjoint"),
        (lambda y: KnowsItsArgument(y), "representations"),
        (lambda y: WrongHessian(np.eye(4), y), "hessian"),
    ],
    ids=["gradient", "adjoint", "representations", "hessian"],
)
def test_each_mistake_fails_its_own_claim(make, name, w, rng):
    report = lrf.check_loss(make(rng.standard_normal((5, 4))), w)
    assert report[name].verdict == "failed"
    assert all(k.caught for c in report for k in c.controls)
    with pytest.raises(AssertionError, match=name):
        report.raise_if_failed()


@pytest.mark.parametrize("autograd", [True, False])
def test_factor_gradients_against_a_fresh_differentiation(autograd, rng):
    loss = LogCosh(rng.standard_normal((5, 4)))
    loss.differentiable_by_autograd = autograd
    net = lrf.LinearNetwork.gaussian((5, 4), 3, widths=(3, 6), rng=rng)
    error, bound, method = gradient_error(loss, net, rng=rng)
    assert method == ("autograd" if autograd else "central differences")
    assert error < bound <= 1e-6
    wrong, bound, _ = gradient_error(Tampered(loss, 1.0001), net, rng=rng)
    assert wrong > bound


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_directional_derivative_finds_its_step(scale):
    """exp(scale h) is smooth on the scale 1/scale; the steps tried reach from 1e-4 to 1e3."""
    found = directional_derivative(lambda h: np.sin(0.3 + scale * h)) / scale
    tolerance = 1e-8 if scale < 1e6 else np.inf  # at 1e6 no step of the list resolves it, and it must not raise
    assert abs(found - np.cos(0.3)) < tolerance


def test_a_hessian_of_none_is_no_hessian(w):
    loss = LogCosh(np.ones((5, 4)))
    loss.hessian = None
    assert [c.name for c in lrf.check_loss(loss, w)] == ["gradient", "adjoint", "representations"]


def test_bad_input(w):
    with pytest.raises(TypeError, match=r"`loss` must have shape, value\(w\) and gradient\(w\); object lacks shape"):
        lrf.check_loss(object(), w)
    with pytest.raises(
        ValueError, match=r"`start` has shape \(5, 4\) but the loss is defined on \(4, 5\). Did you mean"
    ):
        lrf.check_loss(LogCosh(np.ones((4, 5))), w)

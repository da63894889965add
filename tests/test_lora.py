"""A frozen matrix below the one that is learned, and the factors with which that begins."""

import numpy as np
import pytest
from cases import LOSSES, every_value
from oracles import EPS, chain

import lowrankflow as lrf
from lowrankflow import exact, losses


@every_value(make=LOSSES)
@pytest.mark.parametrize("dense", [True, False])
def test_a_shifted_loss_is_the_loss_elsewhere(make, dense, rng):
    loss = make(5, 4, rng)
    point = lrf.random_point(5, 4, 2, rng=rng)
    w0 = point.to_dense() if dense else point
    shifted, w = losses.Shifted(loss, w0), lrf.random_point(5, 4, 1, rng=rng)
    at = lrf.matrices.Product(*point.split()) + w
    assert float(shifted.value(w)) == pytest.approx(float(loss.value(at)), rel=1e-12)
    eye = np.eye(4)
    for z in (w, w.to_dense()) if type(loss).__name__ != "LogCosh" else (w,):  # that one takes no arrays
        np.testing.assert_allclose(shifted.gradient(z) @ eye, loss.gradient(at) @ eye, rtol=0, atol=1e-12)
    assert np.abs(shifted.gradient(w) @ eye - loss.gradient(w) @ eye).max() > 1e-6  # the control: W alone
    ours, theirs = losses.facts(shifted), losses.facts(loss)
    if theirs.hessian is not None:
        z = lrf.random_point(5, 4, 1, rng=rng)
        np.testing.assert_allclose(ours.hessian(w, z) @ eye, theirs.hessian(at, z) @ eye, rtol=0, atol=1e-12)
    assert (ours.hessian is None, ours.convex, ours.curvature, ours.lower_bound) == (
        theirs.hessian is None, theirs.convex, theirs.curvature, theirs.lower_bound)  # fmt: skip
    value, gradient = ours.value_and_gradient(w)
    assert float(value) == pytest.approx(float(shifted.value(w)), rel=1e-13) and gradient.shape == (5, 4)


def test_a_shifted_square_loss_knows_its_best_update(rng):
    """Against many descents from random starts: none is lower, and the minimiser attains it."""
    loss = losses.LeastSquares(rng.standard_normal((4, 9)), rng.standard_normal((5, 9)), reduction="mean")
    w0 = rng.standard_normal((5, 4))
    shifted = losses.Shifted(loss, w0)
    assert isinstance(shifted, losses.LeastSquares) and shifted.normalisation == loss.normalisation
    for rank in (1, 2):
        best, at = shifted.best_value(rank), shifted.minimiser(rank)
        assert loss.value(w0 + at.to_dense()) == pytest.approx(best, rel=1e-12)
        ends = []
        for seed in range(5):
            net = lrf.LinearNetwork.lora((5, 4), rank, scale=0.5, rng=seed)
            ends.append(lrf.integrate(lrf.FactorFlow(shifted), net, t_span=(0, 300), rtol=1e-6).loss[-1])
        assert min(ends) == pytest.approx(best, rel=1e-5) and min(ends) >= best * (1 - 1e-12)
    assert shifted.best_value(4) == pytest.approx(loss.best_value(4), rel=1e-12)
    assert abs(shifted.best_value(1) - loss.best_value(1)) > 1e-2
    assert loss.spectrum.sigma[0] != shifted.spectrum.sigma[0]  # and the loss itself stays what it was
    few = losses.LeastSquares(rng.standard_normal((6, 2)), rng.standard_normal((5, 2)))
    w, w0 = rng.standard_normal((5, 6)), rng.standard_normal((5, 6))
    np.testing.assert_allclose(losses.Shifted(few, w0).gradient(w) @ np.eye(6), few.gradient(w + w0) @ np.eye(6), atol=1e-12)


def test_starts_of_adaptation(rng):
    """Two hundred, from 1 x 1, scales 1e-8 to 1e8."""
    for k in range(200):
        m, n = (int(d) for d in rng.integers(1, 7, 2))
        r, scale = int(rng.integers(1, min(m, n) + 1)), 10 ** rng.uniform(-8, 8)
        drawn = ("zero-b", "zero-a", "orthogonal", "balanced")
        nets = {name: lrf.LinearNetwork.lora((m, n), r, init=name, scale=scale, rng=k) for name in drawn}
        of = rng.standard_normal((m, n))
        nets["spectral"] = lrf.LinearNetwork.lora((m, n), r, init="spectral", scale=scale, of=of)
        for name, net in nets.items():
            assert net.shape == (m, n) and net.widths == (r,)
            assert (net.norm() == 0) == (name in ("zero-b", "zero-a", "orthogonal"))
        gap = nets["orthogonal"].imbalances()[0]
        assert np.abs(gap + scale**2 * np.eye(r)).max() <= 20 * EPS * scale**2
        s = np.linalg.svd(chain(nets["balanced"].factors), compute_uv=False)[:r]
        np.testing.assert_allclose(s, scale, rtol=1e-13)
        u, s, vt = np.linalg.svd(of)
        want = scale * (u[:, :r] * s[:r]) @ vt[:r]
        assert np.abs(chain(nets["spectral"].factors) - want).max() <= 50 * EPS * scale * s[0]
        assert max(nets[i].relative_imbalance() for i in ("spectral", "balanced")) <= 50 * EPS


def test_scales_of_the_gaussian_starts():
    """Entries of variance scale^2 / n, to five standard errors of a variance of 40 000 numbers."""
    a = lrf.LinearNetwork.lora((200, 200), 200, scale=3.0, rng=0).factors[0]
    b = lrf.LinearNetwork.lora((200, 200), 200, init="zero-a", scale=3.0, rng=0).factors[1]
    for x in (a, b):
        assert np.mean(x**2) * 200 / 9 == pytest.approx(1, abs=5 * np.sqrt(2 / x.size))


def test_an_orthogonal_start_has_an_exact_flow(rng):
    """Adaptation of a layer on white inputs: closed form against the integration; a Gaussian start has no closed form."""
    loss = losses.Shifted(losses.LeastSquares(np.eye(4), rng.standard_normal((5, 4))), rng.standard_normal((5, 4)))
    net = lrf.LinearNetwork.lora((5, 4), 2, init="orthogonal", scale=0.5, rng=0)
    solution = exact.TwoLayer(loss, net)
    path = lrf.integrate(lrf.FactorFlow(loss), net, t_span=(0, 6), rtol=1e-12, save=lrf.Save(times=[0, 1, 3, 6], exact=True))
    for t, w, value in zip(path.t, path.points, path.loss, strict=True):
        np.testing.assert_allclose(solution(float(t)), w.to_dense(), rtol=0, atol=1e-10)  # rtol a step, a hundred steps
        assert solution.loss(float(t)) == pytest.approx(value, rel=1e-9)
    with pytest.raises(ValueError, match="multiple of the identity"):
        exact.TwoLayer(loss, lrf.LinearNetwork.lora((5, 4), 2, rng=0))


LOSS, LORA = losses.LeastSquares(np.eye(2), np.eye(2)), lrf.LinearNetwork.lora


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.Shifted(LOSS, np.eye(3)), ValueError, "`w0` has shape (3, 3) but the loss is defined on (2, 2)."),
        (lambda: losses.Shifted(LOSS, [[np.inf, 0], [0, 0]]), ValueError, "`w0` must be finite"),
        (lambda: losses.Shifted(3, np.eye(2)), TypeError, "`loss` must have shape"),
        (lambda: losses.Shifted(losses.Schatten((2, 2), depth=2), np.eye(2)), ValueError, "`loss` must be smooth at all"),
        (lambda: LORA((3, 2), 3), ValueError, "`rank` must not exceed min(m, n), got rank=3 for a matrix of shape (3, 2)."),
        (lambda: LORA((3, 2), 1, init="xavier"), ValueError, "`init` must be one of zero-b, zero-a, orthogonal, ba"),
        (lambda: LORA((3, 2), 1, init="spectral"), ValueError, "`of` must be a matrix where init is 'spectral', and only"),
        (lambda: LORA((3, 2), 1, of=np.eye(2)), ValueError, "`of` must be a matrix where init is 'spectral', and only"),
        (lambda: LORA((3, 2), 1, init="spectral", of=np.eye(2)), ValueError, "`of` has shape (2, 2) but `shape` is (3, 2)."),
        (lambda: LORA((2, 2), 2, init="spectral", of=np.diag([1.0, 0])), ValueError, "`rank` must not exceed the numerical rank"),
        (lambda: LORA((2, 2), 2, scale=-1), ValueError, "`scale` must be positive and finite, got -1."),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)

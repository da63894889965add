"""Singular values that are nearly equal, 1e-10 to 1e-6 of the largest apart: no class is wrong, and what is too close is said."""

from itertools import pairwise

import numpy as np
import pytest

import lowrankflow as lrf
from lowrankflow import landscape
from lowrankflow.landscape.places import GLOBAL, NON_STRICT, NOT_CRITICAL, STRICT, UNDECIDED


class Nearly:
    """A critical point of a problem with two nearly equal singular values, by hand: none of the library's frames is used.

    Half of the sets S have one of the two and not the other; half of the inputs are white.
    """

    def __init__(self, seed):
        rng = self.rng = np.random.default_rng(seed)
        p, depth = int(rng.integers(2, 5)), int(rng.integers(2, 5))
        q, self.gap = int(rng.integers(p, 6)), 10.0 ** rng.uniform(-9.9, -6)
        sigma, k = np.cumsum(rng.uniform(0.3, 1.0, p - 1))[::-1], int(rng.integers(0, p - 1))
        sigma = np.insert(sigma, k + 1, sigma[k] - self.gap * sigma[0])
        x = np.eye(q) if rng.random() < 0.5 else rng.standard_normal((q, q + 6))
        values, basis = np.linalg.eigh(x @ x.T)
        self.root, self.inverse = ((basis * values**power) @ basis.T for power in (0.5, -0.5))
        self.u, self.v = (np.linalg.qr(rng.standard_normal((d, d)))[0] for d in (p, q))
        target = np.zeros((p, q))
        np.fill_diagonal(target, sigma)
        self.loss = lrf.losses.LeastSquares(x, self.u @ target @ self.v.T @ self.inverse @ x)
        hidden = [int(d) for d in rng.integers(1, 5, depth - 1)]
        r = int(rng.integers(0, min(p, *hidden) + 1))
        s = list(range(r)) if rng.random() < 0.5 else rng.permutation(p)[:r].tolist()
        if (k in s) != (k + 1 in s) and rng.random() < 0.5:
            s = [2 * k + 1 - i if i in (k, k + 1) else i for i in s]
        s, self.pair, self.split = sorted(s), k, (k in s) != (k + 1 in s)
        blocks = [rng.standard_normal((b, a)) for a, b in pairwise([q, *(d - r for d in hidden), p - r])]
        if r < min(p, *hidden):
            for i in rng.permutation(depth)[: int(rng.integers(2, depth + 1))]:
                blocks[i][:] = 0.0
        eye = np.eye(p)
        cores = [
            np.block([[np.eye(r), np.zeros((r, z.shape[1]))], [np.zeros((z.shape[0], r)), z]]) for z in blocks[1:-1]
        ]
        others = [i for i in range(p) if i not in s]
        f = [np.vstack([target[s], blocks[0]]), *cores, np.hstack([eye[:, s], eye[:, others] @ blocks[-1]])]
        for h, d in enumerate(hidden):
            left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
            base = left * np.exp(rng.uniform(-0.3, 0.3, d)) @ right
            f[h], f[h + 1] = base @ f[h], f[h + 1] @ np.linalg.inv(base)
        self.whitened, self.index_set = f, tuple(i + 1 for i in s)
        leading, full = s == list(range(r)), r == min(p, *hidden)
        # where S leads below the largest rank ranks of the blocks decide, which the gap does not touch
        self.kinds = {GLOBAL} if leading and full else {STRICT} if not leading or depth == 2 else {STRICT, NON_STRICT}

    def network(self, angle=0.0, size=0.0):
        """The network, its product turned from the one of the two pairs towards the other, its factors moved by a part."""
        p, q = self.u.shape[0], self.v.shape[0]
        k, turn = self.pair, np.eye(q)
        turn[k : k + 2, k : k + 2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        f = list(self.whitened)
        f[0] = f[0] @ turn.T @ self.v.T @ self.inverse
        f[-1] = self.u @ turn[:p, :p] @ f[-1]
        noise = [self.rng.standard_normal(a.shape) for a in f]
        scale = [size * (np.linalg.norm(a) or 1.0) / np.linalg.norm(z) for a, z in zip(f, noise, strict=True)]
        return lrf.LinearNetwork([a + c * z for a, c, z in zip(f, scale, noise, strict=True)])


def test_the_critical_points_are_told_exactly():
    for seed in range(1000):
        p = Nearly(seed)
        here = landscape.classify(p.network(), p.loss, nearby=False)
        assert here.kind in p.kinds and here.index_set == p.index_set, (seed, here)


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 160), marks=pytest.mark.slow)], ids=["some", "more"])
def test_points_moved_from_them_are_never_of_a_wrong_class(seeds):
    told = 0
    for seed in seeds:
        p = Nearly(seed)
        here = landscape.classify(p.network(size=10.0 ** p.rng.uniform(-13, -3)), p.loss)
        for place in (here, here.nearby):
            if place is None or place.kind in (NOT_CRITICAL, UNDECIDED):
                continue
            told += 1
            assert place.kind in p.kinds and place.index_set == p.index_set, (seed, place)
        if here.kind == UNDECIDED:
            assert "of the largest apart" in here.notes[-1] or "nor roundoff" in here.notes[-1]
    assert told > 0.95 * len(seeds)


def test_between_the_two_nothing_is_decided_and_the_two_are_named():
    """Turned from one pair towards the other the gradient is that of the gap: it says nothing."""
    undecided = 0
    for seed in range(400):
        p = Nearly(seed)
        if not p.split:
            continue
        here = landscape.classify(p.network(angle=float(p.rng.uniform(0.1, np.pi / 2 - 0.1))), p.loss, nearby=False)
        assert here.kind in (NOT_CRITICAL, UNDECIDED)
        if here.kind == UNDECIDED:
            undecided += 1
            assert f"the singular values {p.pair + 1} and {p.pair + 2} of the whitened targets are only" in here.notes[-1]
    assert undecided > 30


def test_equal_ones_are_told_by_how_many_of_them_are_learned():
    """The control: at 1e-11 they are one, any turn of the product is critical, and the note says so."""
    for seed in range(40):
        p = Nearly(seed)
        sigma = p.loss.spectrum.sigma
        y = p.loss.spectrum.u @ np.diag(np.where(np.arange(sigma.size) == p.pair + 1, sigma[p.pair], sigma)) @ p.loss.spectrum.vt
        tied = lrf.losses.LeastSquares(np.eye(y.shape[1]), y)
        s = [i for i in range(1, sigma.size + 1) if i != p.pair + 2][:1]
        here = landscape.classify(lrf.LinearNetwork.balanced(landscape.critical_matrix(tied, s), 2, widths=1), tied)
        assert here.kind == (GLOBAL if s == [1] else STRICT)
        assert any("equal singular values" in note for note in here.notes)

"""Many runs in one array: the single runs are the oracle, member by member."""

import pickle
import re

import numpy as np
import pytest
from scipy import stats

import lowrankflow as lrf
from lowrankflow import batched
from lowrankflow.descent import (
    Adam,
    Decreasing,
    EdgeFraction,
    GradientBelow,
    HeavyBall,
    LayerRates,
    LossBelow,
    MiniBatches,
    Nesterov,
    TimeReached,
    WeightDecay,
)


def gap(a, b):
    """Relative distance of two W."""
    return np.linalg.norm(a.to_dense() - b.to_dense()) / max(np.linalg.norm(b.to_dense()), 1e-300)


def random_losses(rng, members, m, n, scale):
    """Square losses or completions of one kind, some with data in common."""
    reduction = str(rng.choice(["sum", "mean"]))
    if rng.random() < 0.2:
        found = []
        for _ in range(members):
            p = int(rng.integers(1, 6))
            sensing = lrf.losses.Sensing(rng.standard_normal((p, m, n)))
            weights = rng.random(p) + 0.1 if rng.random() < 0.5 else None
            misfit = lrf.losses.Squared(scale * rng.standard_normal(p), weights)
            found.append(lrf.losses.Measured(sensing, misfit, reduction=reduction))
        return found
    if rng.random() < 0.4:
        found = []
        for _ in range(members):
            seen = rng.random((m, n)) < rng.uniform(0.2, 1)
            seen[rng.integers(m), rng.integers(n)] = True
            rows, cols = np.nonzero(seen)
            values = scale * (1 + rng.random(rows.size))
            found.append(lrf.losses.Completion(rows, cols, values, (m, n), reduction=reduction))
        return found
    common = rng.standard_normal((n, rng.integers(1, 9)))
    inputs = [common if rng.random() < 0.5 else rng.standard_normal((n, rng.integers(1, 9))) for _ in range(members)]
    return [
        lrf.losses.LeastSquares(x, scale * rng.standard_normal((m, x.shape[1])), reduction=reduction) for x in inputs
    ]


def random_networks(rng, members, m, n, depth, scale):
    widths = [int(d) for d in rng.integers(1, 6, depth - 1)]
    nets = [lrf.LinearNetwork.gaussian((m, n), depth, widths=widths, rng=rng) for _ in range(members)]
    return [lrf.LinearNetwork([scale ** (1 / depth) * f for f in net.factors]) for net in nets]


def random_problem(seed):
    """Shapes from 1 x 1, scales 1e-8 to 1e8, and the unit of time of the depth-N flow."""
    rng = np.random.default_rng(seed)
    m, n, members, depth = (int(rng.integers(1, high)) for high in (6, 6, 6, 5))
    scale, depth = (10.0 ** rng.uniform(-8, 8) if rng.random() < 0.4 else 1.0), depth + 1
    losses = random_losses(rng, members, m, n, scale)
    unit = 1 / (depth * max(loss.curvature for loss in losses) * scale ** (2 - 2 / depth))
    return rng, losses, (m, n), depth, scale, unit


class TestFlows:
    @pytest.mark.parametrize("chart", ["factors", "polynomial", "networks"])
    def test_random_batches_member_by_member(self, chart):
        for seed in range(25):
            rng, losses, (m, n), depth, scale, unit = random_problem([seed, len(chart)])
            rank, members = int(rng.integers(1, min(m, n) + 1)), len(losses)
            if chart == "networks":
                starts = random_networks(rng, members, m, n, depth, scale)
            else:
                tied = rng.random() < 0.3
                s = [np.sort(rng.uniform(0.05, 1, 1 if tied else rank))[::-1] for _ in range(members)]
                s = [scale * np.broadcast_to(values, rank) for values in s]
                starts = [lrf.random_point(m, n, rank, rng=rng, singular_values=values) for values in s]
            rtol, ends = 10.0 ** rng.uniform(-10, -5, members), unit * 10.0 ** rng.uniform(-1, 1.2, members)
            runs = batched.integrate(
                losses, starts, t_span=(0, ends), rtol=rtol, depth=depth, times=np.outer(ends, [0.3, 0.6]),
                chart=None if chart == "networks" else chart,
            )  # fmt: skip
            for i, (loss, start) in enumerate(zip(losses, starts, strict=True)):
                flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(depth))
                save = lrf.Save(times=runs.t[i, 1:-1], exact=True)
                path = lrf.integrate(
                    lrf.FactorFlow(loss) if chart == "networks" else flow, start, t_span=(0, ends[i]), rtol=rtol[i],
                    method="DOP853", save=save,
                )  # fmt: skip
                assert runs.status[i] == path.status == lrf.Status.FINISHED
                assert np.array_equal(runs[i].t, path.t)
                # either run errs by at most rtol a step
                bound = rtol[i] * (runs.nsteps[i] + path.nsteps) + 1e-12
                assert max(gap(a, b) for a, b in zip(runs[i].points, path.points, strict=True)) < bound
                assert np.abs(runs.loss[i] - path.loss).max() < 10 * bound * path.loss[0]
                assert np.abs(runs.singular_values[i] - path.singular_values).max() < bound * path.singular_values.max()
                assert np.allclose(runs.stationarity[i, 0], path.stationarity[0], rtol=1e-9)

    def test_what_must_differ_differs(self):
        """The control: the loss of another member, or another depth, is far outside every bound above."""
        rng = np.random.default_rng(0)
        losses = [lrf.losses.LeastSquares(np.eye(4), rng.standard_normal((4, 4))) for _ in range(3)]
        starts = batched.LowRankMatrices.random(3, (4, 4), 2, rng=rng)
        own = batched.integrate(losses, starts, depth=3, t_span=(0, 1))
        for other in (
            batched.integrate(losses[1:] + losses[:1], starts, depth=3, t_span=(0, 1)),
            batched.integrate(losses, starts, depth=4, t_span=(0, 1)),
        ):
            assert all(gap(own[i].points[-1], other[i].points[-1]) > 1e-2 for i in range(3))

    def test_neighbours_change_nothing(self):
        """A member alone, and beside a thousand that leave at other times: the same steps."""
        rng = np.random.default_rng(1)
        loss = batched.LeastSquares(rng.standard_normal((5, 8)), rng.standard_normal((1000, 4, 8)))
        starts = batched.LowRankMatrices.random(1000, (4, 5), 2, rng=rng)
        ends = rng.uniform(0.01, 1, 1000)
        runs = batched.integrate(loss, starts, depth=3, t_span=(0, ends))
        for i in (0, 517, 999):
            chosen = np.array([i])
            alone = batched.integrate(loss.take(chosen), starts.take(chosen), depth=3, t_span=(0, ends[i]))
            assert alone.nsteps[0] == runs.nsteps[i] and alone.nfev[0] == runs.nfev[i]
            assert gap(alone[0].points[-1], runs[i].points[-1]) < 1e-12  # the order of sums in shared products

    def test_each_ends_on_its_own(self):
        """Convergence, the end of time and the budget, beside a member that runs away in finite time."""

        class Signed:
            """+-1/2 ||W - Y||^2, whose flow runs away for the minus sign; as a single loss for one sign."""

            shape, members = (2, 2), 4

            def __init__(self, signs):
                self.signs, self.members = signs, len(signs)

            def value(self, w):
                return 0.5 * self.signs * ((w - 1.0) ** 2).sum(axis=(1, 2))

            def gradient(self, w):
                return self.signs[:, None, None] * (w - 1.0)

            def take(self, chosen):
                return Signed(self.signs[chosen])

        signs = np.array([1.0, -1.0, 1.0, 1.0])
        starts = [lrf.random_point(2, 2, 1, rng=i) for i in range(4)]
        ends, gtol = np.array([100.0, 100.0, 0.5, 100.0]), np.array([1e-3, 0, 0, 1e-9])
        for chart in ("factors", "polynomial"):
            runs = batched.integrate(
                Signed(signs), starts, depth=3, t_span=(0, ends), gtol=gtol, max_evaluations=350, chart=chart
            )
            names = [status.name for status in runs.status]
            assert names[0] == "CONVERGED" and names[2:] == ["FINISHED", "MAX_EVALUATIONS"]
            assert names[1] in ("NOT_FINITE", "STEP_TOO_SMALL", "MAX_EVALUATIONS") and runs.t[1, -1] < 1
            assert runs.stationarity[0, -1] <= 1e-3 and runs.t[2, -1] == 0.5 and runs.nfev[3] >= 350
            one = lrf.losses.LeastSquares(np.eye(2), np.ones((2, 2)))
            path = lrf.integrate(lrf.RiemannianFlow(one, lrf.DepthMetric(3)), starts[0], t_span=(0, 100), gtol=1e-3)
            # both stop at the first step below gtol, so at most a step apart
            assert abs(runs.t[0, -1] - path.t[-1]) < 2 and gap(runs[0].points[-1], path.points[-1]) < 1e-2
            assert runs.counts()[lrf.Status.FINISHED] == 1 and not runs.finished.all()
            with pytest.raises(RuntimeError, match=r"of 4 runs failed\. The first, member 1"):
                runs.raise_if_failed()

    def test_a_start_at_rest_and_times_at_the_ends(self):
        loss = batched.LeastSquares(np.eye(2), np.stack([np.eye(2), 2 * np.eye(2)]))
        starts = batched.LowRankMatrices(np.stack([np.eye(2)] * 2), np.ones((2, 2)), np.stack([np.eye(2)] * 2))
        runs = batched.integrate(loss, starts, depth=2, t_span=(0, 1), times=[0, 0.5, 1])
        assert runs.t.tolist() == [[0, 0, 0.5, 1, 1]] * 2
        assert runs[0].t.tolist() == [0, 0.5, 1]
        assert np.allclose(runs.loss[0], 0) and runs.loss[1, -1] < 1
        assert batched.integrate(loss, starts, depth=2, t_span=(0, 1), gtol=1e-9).status[0] is lrf.Status.CONVERGED

    def test_columns_are_those_of_single_runs(self):
        rng = np.random.default_rng(2)
        losses = [lrf.losses.LeastSquares(np.eye(4), rng.standard_normal((3, 4))) for _ in range(3)]
        nets = [lrf.LinearNetwork.gaussian((3, 4), 2, widths=3, rng=rng) for _ in range(3)]
        names = ["effective_rank", "sharpness", "imbalance", "mode_strengths"]
        runs = batched.integrate(losses, nets, t_span=(0, 1), times=[0.4], columns=names)
        own = {"hidden_error": lambda t, w: ((w.to_dense() - 1.0) ** 2).sum(axis=(1, 2))}
        hidden = batched.integrate(losses, nets, t_span=(0, 1), columns=own, points=False)
        for i in range(3):
            save = lrf.Save(times=[0.4], exact=True, columns=names)
            path = lrf.integrate(lrf.FactorFlow(losses[i]), nets[i], t_span=(0, 1), save=save, method="DOP853")
            for name in names:  # both runs to rtol 1e-8, and what the iteration for the sharpness leaves
                assert np.allclose(runs.columns[name][i], path.columns[name], rtol=1e-6, atol=1e-6)
            end = ((path.points[-1].to_dense() - 1) ** 2).sum()
            assert np.isclose(hidden.columns["hidden_error"][i, -1], end, rtol=1e-6)
        assert hidden.final.shape == (3, 4)
        with pytest.raises(ValueError, match="`points` must be True"):
            hidden[0]

    def test_an_interrupt_keeps_what_was_computed(self):
        loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
        seen = []

        def interrupt(step):
            seen.append(step)
            if step.nfev > 200:
                raise KeyboardInterrupt

        starts = batched.LowRankMatrices.random(3, (3, 3), 2, rng=0)
        runs = batched.integrate(loss, starts, depth=2, t_span=(0, [1e-6, 5, 5]), callback=interrupt)
        assert [s.name for s in runs.status] == ["FINISHED", "INTERRUPTED", "INTERRUPTED"]
        assert seen[-1].members == 3 and seen[-1].running == 2 and 0 < runs.t[1, -1] < 5
        nets = batched.LinearNetworks.gaussian(3, (3, 3), 2, widths=2, rng=0)
        runs = batched.gradient_descent(loss, nets, step_size=0.01, steps=1000, callback=interrupt)
        assert {s.name for s in runs.status} == {"INTERRUPTED"} and (runs.nsteps < 1000).all()


RULES = {
    "gradient": None, "heavy ball": HeavyBall(0.5), "nesterov": Nesterov(0.5), "adam": Adam(),
    "decay": WeightDecay(0.01), "decoupled": WeightDecay(0.1, Adam(), decoupled=True), "rates": LayerRates([0.5, 1, 2]),
}  # fmt: skip


class TestDescent:
    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_random_batches_member_by_member(self, rule):
        """Every rule, with steps, stops and mini-batches of each member; to roundoff, as the sums are the same."""
        for seed in range(12):
            rng, losses, (m, n), depth, scale, unit = random_problem([seed, 7])
            if isinstance(rule, LayerRates):
                depth = 3
            members = len(losses)
            nets = random_networks(rng, members, m, n, depth, scale)
            h = unit * 10.0 ** rng.uniform(-2, -0.5, members)
            h[0] = unit * (1e4 if seed % 3 == 0 else 0.1)  # one that runs away beside those that do not
            batches = None
            if seed % 4 == 3:
                data = [(rng.standard_normal((n, 7)), scale * rng.standard_normal((m, 7))) for _ in range(members)]
                losses = [lrf.losses.LeastSquares(x, y) for x, y in data]
                batches = [MiniBatches(x, y, 3, rng=i) for i, (x, y) in enumerate(data)]
            below = 0.5 * float(losses[-1].value(nets[-1]))
            stops = [(), LossBelow(below), [GradientBelow(below), TimeReached(15 * h[-1])]][seed % 3]
            steps = h if seed % 2 else [Decreasing(x) if i % 2 else x for i, x in enumerate(h.tolist())]
            options = dict(steps=25, rule=rule, stop=stops, keep_every=10)
            runs = batched.gradient_descent(losses, nets, step_size=steps, batches=batches, **options)
            for i in range(members):
                path = lrf.gradient_descent(
                    losses[i], nets[i], step_size=float(h[i]) if seed % 2 else steps[i],
                    batches=None if batches is None else batches[i], **options,
                )  # fmt: skip
                assert runs.status[i] == path.status
                if " at update " in path.message:  # the last that was good
                    assert runs.nsteps[i] == path.nsteps
                if path.status is not lrf.Status.NOT_FINITE:
                    assert runs.nsteps[i] == path.nsteps and np.allclose(runs[i].t, path.t, rtol=1e-13)
                    if path.loss[-1] < 10 * path.loss[0]:  # else roundoff has grown like the run
                        # 25 updates, each of which can double what roundoff left
                        assert gap(runs[i].points[-1], path.points[-1]) < 1e-9
                        assert np.allclose(runs.loss[i, -1], path.loss[-1], rtol=1e-8, atol=1e-12 * path.loss[0])
                if batches is None:
                    assert runs.nfev[i] == path.nfev

    def test_the_edge_is_measured_member_by_member(self):
        rng = np.random.default_rng(0)
        losses = [lrf.losses.LeastSquares(np.eye(3), rng.standard_normal((3, 3))) for _ in range(3)]
        nets = [lrf.LinearNetwork.gaussian((3, 3), 2, widths=3, rng=rng) for _ in range(3)]
        rules = [EdgeFraction(0.5), EdgeFraction(0.25), EdgeFraction(0.25)]
        runs = batched.gradient_descent(losses, nets, step_size=rules, steps=9)
        for i in range(3):
            path = lrf.gradient_descent(losses[i], nets[i], step_size=rules[i], steps=9)
            assert np.isclose(runs.t[i, -1], path.t[-1], rtol=1e-12)
            assert gap(runs[i].points[-1], path.points[-1]) < 1e-12
        assert not np.isclose(runs.t[1, -1] * 2, runs.t[0, -1])  # each has an edge of its own

    def test_the_edge_of_those_that_are_left(self):
        """Members that have left do not give their loss to others."""
        rng = np.random.default_rng(0)
        losses = [lrf.losses.LeastSquares(np.eye(3), (i + 1) * rng.standard_normal((3, 3))) for i in range(6)]
        nets = [lrf.LinearNetwork.gaussian((3, 3), 2, widths=3, rng=rng) for _ in range(6)]
        options = dict(step_size=EdgeFraction(0.5), steps=35, stop=LossBelow(3.0), columns=["sharpness"])
        runs = batched.gradient_descent(losses, nets, **options)
        own = batched.LeastSquares(np.eye(3), np.stack([loss.compressed[1] for loss in losses]))
        again = batched.gradient_descent(own, nets, **options)
        assert len(set(runs.nsteps.tolist())) > 2
        for i in range(6):
            path = lrf.gradient_descent(losses[i], nets[i], **options)
            assert runs.nsteps[i] == again.nsteps[i] == path.nsteps
            # the sharpness is found to a hundredth; where that needs the same iterations, the runs are the same
            assert np.isclose(runs.t[i, -1], path.t[-1], rtol=1e-2) and np.isclose(again.t[i, -1], runs.t[i, -1], rtol=1e-2)
            assert np.allclose(runs.columns["sharpness"][i, 0], path.columns["sharpness"][0], rtol=1e-6)

    def test_steps_that_are_none_end_their_member_alone(self):
        loss = lrf.losses.LeastSquares(np.eye(2), np.eye(2))
        nets = batched.LinearNetworks.gaussian(3, (2, 2), 2, widths=2, rng=0)
        runs = batched.gradient_descent(
            loss, nets, steps=5, step_size=lambda k: np.array([0.1, 0.1 if k < 3 else np.nan, 0.1])
        )
        assert [s.name for s in runs.status] == ["FINISHED", "BAD_STEP", "FINISHED"]
        assert runs.nsteps.tolist() == [5, 3, 5] and np.isclose(runs.t[1, -1], 0.3)

    def test_tests_of_ones_own_see_all_members(self):
        loss = lrf.losses.LeastSquares(np.eye(2), np.eye(2))
        nets = batched.LinearNetworks.gaussian(4, (2, 2), 2, widths=2, rng=0)

        share = np.array([10.0, 20.0, 5.0, 15.0])  # one that ends early is not asked for the others

        def far(at):
            assert at.t.shape == at.loss.shape == at.gradient_norm.shape == at.members.shape == (len(at.networks),)
            return at.loss < 0.5 * at.k / share[at.members]

        runs = batched.gradient_descent(loss, nets, step_size=0.1, steps=100, stop=far)
        for i in range(4):

            def one(at, share=share[i]):
                return at.loss < 0.5 * at.k / share

            path = lrf.gradient_descent(loss, nets[i], step_size=0.1, steps=100, stop=one)
            assert (runs.status[i], runs.nsteps[i]) == (lrf.Status.EVENT, path.nsteps)


def strict(array):
    import array_api_strict

    return array_api_strict.asarray(np.array(array))


def torch(array):
    return pytest.importorskip("torch").asarray(np.array(array))


class TestArrays:
    @pytest.mark.parametrize("to", [strict, pytest.param(torch, marks=pytest.mark.frameworks)])
    def test_other_arrays_give_the_same_runs(self, to):
        """The same code, so the same numbers but for roundoff; what comes back last is of the kind that was given."""
        rng = np.random.default_rng(0)
        targets, observed = rng.standard_normal((5, 4, 3)), rng.random((5, 4, 3)) < 0.6
        observed[:, 0, 0] = True
        inputs = [rng.standard_normal((3, 3)), rng.standard_normal((5, 3, 9))]
        answers = [targets, rng.standard_normal((5, 4, 9))]
        starts = batched.LowRankMatrices.random(5, (4, 3), 2, rng=rng)
        theirs = batched.LowRankMatrices(*map(to, (starts.u, starts.s, starts.vt)))
        kinds = [(batched.LeastSquares, data) for data in zip(inputs, answers, strict=True)]
        sensing = (batched.Sensing, (rng.standard_normal((6, 4, 3)), rng.standard_normal((5, 6))))
        for kind, data in [*kinds, (batched.Completion, (observed, targets)), sensing]:
            ours, other = kind(*data), kind(*map(to, data))
            for depth, chart in [(2, "polynomial"), (3, "factors"), (3, "polynomial")]:
                options = dict(depth=depth, chart=chart, t_span=(0, np.linspace(0.2, 2, 5)), times=[0.1], gtol=0.05)
                a, b = (batched.integrate(loss, w, **options) for loss, w in ((ours, starts), (other, theirs)))
                assert a.status.tolist() == b.status.tolist() and (a.nfev == b.nfev).all()
                # roundoff moves the steps, by the error estimates, which moves the runs by less than rtol = 1e-8
                assert np.allclose(a.loss, b.loss, rtol=1e-9, atol=1e-9 * a.loss.max())
                assert type(b.final.u) is type(theirs.u)
            nets = batched.LinearNetworks.balanced(starts, 3)
            others = batched.LinearNetworks([to(f) for f in nets.factors])
            for rule in (WeightDecay(0.1, Adam(), decoupled=True), LayerRates([1, 2, 3], HeavyBall())):
                options = dict(
                    step_size=[0.01, 0.02, 0.03, 0.02, 50.0], steps=12, rule=rule, stop=[LossBelow(0.3), GradientBelow(0.1)],
                    keep_every=5, columns=["effective_rank"],
                )  # fmt: skip
                a, b = (batched.gradient_descent(loss, w, **options) for loss, w in ((ours, nets), (other, others)))
                assert a.status.tolist() == b.status.tolist()
                assert np.allclose(a.loss, b.loss, rtol=1e-9, equal_nan=True)
                assert np.allclose(a.columns["effective_rank"], b.columns["effective_rank"], equal_nan=True)

    def test_results_go_to_another_process(self):
        nets = batched.LinearNetworks.gaussian(3, (3, 3), 2, widths=2, rng=0)
        runs = batched.integrate(LOSS, nets, t_span=(0, 1))
        back = pickle.loads(pickle.dumps(runs))
        assert back[1].loss.tolist() == runs[1].loss.tolist() and gap(back.final[1], runs.final[1]) == 0
        assert len(pickle.dumps(runs)) < 5000  # no loss is in it

    def test_stacks_and_their_members(self):
        points = [lrf.random_point(4, 3, 2, rng=i) for i in range(3)]
        stack = batched.LowRankMatrices.of(points)
        assert len(stack) == 3 and all(gap(a, b) < 1e-15 for a, b in zip(stack, points, strict=True))
        assert np.allclose(stack.to_dense()[-1], points[-1].to_dense()) and stack[-1].shape == (4, 3)
        nets = batched.LinearNetworks.balanced(stack, 4)
        assert all(net.imbalance() < 1e-14 and gap(net, w) < 1e-14 for net, w in zip(nets, points, strict=True))
        with pytest.raises(IndexError, match="`i` must lie between -3 and 2, got 3"):
            stack[3]

    def test_stacked_losses_are_the_single_ones(self):
        rng = np.random.default_rng(0)
        for seed in range(20):
            _, losses, (m, n), _, _, _ = random_problem([seed, 3])
            many, w = batched.stacked(losses), rng.standard_normal((len(losses), m, n))
            values, gradients = many.value(w), many.gradient(w)
            for i, loss in enumerate(losses):
                assert np.isclose(values[i], loss.value(w[i]), rtol=1e-12)
                assert np.allclose(gradients[i], loss.gradient(w[i]) @ np.eye(n), rtol=1e-11)
                assert many[i] is loss
            few = many.take(np.array([len(losses) - 1]))
            assert np.allclose(few.value(w[-1:]), values[-1:])
        own = batched.LeastSquares(rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 4, 5)), reduction="mean")
        w = rng.standard_normal((2, 4, 3))
        assert np.allclose(own.value(w), [own[i].value(w[i]) for i in range(2)], rtol=1e-12)
        gaps = np.where(np.eye(4, 3) > 0, 1.0, np.nan)  # what was not observed need not be known
        assert np.isclose(batched.Completion(np.eye(4, 3), gaps).value(np.zeros((1, 4, 3)))[0], 1.5)
        own = batched.Sensing(rng.standard_normal((2, 5, 4, 3)), rng.standard_normal(5), reduction="mean")
        assert np.allclose(own.value(w), [own[i].value(w[i]) for i in range(2)], rtol=1e-12)
        inputs = lrf.losses.Inputs(rng.standard_normal((3, 2)), 4)  # any linear measurement
        loss = lrf.losses.Measured(inputs, lrf.losses.Squared(rng.standard_normal((4, 2))))
        assert np.isclose(batched.stacked(loss).value(w)[1], loss.value(w[1]), rtol=1e-12)


class TestAlmostEveryStart:
    def test_wilson_is_that_of_scipy(self):
        for count, of in [(0, 10), (3, 10), (10, 10), (1, 1), (499, 1000)]:
            for confidence in (0.5, 0.95, 0.999):
                want = stats.binomtest(count, of).proportion_ci(confidence, method="wilson")
                got = batched.wilson(count, of, confidence)
                assert np.allclose((got.low, got.high), (want.low, want.high), rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("depth", [2, 3])
    def test_almost_every_start(self, depth):
        """flow.md, claims 13 and 19: all Gaussian starts arrive, no balanced one whose determinant has the other sign."""
        root = np.diag(np.sqrt([2.0, 1.0, 0.5]))
        loss = lrf.losses.LeastSquares(root, root)
        found = batched.almost_every_start(loss, depth, starts=400, rng=1)
        assert found.verdict == "passed" and found.measured < 0.01 and found.controls[0].measured == 1.0

    def test_a_narrow_layer_or_a_rank_left_out_is_seen(self):
        """The control of `reached` itself: it must say which minimum, not that there is one."""
        loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
        narrow = batched.reached(loss, batched.LinearNetworks.gaussian(50, (3, 3), 2, widths=2, rng=0))
        assert narrow.counts() == {2: 50} and narrow.share(2).low > 0.9 and narrow.values.tolist() == [7, 2.5, 0.5]
        saddle = lrf.LinearNetwork([np.diag([3.0, 0.0, 0.0]), np.diag([1.0, 0.0, 0.0])])
        assert batched.reached(loss, [saddle]).counts() == {1: 1}
        early = batched.reached(loss, batched.LinearNetworks.gaussian(50, (3, 3), 2, widths=2, rng=0), t_end=0.1)
        assert early.counts() == {-1: 50}

    def test_a_loss_without_full_rank_is_not_claimed(self):
        loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 0.0]) + 1e-12 * np.eye(3))
        assert batched.almost_every_start(loss, 2, starts=400).verdict == "not claimed"


LOSS = lrf.losses.LeastSquares(np.eye(3), np.eye(3))
STARTS = batched.LowRankMatrices.random(4, (3, 3), 2, rng=0)
NETS = batched.LinearNetworks.gaussian(4, (3, 3), 2, widths=2, rng=0)


def flow(losses=LOSS, starts=STARTS, **options):
    return batched.integrate(losses, starts, **{"depth": 2, "t_span": (0, 1), **options})


def descend(losses=LOSS, networks=NETS, **options):
    return batched.gradient_descent(losses, networks, **{"step_size": 0.1, "steps": 3, **options})


ERRORS = {
    "shapes": (lambda: flow([LOSS, lrf.losses.LeastSquares(np.eye(2), np.eye(2))]), "of one shape"),
    "starts of shapes": (lambda: flow(starts=[lrf.random_point(3, 3, k, rng=0) for k in (1, 2)]), "of one shape"),
    "no starts": (lambda: flow(starts=[]), "LowRankMatrices, LinearNetworks or a sequence"),
    "other shape": (lambda: flow(lrf.losses.LeastSquares(np.eye(3), np.ones((2, 3)))), "`starts` has shape"),
    "count": (lambda: flow([LOSS] * 3), "one a member, got 3 for 4 starts"),
    "arrays": (
        lambda: flow(batched.LeastSquares(strict(np.eye(3)), strict(np.eye(3)))), "of the kind that the starts have"
    ),
    "kinds": (lambda: flow([lrf.losses.Schatten((3, 3), depth=2)] * 4), "must be all LeastSquares, all Completion"),
    "no batched form": (lambda: flow(lrf.losses.Schatten((3, 3), depth=2)), "without members, take"),
    "no depth": (lambda: flow(depth=None), "`depth` must be given"),
    "depth of networks": (lambda: flow(starts=NETS, depth=3), "`depth` must be that of the networks, 2"),
    "chart of networks": (lambda: flow(starts=NETS, chart="polynomial"), "takes starts of low rank"),
    "chart": (lambda: flow(chart="frame"), "`chart` must be one of factors, polynomial"),
    "rtol": (lambda: flow(rtol=[1e-8, 1e-8, 1e-8, 1]), "`rtol` must lie between"),
    "rtol count": (lambda: flow(rtol=[1e-8] * 3), "`rtol` must be one number, or one for each of 4 members"),
    "span": (lambda: flow(t_span=(1, [2, 3, 4, 1])), "`t_span` must be increasing"),
    "span count": (lambda: flow(t_span=(0, [2, 3])), "`t_span` must end at one time, or one for each of 4 members"),
    "no end": (lambda: flow(t_span=(0, np.inf), gtol=1e-3), "Give both"),
    "times": (lambda: flow(times=[0.5, 2]), "`times` must lie within t_span"),
    "times back": (lambda: flow(times=[0.5, 0.2]), "`times` must increase"),
    "columns": (lambda: flow(columns=["speed"]), "`columns` must be one of"),
    "columns shape": (lambda: flow(columns={"a": lambda t, w: 1.0}), "one number or array for each of 4 members"),
    "negative gtol": (lambda: flow(gtol=-1), "`gtol` must be non-negative"),
    "nan": (lambda: batched.LeastSquares(np.eye(2), np.full((2, 2), np.nan)), "`targets` must be finite"),
    "samples": (lambda: batched.LeastSquares(np.eye(2), np.ones((2, 3))), "as many samples"),
    "members": (lambda: batched.LeastSquares(np.ones((2, 1, 1)), np.ones((3, 1, 1))), "one number of members"),
    "sensing": (lambda: batched.Sensing(np.ones((2, 1, 1)), [1.0]), "as many as `matrices`"),
    "masked": (lambda: batched.LeastSquares(np.eye(2), np.ma.masked_array(np.eye(2), np.eye(2) > 0)), "mask"),
    "too large": (lambda: batched.LeastSquares(1e200 * np.eye(2), np.eye(2)), "`inputs` must stay below"),
    "nan seen": (lambda: batched.Completion(np.eye(2), np.full((2, 2), np.nan)), "finite where they were observed"),
    "member": (lambda: batched.stacked([LOSS] * 2)[2], "`i` must lie between -2 and 1, got 2"),
    "unseen": (lambda: batched.Completion(np.zeros((2, 2)), np.ones((2, 2))), "positive somewhere in every member"),
    "frames": (lambda: batched.LowRankMatrices(np.ones((1, 2, 1)), np.ones((1, 1)), np.ones((1, 1, 1))), "orthonormal"),
    "order": (
        lambda: batched.LowRankMatrices(np.eye(2)[None], np.array([[1.0, 2.0]]), np.eye(2)[None]), "positive and decreasing"
    ),
    "chain": (lambda: batched.LinearNetworks([np.ones((1, 2, 3)), np.ones((1, 2, 3))]), "do not chain"),
    "starts of descent": (lambda: descend(networks=STARTS), "`networks` must be LinearNetworks"),
    "steps": (lambda: descend(steps=0), "`steps` must be at least 1"),
    "step sizes": (lambda: descend(step_size=[0.1, 0.1]), "one for each of 4 members"),
    "negative step": (lambda: descend(step_size=[0.1, 0.1, 0.1, -1]), "`step_size` must be positive"),
    "schedules": (lambda: descend(step_size=[Decreasing(0.1)] * 3), "one for each of 4 members, got 3"),
    "a text among steps": (lambda: descend(step_size=[0.1, Decreasing(0.1), "a", 0.1]), "`step_size` must be positive"),
    "schedule of none": (lambda: descend(step_size=lambda k: None), r"`step_size(k)` must be positive"),
    "schedule of three": (lambda: descend(step_size=lambda k: np.ones(3)), "one for each of 4 members, got shape (3,)"),
    "schedule class": (lambda: descend(step_size=Decreasing), "got the class Decreasing"),
    "rule": (lambda: descend(rule=Adam), "`rule` must have methods"),
    "stop": (lambda: descend(stop=lambda at: True), "one flag a member"),
    "batches": (lambda: descend(batches=lambda k: LOSS), "have no batched form"),
    "misfit of batches": (
        lambda: descend(batches=MiniBatches(np.eye(3), np.eye(3), 1, misfit=lrf.losses.Huber)), "have no batched form"
    ),
    "batches of shape": (lambda: descend(batches=MiniBatches(np.eye(2), np.eye(2), 1)), "defined on"),
    "share": (lambda: batched.wilson(3, 2), "`count` must not exceed `of`"),
    "square": (lambda: batched.almost_every_start(lrf.losses.LeastSquares(np.eye(3), np.ones((2, 3))), 2), "square"),
    "few": (lambda: batched.almost_every_start(LOSS, 2, starts=10), "`starts` must be at least 400"),
}


@pytest.mark.parametrize("call, words", ERRORS.values(), ids=ERRORS)
def test_errors(call, words):
    with pytest.raises((ValueError, TypeError, IndexError), match=re.escape(words)):
        call()

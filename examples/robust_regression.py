"""Regression with mistyped targets: Huber's loss against the square, and scikit-learn's HuberRegressor as referee.

The progress of diabetes in 442 patients is predicted from ten measurements. In one of twenty training targets a zero too
many was typed, so that it is ten times too large. The same depth-3 flow runs twice, with either loss; both are judged on
clean targets never seen. Huber's loss is convex and all maps to one number have rank one: the flow has to reach the
minimum that scikit-learn finds by L-BFGS. Its estimate of the scale of the errors says where the loss turns linear.
Needs scikit-learn.
"""

import argparse

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import HuberRegressor

import lowrankflow as lrf
from lowrankflow.losses import Huber, Inputs, Measured, Squared

DEPTH, TRAINED, MISTYPED = 3, 300, 15


def minimise(loss, start):
    """Run the flow to the end and return W."""
    gtol = 1e-6 * np.linalg.norm(loss.gradient(start))
    flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH))
    path = lrf.integrate(flow, start, t_span=(0, np.inf), gtol=gtol, rtol=1e-5, method="auto")
    assert path.status.converged, path.message
    return path.points[-1]


def one_split(seed):
    """Return the errors on clean targets, and by how much the flow's loss exceeds scikit-learn's, relatively."""
    rng = np.random.default_rng(seed)
    x, y = load_diabetes(return_X_y=True)
    order = rng.permutation(y.size)
    train, test = order[:TRAINED], order[TRAINED:]
    typed = y.copy()
    typed[train[:MISTYPED]] *= 10
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    unit = np.median(typed[train])  # any size that a few errors do not move
    inputs, y, typed = np.vstack([x.T, np.ones(y.size)]), y / unit, typed / unit

    theirs = HuberRegressor(alpha=0, tol=1e-8, max_iter=10_000).fit(x[train], typed[train])
    reference = np.append(theirs.coef_, theirs.intercept_)[None]
    measured, targets = Inputs(inputs[:, train], 1), typed[None, train]
    huber = Measured(measured, Huber(targets, delta=theirs.epsilon * theirs.scale_), reduction="mean")
    start = lrf.random_point(*huber.shape, 1, rng=rng, singular_values=[0.1])
    clean = train[MISTYPED:]
    fits = {
        "flow, Huber": minimise(huber, start),
        "HuberRegressor": reference,
        "flow, square": minimise(Measured(measured, Squared(targets), reduction="mean"), start),
        "least squares without the mistyped": np.linalg.lstsq(inputs[:, clean].T, y[clean], rcond=None)[0][None],
    }
    errors = {name: unit * np.sqrt(np.mean((w @ inputs[:, test] - y[test]) ** 2)) for name, w in fits.items()}
    return errors, huber.value(fits["flow, Huber"]) / huber.value(reference) - 1


def main(quick=False):
    splits = [one_split(seed) for seed in range(2 if quick else 20)]
    numbers = {
        "rms": {name: float(np.mean([errors[name] for errors, _ in splits])) for name in splits[0][0]},
        "worst ratio to the square": float(max(e["flow, Huber"] / e["flow, square"] for e, _ in splits)),
        "largest gap to HuberRegressor": float(max(abs(e["flow, Huber"] / e["HuberRegressor"] - 1) for e, _ in splits)),
        "largest excess of the loss": float(max(excess for _, excess in splits)),
    }
    print(f"diabetes, {MISTYPED} of {TRAINED} targets mistyped, mean of {len(splits)} random splits; depth {DEPTH}")
    print("root mean square error on clean targets never seen")
    for name, value in numbers["rms"].items():
        print(f"{name:36} {value:8.2f}")
    print(f"Huber's error is at most {numbers['worst ratio to the square']:.3f} of the square's,", end=" ")
    print(f"and within {numbers['largest gap to HuberRegressor']:.1e} of HuberRegressor's")
    print(f"the flow's loss exceeds the one that HuberRegressor reached by {numbers['largest excess of the loss']:.1e}")
    assert numbers["worst ratio to the square"] < 0.75
    assert numbers["largest gap to HuberRegressor"] < 1e-3
    assert numbers["largest excess of the loss"] < 1e-8  # it may well be negative
    assert numbers["rms"]["flow, Huber"] < 1.05 * numbers["rms"]["least squares without the mistyped"]
    return numbers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two splits instead of twenty")
    main(**vars(parser.parse_args()))

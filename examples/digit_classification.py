"""Handwritten digits by softmax on deep linear features, next to scikit-learn's logistic regression.

Ten classes need a matrix of rank 9: softmax does not see what is added to all scores alike. The depth-3 flow learns one
direction after the other; the smaller the singular values that it starts from, the fewer it ends with. These images can
be separated, so that the loss has no minimiser: the flow stops at the training loss that scikit-learn, with its penalty,
ended at, and both are judged on images never seen. Needs scikit-learn.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import lowrankflow as lrf
from lowrankflow.losses import Inputs, Measured, Softmax

DEPTH, RANK, CLASSES, STARTS = 3, 9, 10, (0.1, 0.01)  # STARTS: the singular values


def with_constant(x):
    """Return samples in columns, with a row of ones below for the intercepts."""
    return np.vstack([x.T, np.ones(len(x))])


def one_split(seed):
    """Return the test accuracies by name, and (directions learnt, loss, test accuracy) along each path."""
    x, test_x, y, test_y = train_test_split(*load_digits(return_X_y=True), test_size=0.3, random_state=seed)
    mean = x.mean(axis=0)
    rms = np.sqrt(np.mean((x - mean) ** 2))  # one for all pixels: some are always black
    x, test_x = (x - mean) / rms, (test_x - mean) / rms
    theirs = LogisticRegression(max_iter=2000).fit(x, y)
    inputs, test_inputs = with_constant(x), with_constant(test_x)

    loss = Measured(Inputs(inputs, CLASSES), Softmax(y, CLASSES), reduction="mean")
    target = loss.value(np.column_stack([theirs.coef_, theirs.intercept_]))
    reached = lrf.Event("loss of scikit-learn", lambda t, w: loss.value(w) - target, terminal=True)

    def accuracy(w):
        return float(np.mean((w @ test_inputs).argmax(axis=0) == test_y))

    accuracies, courses = {"LogisticRegression": float(theirs.score(test_x, test_y))}, {}
    for size in STARTS:
        rng = np.random.default_rng(seed)
        start = lrf.random_point(*loss.shape, RANK, rng=rng, singular_values=np.full(RANK, size))
        path = lrf.integrate(
            lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), start, t_span=(0, np.inf), rtol=1e-4, gtol=1e-6,
            method="auto", events=reached, max_evaluations=4000,
        )  # fmt: skip
        assert path.status is lrf.Status.EVENT, path.message
        learnt = (path.singular_values > 1).sum(axis=1)  # move some score by more than the image moves
        last = [np.flatnonzero(learnt == k)[-1] for k in np.unique(learnt)]
        accuracies[f"flow from {size:g}"] = accuracy(path.points[-1])
        courses[f"flow from {size:g}"] = [(int(learnt[i]), float(path.loss[i]), accuracy(path.points[i])) for i in last]
    return accuracies, courses


def main(quick=False):
    splits = [one_split(seed) for seed in range(1 if quick else 10)]
    names = list(splits[0][0])
    numbers = {
        "accuracy": {name: float(np.mean([found[name] for found, _ in splits])) for name in names},
        "directions": {name: float(np.mean([each[name][-1][0] for _, each in splits])) for name in names[1:]},
        "course": splits[0][1][names[-1]],
    }
    print(f"digits, depth {DEPTH}, rank {RANK}; accuracy on the 30 % not trained on, mean of {len(splits)} splits")
    for name, accuracy in numbers["accuracy"].items():
        learnt = numbers["directions"].get(name)
        print(f"{name:20} {accuracy:9.4f}" + (f", with {learnt:g} directions" if learnt else ""))
    print(f"{names[-1]}, first split: directions learnt, training loss, accuracy when the next one comes or at the end")
    for learnt, value, accuracy in numbers["course"]:
        print(f"{learnt:20} {value:9.4f} {accuracy:9.4f}")
    reference, *flows = numbers["accuracy"].values()
    large, small = numbers["directions"].values()
    assert min(flows) > reference - 0.02
    assert small <= large < RANK  # fewer directions than logistic regression, which has nine
    assert numbers["course"][0][-1] < 0.6  # and none are not enough
    return numbers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one split instead of ten")
    main(**vars(parser.parse_args()))

"""A loss of your own: log-cosh, quadratic for small residuals and linear for large ones.

Outliers weigh less. Ten lines; nothing of the library is edited or inherited. `check_loss` judges the gradient,
`verify_equivalence` says whether training the factors is the Riemannian flow for this loss too.
"""

import argparse
from pathlib import Path

import numpy as np

import lowrankflow as lrf
from lowrankflow import data


class LogCosh:
    """The mean over samples of sum log cosh(W x - y); x in the columns of `inputs`, y in those of `targets`."""

    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets
        self.shape = targets.shape[0], inputs.shape[0]

    def value(self, w):
        r = w @ self.inputs - self.targets
        return (np.logaddexp(r, -r) - np.log(2)).sum() / r.shape[1]  # no overflow, unlike log(cosh(r))

    def gradient(self, w):
        r = w @ self.inputs - self.targets
        return np.tanh(r) @ self.inputs.T / r.shape[1]


def main(quick=False, out=None):
    name, rank = ("linnerud", 2) if quick else ("breast_cancer", 3)
    x, y, preparation = data.prepare(data.load(name))
    loss = LogCosh(x, y)
    start = lrf.random_point(*loss.shape, rank, rng=0, singular_values=np.full(rank, 0.1))
    t_end = (5 if quick else 20) * lrf.natural_time_unit(loss, start, depth=3)

    check = lrf.check_loss(loss, start)
    check.raise_if_failed()
    report = lrf.verify_equivalence(loss, start, depth=3, t_end=t_end)
    print(f"{name}: {preparation}")
    print(check)
    print(report)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        lrf.write_html(report, Path(out) / "own_loss.html")
    claim, path = report["trajectory"], report.attachments["trajectory"]
    return {
        "gradient error": check["gradient"].measured,
        "gap between the flows": claim.measured,
        "bound": claim.bound,
        "loss": path.loss[[0, -1]].tolist(),
        "verdicts": {each.name: each.verdict for each in report},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small data set, a short time")
    parser.add_argument("--out", metavar="DIR", help="write own_loss.html there")
    main(**vars(parser.parse_args()))

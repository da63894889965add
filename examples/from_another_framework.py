"""Factor gradients from another framework, turned into the Riemannian gradient of the product.

Here the framework is backpropagation by hand over mini-batches; `loss.backward()` of any other leaves the same arrays,
one for each layer's weight. Balanced factors give the gradient of the depth-N metric. Unbalanced ones with the same
product give the velocity of the product all the same, but under an operator of their own, as far from the metric's as
they are from balance; rebalancing them brings the metric back.
"""

import argparse
from pathlib import Path

import numpy as np

import lowrankflow as lrf
from lowrankflow import data


def backpropagate(weights, x, y, batch=64):
    """Return the gradients of 1/2 sum ||W_N ... W_1 x - y||^2 / p, one a layer, the first layer's first."""
    gradients = [np.zeros_like(w) for w in weights]
    for first in range(0, x.shape[1], batch):
        activations = [x[:, first : first + batch]]
        for w in weights:
            activations.append(w @ activations[-1])
        delta = (activations.pop() - y[:, first : first + batch]) / x.shape[1]
        for j in reversed(range(len(weights))):
            gradients[j] += delta @ activations.pop().T
            delta = weights[j].T @ delta
    return gradients


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def main(quick=False, out=None):
    name, depth, rank = ("iris", 3, 2) if quick else ("digits", 4, 10)
    x, y, _ = data.prepare(data.load(name))
    loss = lrf.losses.LeastSquares(x, y, reduction="mean")  # only to have the gradient at W, to compare with
    (m, n), rng = loss.shape, np.random.default_rng(0)
    start = lrf.random_point(m, n, rank, rng=rng, singular_values=np.linspace(1.0, 0.5, rank))
    net = lrf.LinearNetwork.balanced(start, depth, widths=n, rng=rng)

    def from_factors(network):
        return lrf.riemannian_gradient_from_factors(network, backpropagate(network.factors, x, y)).to_dense()

    def stretched(c):  # [A W_1, W_2 A^-1, W_3, ...] with A = exp(c diag(-1 .. 1)): the same product
        a = np.exp(c * np.linspace(-1, 1, n))
        return lrf.LinearNetwork([a[:, None] * net.factors[0], net.factors[1] / a, *net.factors[2:]])

    egrad = loss.gradient(start)
    rgrad = lrf.riemannian_gradient(start, egrad, lrf.DepthMetric(depth)).at(start).to_dense()
    uneven = stretched(0.5)
    own = lrf.end_to_end_operator(uneven)(egrad).to_dense()
    networks = [stretched(c) for c in 0.5 ** np.arange(1, 9)]
    imbalances = [network.relative_imbalance() for network in networks]
    distances = [distance(from_factors(network), rgrad) for network in networks]
    numbers = {
        "balanced, to the metric": distance(from_factors(net), rgrad),
        "unbalanced, to the metric": distances[0],
        "unbalanced, to their own operator": distance(from_factors(uneven), own),
        "rebalanced, to the metric": distance(from_factors(uneven.rebalanced(rank)), rgrad),
        "power of the imbalance": np.log(distances[-2] / distances[-1]) / np.log(imbalances[-2] / imbalances[-1]),
    }
    print(f"{name}, depth {depth}, rank {rank}: relative distance of the gradient from the factors")
    print("\n".join(f"{key:34} {value:.3g}" for key, value in numbers.items()))
    if out is not None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.loglog(imbalances, distances, "o-", color="#0072b2")
        axes.set(xlabel="relative imbalance of the factors", ylabel="distance to the metric's gradient")
        Path(out).mkdir(parents=True, exist_ok=True)
        figure.savefig(Path(out) / "imbalance.png", dpi=150)
    return numbers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small data set")
    parser.add_argument("--out", metavar="DIR", help="write imbalance.png there")
    main(**vars(parser.parse_args()))

"""Low-rank adaptation of a trained layer: factors of a few starts, and preconditioned by ScaledGD, on the same update.

A linear layer W_0 is trained on handwritten digits. Then the images are mirrored, and W_0 is frozen: a product B A of rank 4
is trained beside it. The best update of that rank is known, because the loss of the update is a square one again. Every start
is followed by the gradient flow of its factors for the same time; ScaledGD moves the product itself. Needs scikit-learn.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import lowrankflow as lrf
from lowrankflow import losses

RANK, T_END, SCALE, DECAY = 4, 40.0, 0.3, 1e-2
STARTS = ("zero-b", "zero-a", "orthogonal", "balanced", "spectral")


def digits(mirrored, quick):
    """Return the mean square loss of a linear layer on the images, of unit mean square, and on the ten classes."""
    images, labels = load_digits(return_X_y=True)
    images, labels = (images[:400], labels[:400]) if quick else (images, labels)
    pixels = images.reshape(-1, 8, 8)[:, :, :: -1 if mirrored else 1].reshape(len(images), 64)
    pixels = pixels / np.sqrt(np.mean(images**2))
    # a row of inputs and a zero target each: a little weight decay, without which pixels that are always black are free
    inputs = np.hstack([pixels.T, np.sqrt(DECAY * len(images)) * np.eye(64)])
    targets = np.hstack([np.eye(10)[:, labels], np.zeros((10, 64))])
    return losses.LeastSquares(inputs, targets, reduction="mean")


def adapted(loss, network):
    """Return the gradient flow of the factors."""
    path = lrf.integrate(lrf.FactorFlow(loss), network, t_span=(0, T_END), rtol=1e-6, method="auto")
    path.raise_if_failed()
    return path


def main(quick=False):
    first = digits(mirrored=False, quick=quick)
    layer = lrf.LinearNetwork.orthogonal(first.shape, 2, widths=10, scale=0.01, rng=0)
    trained = adapted(first, layer)
    w0 = trained.points[-1].to_dense()
    loss = losses.Shifted(digits(mirrored=True, quick=quick), w0)
    before, best, full = loss.value(np.zeros(loss.shape)), loss.best_value(RANK), loss.best_value(10)
    pull = -(loss.gradient(np.zeros(loss.shape)) @ np.eye(64))

    def missing(value):
        return float((value - best) / (before - best))

    courses = {}
    for init in STARTS:
        of = {"of": pull} if init == "spectral" else {}
        scale = 0.1 if init in ("spectral", "balanced") else SCALE
        network = lrf.LinearNetwork.lora(loss.shape, RANK, init=init, scale=scale, rng=0, **of)
        path = adapted(loss, network)
        drift = max(float(np.abs(a - b).max()) for a, b in zip(network.imbalances(), path.points[-1].imbalances(), strict=True))
        courses[init] = {"start": missing(path.loss[0]), "end": missing(path.loss[-1]), "drift": drift}
    spectral = lrf.LinearNetwork.lora(loss.shape, RANK, init="spectral", scale=0.1, of=pull).to_low_rank()
    scaled = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.metrics.ScaledGDMetric()), spectral, t_span=(0, T_END), rtol=1e-6, method="auto"
    )
    scaled.raise_if_failed()
    courses["ScaledGD"] = {"start": missing(scaled.loss[0]), "end": missing(scaled.loss[-1]), "drift": None}

    print(f"loss of the digits: {trained.loss[0]:.4f} before and {trained.loss[-1]:.4f} after training the layer W_0")
    print(f"loss of the mirrored digits: {before:.4f} frozen, {best:.4f} with the best update of rank {RANK}, {full:.4f} of any")
    print(f"missing of what rank {RANK} can gain, before and after t = {T_END:g}; drift of the imbalance")
    for name, course in courses.items():
        drift = "" if course["drift"] is None else f"{course['drift']:10.1e}"
        print(f"{name:12} {course['start']:8.3f} {course['end']:10.2e} {drift}")
    held = {name: float(np.linalg.norm(w)) for name, w in (("W_0", w0), ("update", loss.minimiser(RANK).to_dense()))}
    return {
        "trained": float(trained.loss[-1]), "before": before, "best": best, "full": full, "norms": held, "courses": courses,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="400 images instead of 1797")
    main(**vars(parser.parse_args()))

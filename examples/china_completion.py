"""A photograph from a fifth of its pixels: completion by the depth-3 flow, stopped early or not.

The grey values of china.jpg are a 427 x 640 matrix of full rank; 20 % of its pixels are seen. The flow starts from random
frames and tiny singular values, and finds one singular direction after the other. Rank and stopping time are chosen on
a tenth of the seen pixels, held out; then the flow runs on all the seen ones, to that time and to the end. A small rank
can run to the end; a larger one fits the seen pixels alone from some time on, and stopping matters. The errors are
those of the pixels never seen, next to three others: the mean, the truncated SVD of the seen pixels (zeros
elsewhere, divided by the share seen; its rank chosen on the same held-out pixels), and the best approximation of the
whole photograph at the same rank, a floor that no method reaches that sees a fifth.
"""

import argparse
from pathlib import Path

import numpy as np

import lowrankflow as lrf
from lowrankflow import data

DEPTH, RTOL, METHOD, SEEN, HELD_OUT, START = 3, 1e-4, "RKC", 0.2, 0.1, 1e-3
UNITS = 2000  # the end, in units of 1 / (the fastest rate at the photograph's largest singular value)
BLUE, INK, ORANGE, MUTED = "#0072b2", "#1f2328", "#d55e00", "#59636e"


def photograph(quick):
    """Return grey values 0 .. 255; the quick one is every fourth pixel."""
    try:
        from sklearn.datasets import load_sample_image

        grey = load_sample_image("china.jpg").mean(axis=2)
    except ImportError:  # scikit-learn, or Pillow
        raise SystemExit('china.jpg needs scikit-learn and Pillow. Run: pip install ".[data]"') from None
    return grey[::4, ::4] if quick else grey


def truncated(a, rank):
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def rescaled_svd(image, mask, rank):
    """Return the truncated SVD of the seen pixels about their mean, zeros elsewhere, divided by the share seen."""
    mean = image[mask].mean()
    return mean + truncated(np.where(mask, image - mean, 0), rank) / mask.mean()


def rms(a, image, mask):
    """Return the root mean square error on the pixels of the mask, in grey levels."""
    return float(np.sqrt(np.mean((a - image)[mask] ** 2)))


def flow(image, mask, rank, units):
    """Run the flow on the pixels of the mask; return the times, in units, the images at them, and the trajectory."""
    rows, cols = np.nonzero(mask)
    seen, preparation = data.prepare_observed(data.Observations("china", rows, cols, image[mask], image.shape))
    loss = lrf.losses.Completion(seen.rows, seen.cols, seen.values, seen.shape, reduction="mean")
    largest = np.linalg.norm(loss.gradient(np.zeros(image.shape)).toarray() * image.size, 2)  # of the rescaled SVD
    # on spread-out matrices the mean over the seen pixels is that over all: curvature 1 / (m n), whatever was seen
    unit = image.size / (DEPTH * largest ** (2 - 2 / DEPTH))
    s = np.full(rank, START * largest)
    start = lrf.random_point(*image.shape, rank, rng=1, singular_values=s)
    path = lrf.integrate(
        lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), start, t_span=(0, unit * units[-1]), rtol=RTOL,
        method=METHOD, save=lrf.Save(times=unit * units, exact=True),
    )  # fmt: skip
    path.raise_if_failed()
    return [preparation.mean + preparation.rms * w.to_dense() for w in path.points[1:]], path


def main(quick=False, out=None):
    image = photograph(quick)
    ranks, end = ((2, 4), UNITS // 4) if quick else ((2, 5, 10, 20), UNITS)
    rng = np.random.default_rng(0)
    seen = rng.random(image.shape) < SEEN
    held_out = seen & (rng.random(image.shape) < HELD_OUT)
    unseen, units = ~seen, end * np.geomspace(1 / 300, 1, 50)

    runs = {rank: flow(image, seen & ~held_out, rank, units) for rank in ranks}
    curves = {rank: [rms(a, image, held_out) for a in images] for rank, (images, _) in runs.items()}
    rank = min(ranks, key=lambda r: min(curves[r]))
    svd_rank = min(range(1, 11), key=lambda r: rms(rescaled_svd(image, seen & ~held_out, r), image, held_out))

    images, path = flow(image, seen, rank, units)
    stop = int(np.argmin(curves[rank]))
    pictures = {
        "flow, stopped": images[stop],
        "flow, to the end": images[-1],
        "mean": np.full(image.shape, image[seen].mean()),
        "rescaled SVD": rescaled_svd(image, seen, svd_rank),
        "floor": truncated(image, rank),
    }
    size = np.sqrt(np.mean(image[unseen] ** 2))
    numbers = {
        "seen": float(seen.mean()),
        "rank": rank,
        "rank of the rescaled SVD": svd_rank,
        "stopped at": units[stop],
        "end": units[-1],
        "evaluations": path.nfev,
        "rms": {name: rms(a, image, unseen) for name, a in pictures.items()},
        "relative": {name: rms(a, image, unseen) / size for name, a in pictures.items()},
        "rms by rank": {r: [rms(runs[r][0][i], image, unseen) for i in (int(np.argmin(curves[r])), -1)] for r in ranks},
    }
    report(numbers, image.shape)
    error = numbers["rms"]
    assert error["floor"] < error["flow, stopped"] < error["rescaled SVD"] < error["mean"]
    if out is not None:
        draw(Path(out), image, seen, pictures, {r: (units, curve) for r, curve in curves.items()}, numbers)
    return numbers


def report(numbers, shape):
    m, n = shape
    print(f"china.jpg, {m} x {n}, {100 * numbers['seen']:.1f} % seen; depth {DEPTH}, rank {numbers['rank']}")
    print(f"stopped at {numbers['stopped at']:.4g} of {numbers['end']:g} units, {numbers['evaluations']} gradients")
    print(f"{'error on the pixels never seen':32} {'grey levels':>12} {'relative':>9}")
    for name, value in numbers["rms"].items():
        name += {"rescaled SVD": f", rank {numbers['rank of the rescaled SVD']}"}.get(name, "")
        print(f"{name:32} {value:12.2f} {numbers['relative'][name.split(', rank')[0]]:9.4f}")
    print("without the held-out pixels, by rank: grey levels where they say stop, and at the end")
    for rank, (stopped, end) in numbers["rms by rank"].items():
        print(f"{rank:32} {stopped:12.2f} {end:9.2f}")


def draw(folder, image, seen, pictures, curves, numbers):
    """Write china_completion.png: seen, recovered, original; two errors, and the error on held-out pixels over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 6.2), layout="constrained")
    top, bottom = figure.subplots(2, 3)
    best, svd = pictures["flow, stopped"], pictures["rescaled SVD"]
    flow_name, svd_name = f"flow, rank {numbers['rank']}", f"SVD, rank {numbers['rank of the rescaled SVD']}"
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}
    top[0].imshow(np.where(seen, image, 0), **grey)
    top[0].set_title(f"seen: {100 * numbers['seen']:.0f} % of the pixels")
    top[1].imshow(best, **grey)
    top[1].set_title(f"recovered: {flow_name}, stopped at {numbers['stopped at']:.0f}")
    top[2].imshow(image, **grey)
    top[2].set_title("original")
    for axes, a, name in ((bottom[0], best, flow_name), (bottom[1], svd, svd_name)):
        error = axes.imshow(np.abs(a - image), cmap="magma", vmin=0, vmax=128, interpolation="nearest")
        axes.set_title(f"error, {name}: RMS {rms(a, image, ~seen):.1f} unseen")
    figure.colorbar(error, ax=bottom[:2], label="grey levels", location="bottom", shrink=0.5, aspect=40)
    for axes in (*top, *bottom[:2]):
        axes.set_axis_off()
    colours = (MUTED, BLUE, ORANGE, INK)
    for (rank, (units, curve)), colour in zip(curves.items(), colours, strict=False):
        bottom[2].semilogx(units, curve, color=colour, lw=1.8, label=f"rank {rank}")
        k = int(np.argmin(curve))
        bottom[2].plot(units[k], curve[k], "o", color=colour)
    bottom[2].set(xlabel="time [units]", ylabel="grey levels", title="RMS error on the held-out pixels")
    bottom[2].legend(frameon=False)
    bottom[2].spines[["top", "right"]].set_visible(False)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "china_completion.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every fourth pixel, fewer ranks, an earlier end")
    parser.add_argument("--out", metavar="DIR", help="write china_completion.png there")
    main(**vars(parser.parse_args()))

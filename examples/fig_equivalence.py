"""The README's first figure: two flows and gradient descent, one trajectory.

A network of three 61 x 61 layers learns to reproduce images of handwritten digits, from balanced factors of rank 10.
Left, the singular values of W = W_3 W_2 W_1 along the Riemannian flow, along the flow of the factors, and along
gradient descent with a quarter of the largest stable step; right, how far they are apart.

    python examples/fig_equivalence.py --out docs
"""

import argparse
from pathlib import Path

import numpy as np

import lowrankflow as lrf

DEPTH, RTOL = 3, 1e-8
BLUE, INK, ORANGE, MUTED = "#0072b2", "#1f2328", "#d55e00", "#59636e"  # told apart with any colour vision


def gaps(a, b):
    """Return the relative Frobenius distances of two trajectories kept at the same times."""
    pairs = zip(a.points, b.points, strict=True)
    return np.array([np.linalg.norm(v.to_dense() - w.to_dense()) / w.norm() for v, w in pairs])


def main(quick=False, out=None):
    name, rank, units = ("iris", 2, 60) if quick else ("digits", 10, 230)
    problem = lrf.Problem(data=name, rank=rank, scale=0.01, depth=DEPTH).build()
    loss, start = problem.loss, problem.start
    m, n = loss.shape
    net = lrf.LinearNetwork.balanced(start, DEPTH, widths=n, rng=problem.rng)
    h = lrf.natural_time_unit(loss, start, DEPTH) / 2  # a quarter of what is stable at the minimiser
    steps = 2 * units

    def flows(rtol):
        save = lrf.Save(times=h * np.arange(2, steps + 1, 2), exact=True)
        options = {"t_span": (0, h * steps), "rtol": rtol, "method": "DOP853", "save": save}
        riemannian = lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(DEPTH)), start, **options)
        return riemannian, lrf.integrate(lrf.FactorFlow(loss), net, **options)

    paths, references = flows(RTOL), flows(RTOL / 100)
    errors = [gaps(path, reference).max() for path, reference in zip(paths, references, strict=True)]
    roundoff = 100 * np.finfo(float).eps * max(path.nfev for path in references) ** 0.5
    descents = [lrf.gradient_descent(loss, net, step_size=h / k, steps=k * steps, keep_every=2 * k) for k in (1, 2)]
    between, coarse, fine = (gaps(path, paths[0]) for path in (paths[1], *descents))
    numbers = {
        "gap between the flows": between.max(),
        "bound 3 (e_a + e_b) + roundoff": 3 * sum(errors) + roundoff,
        "gap of descent, step h": coarse.max(),
        "gap of descent, step h / 2": fine.max(),
        "order of descent": np.log2(coarse.max() / fine.max()),
    }
    print(f"{name}: {problem.about['description']}\nnetwork {'-'.join(map(str, (n, *net.widths, m)))}, rank {rank}, h = {h:.3g}")
    print("\n".join(f"{key:32} {value:.3g}" for key, value in numbers.items()))
    if out is not None:
        draw(Path(out), [*paths, descents[0]], [between, coarse, fine], numbers["bound 3 (e_a + e_b) + roundoff"], h)
    return numbers


def draw(folder, paths, curves, bound, h):
    """Write equivalence.png: singular values on the left, distances on the right."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    looks = [
        {"color": BLUE, "lw": 2.2, "label": "Riemannian flow"},
        {"color": INK, "ls": "none", "marker": "o", "mfc": "none", "ms": 6, "label": "factor flow"},
        {"color": ORANGE, "ls": "none", "marker": "x", "ms": 5, "mew": 1.4, "label": "gradient descent, step $h$"},
    ]
    style = {"font.size": 10.5, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#b4bbc3"}
    title = {"loc": "left", "weight": "bold", "size": 11.5, "pad": 30}
    with rc_context(style):
        figure = Figure(figsize=(9.6, 4.1), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06, wspace=0.03)
        left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
        updates, rank = paths[0].t / h, paths[0].singular_values.shape[1]
        for side, (path, look) in enumerate(zip(paths, looks, strict=True)):
            for s in path.singular_values[:, :rank].T:
                shown = (s > 0.03) & (s < 0.98) if side else s > 0  # marks would only crowd where nothing moves
                left.plot(updates[shown], s[shown], markevery=((side - 1) * 0.035, 0.07), **look)
                look.pop("label", None)
        left.set_title("Singular values of $W = W_3 W_2 W_1$", **title)
        legend = left.legend(
            handlelength=1.4, loc="lower left", bbox_to_anchor=(-0.03, 0.99), ncols=3, frameon=False, columnspacing=1.1
        )
        legend.set_in_layout(False)
        right.set_title("Distance from the Riemannian flow", **title)
        right.text(0, 1.055, "relative, Frobenius norm", transform=right.transAxes)
        for curve, look in zip(curves, ({"color": INK}, {"color": ORANGE}, {"color": ORANGE, "ls": "--"}), strict=True):
            right.semilogy(updates[1:], curve[1:], lw=1.8, **look)
        right.axhline(bound, color=MUTED, ls=":", lw=1.8)
        middle = updates[-1] / 2
        for x, y, text, color in (
            (middle, 6 * curves[1][-60:].max(), "gradient descent, step $h$", ORANGE),
            (middle, 0.1 * curves[2][-60:].min(), "step $h/2$: half as far", ORANGE),
            (middle, 2 * bound, "bound: 3 × error of the solvers", MUTED),
            (middle, 6 * np.median(curves[0]), "factor flow", INK),
        ):
            right.text(x, y, text, color=color, ha="center")
        right.set_ylim(1e-16, 2)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color="#e3e6ea", lw=0.8)
            axes.set_axisbelow(True)
            axes.set_xlim(0, updates[-1])
            axes.set_xlabel("time $t / h$ = updates of gradient descent")
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / "equivalence.png", dpi=150, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small data set")
    parser.add_argument("--out", metavar="DIR", help="write equivalence.png there")
    main(**vars(parser.parse_args()))

"""`diagnose`: what a trained network is like, as a doctor would write it: findings first, numbers behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import linalg

from .. import columns, validation
from ..gradients import raw_factor_gradients, squared_norm
from ..landscape import Place, escape, learning_coefficient, width_condition
from ..landscape.places import NON_STRICT, STRICT
from ..losses import Loss, facts
from ..losses.requirements import require_loss
from ..matrices import EPS, AffineNetwork, LinearNetwork, singular_values
from ..matrices.requirements import require_network
from ..report import Cell, Report, Table
from .patients import AffinePatient, Patient, patient, require_defined
from .places import sentences

__all__ = ["diagnose"]

_TITLE = "What is this network like?"
_LEAD = (
    "A network of linear layers is a matrix W = W_N ... W_1 and a way to it. What training does next depends on both: on the"
    " balance of neighbouring layers, on the ranks, on the critical point nearby, and on the step. Findings first, the numbers"
    " behind them below."
)
_BALANCED = 1e-6  # relative imbalance of factors that were balanced but for roundoff of single precision
_SHOWN = 12  # modes in the table
_SMALL = 400  # entries of W up to which the kernel's eigenvalues are told
_LAZY = 0.1  # of the norm of the kernel: a move that is called small
_ALIGNED = 0.99


def diagnose(
    network: LinearNetwork | AffineNetwork,
    loss: Loss,
    *,
    initial: LinearNetwork | AffineNetwork | None = None,
    step_size: float | None = None,
    rng: validation.Rng = 0,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    """Say what a network is like: its rank and balance, where in the landscape it is, and what training would do next.

    Parameters
    ----------
    network : LinearNetwork or AffineNetwork, (m, n)
        Of two factors at least, trained anywhere.
    loss : Loss
        What it was trained for, in its own normalisation; of a network with biases on inputs with a constant appended,
        `losses.with_constant`, (m, n + 1). Modes and landscape are then those of the weights on centred data, where it is the
        square loss and the last layer has a bias.
    initial : LinearNetwork or AffineNetwork, optional
        The network that training began with, of the same widths: then what has moved since, and what should not have, is told.
    step_size : float, optional
        The step of its training, in units of flow time: then the sharpness is compared with 2 / step.
    rng : int or numpy.random.Generator, optional
        For the Hessian's eigenvectors, where the place is judged by those.
    about : mapping, optional
        What the report should say of the data, JSON-ready.
    progress : callable, optional
        ``progress(stage, fraction)``.

    Returns
    -------
    Report
        ``report.headline`` is the letter, a finding a line; ``report.tables`` hold the numbers: "chain", "joints", "modes" of the
        square loss, "kernel", "training", "theorems". Nothing is claimed: `verify_equivalence` and `place_report` do.

    Raises
    ------
    ValueError, TypeError
        If the network has a single factor or another shape than the loss, or an argument breaks its rule.

    Examples
    --------
    >>> import lowrankflow as lrf
    >>> loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> net = lrf.LinearNetwork.balanced(loss.minimiser(2), 3)
    >>> print(diagnose(net, loss).headline.splitlines()[1])
    W has rank 2 (effective rank 1.96 of 2), singular values 3 to 2.
    """
    require_loss(loss)
    affine = isinstance(network, AffineNetwork)
    if not affine:
        require_network("network", network)
    if network.depth < 2:
        raise ValueError("`network` must have two factors at least, got one. Its product is all there is to it.")
    require_defined("network", network, loss)
    if initial is not None:
        if not isinstance(initial, AffineNetwork):
            require_network("initial", initial)
        if affine != isinstance(initial, AffineNetwork) or _layout(initial) != _layout(network):
            raise ValueError(
                f"`initial` must have the widths of the network, got {_layout(initial)} instead of {_layout(network)}."
            )
    _require_numbers("network", network, loss)
    if initial is not None:
        _require_numbers("initial", initial, loss)
    if step_size is not None:
        step_size = validation.require_number("step_size", step_size)
    validation.require_callable("progress", progress)
    tell = progress or (lambda stage, fraction: None)
    it = patient(network, loss, initial, step_size, int(validation.as_rng(rng).integers(2**63)))
    report = Report("diagnosis", _problem(it, about), title=_TITLE, lead=_LEAD)
    letter: list[str] = []
    parts = (_of_ranks, _of_balance, _of_modes, _of_landscape, _of_kernel, _of_training, _of_theorems)
    for i, part in enumerate(parts):
        tell(part.__name__.removeprefix("_of_"), i / len(parts))
        found, tables = part(it)
        letter += found
        report.tables += tables
    report.headline = "\n".join(dict.fromkeys("\n".join(letter).splitlines()))  # two places may share a note
    if it.place is not None:
        report.attachments["place"] = it.place
    tell("done", 1.0)
    return report


def _require_numbers(name: str, given: LinearNetwork | AffineNetwork, loss: Loss) -> None:
    """Refuse a network of which the square of the velocity that its factors give W is beyond the numbers."""
    net = given.augmented if isinstance(given, AffineNetwork) else given
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.max([squared_norm([f]) for f in net.factors])
        sizes = largest ** (2 * net.depth), squared_norm(raw_factor_gradients(loss, net)) * largest**net.depth
    if not np.isfinite(sizes).all():
        raise ValueError(
            f"`{name}` must be of a size that can be squared, got one that has diverged. Take an earlier one."
        )


Found = tuple[list[str], list[Table]]


def _chain(net: LinearNetwork | AffineNetwork) -> str:
    return " -> ".join(map(str, (net.shape[1], *net.widths, net.shape[0])))


def _layout(net: LinearNetwork | AffineNetwork) -> str:
    """Return the widths, and which layers have biases."""
    biases = [j for j, b in enumerate(net.biases, 1) if b is not None] if isinstance(net, AffineNetwork) else []
    which = f" with biases in {'all layers' if len(biases) == net.depth else 'layers ' + ', '.join(map(str, biases))}"
    return _chain(net) + (which if biases else "")


def _problem(it: Patient, about: Mapping[str, Any] | None) -> dict[str, Any]:
    net = it.given
    return {
        "data": dict(about or {}), "loss": facts(it.whole).normalisation, "shape": list(net.shape), "depth": net.depth,
        "widths": list(net.widths), "step": it.step,
        **({"biases": repr(net)} if isinstance(net, AffineNetwork) else {}),
    }  # fmt: skip


def _effective_rank(it: Patient, w: LinearNetwork) -> float:
    return float(columns.named(["effective_rank"], it.whole)["effective_rank"](0.0, w))


def _of_ranks(it: Patient) -> Found:
    """Chain, norms and ranks."""
    net, s = it.network, it.s
    parameters = sum(a.size for a in it.arrays())
    most = min(net.shape[0], net.shape[1], *net.widths)
    found = [f"{net.depth} layers, {_layout(it.given)}, {parameters} parameters; loss {it.value:.6g}."]
    if it.rank:
        found.append(
            f"W has rank {it.rank} (effective rank {_effective_rank(it, net):.3g} of {most}), singular values {s[0]:.4g} to"
            f" {s[it.rank - 1]:.4g}."
        )
    else:
        found.append("W is zero.")
    rows: list[tuple[Cell, ...]] = []
    for j, (f, values) in enumerate(zip(net.factors, it.factor_values, strict=True), 1):
        total = float((values**2).sum())
        stable = total / float(values[0]) ** 2 if values[0] > 0 else 0.0
        rank = int((values > values[0] * max(f.shape) * EPS).sum()) if values[0] > 0 else 0
        rows.append((f"W_{j}", f"{f.shape[0]} x {f.shape[1]}", math.sqrt(total), float(values[0]), rank, stable))
    caption = "From the input on. Stable rank: the squared Frobenius norm over the squared spectral norm."
    heads: tuple[str, ...] = ("layer", "shape", "Frobenius norm", "spectral norm", "rank", "stable rank")
    if isinstance(it, AffinePatient):
        found.insert(
            1,
            f"It is f(x) = W x + b, ||b|| = {float(linalg.norm(it.affine.offset)):.4g}, on inputs with a constant appended.",
        )
        norms = (None if b is None else float(linalg.norm(b)) for b in it.affine.biases)
        heads += ("norm of the bias",)
        rows = [(*row, norm) for row, norm in zip(rows, norms, strict=True)]
    return found, [Table("chain", "The layers", caption, heads, tuple(rows))]


def _of_balance(it: Patient) -> Found:
    """Imbalance and alignment at every joint, and what they mean for the theorem."""
    alignment = columns.named(["layer_alignment"], it.whole)["layer_alignment"](0.0, it.network)
    rows: list[tuple[Cell, ...]] = []
    for j, ((d, scale), aligned) in enumerate(zip(it.joints, alignment, strict=True), 1):
        relative = float(np.abs(d).max()) / scale if scale > 0 else 0.0
        rows.append((f"W_{j + 1} on W_{j}", relative, float(d[0]), float(d[-1]), float(aligned)))
    worst = int(np.argmax([row[1] for row in rows])) + 1  # type: ignore[arg-type]
    caption = (
        "Imbalance D_j = W_{j+1}^T W_{j+1} - W_j W_j^T, which the gradient flow conserves: its largest eigenvalue in absolute"
        " value over the larger squared norm beside it, and its extreme eigenvalues. Alignment: ||W_{j+1} W_j|| over the product"
        " of the norms, 1 where top singular vectors meet."
    )
    if isinstance(it, AffinePatient):
        caption = caption.replace("W_j W_j^T,", "W_j W_j^T - b_j b_j^T,")
        state = "" if it.imbalance <= _BALANCED else "not "
        found = [
            f"With the bias term the layers are {state}balanced (relative imbalance {it.imbalance:.2g}); the theorem of the"
            " depth-N flow is of chains without biases."
        ]
    elif it.imbalance <= _BALANCED:
        flow = f"training is the depth-{it.network.depth} flow of W"
        found = [f"The layers are balanced (relative imbalance {it.imbalance:.2g}): {flow}."]
    else:
        gap, between = it.operator_gap, f"largest between W_{worst} and W_{worst + 1}"
        far = "" if math.isnan(gap) else f"; the theorem's metric misses the velocity of W by {gap:.2g} of it"
        found = [f"The layers are not balanced: relative imbalance {it.imbalance:.2g}, {between}{far}."]
    least = float(np.min(alignment))
    zero = [j for j, s in enumerate(it.factor_values, 1) if not s[0] > 0]
    if zero:
        found.append(f"W_{zero[0]} is zero, so that nothing can be aligned with it.")
    elif least >= _ALIGNED:
        found.append(f"Neighbouring layers are aligned (at least {least:.4f}).")
    else:
        at = int(np.argmin(alignment)) + 1
        found.append(f"W_{at} and W_{at + 1} are not aligned: {least:.3f} of 1.")
    heads = ("joint", "relative imbalance", "least eigenvalue", "largest eigenvalue", "alignment")
    return found, [Table("joints", "Between the layers", caption, heads, tuple(rows))]


def _of_modes(it: Patient) -> Found:
    """What has been learned of the targets, for the square loss."""
    if it.loss is None:
        return [f"Modes are not told: {it.why_not}."], []
    said = facts(it.loss)
    if said.spectrum is None or said.whiten is None:
        return [], []
    measure = columns.named(["mode_strengths", "mode_alignment"], it.loss)
    strengths, alignment = (np.asarray(measure[name](0.0, it.network)) for name in measure)
    sigma = said.spectrum.sigma
    known = sigma > sigma[0] * EPS * max(it.network.shape) if sigma[0] > 0 else np.zeros(sigma.size, bool)
    share = strengths[known] / sigma[known]
    most = min(it.network.shape[0], it.network.shape[1], *it.network.widths)
    learned = int((share > 0.5).sum())
    count = int(known.sum())
    centred = "centred " if isinstance(it, AffinePatient) else ""
    found = [
        f"Of {count} modes of the {centred}targets it has learned {learned}; a minimiser of its widths has {min(most, count)}."
    ]
    rows = [
        (
            i + 1,
            float(sigma[i]),
            float(strengths[i]),
            float(share[i]),
            float(alignment[i]) if i < min(alignment.size, it.rank) else None,
        )
        for i in range(min(_SHOWN, count))
    ]
    caption = (
        "Singular values sigma_i of the whitened targets; u_i^T B v_i of the whitened W; their quotient, 1 at a"
        " minimiser, above a half where the mode counts as learned; and the alignment of the i-th singular pairs of both."
    )
    heads = ("mode", "sigma", "strength", "share", "alignment")
    return found, [Table("modes", "The modes of the targets", caption, heads, tuple(rows))]


def _of_landscape(it: Patient) -> Found:
    """Where it is, and how it would leave."""
    here = it.place
    if here is None or it.loss is None:
        return [f"Its place in the landscape is not told: {it.why_not}."], []
    found = sentences(here)
    if isinstance(it, AffinePatient):
        found.insert(
            0,
            f"Were its last bias the best for its weights, the loss would be {it.excess:.3g} lower; critical points are then"
            " those of the weights alone on centred data, of the same kinds:",
        )
    saddle, at = (here, it.network) if here.nearby is None else (here.nearby, here.nearby.network)
    if saddle.exact and saddle.kind in (STRICT, NON_STRICT) and at is not None:
        found.append(_way_out(at, it.loss, saddle))
    return found + _learned(it), []


def _learned(it: Patient) -> list[str]:
    """Say what the learning coefficient would be, for the square loss: others need not tell one W from another."""
    assert it.loss is not None
    said = facts(it.loss)
    if said.spectrum is None or said.whiten is None:
        return []
    # W is seen on the range of the inputs alone: a chain that begins there, whose first layer has that many columns
    seen = said.spectrum.eigenvalues.size
    s = singular_values(said.whiten(it.network))
    rank = int((s > s[0] * max(it.network.shape) * EPS).sum()) if s.size and s[0] > 0 else 0
    coefficient = learning_coefficient((seen, *it.network.widths, it.network.shape[0]), rank)
    half = sum(a.size for a in it.arrays()) / 2
    # L = L_c + p/2 ||r||^2 in coordinates of their own, see AffinePatient: half for each entry of r, none for hidden biases
    value = float(coefficient.value) + (it.network.shape[0] / 2 if isinstance(it, AffinePatient) else 0.0)
    inputs = "" if seen == it.network.shape[1] else f" on inputs of rank {seen}"
    return [
        f"Were the truth of rank {rank}{inputs}, its learning coefficient would be {value:g}, where a regular"
        f" model of as many parameters has {half:g}."
    ]


def _way_out(network: LinearNetwork, loss: Loss, saddle: Place) -> str:
    """Say along which line a saddle would be left."""
    try:
        out = escape(network, loss, place=saddle)  # type: ignore[arg-type]
    except ValueError:  # its documented case
        return "Curves leave that saddle, and no line that was found."
    way = "a direction of negative curvature" if saddle.kind == STRICT else f"a direction of order {out.order}"
    return f"It would leave that saddle along {way}: L falls by {out.descent:.3g} t^{out.order}."


def _of_kernel(it: Patient) -> Found:
    """The neural tangent kernel, and how far it is from that of the start."""
    kernel = it.kernel()
    size = kernel.shape[0] * kernel.shape[1]
    trace, norm = kernel.trace(), kernel.norm()
    alike = (trace / norm) ** 2 if norm > 0 else 0.0
    rows: list[tuple[Cell, ...]] = [
        ("trace", trace, "sum of the eigenvalues"),
        ("alike", alike, f"(tr K)^2 / ||K||^2: as if so many of the {size} eigenvalues were equal and the others zero"),
    ]
    if size <= _SMALL:
        values = kernel.eigenvalues()
        rows += [("largest", float(values[0]), "eigenvalue"), ("least", float(max(values[-1], 0.0)), "eigenvalue")]
    found = [f"The tangent kernel has the spread of {alike:.3g} equal eigenvalues of {size}."]
    if it.initial is not None:
        first = it.kernel(it.initial)
        moved, cosine = kernel.distance(first), kernel.alignment(first)
        rows += [
            ("moved", moved, "distance from the kernel of the start, over its norm"),
            ("alignment", cosine, "cosine of both kernels"),
        ]
        kind = f": {'lazy' if moved < _LAZY else 'rich'} training" if norm > 0 else ""
        found[0] = f"{found[0][:-1]}; since the start it has moved by {moved:.3g} of its norm{kind}."
    moved_by = "[W b]'" if isinstance(it, AffinePatient) else "W'"
    caption = f"K(Z), by which {moved_by} = -K(grad L), whatever the loss."
    return found, [Table("kernel", "The tangent kernel", caption, ("number", "value", "what it is"), tuple(rows))]


def _of_training(it: Patient) -> Found:
    """Sharpness against the step; what has moved since the start, and what should not have."""
    rows: list[tuple[Cell, ...]] = [("sharpness", it.edge, "largest eigenvalue of the Hessian in all that is trained")]
    edge = 2 / it.edge if it.edge > 0 else math.inf
    found = [f"Sharpness {it.edge:.4g}: descent is linearly stable with steps below {edge:.4g}."]
    rows.append(("2 / sharpness", edge, "the edge of stability"))
    if it.step is not None:
        share = it.step / edge
        verdict = "below it" if share < 0.95 else "at it" if share < 1.05 else "beyond it"
        found[-1] = f"{found[-1][:-1]}; its step is {it.step:.4g}, {share:.2f} of that: {verdict}."
        rows.append(("step over it", share, "1 at the edge of stability"))
    bound = it.proved_step
    if bound is not None:
        rows.append(("proved step", bound, "below which convergence from here is proved"))
    if it.initial is not None:
        net, first = it.given, it.initial
        size = math.sqrt(sum(float(np.vdot(a, a)) for a in it.arrays(first)))
        pairs = zip(it.arrays(), it.arrays(first), strict=True)
        moved = math.sqrt(sum(float(np.linalg.norm(a - b)) ** 2 for a, b in pairs))
        drift = max(
            float(linalg.norm(a - b, 2)) / scale if scale > 0 else 0.0
            for a, b, (_, scale) in zip(net.imbalances(), first.imbalances(), it.joints, strict=True)
        )
        what = "weights and biases" if isinstance(it, AffinePatient) else "the factors"
        share = moved / size if size else math.inf if moved else 0.0
        found.append(
            f"Since its start {what} have moved by {share:.3g} of their norm, and the"
            f" imbalances, which the flow conserves, by {drift:.2g}."
        )
        rows += [
            (
                "moved",
                share,
                "distance of the factors from the start, over the norm there",
            ),
            ("drift of the imbalances", drift, "over the larger squared norm beside the joint; 0 along the flow"),
        ]
    caption = "In the units of the loss and of flow time, where there are units."
    return found, [Table("training", "Training", caption, ("number", "value", "what it is"), tuple(rows))]


def _of_theorems(it: Patient) -> Found:
    """Which theorems apply, each with the number that decides."""
    affine, bound, widths = isinstance(it, AffinePatient), it.proved_step, width_condition(it.network)
    said = None if it.loss is None else facts(it.loss)
    spectrum = None if said is None else said.spectrum
    yes = {True: "yes", False: "no", None: "not known"}
    convex = None if said is None or said.convex is None else said.convex and widths.met
    full = spectrum is not None and spectrum.eigenvalues.size == it.network.shape[1]
    rows: list[tuple[Cell, ...]] = [
        (
            "training is the Riemannian gradient flow of W", "Bah, Rauhut, Terstiege, Westdickenberg 2022",
            "balanced layers, no biases, small steps", yes[it.imbalance <= _BALANCED and not affine], it.imbalance,
        ),
        (
            "every critical point is known", "Achour, Malgouyres, Gerchinovitz 2024", "square loss, inputs of full row rank",
            yes[full], None,
        ),
        (
            "no local minimum but the global ones", "Laurent, von Brecht 2018",
            "convex loss, no hidden layer narrower than both ends", yes[convex], widths.margin,
        ),
        (
            "descent from here converges", "Nguegnang, Rauhut, Terstiege 2024", "square loss, a step below the proved one",
            yes[None if bound is None or it.step is None else it.step <= bound] if bound is not None else "no", bound,
        ),
    ]  # fmt: skip
    applying = [str(row[0]) for row in rows if row[3] == "yes"]
    found = (
        [f"Theory says of it: {'; '.join(applying)}."]
        if applying
        else ["None of the theorems in the table is known to apply."]
    )
    caption = (
        "The number that decides: relative imbalance; units to spare in the narrowest hidden layer; the proved step."
    )
    if affine:
        caption += " Of networks with biases: of the weights on centred data, where that decides the same."
    heads = ("theorem", "source", "needs", "applies", "number")
    return found, [Table("theorems", "Which theorems apply", caption, heads, tuple(rows))]

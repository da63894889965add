"""`diagnose`: what a trained network is like, as a doctor would write it: findings first, numbers behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import linalg

from .. import columns, validation
from ..descent import step_bound
from ..geometry import sharpness
from ..gradients import end_to_end_operator, raw_factor_gradients, riemannian_gradient, squared_norm
from ..kernels import tangent_kernel
from ..landscape import Place, classify, escape, learning_coefficient, width_condition
from ..landscape.places import NON_STRICT, STRICT
from ..losses import Loss, facts
from ..losses.requirements import require_loss
from ..matrices import EPS, LinearNetwork, difference, singular_values
from ..matrices.requirements import require_network
from ..metrics import DepthMetric
from ..report import Cell, Report, Table
from ..validation import Array
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
_NEAR = 1.0  # gradient over the size of its terms, beyond which no critical point is near


@dataclass(frozen=True)
class _Patient:
    """A network with what several findings ask of it, each measured once."""

    network: LinearNetwork
    loss: Loss
    initial: LinearNetwork | None
    step: float | None
    seed: int

    @cached_property
    def s(self) -> Array:
        """Singular values of W."""
        return singular_values(self.network)

    @cached_property
    def rank(self) -> int:
        """Singular values above roundoff."""
        return int((self.s > self.s[0] * max(self.network.shape) * EPS).sum()) if self.s[0] > 0 else 0

    @cached_property
    def factor_values(self) -> list[Array]:
        """Singular values of the factors."""
        return [linalg.svdvals(f, check_finite=False) for f in self.network.factors]

    @cached_property
    def joints(self) -> list[tuple[Array, float]]:
        """Of each joint the eigenvalues of D_j, and what it is relative to: the larger of the norms beside it, squared."""
        tops = [float(s[0]) ** 2 for s in self.factor_values]
        scales = [max(a, b) for a, b in pairwise(tops)]
        spectra = [np.asarray(linalg.eigvalsh(d), dtype=np.float64) for d in self.network.imbalances()]
        return list(zip(spectra, scales, strict=True))

    @cached_property
    def imbalance(self) -> float:
        """The largest relative imbalance."""
        return max((float(np.abs(d).max()) / scale if scale > 0 else 0.0 for d, scale in self.joints), default=0.0)

    @cached_property
    def operator_gap(self) -> float:
        """How far the theorem's A_W is from this network's operator, at the gradient, relative; nan where that vanishes."""
        g = self.loss.gradient(self.network)
        own = end_to_end_operator(self.network)(g)
        size = own.norm()
        if not (self.rank and size > 0):
            return math.nan
        w = self.network.to_low_rank(self.rank)
        metric = riemannian_gradient(w, g, DepthMetric(self.network.depth))
        return float(difference(own, metric.at(w)).norm() / size)

    @cached_property
    def place(self) -> Place:
        """The place; the nearest critical point is looked for where there may be one."""
        here = classify(self.network, self.loss, nearby=False, rng=self.seed)
        if here.gradient <= here.threshold or here.gradient > _NEAR:
            return here
        return classify(self.network, self.loss, rng=self.seed)

    @cached_property
    def edge(self) -> float:
        """The largest eigenvalue of the Hessian of the loss of the factors."""
        return sharpness(self.loss, self.network, tol=1e-2)


def diagnose(
    network: LinearNetwork,
    loss: Loss,
    *,
    initial: LinearNetwork | None = None,
    step_size: float | None = None,
    rng: validation.Rng = 0,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    """Say what a network is like: its rank and balance, where in the landscape it is, and what training would do next.

    Parameters
    ----------
    network : LinearNetwork, (m, n)
        Of two factors at least, trained anywhere.
    loss : Loss
        What it was trained for, in its own normalisation.
    initial : LinearNetwork, optional
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
    require_network("network", network)
    if network.depth < 2:
        raise ValueError("`network` must have two factors at least, got one. Its product is all there is to it.")
    validation.require_shape("network", network.shape, loss.shape)
    if initial is not None:
        require_network("initial", initial)
        if [f.shape for f in initial.factors] != [f.shape for f in network.factors]:
            raise ValueError(
                f"`initial` must have the widths of the network, got {_chain(initial)} instead of {_chain(network)}."
            )
    _require_numbers("network", network, loss)
    if initial is not None:
        _require_numbers("initial", initial, loss)
    if step_size is not None:
        step_size = validation.require_number("step_size", step_size)
    validation.require_callable("progress", progress)
    tell = progress or (lambda stage, fraction: None)
    it = _Patient(network, loss, initial, step_size, int(validation.as_rng(rng).integers(2**63)))
    report = Report("diagnosis", _problem(it, about), title=_TITLE, lead=_LEAD)
    letter: list[str] = []
    parts = (_of_ranks, _of_balance, _of_modes, _of_landscape, _of_kernel, _of_training, _of_theorems)
    for i, part in enumerate(parts):
        tell(part.__name__.removeprefix("_of_"), i / len(parts))
        found, tables = part(it)
        letter += found
        report.tables += tables
    report.headline = "\n".join(letter)
    report.attachments["place"] = it.place
    tell("done", 1.0)
    return report


def _require_numbers(name: str, net: LinearNetwork, loss: Loss) -> None:
    """Refuse a network of which the square of the velocity that its factors give W is beyond the numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.max([squared_norm([f]) for f in net.factors])
        sizes = largest ** (2 * net.depth), squared_norm(raw_factor_gradients(loss, net)) * largest**net.depth
    if not np.isfinite(sizes).all():
        raise ValueError(
            f"`{name}` must be of a size that can be squared, got one that has diverged. Take an earlier one."
        )


Found = tuple[list[str], list[Table]]


def _chain(net: LinearNetwork) -> str:
    return " -> ".join(map(str, (net.shape[1], *net.widths, net.shape[0])))


def _problem(it: _Patient, about: Mapping[str, Any] | None) -> dict[str, Any]:
    net = it.network
    return {
        "data": dict(about or {}), "loss": facts(it.loss).normalisation, "shape": list(net.shape), "depth": net.depth,
        "widths": list(net.widths), "step": it.step,
    }  # fmt: skip


def _effective_rank(it: _Patient, w: LinearNetwork) -> float:
    return float(columns.named(["effective_rank"], it.loss)["effective_rank"](0.0, w))


def _of_ranks(it: _Patient) -> Found:
    """Chain, norms and ranks."""
    net, s = it.network, it.s
    parameters = sum(f.size for f in net.factors)
    most = min(net.shape[0], net.shape[1], *net.widths)
    found = [f"{net.depth} layers, {_chain(net)}, {parameters} parameters; loss {it.loss.value(net):.6g}."]
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
    heads = ("layer", "shape", "Frobenius norm", "spectral norm", "rank", "stable rank")
    return found, [Table("chain", "The layers", caption, heads, tuple(rows))]


def _of_balance(it: _Patient) -> Found:
    """Imbalance and alignment at every joint, and what they mean for the theorem."""
    alignment = columns.named(["layer_alignment"], it.loss)["layer_alignment"](0.0, it.network)
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
    if it.imbalance <= _BALANCED:
        flow = f"training is the depth-{it.network.depth} flow of W"
        found = [f"The layers are balanced (relative imbalance {it.imbalance:.2g}): {flow}."]
    else:
        gap, between = it.operator_gap, f"largest between W_{worst} and W_{worst + 1}"
        far = "" if math.isnan(gap) else f"; the theorem's metric misses the velocity of W by {gap:.2g} of it"
        found = [f"The layers are not balanced: relative imbalance {it.imbalance:.2g}, {between}{far}."]
    least = float(np.min(alignment))
    if least >= _ALIGNED:
        found.append(f"Neighbouring layers are aligned (at least {least:.4f}).")
    else:
        at = int(np.argmin(alignment)) + 1
        found.append(f"W_{at} and W_{at + 1} are not aligned: {least:.3f} of 1.")
    heads = ("joint", "relative imbalance", "least eigenvalue", "largest eigenvalue", "alignment")
    return found, [Table("joints", "Between the layers", caption, heads, tuple(rows))]


def _of_modes(it: _Patient) -> Found:
    """What has been learned of the targets, for the square loss."""
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
    found = [
        f"Of {count} modes of the targets it has learned {learned}; a minimiser of its widths has {min(most, count)}."
    ]
    rows = [
        (
            i + 1,
            float(sigma[i]),
            float(strengths[i]),
            float(share[i]),
            float(alignment[i]) if i < alignment.size else None,
        )
        for i in range(min(_SHOWN, count))
    ]
    caption = (
        "Singular values sigma_i of the whitened targets; u_i^T B v_i of the whitened W; their quotient, 1 where the mode is"
        " learned; and the alignment of the i-th singular pairs of both."
    )
    heads = ("mode", "sigma", "strength", "share", "alignment")
    return found, [Table("modes", "The modes of the targets", caption, heads, tuple(rows))]


def _of_landscape(it: _Patient) -> Found:
    """Where it is, and how it would leave."""
    here = it.place
    found = sentences(here)
    saddle, at = (here, it.network) if here.nearby is None else (here.nearby, here.nearby.network)
    if saddle.exact and saddle.kind in (STRICT, NON_STRICT) and at is not None:
        out = escape(at, it.loss, place=saddle)  # type: ignore[arg-type]
        way = "a direction of negative curvature" if saddle.kind == STRICT else f"a direction of order {out.order}"
        found.append(f"It would leave that saddle along {way}: L falls by {out.descent:.3g} t^{out.order}.")
    coefficient = learning_coefficient((it.network.shape[1], *it.network.widths, it.network.shape[0]), it.rank)
    half = sum(f.size for f in it.network.factors) / 2
    found.append(
        f"Were the truth of rank {it.rank}, its learning coefficient would be {float(coefficient.value):g}, where a regular"
        f" model of as many parameters has {half:g}."
    )
    return found, []


def _of_kernel(it: _Patient) -> Found:
    """The neural tangent kernel, and how far it is from that of the start."""
    kernel, size = tangent_kernel(it.network), it.network.shape[0] * it.network.shape[1]
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
        first = tangent_kernel(it.initial)
        moved, cosine = kernel.distance(first), kernel.alignment(first)
        rows += [
            ("moved", moved, "distance from the kernel of the start, over its norm"),
            ("alignment", cosine, "cosine of both kernels"),
        ]
        kind = "lazy" if moved < _LAZY else "rich"
        found[0] = f"{found[0][:-1]}; since the start it has moved by {moved:.3g} of its norm: {kind} training."
    caption = "K(Z), by which W' = -K(grad L), whatever the loss."
    return found, [Table("kernel", "The tangent kernel", caption, ("number", "value", "what it is"), tuple(rows))]


def _of_training(it: _Patient) -> Found:
    """Sharpness against the step; what has moved since the start, and what should not have."""
    rows: list[tuple[Cell, ...]] = [("sharpness", it.edge, "largest eigenvalue of the Hessian of the factors' loss")]
    edge = 2 / it.edge if it.edge > 0 else math.inf
    found = [f"Sharpness {it.edge:.4g}: descent is linearly stable with steps below {edge:.4g}."]
    rows.append(("2 / sharpness", edge, "the edge of stability"))
    if it.step is not None:
        share = it.step / edge
        verdict = "below it" if share < 0.95 else "at it" if share < 1.05 else "beyond it"
        found[-1] = f"{found[-1][:-1]}; its step is {it.step:.4g}, {share:.2f} of that: {verdict}."
        rows.append(("step over it", share, "1 at the edge of stability"))
    bound = _proved_step(it)
    if bound is not None:
        rows.append(("proved step", bound, "below which convergence from here is proved"))
    if it.initial is not None:
        net, first = it.network, it.initial
        size = math.sqrt(sum(float(np.vdot(f, f)) for f in first.factors))
        moved = math.sqrt(
            sum(float(np.linalg.norm(a - b)) ** 2 for a, b in zip(net.factors, first.factors, strict=True))
        )
        drift = max(
            float(linalg.norm(a - b, 2)) / scale if scale > 0 else 0.0
            for a, b, (_, scale) in zip(net.imbalances(), first.imbalances(), it.joints, strict=True)
        )
        found.append(
            f"Since its start the factors have moved by {moved / size if size else math.inf:.3g} of their norm, and the"
            f" imbalances, which the flow conserves, by {drift:.2g}."
        )
        rows += [
            (
                "moved",
                moved / size if size else math.inf,
                "distance of the factors from the start, over the norm there",
            ),
            ("drift of the imbalances", drift, "over the larger squared norm beside the joint; 0 along the flow"),
        ]
    caption = "In the units of the loss and of flow time, where there are units."
    return found, [Table("training", "Training", caption, ("number", "value", "what it is"), tuple(rows))]


def _proved_step(it: _Patient) -> float | None:
    """Return the step of the theorem on gradient descent, None where its assumptions do not hold."""
    try:
        return float(step_bound(it.loss, it.network).step)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return None


def _of_theorems(it: _Patient) -> Found:
    """Which theorems apply, each with the number that decides."""
    said, widths = facts(it.loss), width_condition(it.network)
    square, bound = said.spectrum is not None, _proved_step(it)
    yes = {True: "yes", False: "no", None: "not known"}
    convex = None if said.convex is None else said.convex and widths.met
    full = square and said.spectrum is not None and said.spectrum.eigenvalues.size == it.network.shape[1]
    rows: list[tuple[Cell, ...]] = [
        (
            "training is the Riemannian gradient flow of W", "Bah, Rauhut, Terstiege, Westdickenberg 2022",
            "balanced layers, small steps", yes[it.imbalance <= _BALANCED], it.imbalance,
        ),
        (
            "every critical point is known", "Achour, Malgouyres, Gerchinovitz 2024", "square loss, inputs of full row rank",
            yes[bool(full)], None,
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
        [f"Theory says of it: {'; '.join(applying)}."] if applying else ["None of the theorems in the table applies."]
    )
    caption = (
        "The number that decides: relative imbalance; units to spare in the narrowest hidden layer; the proved step."
    )
    heads = ("theorem", "source", "needs", "applies", "number")
    return found, [Table("theorems", "Which theorems apply", caption, heads, tuple(rows))]

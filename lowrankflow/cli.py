"""The ``lowrankflow`` command: reads arguments, calls, prints. No mathematics."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np

from . import __version__, data, losses, validation
from .compare import (
    CLAIMS,
    Interrupted,
    compare_metrics,
    explain,
    named_metrics,
    natural_time_unit,
    verify_equivalence,
)
from .matrices import LinearNetwork, LowRankMatrix, random_point
from .report import Report

PASSED, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

_EPILOG = """
examples:
  lowrankflow verify --data digits --out report
  lowrankflow verify --data diabetes --depth 5
  lowrankflow verify --inputs X.npy --targets Y.csv --depth 2 --rank 3 --widths 8
  lowrankflow verify --observed ratings.mtx --rank 5
  lowrankflow verify --data digits --preprocess none --factors trained.npz
  lowrankflow verify --explain trajectory

exit status: 0 no claim failed and something was claimed; 1 a claim failed, or nothing could be
claimed; 2 bad usage or bad input; 130 interrupted (what was computed is kept).
"""

_COMPARE_EPILOG = """
metrics, separated by commas:
  embedded          the Frobenius metric of the rank-r matrices
  2, 3, 2.5, inf    depth N, any number above 1; inf is degenerate below full rank
  scaledgd, twofactor, subspace, polar, mn
                    the quotient metrics of the literature
  lambda:0.5        two factors with the imbalance 0.5 times the identity
  kappa:0.1:0.2     three factors with such imbalances; as many factors as numbers, and one
  bures-wasserstein of symmetric positive semidefinite matrices: W(0) is then symmetric

examples:
  lowrankflow compare --data digits --metrics embedded,2,3,inf,scaledgd --out report
  lowrankflow compare --data china --missing 0.8
  lowrankflow compare --inputs X.npy --targets Y.csv --metrics 2,3,5 --rank 3 --clock factors
  lowrankflow compare --observed ratings.mtx --missing 0.1 --metrics embedded,3

A flow ends when its projected gradient is 1e-4 of that at the start, at --t-end, or when its budget is spent.
exit status: as of verify.
"""


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage text before them."""

    def error(self, message: str) -> NoReturn:
        print(f"lowrankflow: error: {message}. See {self.prog} --help.", file=sys.stderr)
        raise SystemExit(BAD_INPUT)


def _depth(text: str) -> int:
    """Return the number of factors."""
    try:
        value = float(text)
        return int(validation.check_depth(value, integer=True)) if value < 1e6 else int(text)
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error).rstrip(".") if "`depth`" in str(error) else ""
        raise argparse.ArgumentTypeError(
            reason or f"`depth` must be a whole number of factors from 2, got {text!r}"
        ) from None


def _widths(text: str) -> list[int] | int:
    """Return the hidden widths from "50" or "50,40"."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"`widths` must be whole numbers separated by commas, got {text!r}") from None
    return values[0] if len(values) == 1 else values


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lowrankflow", description="The laboratory for deep linear networks.")
    parser.add_argument("--version", action="version", version=f"lowrankflow {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", parser_class=_Parser)
    verify = commands.add_parser(
        "verify",
        help="measure whether training the factors is the Riemannian gradient flow",
        description="Measure, on your data, whether training the factors of a deep linear network is the Riemannian"
        " gradient flow on the rank-r manifold.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.set_defaults(missing=None, spare=2)
    _add_data(verify)
    problem = _add_problem(verify)
    problem.add_argument("--factors", metavar="FILE", help="your own trained factors, .npz with W1, W2, ...")
    problem.add_argument("--loss", choices=("least-squares", "completion"), help="default: as fits the data")
    problem.add_argument("--depth", type=_depth, help="number of factors N: 2, 3, ... (default 3)")
    problem.add_argument(
        "--widths",
        type=_widths,
        help="hidden widths, one number or d_1,d_2,... (default: r at depth 2, else min(m, n))",
    )
    run = _add_run(verify)
    run.add_argument("--t-end", type=float, help="end time in natural units 1 / (N lambda_1 sigma_1^(2-2/N))")
    run.add_argument("--rtol", type=float, default=1e-8, help="tolerance of both flows (default 1e-8)")
    run.add_argument("--max-evaluations", type=int, default=200_000, help="budget of gradients (default 200000)")
    output = _add_output(verify, "write report.html, report.json, trajectory.npz and the figures")
    output.add_argument("--explain", metavar="CLAIM", help=f"say what a claim means and end: {', '.join(CLAIMS)}")
    _add_compare(commands)
    commands.add_parser("datasets", help="list the bundled data sets")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("data (one of them)")
    source.add_argument("--data", metavar="NAME", help="a bundled data set; `lowrankflow datasets` lists them")
    source.add_argument("--inputs", metavar="FILE", help="your inputs, .npy or .csv, one sample a row")
    source.add_argument("--targets", metavar="FILE", help="your targets, one sample a row (default: the inputs)")
    source.add_argument("--observed", metavar="FILE", help="observed entries of a matrix, .npz, .mtx or .csv triplets")


def _add_problem(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    problem = parser.add_argument_group("problem")
    problem.add_argument("--rank", type=int, help="rank r (default: up to 10, as the data allow)")
    problem.add_argument(
        "--scale", type=float, help="singular values of W(0) (default 0.1; 0.1 sqrt(m n / r) for completion)"
    )
    problem.add_argument("--seed", type=int, default=0, help="seed of all that is drawn, first of W(0) (default 0)")
    problem.add_argument(
        "--preprocess",
        metavar="STEPS",
        help="center,scale,range (default; center,scale for completion), a part, or none",
    )
    problem.add_argument("--reduction", choices=("mean", "sum"), default="mean", help="of the loss (default mean)")
    return problem


def _add_run(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    run = parser.add_argument_group("run")
    run.add_argument("--threads", type=int, default=1, help="BLAS threads (default 1: faster on small matrices)")
    return run


def _add_output(parser: argparse.ArgumentParser, out: str) -> argparse._ArgumentGroup:
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help=out)
    output.add_argument("--json", metavar="FILE", help="write the report as JSON")
    output.add_argument("--quiet", action="store_true", help="no progress bar, no table: one line")
    return output


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="follow the flows of several metrics from one start, and measure each by one ruler",
        description="Follow the Riemannian gradient flows of several metrics from one start on your data, and compare"
        " them: loss against time, arc length and gradients, singular values, limits, and the order in which modes are"
        " learnt.",
        epilog=_COMPARE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.set_defaults(factors=None, loss=None, spare=4)
    _add_data(compare)
    problem = _add_problem(compare)
    problem.add_argument(
        "--metrics", metavar="LIST", default="embedded,2,3,inf,scaledgd",
        help="see below (default embedded,2,3,inf,scaledgd)",
    )  # fmt: skip
    problem.add_argument(
        "--missing", type=float, metavar="SHARE",
        help="hide this share of the entries of the data matrix (of --inputs or --data: one sample a row), complete it"
        " from the others, and report the error on the hidden ones; rank by default up to 10 with four seen entries for"
        " each number of W",
    )  # fmt: skip
    run = _add_run(compare)
    run.add_argument(
        "--clock", choices=("operator", "factors"), default="operator",
        help="time by the largest coefficient of the metric at the start, or that of its factors (default operator)",
    )  # fmt: skip
    run.add_argument("--t-end", type=float, help="longest time, in that clock (default: none)")
    run.add_argument("--rtol", type=float, help="tolerance of the flows (default 1e-8; 1e-6 for completion)")
    run.add_argument("--max-evaluations", type=int, help="gradients of each flow (default 20000; 4000 for completion)")
    _add_output(compare, "write report.html, report.json and the figures")


class _Problem(NamedTuple):
    loss: Any
    start: LowRankMatrix | None
    network: LinearNetwork | None
    about: dict[str, Any]
    measures: dict[str, Callable[[LowRankMatrix], float]]


def _problem(args: argparse.Namespace, rng: np.random.Generator, symmetric: bool = False) -> _Problem:
    """Read and prepare the data, and make W(0)."""
    given = [name for name in ("data", "inputs", "observed") if getattr(args, name) is not None]
    if len(given) != 1:
        got = "none of them" if not given else " and ".join(f"--{name}" for name in given)
        raise ValueError(
            f"`{args.command}` takes one of --data, --inputs and --observed, got {got}. Try --data digits."
        )
    if args.targets is not None and args.inputs is None:
        raise ValueError("`--targets` must come with --inputs.")
    completing = args.observed is not None or args.missing is not None
    fits = "completion" if completing else "least-squares"
    if args.loss not in (None, fits):
        raise ValueError(f"`--loss` must be {fits} for --{given[0]}, got {args.loss}.")
    loss, about, measures = _completion(args, rng) if completing else _least_squares(args)
    about |= {"seed": args.seed}
    if args.factors is not None:
        return _trained(args, loss, about)
    rank = _rank(args, loss)
    scale = args.scale
    if scale is None:
        # a tenth of what the prepared data ask for: W of unit RMS has singular values near sqrt(m n / r)
        scale = 0.1 * (np.sqrt(loss.shape[0] * loss.shape[1] / rank) if completing else 1.0)
    scale = validation.check_number("scale", scale)
    m, n = loss.shape
    start = random_point(m, n, rank, rng=rng, singular_values=np.full(rank, scale), symmetric=symmetric)
    return _Problem(loss, start, None, about, measures)


_Read = tuple[Any, dict[str, Any], dict[str, Callable[[LowRankMatrix], float]]]


def _least_squares(args: argparse.Namespace) -> _Read:
    """Return the square loss of inputs and targets, and what to say of the data."""
    raw = data.load(args.data) if args.data is not None else data.read_inputs(args.inputs, args.targets)
    inputs, targets, preparation = data.prepare(raw, **_steps(args))
    loss = losses.LeastSquares(inputs, targets, reduction=args.reduction)
    about = {"name": raw.name, "description": raw.description, "preparation": preparation.describe()}
    return loss, about, {}


def _steps(args: argparse.Namespace) -> dict[str, Any]:
    return {} if args.preprocess is None else {"steps": args.preprocess}


def _completion(args: argparse.Namespace, rng: np.random.Generator) -> _Read:
    """Return the loss of the entries that are seen, what to say of them, and the error on those that were hidden."""
    entries = _entries(args)
    seen, hidden = entries, None
    if args.missing is not None:
        share = validation.check_number("missing", args.missing)
        away = rng.random(entries.values.size) < share
        if not 0 < away.sum() < away.size:
            raise ValueError(f"`missing` must hide some of the {away.size} entries and leave some, got {share:g}.")
        seen, hidden = _part(entries, ~away), _part(entries, away)
    prepared, preparation = data.prepare_observed(seen, **_steps(args))
    loss = losses.Completion(prepared.rows, prepared.cols, prepared.values, prepared.shape, reduction=args.reduction)
    about: dict[str, Any] = {"name": entries.name, "description": entries.description}
    about["preparation"] = preparation.describe()
    if hidden is None:
        return loss, about, {}
    about |= {"missing": args.missing, "hidden entries": hidden.values.size}
    values = (hidden.values - preparation.mean) / (preparation.rms if "scale" in preparation.steps else 1.0)
    size = float(np.linalg.norm(values)) or 1.0

    def error(w: LowRankMatrix) -> float:
        return float(np.linalg.norm(w.entries(hidden.rows, hidden.cols) - values)) / size

    return loss, about, {"hidden error": error}


def _entries(args: argparse.Namespace) -> data.Observations:
    """Return the entries that are known: those of a file, or all of a data matrix."""
    if args.observed is not None:
        return data.read_observed(args.observed)
    if args.targets is not None:
        raise ValueError("`--missing` hides entries of --inputs, so it takes no --targets.")
    raw = data.load(args.data) if args.data is not None else data.read_inputs(args.inputs, None)
    rows, cols = np.divmod(np.arange(raw.inputs.size), raw.inputs.shape[1])
    return data.Observations(raw.name, rows, cols, raw.inputs.ravel(), raw.inputs.shape, raw.description)


def _part(entries: data.Observations, chosen: Any) -> data.Observations:
    rows, cols, values = entries.rows[chosen], entries.cols[chosen], entries.values[chosen]
    return data.Observations(entries.name, rows, cols, values, entries.shape, entries.description)


def _trained(args: argparse.Namespace, loss: Any, about: dict[str, Any]) -> _Problem:
    """Return the problem of a network that was trained elsewhere."""
    if args.preprocess is None:
        raise ValueError(
            "`--factors` need an explicit --preprocess, the steps under which they were trained."
            " Use --preprocess none if they were trained on the raw data."
        )
    network = LinearNetwork(data.read_factors(args.factors))
    if network.shape != loss.shape:
        raise ValueError(
            f"`--factors` have the product shape {network.shape} but the prepared data ask for {loss.shape}."
            " If they were trained on the raw features, use --preprocess none."
        )
    start = None if args.rank is None else network.to_low_rank(args.rank)
    return _Problem(loss, start, network, about | {"factors": Path(args.factors).name}, {})


def _rank(args: argparse.Namespace, loss: Any) -> int:
    """Return the rank that was asked for, checked, or one that the data allow."""
    if hasattr(loss, "values"):
        m, n = loss.shape
        most = min(loss.shape)
        # a half (verify) or a quarter (compare) of the observations for the r (m + n - r) numbers of a rank-r matrix
        affordable = [r for r in range(1, min(10, most) + 1) if args.spare * r * (m + n - r) <= loss.values.size]
        default = max(affordable, default=1)
    else:
        sigma = loss.spectrum.sigma
        most = int((sigma > 1e-8 * sigma[0]).sum())
        default = min(10, most)
    if args.rank is None:
        return default
    rank = validation.check_rank(args.rank, loss.shape)
    validation.check_numerical_rank(rank, most)
    return rank


@contextmanager
def _folder(path: str | None) -> Iterator[Path | None]:
    """Make the output folder, and take it away again if nothing was written to it."""
    if path is None:
        yield None
        return
    if not path:
        raise ValueError("`out` must be the name of a folder, got an empty one.")
    new = not Path(path).exists()
    folder = validation.check_output_folder(path)
    try:
        yield folder
    finally:
        if new and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, float], None] | None]:
    """A progress bar on standard error, where a person looks at it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<34}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)


def _write(report: Report, folder: Path | None, json_file: str | None) -> list[Path]:
    """Write what was asked for; report.html last, when everything that it shows is there."""
    written = []
    if json_file is not None:
        report.to_json(json_file)
        written.append(Path(json_file))
    if folder is not None:
        from .html_report import write_html
        from .plotting import save_figures

        report.to_json(folder / "report.json")
        written.append(folder / "report.json")
        if "trajectory" in report.attachments:
            report.attachments["trajectory"].save(folder / "trajectory.npz")
            written.append(folder / "trajectory.npz")
        written += save_figures(report, folder)
        write_html(report, folder / "report.html")
        written.append(folder / "report.html")
    return written


def _show(report: Report, written: Sequence[Path], quiet: bool) -> None:
    """Print the table, the summary and where the files are."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    if not quiet:
        for line in _head(report.problem):
            console.print(line, markup=False)
        console.print(report)
    console.print(report.summary())
    for path in written:
        if not quiet and path.name in ("report.html", "report.json", "trajectory.npz"):
            print(f"wrote {path}")


def _head(p: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that say what the problem is."""
    if "time" in p:
        time = p["time"]
        yield (
            f"{p['data'].get('name')}: W is {p['shape'][0]} x {p['shape'][1]}, rank {p['rank']},"
            f" depth {p['depth']}, hidden widths {', '.join(map(str, p['widths']))}; loss {p['loss']}"
        )
        yield (
            f"time 0 .. {time['end']:.4g} = {time['end in natural units']:.4g} natural units"
            f" 1/(N lambda_1 sigma_1^(2-2/N)), ended by: {time['ended by']}"
        )
    if "clock" in p:
        yield f"{p['data'].get('name')}: W is {p['shape'][0]} x {p['shape'][1]}, rank {p['rank']}; loss {p['loss']}"
        yield f"clock {p['clock']['name']}: {p['clock']['meaning']}"


def _carry_out(args: argparse.Namespace, make: Callable[[np.random.Generator], Callable[..., Report]]) -> int:
    """Make a problem and its report, write and show it, and return the exit status."""
    from threadpoolctl import threadpool_limits

    seed = validation.check_integer("seed", args.seed, low=0)
    threads = validation.check_integer("threads", args.threads, low=1)
    if args.json is not None and (not Path(args.json).parent.is_dir() or Path(args.json).is_dir()):
        raise ValueError(f"`json` must be a file in a folder that exists, got {args.json!r}.")
    with threadpool_limits(threads):
        measure = make(np.random.default_rng(seed))
        with _folder(args.out) as folder:
            status = PASSED
            try:
                with _progress(args.quiet) as progress:
                    report = measure(progress=progress)
            except Interrupted as interrupted:
                report, status = interrupted.report, INTERRUPTED
                print("lowrankflow: interrupted; keeping what was computed.", file=sys.stderr)
            _show(report, _write(report, folder, args.json), args.quiet)
    if status == INTERRUPTED:
        return status
    return PASSED if report.passed else FAILED


def _verify(args: argparse.Namespace, rng: np.random.Generator) -> Callable[..., Report]:
    """Return the call that measures the claims."""
    problem = _problem(args, rng)
    t_end = args.t_end
    if t_end is not None:
        depth = problem.network.depth if problem.network else args.depth or 3
        start = problem.start if problem.start is not None else problem.network.to_low_rank()  # type: ignore[union-attr]
        t_end = validation.check_number("t-end", t_end) * natural_time_unit(problem.loss, start, depth)
    return partial(
        verify_equivalence, problem.loss, problem.start, network=problem.network, depth=args.depth, widths=args.widths,
        t_end=t_end, rtol=args.rtol, rng=rng, max_evaluations=args.max_evaluations, about=problem.about,
    )  # fmt: skip


def _compare(args: argparse.Namespace, rng: np.random.Generator) -> Callable[..., Report]:
    """Return the call that compares the metrics."""
    metrics = named_metrics(args.metrics)
    problem = _problem(args, rng, symmetric=any(getattr(metric, "symmetric", False) for metric in metrics))
    completing = hasattr(problem.loss, "values")
    rtol = (1e-6 if completing else 1e-8) if args.rtol is None else args.rtol
    budget = (4000 if completing else 20_000) if args.max_evaluations is None else args.max_evaluations
    t_end = None if args.t_end is None else validation.check_number("t-end", args.t_end)
    return partial(
        compare_metrics, problem.loss, cast(LowRankMatrix, problem.start), metrics, t_end=t_end, clock=args.clock, rtol=rtol,
        max_evaluations=budget, measures=problem.measures, about=problem.about,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; None: those of the process.

    Returns
    -------
    int
        0 no claim failed and something was claimed; 1 a claim failed or nothing could be claimed;
        2 bad usage or bad input; 130 interrupted.
    """
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        if args.command is None:
            parser.error("a command is missing, choose verify, compare or datasets")
        if args.command == "datasets":
            names = data.available()
            width = max(map(len, names))
            print("\n".join(f"{name:<{width}}  {line}" for name, line in names.items()))
            return PASSED
        if args.command == "verify" and args.explain is not None:
            print(explain(args.explain))
            return PASSED
        return _carry_out(args, partial(_compare if args.command == "compare" else _verify, args))
    except SystemExit as stop:
        return int(stop.code or 0)
    except (ValueError, TypeError, ImportError) as error:
        print(f"lowrankflow: error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        where = f" {error.filename!r}" if error.filename else ""
        print(f"lowrankflow: error: cannot read or write{where}: {error.strerror}.", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("lowrankflow: interrupted before anything was measured.", file=sys.stderr)
        return INTERRUPTED

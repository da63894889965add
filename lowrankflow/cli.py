"""The ``lowrankflow`` command: reads arguments, calls, prints. No mathematics."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from . import __version__, data, losses, validation
from .compare import CLAIMS, Interrupted, explain, natural_time_unit, verify_equivalence
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
    source = verify.add_argument_group("data (one of them)")
    source.add_argument("--data", metavar="NAME", help="a bundled data set; `lowrankflow datasets` lists them")
    source.add_argument("--inputs", metavar="FILE", help="your inputs, .npy or .csv, one sample a row")
    source.add_argument("--targets", metavar="FILE", help="your targets, one sample a row (default: the inputs)")
    source.add_argument("--observed", metavar="FILE", help="observed entries of a matrix, .npz, .mtx or .csv triplets")
    problem = verify.add_argument_group("problem")
    problem.add_argument("--factors", metavar="FILE", help="your own trained factors, .npz with W1, W2, ...")
    problem.add_argument("--loss", choices=("least-squares", "completion"), help="default: as fits the data")
    problem.add_argument("--depth", type=_depth, help="number of factors N: 2, 3, ... (default 3)")
    problem.add_argument("--rank", type=int, help="rank r (default: up to 10, as the data allow)")
    problem.add_argument(
        "--widths",
        type=_widths,
        help="hidden widths, one number or d_1,d_2,... (default: r at depth 2, else min(m, n))",
    )
    problem.add_argument(
        "--scale", type=float, help="singular values of W(0) (default 0.1; see the README for --observed)"
    )
    problem.add_argument("--seed", type=int, default=0, help="seed of W(0) and the hidden frames (default 0)")
    problem.add_argument(
        "--preprocess",
        metavar="STEPS",
        help="center,scale,range (default; center,scale for --observed), a part, or none",
    )
    problem.add_argument("--reduction", choices=("mean", "sum"), default="mean", help="of the loss (default mean)")
    run = verify.add_argument_group("run")
    run.add_argument("--t-end", type=float, help="end time in natural units 1 / (N lambda_1 sigma_1^(2-2/N))")
    run.add_argument("--rtol", type=float, default=1e-8, help="tolerance of both flows (default 1e-8)")
    run.add_argument("--max-evaluations", type=int, default=200_000, help="budget of gradients (default 200000)")
    run.add_argument("--threads", type=int, default=1, help="BLAS threads (default 1: faster on small matrices)")
    output = verify.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help="write report.html, report.json, trajectory.npz and the figures")
    output.add_argument("--json", metavar="FILE", help="write the report as JSON")
    output.add_argument("--quiet", action="store_true", help="no progress bar, no table: one line")
    output.add_argument("--explain", metavar="CLAIM", help=f"say what a claim means and end: {', '.join(CLAIMS)}")
    commands.add_parser("datasets", help="list the bundled data sets")
    return parser


class _Problem(NamedTuple):
    loss: Any
    start: LowRankMatrix | None
    network: LinearNetwork | None
    about: dict[str, Any]


def _problem(args: argparse.Namespace, rng: np.random.Generator) -> _Problem:
    """Read and prepare the data, and make W(0)."""
    given = [name for name in ("data", "inputs", "observed") if getattr(args, name) is not None]
    if len(given) != 1:
        got = "none of them" if not given else " and ".join(f"--{name}" for name in given)
        raise ValueError(f"`verify` takes one of --data, --inputs and --observed, got {got}. Try --data digits.")
    if args.targets is not None and args.inputs is None:
        raise ValueError("`--targets` must come with --inputs.")
    fits = "completion" if args.observed is not None else "least-squares"
    if args.loss not in (None, fits):
        raise ValueError(f"`--loss` must be {fits} for --{given[0]}, got {args.loss}.")
    steps = {} if args.preprocess is None else {"steps": args.preprocess}
    preparation: Any
    if args.observed is not None:
        observed, preparation = data.prepare_observed(data.read_observed(args.observed), **steps)
        loss: Any = losses.Completion(
            observed.rows, observed.cols, observed.values, observed.shape, reduction=args.reduction
        )
        name, description = observed.name, observed.description
    else:
        raw = data.load(args.data) if args.data is not None else data.read_inputs(args.inputs, args.targets)
        inputs, targets, preparation = data.prepare(raw, **steps)
        loss = losses.LeastSquares(inputs, targets, reduction=args.reduction)
        name, description = raw.name, raw.description
    about = {"name": name, "description": description, "preparation": preparation.describe(), "seed": args.seed}
    if args.factors is not None:
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
        return _Problem(loss, start, network, about | {"factors": Path(args.factors).name})
    rank = _rank(args, loss)
    scale = args.scale
    if scale is None:
        # a tenth of what the prepared data ask for: W of unit RMS has singular values near sqrt(m n / r)
        scale = 0.1 * (np.sqrt(loss.shape[0] * loss.shape[1] / rank) if args.observed is not None else 1.0)
    scale = validation.check_number("scale", scale)
    m, n = loss.shape
    start = random_point(m, n, rank, rng=rng, singular_values=np.full(rank, scale))
    return _Problem(loss, start, None, about)


def _rank(args: argparse.Namespace, loss: Any) -> int:
    """Return the rank that was asked for, checked, or one that the data allow."""
    if args.observed is not None:
        m, n = loss.shape
        most = min(loss.shape)
        # half of the observations may be spent on the r (m + n - r) numbers of a rank-r matrix
        affordable = [r for r in range(1, min(10, most) + 1) if 2 * r * (m + n - r) <= loss.values.size]
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
        p, time = report.problem, report.problem.get("time", {})
        if time:
            console.print(
                f"{p['data'].get('name')}: W is {p['shape'][0]} x {p['shape'][1]}, rank {p['rank']},"
                f" depth {p['depth']}, hidden widths {', '.join(map(str, p['widths']))}; loss {p['loss']}\n"
                f"time 0 .. {time['end']:.4g} = {time['end in natural units']:.4g} natural units"
                f" 1/(N lambda_1 sigma_1^(2-2/N)), ended by: {time['ended by']}"
            )
        console.print(report)
    console.print(report.summary())
    for path in written:
        if not quiet and path.name in ("report.html", "report.json", "trajectory.npz"):
            print(f"wrote {path}")


def _verify(args: argparse.Namespace) -> int:
    if args.explain is not None:
        print(explain(args.explain))
        return PASSED
    from threadpoolctl import threadpool_limits

    seed = validation.check_integer("seed", args.seed, low=0)
    threads = validation.check_integer("threads", args.threads, low=1)
    rng = np.random.default_rng(seed)
    if args.json is not None and (not Path(args.json).parent.is_dir() or Path(args.json).is_dir()):
        raise ValueError(f"`json` must be a file in a folder that exists, got {args.json!r}.")
    with threadpool_limits(threads):
        problem = _problem(args, rng)
        t_end = args.t_end
        if t_end is not None:
            depth = problem.network.depth if problem.network else args.depth or 3
            start = problem.start if problem.start is not None else problem.network.to_low_rank()  # type: ignore[union-attr]
            t_end = validation.check_number("t-end", t_end) * natural_time_unit(problem.loss, start, depth)
        with _folder(args.out) as folder:
            status = PASSED
            try:
                with _progress(args.quiet) as progress:
                    report = verify_equivalence(
                        problem.loss,
                        problem.start,
                        network=problem.network,
                        depth=args.depth,
                        widths=args.widths,
                        t_end=t_end,
                        rtol=args.rtol,
                        rng=rng,
                        max_evaluations=args.max_evaluations,
                        about=problem.about,
                        progress=progress,
                    )
            except Interrupted as interrupted:
                report, status = interrupted.report, INTERRUPTED
                print("lowrankflow: interrupted; keeping what was computed.", file=sys.stderr)
            _show(report, _write(report, folder, args.json), args.quiet)
    if status == INTERRUPTED:
        return status
    return PASSED if report.passed else FAILED


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
            parser.error("a command is missing, choose verify or datasets")
        if args.command == "datasets":
            names = data.available()
            width = max(map(len, names))
            print("\n".join(f"{name:<{width}}  {line}" for name, line in names.items()))
            return PASSED
        return _verify(args)
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

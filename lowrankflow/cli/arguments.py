"""What the command line understands."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

from .._version import __version__
from ..compare import CLAIMS
from ..compare.landscape import POINTS
from ..matrices.requirements import require_depth
from .shell import told_by_options

__all__ = ["BAD_INPUT", "LANDSCAPE", "parser"]

BAD_INPUT = 2
LANDSCAPE = "landscape "  #: stands before the names of claims about it

_EPILOG = """
examples:
  lowrankflow verify --data digits --out report
  lowrankflow verify --data diabetes --depth 5
  lowrankflow verify --inputs X.npy --targets Y.csv --depth 2 --rank 3 --widths 8
  lowrankflow verify --inputs flowers.csv --target-column species --missing-rows drop
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
  scaledgd, twofactor, subspace, polar, mn, r3mc
                    the quotient metrics of the literature
  lambda:0.5        two factors with the imbalance 0.5 times the identity
  kappa:0.1:0.2     three factors with such imbalances; as many factors as numbers, and one
  bures-wasserstein of symmetric positive semidefinite matrices: W(0) is then symmetric

examples:
  lowrankflow compare --data digits --metrics embedded,2,3,inf,scaledgd --out report
  lowrankflow compare --data china --missing 0.8
  lowrankflow compare --inputs X.npy --targets Y.csv --metrics 2,3,5 --rank 3 --clock factors
  lowrankflow compare --observed ratings.mtx --missing 0.1 --metrics embedded,3

A flow ends when its projected gradient is 1e-4 of that at the start, at --clock-end, or when its budget is spent.
exit status: as of verify.
"""


_LANDSCAPE_EPILOG = """examples:
  lowrankflow landscape --data digits --natural-end 40       # a plateau on the way: which saddle is near?
  lowrankflow landscape --data iris --depth 2 --rank 2
  lowrankflow landscape --inputs X.npy --targets Y.npy --preprocess none --factors trained.npz
  lowrankflow landscape --verify                             # the theory itself, on random problems: a minute
  lowrankflow landscape --explain classes
"""

_DIAGNOSE_EPILOG = """examples:
  lowrankflow diagnose --data iris --factors trained.npz --preprocess center,scale,range --step 1e-2
  lowrankflow diagnose --inputs X.npy --targets Y.npy --preprocess none --factors end.npz --initial start.npz
  lowrankflow diagnose --data digits --natural-end 40 --out letter     # a run that is not over
exit status: 0, 2 for bad usage or bad input; nothing is claimed.
"""

_CHECK_EPILOG = """
examples:
  lowrankflow check-loss --loss mine.py:MyLoss --inputs X.npy --targets Y.csv
  lowrankflow check-loss --loss mine.py:MyLoss --loss-arg delta=0.5 --data diabetes
  lowrankflow check-loss --loss poisson --observed counts.mtx

The class is called with inputs= (n, p) and targets= (m, p), samples in columns, prepared as --preprocess says, or with
rows=, cols=, values= and shape=, and with what --loss-arg names.
exit status: as of verify.
"""

_REPRODUCE_EPILOG = """
examples:
  lowrankflow reproduce --list
  lowrankflow reproduce weight_decay_switch --out figures
  lowrankflow reproduce --all --quick --out figures

exit status: 0 all numbers are as theory predicts; 1 one is not; 2 bad usage or bad input; 130 interrupted (what was made
is kept).
"""


_SWEEP_EPILOG = """
a grid file:
  [problem]                       # what all jobs share: the fields of a problem
  data = "digits"
  rank = 5
  [grid]                          # what varies: their product
  depth = [2, 3, 5]
  scale = {log = [1e-4, 1.0, 9]}  # or {linear = [a, b, n]}
  seed = {count = 20}             # 0 to 19
  [run]
  kind = "flow"                   # or descent, verify, compare, landscape
  columns = ["loss", "effective_rank"]

[[zip]] pairs lists of one length, [random] draws count samples. All of it: docs/sweeps.md.

examples:
  lowrankflow sweep grid.toml                                 # into the folder grid; again: only what is missing
  lowrankflow sweep grid.toml --out runs --workers 4
  lowrankflow sweep grid.toml --scheduler tcp://node1:8786    # on Dask
  lowrankflow sweep status grid
  lowrankflow sweep plot grid --y loss --x scale --lines depth
  lowrankflow sweep plot grid --y "hidden_error<0.01" --x missing --lines rank --heat

exit status: 0 all jobs are done; 1 some failed, or the rest could not be done; 2 bad usage or bad input; 130 interrupted
(what is done is kept).
"""


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage text before them."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (--[\w-]+): `\w+` ", r"`\1` ", told_by_options(message, {}))
        print(f"lowrankflow: error: {message}. See {self.prog} --help.", file=sys.stderr)
        raise SystemExit(BAD_INPUT)


def _depth(text: str) -> int:
    """Return the number of factors."""
    try:
        value = float(text)
        return int(require_depth(value, integer=True)) if value < 1e6 else int(text)
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


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog="lowrankflow", description="The laboratory for deep linear networks.")
    top.add_argument("--version", action="version", version=f"lowrankflow {__version__}")
    commands = top.add_subparsers(dest="command", metavar="command", parser_class=_Parser)
    verify = commands.add_parser(
        "verify",
        help="measure whether training the factors is the Riemannian gradient flow",
        description="Measure, on your data, whether training the factors of a deep linear network is the Riemannian"
        " gradient flow on the rank-r manifold.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data(verify)
    problem = _add_problem(verify)
    _add_network(problem)
    run = _add_run(verify)
    run.add_argument(
        "--natural-end", type=float, metavar="UNITS",
        help="end time in natural units 1 / (N lambda_1 sigma_1^(2-2/N)) (default: a projected gradient 1e-4 of its"
        " start; less where a known limit is still far)",
    )  # fmt: skip
    _add_former(run, "--t-end", "natural_end")
    run.add_argument("--rtol", type=float, help="tolerance of both flows (default 1e-8)")
    run.add_argument("--max-evaluations", type=int, help="budget of gradients (default 200000)")
    run.add_argument(
        "--descent", action="store_true", dest="by_descent",
        help="gradient descent at the step of its theory instead: decrease, bounds and drift at every update",
    )  # fmt: skip
    run.add_argument("--steps", type=int, metavar="N", help="updates of --descent (default 1000)")
    run.add_argument(
        "--run", metavar="DIR",
        help="the checkpoints of a run of yours instead, the number of updates in the names of the files: is it descent with"
        " --step, and as far from the flow as that explains?",
    )  # fmt: skip
    run.add_argument("--step", type=float, help="the learning rate of --run, in units of flow time")
    output = _add_output(verify, "write report.html, report.json, trajectory.npz and the figures")
    names = ", ".join(name for name in CLAIMS if not name.startswith(("check_", LANDSCAPE)))
    output.add_argument(
        "--explain",
        metavar="CLAIM",
        help=f"say what a claim means and end: {names}; those of a check after its name, as in 'check_loss gradient'",
    )
    _add_compare(commands)
    _add_check_loss(commands)
    _add_landscape(commands)
    _add_diagnose(commands)
    _add_reproduce(commands)
    _add_sweep(commands)
    commands.add_parser("datasets", help="list the bundled data sets")
    return top


def _add_data(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("data (one of them)")
    source.add_argument(
        "--problem", metavar="FILE",
        help="report.json of an earlier run: repeat it on the same data, with what else is given changed; a loss"
        " FILE.py:Name must be given again",
    )  # fmt: skip
    source.add_argument("--data", metavar="NAME", help="a bundled data set; `lowrankflow datasets` lists them")
    source.add_argument(
        "--inputs", metavar="FILE",
        help="your inputs, one sample a row: .csv, .tsv, .txt (.gz), .npy, .npz, .mat, and what pandas reads",
    )  # fmt: skip
    source.add_argument("--targets", metavar="FILE", help="your targets, one sample a row (default: the inputs)")
    source.add_argument(
        "--observed", metavar="FILE",
        help="observed entries of a matrix: triplets, .npz, .mtx or a table; or a table in which entries are missing",
    )  # fmt: skip
    table = parser.add_argument_group("tables")
    table.add_argument(
        "--columns",
        dest="input_columns",
        metavar="LIST",
        help="features by name or number, age,bmi or 1,3-7 (default: all others)",
    )
    table.add_argument(
        "--target-column", metavar="LIST", help="columns of --inputs that are the targets; texts are classes"
    )
    table.add_argument(
        "--delimiter", metavar="CHAR", help="comma, semicolon, tab, space, pipe, or a character (default: as lines say)"
    )
    table.add_argument("--missing-rows", choices=("drop",), help="leave out rows in which something is missing")


def _add_problem(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    problem = parser.add_argument_group("problem")
    problem.add_argument("--rank", type=int, help="rank r (default: up to 10, as the data allow)")
    problem.add_argument(
        "--scale", type=float, help="singular values of W(0) (default 0.1; 0.1 sqrt(m n / r) for completion)"
    )
    problem.add_argument("--seed", type=int, help="seed of all that is drawn, first of W(0) (default 0)")
    problem.add_argument(
        "--preprocess",
        metavar="STEPS",
        help="center,scale,range (default; center,scale for completion), a part, or none",
    )
    problem.add_argument("--reduction", choices=("mean", "sum"), help="of the loss (default mean)")
    return problem


def _add_loss(problem: argparse._ArgumentGroup) -> None:
    problem.add_argument(
        "--loss", metavar="LOSS",
        help="least-squares, completion (default: as fits the data), squared, huber, log-cosh, logistic, squared-hinge,"
        " softmax, poisson, or your own, FILE.py:Name, called with inputs= and targets= (samples in columns) or rows=,"
        " cols=, values= and shape=",
    )  # fmt: skip
    problem.add_argument(
        "--loss-arg", metavar="KEY=VALUE", action="append", default=[], help="passed on to the loss; may be repeated"
    )


def _add_network(problem: argparse._ArgumentGroup) -> None:
    problem.add_argument(
        "--factors",
        metavar="FILE",
        help="your own trained factors: .npz, .safetensors or .pt; diagnose takes biases too",
    )
    _add_loss(problem)
    problem.add_argument("--depth", type=_depth, help="number of factors N: 2, 3, ... (default 3)")
    problem.add_argument(
        "--widths",
        type=_widths,
        help="hidden widths, one number or d_1,d_2,... (default: r at depth 2, else min(m, n))",
    )


def _add_landscape(commands: Any) -> None:
    landscape = commands.add_parser(
        "landscape",
        help="say at which critical point a network is, or is near, and verify it",
        description="Say at which critical point of the loss a network is, your trained factors or those at the end of a"
        " run from W(0), or which one is nearest: global minimiser, strict or non-strict saddle, its index set, its order,"
        " and by which margin. The square loss has an exact theory; any other loss is judged by its gradient and Hessian.",
        epilog=_LANDSCAPE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data(landscape)
    _add_network(_add_problem(landscape))
    _add_end(_add_run(landscape, shared=False))
    theory = landscape.add_argument_group("the theory itself, without data")
    theory.add_argument(
        "--verify", action="store_true",
        help="measure what the theory says on random critical points and problems, drawn from --seed; takes no data, no"
        " problem and no run",
    )  # fmt: skip
    theory.add_argument(
        "--points", type=int, metavar="N", help=f"random critical points (default {POINTS}: about a minute)"
    )
    output = _add_output(landscape, "write report.html, report.json, trajectory.npz and the figures")
    names = ", ".join(name.removeprefix(LANDSCAPE) for name in CLAIMS if name.startswith(LANDSCAPE))
    output.add_argument("--explain", metavar="CLAIM", help=f"say what a claim means and end: {names}")


def _add_diagnose(commands: Any) -> None:
    diagnose = commands.add_parser(
        "diagnose",
        help="say what a trained network is like, and what training would do next",
        description="Say what a network is like, your trained factors or those at the end of a run from W(0): ranks, balance and"
        " alignment of its layers, what it has learned of the targets, where in the landscape it is and how it would leave,"
        " sharpness against 2 / step, what has moved since its start, and which theorems apply. Findings first.",
        epilog=_DIAGNOSE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data(diagnose)
    _add_network(_add_problem(diagnose))
    training = diagnose.add_argument_group("its training")
    training.add_argument("--initial", metavar="FILE", help="the factors that training began with, as --factors")
    training.add_argument("--step", type=float, help="the step of its training, in units of flow time")
    _add_end(_add_run(diagnose, shared=False))
    _add_output(diagnose, "write report.html, report.json")


def _add_end(run: argparse._ArgumentGroup) -> None:
    """Add where a run from W(0) ends."""
    run.add_argument(
        "--natural-end", type=float, metavar="UNITS",
        help="where the run ends, in natural units (default: a projected gradient 1e-6 of its start)",
    )  # fmt: skip
    run.add_argument("--rtol", type=float, help="tolerance of the run (default 1e-8)")
    run.add_argument("--max-evaluations", type=int, help="budget of gradients (default 200000)")


def _add_run(parser: argparse.ArgumentParser, *, shared: bool = True) -> argparse._ArgumentGroup:
    run = parser.add_argument_group("run")
    if shared:
        help = "processes that share the runs, each on a core of its own (default 1); the numbers are the same"
        run.add_argument("--workers", type=int, default=1, metavar="N", help=help)
    run.add_argument("--threads", type=int, default=1, help="BLAS threads (default 1: faster on small matrices)")
    return run


class _Former(argparse.Action):
    """An option by the name that it had before 1.0."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        print(f"lowrankflow: {option_string} is called --{self.dest.replace('_', '-')} now.", file=sys.stderr)
        setattr(namespace, self.dest, values)


def _add_former(parser: argparse._ArgumentGroup, name: str, now: str) -> None:
    parser.add_argument(name, dest=now, type=float, action=_Former, help=argparse.SUPPRESS)


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
    _add_data(compare)
    problem = _add_problem(compare)
    _add_loss(problem)
    problem.add_argument(
        "--metrics", metavar="LIST",
        help="see below (default embedded,2,3,inf,scaledgd)",
    )  # fmt: skip
    problem.add_argument(
        "--missing", type=float, metavar="SHARE",
        help="hide this share of the entries of the data matrix (of --inputs or --data: one sample a row), complete it"
        " from the others, and report the error on the hidden ones (labels and counts: the loss); rank by default up to"
        " 10 with four seen entries for each number of W",
    )  # fmt: skip
    run = _add_run(compare)
    run.add_argument(
        "--clock", choices=("operator", "factors"),
        help="time by the largest coefficient of the metric at the start, or that of its factors (default operator)",
    )  # fmt: skip
    run.add_argument("--clock-end", type=float, metavar="TIME", help="longest time, by that clock (default: none)")
    _add_former(run, "--t-end", "clock_end")
    run.add_argument("--rtol", type=float, help="tolerance of the flows (default 1e-8; 1e-6 for completion)")
    run.add_argument("--max-evaluations", type=int, help="gradients of each flow (default 20000; 4000 for completion)")
    _add_output(compare, "write report.html, report.json and the figures")


def _add_check_loss(commands: Any) -> None:
    check = commands.add_parser(
        "check-loss",
        help="measure whether a loss has the gradient it says it has, and what else it says",
        description="Check a loss on your data at a random W: gradient, Hessian, operator, representations, state,"
        " convexity, curvature and memory, each with a control that must fail.",
        epilog=_CHECK_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data(check)
    _add_loss(_add_problem(check))
    _add_run(check, shared=False)
    _add_output(check, "write report.html, report.json and the figures")


def _add_reproduce(commands: Any) -> None:
    reproduce = commands.add_parser(
        "reproduce",
        help="make the experiments of the paper: one figure and its numbers each",
        description="Make experiments of the paper: NAME.png, with its caption, and NAME.json, its numbers, those that"
        " theory predicts beside the prediction. The same numbers at every call.",
        epilog=_REPRODUCE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reproduce.add_argument("names", nargs="*", metavar="NAME", help="experiments; --list lists them")
    reproduce.add_argument("--list", action="store_true", help="list the experiments")
    reproduce.add_argument("--all", action="store_true", help="make all of them")
    reproduce.add_argument("--quick", action="store_true", help="fewer and smaller runs: some seconds each")
    reproduce.add_argument("--out", metavar="DIR", default=".", help="where to write (default: here)")
    reproduce.add_argument("--quiet", action="store_true", help="no progress bar, no table: one line an experiment")


def _add_sweep(commands: Any) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="carry out a grid of runs, nothing lost, and plot it",
        description="Carry out all jobs of a grid file that have no result yet, on this machine or on a Dask cluster; say what"
        " is done, failed and missing; plot it.",
        epilog=_SWEEP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="lowrankflow sweep GRID.toml [options] | sweep status DIR | sweep plot DIR [options]",
    )
    actions = sweep.add_subparsers(dest="action", metavar="action", parser_class=_Parser)
    run = actions.add_parser("run", help="a grid file alone means this")
    run.add_argument("grid", metavar="GRID.toml", help="what varies, and what does not")
    run.add_argument("--out", metavar="DIR", help="the folder for results (default: the name of the file, here)")
    run.add_argument("--workers", type=int, metavar="N", help="processes of this machine (default: all of its cores)")
    run.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, tcp://HOST:PORT, whose workers see the folder")
    run.add_argument("--retry", action="store_true", help="do the jobs that failed once more")
    run.add_argument("--loss", metavar="FILE.py:Name", help="given again where the grid names it: it is run")
    run.add_argument("--quiet", action="store_true", help="no progress bar: one line")
    status = actions.add_parser("status", help="what is done, failed and missing")
    status.add_argument("folder", metavar="DIR", help="of a sweep, finished or not")
    plot = actions.add_parser("plot", help="lines with bands, heat maps, small multiples; and their numbers")
    plot.add_argument("folder", metavar="DIR", help="of a sweep, finished or not")
    plot.add_argument(
        "--y",
        metavar="RESULT",
        help="what is plotted; or a share of jobs: 'loss<0.1', 'status=CONVERGED' (default: the first)",
    )
    plot.add_argument("--x", metavar="FIELD", help="along x (default: the longest axis of numbers)")
    plot.add_argument(
        "--lines", metavar="FIELD", help="a line each, or upright in a heat map (default: the second longest)"
    )
    plot.add_argument("--rows", metavar="FIELD", help="a row of panels each")
    plot.add_argument("--columns", metavar="FIELD", help="a column of panels each")
    plot.add_argument("--heat", action="store_true", help="a heat map of x and lines, such as a phase diagram")
    plot.add_argument(
        "--where", metavar="FIELD=VALUE", action="append", default=[], help="only these jobs; may be repeated"
    )
    plot.add_argument("--xscale", choices=("linear", "log"), help="default: as the numbers ask for")
    plot.add_argument("--yscale", choices=("linear", "log"), help="of the result")
    plot.add_argument(
        "--picture", metavar="FILE.png", help="default: RESULT.png in DIR; the numbers in RESULT.csv beside it"
    )

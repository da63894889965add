"""What the command line shows and writes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..files import require_output_folder
from ..report import Claim, Report

__all__ = ["STDOUT", "output_folder", "progress_bar", "show", "write"]

STDOUT = "-"  #: in place of a file for JSON


@contextmanager
def output_folder(path: str | None) -> Iterator[Path | None]:
    """Make the output folder, and take it away again if nothing was written to it."""
    if path is None:
        yield None
        return
    if not path:
        raise ValueError("`out` must be the name of a folder, got an empty one.")
    new = not Path(path).exists()
    folder = require_output_folder(path)
    try:
        yield folder
    finally:
        if new and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[str, float], None] | None]:
    """A progress bar on standard error, where a person looks at it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<34}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0, left="")

        def tell(stage: str, fraction: float) -> None:
            left = time_left(time.monotonic() - began, fraction)
            bar.update(task, description=stage, completed=fraction, left=left)

        yield tell


def time_left(elapsed: float, fraction: float) -> str:
    """Return what is left at the pace so far, in words; nothing as long as that says little."""
    if elapsed < 2 or fraction < 0.03:
        return ""
    seconds = elapsed * (1 - fraction) / fraction
    if seconds < 60:
        return f"about {seconds:.0f} s left"
    minutes = round(seconds / 60)
    return f"about {minutes} min left" if minutes < 60 else f"about {minutes // 60} h {minutes % 60} min left"


def write(report: Report, folder: Path | None, json_file: str | None) -> list[Path]:
    """Write what was asked for; report.html last, when everything that it shows is there."""
    written = []
    if json_file is not None:
        _write_json(report, json_file)
        written.append(Path(json_file))
    if folder is not None:
        from ..render import pictures_of, save_figures, write_html

        report.to_json(folder / "report.json")
        written.append(folder / "report.json")
        if "trajectory" in report.attachments:
            report.attachments["trajectory"].save(folder / "trajectory.npz")
            written.append(folder / "trajectory.npz")
        pictures = pictures_of(report)
        written += save_figures(report, folder, pictures=pictures)
        write_html(report, folder / "report.html", pictures=pictures)
        written.append(folder / "report.html")
    return written


def _write_json(report: Report, json_file: str) -> None:
    """Write the report to a file, to standard output, or to a pipe or device that can only be written to as it comes."""
    path = Path(json_file)
    if json_file == STDOUT:
        print(report.to_json())
    elif path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as stream:
            stream.write(report.to_json() + "\n")
    else:
        report.to_json(path)


def _in(words: Callable[[str], str], claim: Claim) -> Claim:
    """Return a claim with what it says of its hypotheses in other words."""
    texts = (replace(h, value=words(h.value)) if isinstance(h.value, str) else h for h in claim.hypotheses)
    return replace(claim, hypotheses=tuple(texts))


def show(
    report: Report,
    written: Sequence[Path],
    quiet: bool,
    *,
    beside: bool = False,
    words: Callable[[str], str] = str,
) -> None:
    """Print what was asked of, the table, the summary, where the files are, and how to do it again.

    Parameters
    ----------
    report : Report
    written : sequence of Path
        The files.
    quiet : bool
        The summary alone; of what claims nothing, the headline.
    beside : bool
        On standard error, as standard output has the JSON.
    words : callable
        Puts what the library says of its arguments into the words of the options.
    """
    from rich.console import Console

    stream = sys.stderr if beside else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else 120, highlight=False, force_jupyter=False)
    if report.headline and not (quiet and report.claims):
        console.print(words(report.headline), markup=False)
    if not quiet:
        console.print(replace(report, headline="", claims=[_in(words, claim) for claim in report.claims]))
    if report.claims or report.interrupted or not report.headline:
        console.print(report.summary())
    for path in written:
        if not quiet and path.suffix in (".html", ".json", ".npz"):
            print(f"wrote {path}", file=stream)
    if report.repeats and not quiet:
        print(f"to repeat it: {report.repeats}", file=stream)

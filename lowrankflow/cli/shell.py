"""The shell around a command: streams that close, signals that end it, and words for its options."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO, cast

__all__ = ["options_of", "shell", "told_by_options"]

_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  #: nobody reads any more: a pipe, a terminal, what the shell closed
_ENDING = ("SIGTERM", "SIGHUP")


class _Standing:
    """A stream that takes what is written to it when nobody reads any more, so that a run ends as it would have."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text; letters that the stream has no bytes for become their escapes."""
        try:
            text.encode(self._stream.encoding or "utf-8")
        except UnicodeEncodeError:
            text = text.encode(self._stream.encoding, "backslashreplace").decode(self._stream.encoding)
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        self._try(self._stream.flush)

    def _try(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except OSError as error:
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:  # what waits in the buffer goes there
                os.dup2(nowhere.fileno(), self._stream.fileno())
            if error.errno not in _GONE:
                raise


@contextmanager
def shell() -> Iterator[None]:
    """Stand what a shell does to a command: closed streams, SIGTERM and SIGHUP, which become Ctrl-C, a drawing backend."""
    with ExitStack() as stack:
        _take_low_numbers()
        for name in ("stdout", "stderr"):
            before = getattr(sys, name)
            stream = stack.enter_context(open(os.devnull, "w", encoding="utf-8")) if before is None else before
            stack.callback(setattr, sys, name, before)
            setattr(sys, name, _Standing(stream))
        stack.enter_context(_terminable())
        stack.enter_context(_without_backend())
        yield


def _take_low_numbers() -> None:
    """Take the numbers of standard streams that were closed before the start, so that no file gets one."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let what ends a job in a batch system or with its terminal end it as Ctrl-C does: what was computed is kept.

    What is ignored, as under nohup, stays so; outside of the main thread nothing is changed.
    """

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    with ExitStack() as stack:
        for number in (getattr(signal, name) for name in _ENDING if hasattr(signal, name)):
            if signal.getsignal(number) is signal.SIG_DFL:
                with suppress(ValueError):  # not in the main thread
                    stack.callback(signal.signal, number, signal.signal(number, interrupt))
        yield


@contextmanager
def _without_backend() -> Iterator[None]:
    """Draw without a window: matplotlib would not even be imported where MPLBACKEND names no backend."""
    before = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if before is not None:
            os.environ["MPLBACKEND"] = before


# ---------------------------------------------------------------------------------------------------------------------
# words

#: arguments of Python, and the options that set them
_ALSO = {"loss_args": "--loss-arg", "rng": "--seed", "descent": "--steps", "claim": "--explain"}
_CALLS = {"EmbeddedMetric()": "lowrankflow compare --metrics embedded"}
_TIME = {"verify": "--natural-end", "landscape": "--natural-end", "compare": "--clock-end"}


def options_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[str, str]:
    """Return the options of the command that was called, by the names that the library has for them."""
    command = getattr(args, "command", None)
    if command is None:
        return {}
    named = {
        action.dest: max(action.option_strings, key=len)
        for action in _subparser(parser, command)._actions
        if action.option_strings and action.help != argparse.SUPPRESS
    }
    end = _TIME.get(command)
    known = set(named.values())
    also = _ALSO | ({} if end is None else dict.fromkeys(("t_span", "t_end"), end))
    return named | {name: option for name, option in also.items() if option in known}


def _subparser(parser: argparse.ArgumentParser, command: str) -> argparse.ArgumentParser:
    found = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return cast(argparse.ArgumentParser, found.choices[command])


def told_by_options(text: str, options: Mapping[str, str]) -> str:
    """Return a message of the library in the words of the shell: `max_evaluations` is `--max-evaluations`, seed=0 --seed 0."""

    def named(found: re.Match[str]) -> str:
        return f"`{options.get(found[1], found[1])}`"

    def given(found: re.Match[str]) -> str:
        return f"{options[found[1]]} {found[2]}" if found[1] in options else found[0]

    for call, command in _CALLS.items():
        text = text.replace(call, command)
    return re.sub(r"(?<![`'\w])(\w+)=([\w.+-]+)", given, re.sub(r"`(\w+)`", named, text))

"""``lowrankflow`` and ``python -m lowrankflow``: Ctrl-C ends both in one line, from the first import on."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

__all__ = ["main"]

_WORDS = "lowrankflow: interrupted before anything was measured."
_STATUS = 130


def main() -> int:
    """Run the command line and return its exit status, see `lowrankflow.cli.main`."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not what a shell told us to ignore
        signal.signal(signal.SIGINT, _end)
    from .cli import main as run  # numpy, scipy and most of our rooms: half a second

    try:
        signal.signal(signal.SIGINT, before)
        return run()
    except KeyboardInterrupt:  # between two lines of ours
        sys.stderr.write(f"{_WORDS}\n")
        return _STATUS


def _end(number: int, frame: Any) -> NoReturn:
    """End at once: an exception in the middle of an import is not always the one that comes out of it."""
    os.write(2, f"{_WORDS}\n".encode())
    os._exit(_STATUS)


if __name__ == "__main__":
    sys.exit(main())

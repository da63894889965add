"""What a merge cannot wait for: every floor at once, the newest of everything, each extra missing, what is shipped.

``nox -l`` lists the sessions, ``nox`` runs all, ``nox -s oldest`` one; words after ``--`` are handed on to pytest, as in
``nox -s oldest -- tests/test_flow.py``. Each works in a fresh virtual environment. A Python that the machine lacks is
passed over.
"""

import configparser
import glob
import os
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
SETTINGS = configparser.ConfigParser()
SETTINGS.read(Path(__file__).parent / "setup.cfg")
EXTRAS = {name: text.split() for name, text in SETTINGS["options.extras_require"].items()}
USER_EXTRAS = sorted(set(EXTRAS) - {"lint", "test"})
PYTHONS = [
    word.rpartition(" ")[2]
    for word in SETTINGS["metadata"]["classifiers"].splitlines()
    if word.startswith("Programming Language :: Python :: 3.")
]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def at_floor(requirement: str) -> str:
    """Return a requirement at its oldest version: ``pymanopt>=2.2.1,<3`` is ``pymanopt==2.2.1``."""
    return requirement.split(",")[0].replace(">=", "==")


def floors() -> list[str]:
    wanted = SETTINGS["options"]["install_requires"].split()
    wanted += [each for name in (*USER_EXTRAS, "test") for each in EXTRAS[name]]
    return [at_floor(each) for each in wanted if ">=" in each and not each.startswith("setuptools")]


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """All floors of setup.cfg, installed together, on the oldest Python."""
    session.install(*floors(), ".[test]")
    session.run("pytest", *session.posargs, env=ONE_THREAD)


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """The newest release of everything."""
    session.install("--upgrade", "--upgrade-strategy", "eager", ".[test]")
    session.run("pytest", *session.posargs, env=ONE_THREAD)


@nox.session(python=PYTHONS[0])
@nox.parametrize("extra", USER_EXTRAS)
def without(session: nox.Session, extra: str) -> None:
    """All extras but one: what does not need it works, what needs it says which."""
    session.install(f".[{','.join(name for name in USER_EXTRAS if name != extra)}]")
    session.chdir(session.create_tmp())
    session.run("python", str(Path(__file__).parent / "tests" / "without.py"), extra, env=ONE_THREAD)


@nox.session(python=PYTHONS[0])
def developer(session: nox.Session) -> None:
    """The line of CONTRIBUTING, and what it says to run after it."""
    session.install("-e", ".[test,lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", "lowrankflow")
    session.run("mypy")


@nox.session
def shipped(session: nox.Session) -> None:
    """The wheel, made of the sdist, answers from another folder; the index would take both."""
    session.install("build", "twine")
    out = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", out)
    session.run("twine", "check", "--strict", *glob.glob(os.path.join(out, "*")))
    session.install(*glob.glob(os.path.join(out, "*.whl")))
    session.chdir(out)
    session.run("lowrankflow", "--version")
    session.run("python", "-c", "import lowrankflow as lrf; lrf.render, lrf.pymanopt_manifold, lrf.verify_equivalence")

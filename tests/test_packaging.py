"""What is shipped: the floors, the sdist, and a README that leads somewhere outside of the repository."""

import configparser
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
from email import message_from_bytes
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).parents[1]
SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / "setup.cfg")
EXTRAS = {name: text.split() for name, text in SETTINGS["options.extras_require"].items()}
LINK = re.compile(r"\]\((?!\w+:)([^)\s#]+)")  # to a file, not to an address or a heading


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """What ``python -m build --sdist`` makes of a fresh clone: names below its folder to contents."""
    folder = tmp_path_factory.mktemp("sdist") / "clone"
    ignored = shutil.ignore_patterns(".[!c]*", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, folder, ignore=ignored)
    code = "import setuptools.build_meta as backend; backend.build_sdist('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    (archive,) = (folder / "dist").iterdir()
    with tarfile.open(archive) as file:
        members = [member for member in file if member.isfile()]
        return {member.name.split("/", 1)[1]: file.extractfile(member).read() for member in members}


def links(page, where=""):
    """The files that a page links to, as paths from the root."""
    for target in LINK.findall(page):
        yield str(Path(ROOT / where / target).resolve().relative_to(ROOT)).rstrip("/")


def test_the_sdist_holds_what_its_pages_link_to(sdist):
    pages = [name for name in sdist if name.endswith(".md")]
    wanted = {to for name in pages for to in links(sdist[name].decode(), Path(name).parent)}
    assert {"docs/equivalence.png", "benchmarks/README.md", "benchmarks/work_precision.png", "LICENSE"} <= wanted
    folders = {str(parent) for name in sdist for parent in Path(name).parents}
    assert wanted <= set(sdist) | folders


def test_the_sdist_holds_what_a_contributor_runs(sdist):
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if kept.returncode:  # the sdist itself, unpacked
        pytest.skip("no repository to compare with")
    assert set(kept.stdout.split()) - set(sdist) <= {".gitignore"}


def test_what_the_package_index_shows(sdist):
    shown = message_from_bytes(sdist["PKG-INFO"])
    assert shown["Description-Content-Type"] == "text/markdown"
    assert not LINK.search(shown.get_payload()) and "derives it." in shown.get_payload()
    pythons = [c.rpartition(" ")[2] for c in shown.get_all("Classifier") if re.search(r":: 3\.\d+$", c)]
    assert shown["Requires-Python"] == f">={pythons[0]}" and len(pythons) >= 3


@pytest.fixture
def made(monkeypatch):
    """What setup.py says to setuptools, and what is in it."""
    said = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: said.update(options))
    names = runpy.run_path(str(ROOT / "setup.py"), run_name="__main__")
    return said, names


def test_links_lead_to_the_repository_where_its_address_is_known(made):
    outside = made[1]["outside"]
    page = "![words](docs/a.png), [docs](docs/b.md#part), [here](#part), [there](https://example.org/c), `x[0](y)` "
    found = outside(page, "https://example.org/home", "1.2.3")
    assert "![words](https://example.org/home/raw/v1.2.3/docs/a.png)" in found
    assert "[docs](https://example.org/home/blob/v1.2.3/docs/b.md#part)" in found
    assert "[here](https://example.org/home/blob/v1.2.3/README.md#part)" in found
    assert "[there](https://example.org/c)" in found
    assert outside(page.split(", `")[0], "", "1.2.3") == ", docs, here, [there](https://example.org/c)"


def test_addresses_are_those_of_the_citation(made):
    said, names = made
    assert bool(said["project_urls"]) == bool(names["address"]())
    assert set(names["addresses"]("https://example.org/home").values()) >= {"https://example.org/home/issues"}


def test_every_requirement_has_a_floor_and_every_floor_is_given_once():
    wanted = SETTINGS["options"]["install_requires"].split() + [each for extra in EXTRAS.values() for each in extra]
    wanted = [each for each in wanted if not each.startswith("lowrankflow[")]
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+(,<\d+)?", each) for each in wanted)
    names = [each.split(">=")[0] for each in wanted]
    assert len(names) == len(set(names))


def test_the_tests_have_every_extra_of_a_user():
    (all_of_them,) = (each for each in EXTRAS["test"] if each.startswith("lowrankflow["))
    assert set(all_of_them[len("lowrankflow[") : -1].split(",")) == set(EXTRAS) - {"test", "lint", "torch", "jax"}
    # these are large: their tests are skipped where they are not there


def test_messages_name_extras_that_exist():
    texts = [path.read_text(encoding="utf-8") for path in [*ROOT.glob("lowrankflow/**/*.py"), *ROOT.glob("**/*.md")]]
    named = {name for text in texts for group in re.findall(r"lowrankflow\[([\w,]+)\]", text) for name in group.split(",")}
    assert named and named <= set(EXTRAS)


def test_the_documented_installs_are_one_requirement_each():
    """Two requirements of one folder, ``".[test]" ".[lint]"``, are a conflict for pip where the install is editable."""
    for page in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        for line in re.findall(r"pip install[^\n&#`]*", (ROOT / page).read_text(encoding="utf-8")):
            assert line.count('".[') <= 1, (page, line)

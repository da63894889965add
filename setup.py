"""What setup.cfg cannot say: the README for a reader outside of the repository, and the addresses of the project.

The address is the line ``repository-code:`` of CITATION.cff. With it the links of the README lead to this version of the
repository; without it, what they name stands there as words, so that no link is dead.
"""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:)([^)\s]+)\)")  # one without a scheme, such as https:


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def address() -> str:
    found = re.search(r'^repository-code: *"?([^"\s]+)', text("CITATION.cff"), re.MULTILINE)
    return found[1].rstrip("/") if found else ""


def outside(page: str, home: str, version: str) -> str:
    """Return a page whose links lead out of the package index, or are none."""

    def followed(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        if not home:
            return "" if picture else words
        if target.startswith("#"):
            target = f"README.md{target}"
        return f"{picture}[{words}]({home}/{'raw' if picture else 'blob'}/v{version}/{target})"

    return LINK.sub(followed, page)


def addresses(home: str) -> dict[str, str]:
    pages = {
        "Source": "",
        "Documentation": "/tree/main/docs",
        "Changelog": "/blob/main/CHANGELOG.md",
        "Issues": "/issues",
    }
    return {name: home + page for name, page in pages.items()} if home else {}


if __name__ == "__main__":
    version = re.search(r'"(.+)"', text("lowrankflow/_version.py"))
    assert version is not None
    home = address()
    setup(long_description=outside(text("README.md"), home, version[1]), project_urls=addresses(home))

"""The numbers of the README come from a run, and still do."""

import json
import re
from pathlib import Path

import pytest

from lowrankflow import cli
from lowrankflow.claims import CLAIMS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
CELL = r"((?:[^|\\]|\\.)*)"  # a bar within a cell is written \|
TABLE = re.findall(rf"^\| `(\w+)` \| {CELL} \| {CELL} \| {CELL} \| {CELL} \|$", README, re.MULTILINE)
ROWS = {name: rest for name, _, *rest in TABLE}


@pytest.fixture(scope="module")
def claims(tmp_path_factory):
    file = tmp_path_factory.mktemp("digits") / "report.json"
    assert cli.main(["verify", "--data", "digits", "--quiet", "--json", str(file)]) == 0
    return {c["name"]: c for c in json.loads(file.read_text())["claims"]}


def test_the_table_says_what_the_claims_state():
    assert len(TABLE) > 10
    for name, statement, *_ in TABLE:
        assert statement.replace("\\|", "|") + "." == CLAIMS[name].statement


@pytest.mark.slow
def test_the_table_is_what_the_main_job_measures(claims):
    assert list(ROWS) == list(claims)
    for name, (measured, bound, _) in ROWS.items():
        claim = claims[name]
        assert claim["verdict"] == "passed" and all(k["caught"] for k in claim["controls"])
        if claim["relation"] == "<=":
            # errors of solvers and roundoff vary with the machine's arithmetic; their size does not
            assert 0.1 < claim["measured"] / float(measured) < 10, name
            assert 0.1 < claim["bound"] / float(bound) < 10, name
        else:
            assert claim["measured"] == pytest.approx(float(measured), abs=0.02 if claim["relation"] == "in" else 0.2), name


@pytest.mark.slow
def test_the_controls_of_the_table_are_what_the_main_job_measures(claims):
    for name, (_, _, controls) in ROWS.items():
        quoted = [part.rsplit(": ", 1)[1].strip() for part in controls.split(";")]
        found = [k["measured"] for k in claims[name]["controls"]]
        assert len(quoted) == len(found), name
        for q, f in zip(quoted, found, strict=True):
            if float(q) > 100:  # a flow that blows up in finite time, where its budget ends: the power of ten is what lasts
                assert 1 / 3 < float(f) / float(q) < 3, name
                continue
            # one or two digits are quoted; slopes near zero are noise around it
            assert float(f) == pytest.approx(float(q), rel=0.15, abs=0.02 if claims[name]["relation"] != "<=" else 0), name

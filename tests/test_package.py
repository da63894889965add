"""The package as a whole: what it exports, which way its imports point, that its words are true."""

import ast
import configparser
import doctest
import importlib
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lowrankflow as lrf

ROOT = Path(__file__).parents[1]
PACKAGE = Path(lrf.__file__).parent

FLOORS = {
    "_version": 0, "validation": 0, "files": 0, "entries": 0, "operators": 0, "loading": 0, "foreign": 0, "markup": 0,
    "workers": 0,
    "matrices": 1, "findings": 1, "report": 1, "statements": 1,
    "metrics": 2, "losses": 2, "data": 2, "steppers": 2, "flows": 2, "problems": 2, "exact": 2, "kernels": 2,
    "gradients": 3, "geometry": 3, "charts": 3, "columns": 3,
    "flow": 4, "descent": 4, "batched": 4, "separation": 4, "checks": 4, "claims": 4, "landscape": 4, "scalar": 4,
    "compare": 5, "sweeps": 5,
    "render": 6, "experiments": 6, "plotting": 6, "html_report": 6, "pymanopt_manifold": 6,
    "cli": 7, "__main__": 7, "__init__": 8,
}  # fmt: skip

MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)


def room(module):
    """The room of a dotted module name below the package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path):
    """Rooms of the package that a file imports, wherever in the file."""
    inside = path.relative_to(PACKAGE).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        base = list(inside[: len(inside) - node.level])
        target = base + (node.module.split(".") if node.module else [])
        for name in [None] if target else [alias.name for alias in node.names]:
            yield target[0] if target else name


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imports(path):
        if other == own:
            continue
        assert FLOORS[other] <= FLOORS[own], f"{own} imports {other}, which lies above it"


def test_pictures_and_page_take_results_alone():
    """What they show comes from the report; they ask nothing that could compute it."""
    used = {room for path in (PACKAGE / "render").glob("*.py") for room in imports(path)} - {"render"}
    assert used == {"report", "files", "validation"}


def test_what_is_no_python_is_packaged():
    """Templates and style sheets would be missing from a wheel without a line in setup.cfg."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    named = settings["options.package_data"]
    others = [p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    assert {"page.css", "page.html.j2", "parts.html.j2", "glossary.html", "py.typed"} <= {p.name for p in others}
    for path in others:
        package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
        assert any(path.match(pattern.strip()) for pattern in named.get(package, "").split(",")), path


def test_no_import_cycle_on_a_floor():
    edges = {}
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        edges.setdefault(own, set()).update(r for r in imports(path) if r in FLOORS and r != own)
    seen = []

    def visit(node, trail):
        assert node not in trail, f"cycle: {' -> '.join([*trail, node])}"
        if node not in seen:
            for other in edges.get(node, ()):
                visit(other, [*trail, node])
            seen.append(node)

    for node in edges:
        visit(node, [])


def test_every_room_has_a_floor():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert rooms == set(FLOORS)


def test_all_is_sorted_and_true():
    constants_first = sorted(set(lrf.__all__), key=lambda name: (not name.isupper(), name))
    assert list(lrf.__all__) == constants_first
    for name in lrf.__all__:
        assert hasattr(lrf, name)


#: names of the package before 1.0, by the room in which they live now
FORMER = {
    name: room
    for room, names in {
        "flow": "CheckpointFailed Passage",
        "geometry": "RiemannianHessian embedded_hessian geodesic_acceleration",
        "gradients": "convert_gradient inner_product log_volume product_rule pullback tangent_kernel_spectrum tangent_norm",
        "metrics": "BuresWassersteinMetric KappaBalancedMetric LambdaBalancedMetric MNMetric PolarMetric ScaledGDMetric"
        " SubspaceProjectionMetric TwoFactorMetric",
        "separation": "Separation follow_margin least_margin",
    }.items()
    for name in names.split()
}
PUBLIC = [getattr(lrf, name) for name in lrf.__all__]
PUBLIC += [getattr(getattr(lrf, room), name) for name, room in FORMER.items()]
FUNCTIONS = [f for f in PUBLIC if inspect.isfunction(f)]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_parameter_of_a_public_function_is_documented(function):
    text = inspect.getdoc(function)
    assert text
    names = [n for n in inspect.signature(function).parameters if n not in ("self", "cls")]
    if len(names) > 1:
        listed = re.findall(r"^([\w*, ]+) : ", text, flags=re.MULTILINE)
        documented = {n.strip(" *") for line in listed for n in line.split(",")}
        missing = [n for n in names if n not in documented]
        if "Parameters" in text:
            assert not missing
        else:
            assert all(f"`{n}`" in text or n in text for n in names)


@pytest.mark.parametrize("module", MODULES)
def test_modules_have_docstrings_and_true_examples(module):
    loaded = importlib.import_module(module.removesuffix(".__init__"))
    assert loaded.__doc__
    result = doctest.testmod(loaded, extraglobs={"np": np})
    assert result.failed == 0


def fresh(code):
    """What a new Python prints."""
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


OPTIONAL = ["pymanopt", "autograd", "matplotlib", "jinja2", "rich", "sklearn", "threadpoolctl"]
OPTIONAL += ["numba", "xarray", "h5netcdf", "h5py"]
FIRST_FLOW = """
loss = lrf.losses.LeastSquares([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]])
flow = lrf.RiemannianFlow(loss, lrf.DepthMetric(3))
assert len(lrf.integrate(flow, lrf.random_point(2, 2, 1, rng=0), t_span=(0, 1)).t) > 1
"""


@pytest.mark.parametrize(
    ("use", "unwanted"),
    [
        pytest.param("", ["numpy", "scipy", "lowrankflow.metrics", *OPTIONAL], id="alone"),
        pytest.param("lrf.metrics.DepthMetric(3)", ["scipy.integrate", "lowrankflow.flow", *OPTIONAL], id="a metric"),
        pytest.param(FIRST_FLOW, ["lowrankflow.compare", "lowrankflow.checks", "lowrankflow.report", *OPTIONAL], id="a flow"),
    ],
)
def test_importing_is_light(use, unwanted):
    code = f"import sys, lowrankflow as lrf\n{use}\nprint([m for m in {unwanted!r} if m in sys.modules])"
    assert fresh(code) == "[]"


def test_what_is_not_light_is_seen():
    """Control: the same question, after the rooms were asked for."""
    code = "import sys, lowrankflow as lrf\nlrf.verify_equivalence, lrf.metrics.DepthMetric, lrf.pymanopt_manifold\n"
    unwanted = ["numpy", "scipy.integrate", "lowrankflow.compare", "pymanopt"]
    assert fresh(code + f"print([m for m in {unwanted!r} if m in sys.modules])") == str(unwanted)


def declared():
    """What the package tells type checkers: name -> the room it is imported from, "" for a room."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    assert all(alias.name == alias.asname for node in typed.body for alias in node.names)
    return {alias.name: node.module or "" for node in typed.body for alias in node.names}


def test_python_and_type_checkers_see_the_same_names():
    for name, room in declared().items():
        home = importlib.import_module(f"lowrankflow.{room or name}")
        assert getattr(lrf, name) is (getattr(home, name) if room else home)
    assert set(lrf.__all__) == {name for name, room in declared().items() if room} | {"losses"}
    assert set(dir(lrf)) == {*declared(), "__version__"}
    assert 35 <= len(lrf.__all__) <= 45  # each a promise


@pytest.mark.parametrize("statement", ["import lowrankflow", "from lowrankflow import *", "import lowrankflow.flow"])
def test_rooms_and_names_are_found_late(statement):
    """In a new Python, where nothing else has asked for them."""
    code = f"import lowrankflow as lrf\n{statement}\n"
    rooms = [name for name, room in declared().items() if not room]
    for name, room in declared().items():
        code += "" if not room else f"assert lrf.{name} is lrf.{room}.{name}\n"
    if "*" in statement:
        code += f"assert {{*{lrf.__all__!r}}} <= {{*globals()}} and 'ScaledGDMetric' not in globals()\n"
    code += "from lowrankflow import data, integrate, losses\nassert losses is lrf.losses and integrate is lrf.integrate\n"
    assert fresh(code + f"print(all(hasattr(lrf, room) for room in {rooms!r}))") == "True"


def test_pickles_by_name_are_read_before_anything_was_imported():
    text = pickle.dumps((lrf.Status.FINISHED, lrf.DepthMetric(3), lrf.integrate, lrf.random_point(3, 3, 1, rng=0)))
    assert fresh(f"import pickle; print(pickle.loads({text!r})[1])") == repr(lrf.DepthMetric(3))


@pytest.mark.parametrize("name", FORMER)
def test_a_name_that_moved_says_where_it_lives(name):
    room = FORMER[name]
    with pytest.warns(DeprecationWarning, match=rf"^lowrankflow.{name} has moved to lowrankflow.{room}.{name}.$") as caught:
        assert getattr(lrf, name) is getattr(getattr(lrf, room), name)
    assert caught[0].filename == __file__
    assert name not in dir(lrf) and name not in lrf.__all__ and name in getattr(lrf, room).__all__
    with pytest.warns(DeprecationWarning):
        exec(f"from lowrankflow import {name}", {})


def small_problem():
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    return loss, lrf.random_point(3, 3, 1, rng=0, singular_values=[0.5])


def integrated(**options):
    loss, start = small_problem()
    return lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), start, t_span=(0, 0.1), **options)


def descended(**options):
    loss, start = small_problem()
    return lrf.gradient_descent(loss, lrf.LinearNetwork.balanced(start, 2), step_size=0.1, steps=9, **options)


def compared(**options):
    loss, start = small_problem()
    return lrf.compare_metrics(loss, start, [2], clock="factors", rtol=1e-5, **options).table("cost").rows


def measured(**options):
    return lrf.losses.Measured(lrf.losses.Entries([0], [1], shape=(2, 2)), **options)


LABEL = lrf.losses.Logistic([1])
RENAMED = {  # as it was called before 1.0, as it is called now, what is compared
    "Link": (lambda: lrf.losses.Link, lambda: lrf.losses.Misfit, None),
    "Progress": (lambda: lrf.flow.Progress, lambda: lrf.flow.Step, None),
    "`link` of Measured": (lambda: measured(link=LABEL), lambda: measured(misfit=LABEL), repr),
    "the attribute": (lambda: measured(misfit=LABEL).link, lambda: measured(misfit=LABEL).misfit, None),
    "`every` of gradient_descent": (lambda: descended(every=3), lambda: descended(keep_every=3), lambda path: path.t.tolist()),
    "`every` of integrate": (lambda: integrated(every=3), lambda: integrated(checkpoint_every=3), repr),
    "`t_end` of compare_metrics": (lambda: compared(t_end=0.1), lambda: compared(clock_end=0.1), lambda rows: rows[0][1]),
}


@pytest.mark.parametrize(("before", "now", "shown"), RENAMED.values(), ids=RENAMED)
def test_the_words_of_before_still_work_and_say_what_is_said_now(before, now, shown):
    with pytest.warns(DeprecationWarning, match="is called .* now.$") as caught:
        old = before()
    assert caught[0].filename == __file__ and len(caught) == 1
    assert (old is now()) if shown is None else (shown(old) == shown(now()))


def test_a_word_of_before_and_the_one_of_now_are_too_many():
    with pytest.warns(DeprecationWarning), pytest.raises(TypeError, match="`keep_every` must be given once, got `every` too"):
        descended(every=3, keep_every=3)


@pytest.mark.parametrize(
    ("room", "name", "new"),
    [
        ("html_report", "page", "to_html"), ("html_report", "write_html", "write_html"), ("plotting", "render", "image"),
        *(("plotting", name, name) for name in ("draw_figure", "draw_report", "save_figures")),
    ],
)  # fmt: skip
def test_a_room_that_moved_says_where_its_names_live(room, name, new):
    message = rf"^lowrankflow.{room}.{name} has moved to lowrankflow.render.{new}.$"
    with pytest.warns(DeprecationWarning, match=message) as caught:
        assert getattr(getattr(lrf, room), name) is getattr(lrf.render, new)
    with pytest.warns(DeprecationWarning, match=message):
        exec(f"from lowrankflow.{room} import {name}", {})
    assert caught[0].filename == __file__
    assert room not in dir(lrf) and room not in lrf.__all__ and name in getattr(lrf, room).__all__
    assert f"AttributeError: module 'lowrankflow.{room}' has no attribute 'gone'" in fresh(
        f"import traceback, lowrankflow as lrf\ntry: lrf.{room}.gone\nexcept AttributeError: print(traceback.format_exc())"
    )


def test_a_name_that_never_was_is_refused():
    with pytest.raises(AttributeError, match="module 'lowrankflow' has no attribute 'ScaledGD'"):
        _ = lrf.ScaledGD
    with pytest.raises(ImportError, match="cannot import name 'ScaledGD'"):
        exec("from lowrankflow import ScaledGD", {})
    assert not hasattr(lrf, "__wrapped__")  # doctest asks


def test_no_print_and_no_global_random_state_in_the_library():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert path.parent.name == "cli"
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("np.random", "numpy.random"):
                parent = path.read_text().splitlines()[node.lineno - 1]
                # pymanopt's manifolds draw from the global state: check_manifold puts it back, which test_checks asserts
                lent = path.parts[-2:] == ("checks", "manifold_at.py") and re.search(r"(get_state|set_state|seed)\(", parent)
                assert "Generator" in parent or "default_rng" in parent or lent, (path, parent)


#: of others: what a namedtuple has, what matplotlib does not say otherwise, what a notebook asks for
LENT = {"_replace", "_dash_pattern", "_repr_html_", "_repr_png_"}


def private_names(tree):
    """The names with one underscore in front that a file imports, reads as attributes, or hands to others."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            found += [node.attr]
        elif isinstance(node, ast.Call):  # setattr(x, "_name", y), setattr("package.module._name", y), replace(x, _name=y)
            found += [x.value for x in node.args if isinstance(x, ast.Constant) and isinstance(x.value, str)]
            found += [keyword.arg or "" for keyword in node.keywords]
    parts = {part for name in found if re.fullmatch(r"[\w.]+", name) for part in name.split(".")}
    return {part for part in parts if re.match("_[^_]", part)} - LENT


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*.py")), ids=lambda p: p.stem)
def test_no_test_knows_a_private_name(path):
    """What stands behind them may change without a test having to."""
    if path.stem == "mutants":  # which are changes of the source
        pytest.skip("its texts are pieces of the source")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert private_names(tree) <= own


@pytest.mark.parametrize(
    "line",
    [
        "from lowrankflow.flow.checkpoint import Checkpoint, _write_record", "import lowrankflow._version",
        "from lowrankflow._version import __version__", "path._dense", "assert journal._end == 3", "replace(path, _dense=None)",
        'monkeypatch.setattr(entries, "_compiled", None)', 'monkeypatch.setattr("lowrankflow.entries._compiled", None)',
        'getattr(loss, "_pattern", None)',
    ],
)  # fmt: skip
def test_private_names_are_seen(line):
    """Control."""
    assert private_names(ast.parse(line))
    assert not private_names(ast.parse(line.replace("_", "")))


def test_packages_are_found_below_the_package():
    names = {m.name for m in pkgutil.iter_modules([str(PACKAGE)])}
    assert {"gradients", "flow", "compare"} <= names  # the three that people look for


def blocks(name):
    """The python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)


PAGES = [
    "README.md", "CONTRIBUTING.md", "docs/running.md", "docs/problems.md", "docs/landscape.md", "docs/reproduce.md",
    "docs/descent.md", "docs/exact.md", "docs/scalar.md", "docs/batched.md", "docs/sweeps.md", "docs/notebooks.md",
    "docs/data.md", "docs/losses.md", "docs/networks.md", "docs/pymanopt.md",
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lrf.render, "write_html", lambda report, path: Path(path).write_text(str(report), encoding="utf-8"))
    monkeypatch.setattr(lrf, "write_html", lrf.render.write_html)  # the page has tests of its own
    found = blocks(page)
    assert found
    namespace = {}
    for text in found:
        exec(compile(text, page, "exec"), namespace)  # the page's own code, one block after the other


def test_the_commands_of_the_readme_are_understood():
    from lowrankflow.cli import parser

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^lowrankflow (verify|compare|check-loss|datasets)([^\n#]*)", text, flags=re.MULTILINE)
    assert len(commands) > 5
    for command, rest in commands:
        parser().parse_args([command, *rest.replace("\\", "").split()])


def test_sources_of_claims_point_to_headings_that_exist():
    from lowrankflow.compare import CLAIMS

    text = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    slugs = {h.strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}
    texts = [text for words in CLAIMS.values() for text in (words.source, words.meaning)]
    anchors = {a for text in texts for a in re.findall(r"docs/theory\.md#([\w-]+)", text)}
    assert anchors and anchors <= slugs


def test_versions_agree():
    assert f"version: {lrf.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {lrf.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert "version = attr: lowrankflow._version.__version__" in (ROOT / "setup.cfg").read_text()

"""Checkpoints: every bit comes back, or nothing does; a kill or a full disk leaves the last whole file."""

import errno
import hashlib
import io
import json
import os
import platform
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import lowrankflow as lrf
from lowrankflow.flow.checkpoint import Checkpoint, Journal, pack_points, unpack_points

#: a file is this line and then records: a mark, the length of an archive in eight bytes, its SHA-256, the archive
MAGIC, MARK, DIGEST = b"lowrankflow checkpoint, schema 2\n", b"record", 32
RULE = "`path` must be a whole file written by Checkpoint.write, got "

HEAD = {"t": 0.1, "nan": float("inf"), "name": "größe \x00 ☃", "none": None, "list": [1, [True, {"a": {}}]], "": 2**70}
ARRAYS = {
    "y": np.array([[1.0, -0.0], [np.nan, np.inf]]),
    "file": np.arange(3),  # the keyword of np.savez
    "head": np.array(3.5),
    "sha256": np.zeros((0, 4)),
    "a.npy": np.array([True, False]),
    "a/b é": np.array([1 + 2j], dtype=">c16"),
    "": np.float32([1e-45]),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "slice": np.arange(10)[::3],
}


def same(a, b):
    """Whether two checkpoints agree in every bit, by names, types, shapes, orders and bytes."""
    if list(a.head) != list(b.head) or json.dumps(a.head) != json.dumps(b.head) or set(a.arrays) != set(b.arrays):
        return False
    return all(
        x.dtype.str == y.dtype.str
        and x.shape == y.shape
        and (x.flags.c_contiguous or not x.flags.f_contiguous) == (y.flags.c_contiguous or not y.flags.f_contiguous)
        and x.tobytes() == y.tobytes()
        for x, y in ((a.arrays[name], b.arrays[name]) for name in a.arrays)
    )


@pytest.fixture
def written(tmp_path):
    """A checkpoint and its file."""
    checkpoint, file = Checkpoint(HEAD, ARRAYS), tmp_path / "c.npz"
    checkpoint.write(file)
    return checkpoint, file


# ---------------------------------------------------------------------------------------------------------------------
# what is written comes back


def test_every_bit_comes_back(written):
    checkpoint, file = written
    assert same(Checkpoint.read(file), checkpoint)
    assert [f.name for f in file.parent.iterdir()] == ["c.npz"]


def test_an_empty_checkpoint_comes_back(tmp_path):
    Checkpoint({}, {}).write(tmp_path / "c")
    assert same(Checkpoint.read(tmp_path / "c"), Checkpoint({}, {}))


@given(
    head=st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.floats() | st.text()),
    array=npst.arrays(
        npst.floating_dtypes(endianness="?") | npst.integer_dtypes(endianness="?") | npst.complex_number_dtypes(),
        npst.array_shapes(min_dims=0, min_side=0, max_side=4),
    ),
)
def test_any_head_and_array_come_back(tmp_path_factory, head, array):
    file, checkpoint = tmp_path_factory.getbasetemp() / "any", Checkpoint(head, {"a": array, "b": array.T})
    checkpoint.write(file)
    assert same(Checkpoint.read(file), checkpoint)


@pytest.mark.parametrize("change", ["sign of zero", "type", "shape", "order", "name", "head"])
def test_control_the_comparison_sees_each_change(change):
    a = {"x": np.asfortranarray(np.zeros((2, 3)))}
    b = {
        "sign of zero": {"x": -a["x"]},
        "type": {"x": a["x"].view("i8")},
        "shape": {"x": a["x"].T},
        "order": {"x": np.ascontiguousarray(a["x"])},
        "name": {"y": a["x"]},
        "head": a,
    }[change]
    assert same(Checkpoint({}, a), Checkpoint({}, {"x": a["x"].copy("F")}))
    assert not same(Checkpoint({}, a), Checkpoint({"a": 1} if change == "head" else {}, b))


# ---------------------------------------------------------------------------------------------------------------------
# damage


def test_any_byte_changed_is_refused(written, rng):
    checkpoint, file = written
    whole = file.read_bytes()
    for at in rng.integers(len(whole), size=400):
        raw = bytearray(whole)
        raw[at] ^= rng.integers(1, 256)
        file.write_bytes(raw)
        with pytest.raises(ValueError) as caught:
            Checkpoint.read(file)
        assert str(caught.value).startswith(RULE) and str(caught.value).isprintable()
    file.write_bytes(whole)
    assert same(Checkpoint.read(file), checkpoint)  # control


def test_a_file_cut_anywhere_is_refused(written, rng):
    _, file = written
    whole = file.read_bytes()
    for length in {0, 1, len(whole) - 1, *rng.integers(len(whole), size=200).tolist()}:
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="`path` must"):
            Checkpoint.read(file)


def content(file):
    """The members of the archive in a file of one record."""
    with np.load(io.BytesIO(file.read_bytes()[len(MAGIC) + len(MARK) + 8 + DIGEST :])) as data:
        return dict(data)


def forge(file, members, *, honest):
    """Put another archive into the record; its checksum is that of the old one unless `honest`."""
    archive, begin = io.BytesIO(), len(MAGIC) + len(MARK) + 8
    np.savez(archive, **members)
    new, old = hashlib.sha256(archive.getvalue()).digest(), file.read_bytes()[begin : begin + DIGEST]
    length = len(archive.getvalue()).to_bytes(8, "big")
    file.write_bytes(MAGIC + MARK + length + (new if honest else old) + archive.getvalue())


FORGED = {  # each is a sound archive: only the checksum can tell
    "a value": lambda c: c | {"arrays_y": c["arrays_y"] * 2},
    "a sign of zero": lambda c: c | {"arrays_y": np.where(c["arrays_y"] == 0, 0.0, c["arrays_y"])},
    "a type": lambda c: c | {"arrays_y": c["arrays_y"].view("i8")},
    "a shape": lambda c: c | {"arrays_y": c["arrays_y"].ravel()},
    "an order": lambda c: c | {"arrays_fortran": np.ascontiguousarray(c["arrays_fortran"])},
    "two names exchanged": lambda c: c | {"arrays_file": c["arrays_slice"], "arrays_slice": c["arrays_file"]},
    "an array gone": lambda c: {k: a for k, a in c.items() if k != "arrays_y"},
    "an array too many": lambda c: c | {"arrays_z": c["arrays_y"]},
    "a head": lambda c: c | {"head": np.array(str(c["head"]).replace("0.1", "0.2"))},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_change_that_the_archive_does_not_notice_is_refused(name, written):
    _, file = written
    forge(file, FORGED[name](content(file)), honest=False)
    with pytest.raises(ValueError, match="its checksum does not fit its content"):
        Checkpoint.read(file)


def test_control_the_archive_written_again_is_taken(written):
    checkpoint, file = written
    forge(file, content(file), honest=True)
    assert same(Checkpoint.read(file), checkpoint)


# ---------------------------------------------------------------------------------------------------------------------
# what a run keeps is appended


def growing(k, size=50):
    """The k-th state of a run that keeps two rows a time, the first five."""
    rows = {} if k == 0 else {"a": np.full((2, 3), float(k)), "b": np.arange(2.0) + 2 * k}
    return Checkpoint({"k": k}, {"y": np.full(size, float(k))}, rows)


def journal_of(file, records, size=50):
    """A journal with so many records, and the lengths of the file after each."""
    journal, lengths = Journal(file), []
    journal.write(growing(1, size))
    lengths.append(file.stat().st_size)
    for k in range(2, records + 1):
        assert journal.append(growing(k, size))
        lengths.append(file.stat().st_size)
    return journal, lengths


def assert_is(found, k, size=50):
    """Whether what was read is the k-th state, with the rows of all before."""
    assert same(Checkpoint(found.head, found.arrays), Checkpoint({"k": k}, growing(k, size).arrays))
    want = {name: np.concatenate([growing(j).rows[name] for j in range(1, k + 1)]) for name in ("a", "b")}
    assert same(Checkpoint({}, found.rows), Checkpoint({}, want))


@pytest.fixture
def grown(tmp_path, monkeypatch):
    """A file of four records; however much of it is dead, it is not written anew."""
    monkeypatch.setattr(Checkpoint, "weight", 0)
    file = tmp_path / "c"
    return file, *journal_of(file, 4)


def test_the_last_record_tells_the_state_and_all_of_them_the_rows(grown):
    file, _, _ = grown
    assert_is(Checkpoint.read(file), 4)


def test_rows_need_not_be_in_every_record(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint, "weight", 0)
    journal = Journal(tmp_path / "c")
    for k, write in ((0, journal.write), (1, journal.append), (0, journal.append)):
        write(growing(k))
    found = Checkpoint.read(tmp_path / "c")
    assert found.head == {"k": 0} and found.rows["a"].shape == (2, 3)


def test_a_file_cut_short_is_as_it_was_before_that_record(grown, rng):
    """A crash while a record is appended leaves a part of it: any part."""
    file, _, lengths = grown
    whole = file.read_bytes()
    for length in {*lengths, *(n - 1 for n in lengths), *rng.integers(lengths[0], lengths[-1], size=100).tolist()}:
        file.write_bytes(whole[:length])
        if length < lengths[0]:
            with pytest.raises(ValueError, match="cut short"):
                Checkpoint.read(file)
        else:
            assert_is(Checkpoint.read(file), sum(n <= length for n in lengths))


def test_a_change_is_refused_or_what_was_before_it_is_read(grown, rng):
    """Of records in the middle it is refused: those behind go on from them. The last one may have been cut by a crash."""
    file, _, lengths = grown
    whole, refused, inside = file.read_bytes(), 0, 0
    for at in rng.integers(len(whole), size=300).tolist():
        raw = bytearray(whole)
        raw[at] ^= rng.integers(1, 256)
        file.write_bytes(raw)
        try:
            assert_is(Checkpoint.read(file), sum(n <= at for n in lengths))
        except ValueError as error:
            assert str(error).startswith(RULE)
            refused += at < lengths[-2]
        inside += at < lengths[-2]
    # in the middle only a changed length or mark, 14 of some 2000 bytes a record, can look like a crash
    assert refused > 0.9 * inside > 100


def test_records_exchanged_are_refused(grown):
    """Each checksum goes on from that of the record before."""
    file, _, lengths = grown
    raw = file.read_bytes()
    a, b, c = lengths[:3]
    assert b - a == c - b
    file.write_bytes(raw[:a] + raw[b:c] + raw[a:b] + raw[c:])
    with pytest.raises(ValueError, match="its checksum does not fit"):
        Checkpoint.read(file)


def test_a_journal_goes_on_from_a_file(grown):
    file, _, _ = grown
    journal, found = Journal.open(file)
    assert_is(found, 4)
    assert journal.append(growing(5))
    assert_is(Checkpoint.read(file), 5)


@pytest.mark.parametrize("change", ["cut", "longer", "gone"])
def test_a_file_that_is_not_as_it_was_left_is_not_appended_to(change, grown):
    file, journal, _ = grown
    raw = file.read_bytes()
    file.unlink() if change == "gone" else file.write_bytes(raw[:-1] if change == "cut" else raw + b"x")
    assert not journal.append(growing(5))
    journal.write(growing(1))  # the whole, as a run has it
    assert_is(Checkpoint.read(file), 1)


def test_an_error_while_appending_leaves_what_was_there(grown, monkeypatch):
    file, journal, _ = grown
    before = file.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            journal.append(growing(5))
    assert file.read_bytes() == before
    assert journal.append(growing(5))
    assert_is(Checkpoint.read(file), 5)


def written_bytes(tmp_path, records, size):
    """How many bytes a run writes in all, and how long its file is."""
    file, total = tmp_path / f"{records}-{size}", 0
    journal, rows = Journal(file), {}
    for k in range(1, records + 1):
        more = growing(k, size)
        rows = {name: np.concatenate([rows.get(name, a[:0]), a]) for name, a in more.rows.items()}
        before = file.stat().st_size if k > 1 else 0
        if not (k > 1 and journal.append(more)):
            journal.write(Checkpoint(more.head, more.arrays, rows))
            before = 0
        total += file.stat().st_size - before
    found = Checkpoint.read(file)
    assert found.head == {"k": records} and np.array_equal(found.rows["b"], np.arange(2.0, 2 * records + 2))
    return total, file.stat().st_size


@pytest.mark.parametrize("size", [0, 50, 5000])
def test_the_bytes_in_all_grow_with_the_number_of_records(size, tmp_path):
    """States large or small beside the rows: twice the records, twice the bytes; the file holds no more than twice what lives."""
    (some, _), (more, length) = (written_bytes(tmp_path, records, size) for records in (50, 100))
    assert 1.5 < more / some < 2.5  # 4 where all is written every time
    lives = 8 * size + 100 * 8 * 8 + 100 * 1500  # the state, the rows and their names; an archive adds about 1200 bytes
    assert length < 2 * lives + 20_000


def trajectory():
    loss = lrf.losses.LeastSquares(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    start = lrf.random_point(3, 3, 2, rng=np.random.default_rng(0))
    return lrf.integrate(lrf.RiemannianFlow(loss, lrf.DepthMetric(2)), start, t_span=(0, 0.1), rtol=1e-4)


def newer(file):
    file.write_bytes(MAGIC.replace(b"2", b"99") + bytes(100))


def older(file):
    """As version 0.1.0 wrote them at first."""
    np.savez(file, head=np.array("{}"), sha256=np.array("0" * 64))


def single(file):
    with open(file, "wb") as stream:
        np.save(stream, np.ones(3))


# id -> what is put in the place of the file, a word of the message
OTHERS = {
    "nothing": (lambda f: None, "an existing file"),
    "a folder": (lambda f: f.mkdir(), "an existing file"),
    "an empty file": (lambda f: f.write_bytes(b""), "0 bytes"),
    "a text": (lambda f: f.write_text("hello"), "whole file"),
    "another archive": (lambda f: np.savez(f, a=np.ones(3)), "an archive; checkpoints were such up to schema 1"),
    "a trajectory": (lambda f: trajectory().save(f), "an archive"),
    "an array": (single, "(another file)"),
    "an archive without arrays": (lambda f: zipfile.ZipFile(f, "w").close(), "whole file"),
    "pickles": (lambda f: np.savez(f, a=np.array([{}])), "whole file"),
    "a checkpoint of tomorrow": (newer, "schema 99, not 2"),
    "a checkpoint of yesterday": (older, "up to schema 1, which this version does not go on from"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_thing_is_refused_in_one_line(name, tmp_path):
    put, word = OTHERS[name]
    file = tmp_path / "c.npz"
    put(file)
    with pytest.raises(ValueError) as caught:
        Checkpoint.read(file)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert message.startswith("`path` must ") and word in message and message.endswith(".") and "\n" not in message


def test_a_file_that_may_not_be_read_is_refused(written, monkeypatch):
    """The right to read cannot be taken from the user whom tests may run as."""
    _, file = written

    def closed(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))

    monkeypatch.setattr("lowrankflow.flow.checkpoint.open", closed, raising=False)
    with pytest.raises(ValueError) as caught:
        Checkpoint.read(file)
    assert str(caught.value) == f"{RULE}{str(file)!r} (Permission denied)."


def test_a_trajectory_refuses_a_checkpoint(written):
    with pytest.raises(ValueError, match=r"`path` must be a trajectory written by Trajectory\.save"):
        lrf.Trajectory.load(written[1])


# ---------------------------------------------------------------------------------------------------------------------
# full disks and kills


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_an_error_at_the_end_of_writing_leaves_the_old_file(call, written, monkeypatch):
    checkpoint, file = written

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left") as caught:
        Checkpoint({}, {}).write(file)
    assert caught.value.errno == errno.ENOSPC
    assert same(Checkpoint.read(file), checkpoint)
    assert [f.name for f in file.parent.iterdir()] == ["c.npz"]


def test_a_disk_too_full_for_a_new_file_is_an_error_of_the_system(written, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(OSError, match="No space left"):
        Checkpoint({}, {}).write(written[1])


def run(code, *arguments):
    """Run a program of Python and return the last line that it prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


FULL = """
import json, resource, sys
from pathlib import Path
import numpy as np
import lowrankflow as lrf
from lowrankflow.flow.checkpoint import Checkpoint

folder, seen = Path(sys.argv[1]), []
path = lrf.gradient_descent(
    lrf.losses.LeastSquares(np.eye(9), np.eye(9)), lrf.LinearNetwork.identity((9, 9), 2, widths=9, scale=0.5),
    step_size=0.1, steps=20)
checkpoint = Checkpoint({}, {"a": np.arange(1e4), "b": np.arange(1e4)})
for name, write in {"c": checkpoint.write, "t": path.save, "n": path.to_netcdf}.items():
    file = folder / name
    write(file)
    old, size = file.read_bytes(), file.stat().st_size
    for limit in (0, 1, 200, size // 3, size // 2, size - 2000, size - 1, size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write(file)
            kind = "written"
        except BaseException as error:
            kind = type(error).__name__
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        whole = kind == "written" or file.read_bytes() == old
        seen.append([name, limit - size, kind, whole, len(list(folder.iterdir())) == len({n for n, *_ in seen} | {name})])
print(json.dumps(seen))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits are those of posix")
def test_no_space_is_an_error_and_the_old_file_stays(tmp_path):
    """The limit on the size of a file refuses the same writes as a full disk, at any place of the file."""
    seen = run(FULL, tmp_path)
    assert len(seen) == 24
    for _, room, kind, whole, clean in seen:
        assert kind == ("OSError" if room < 0 else "written")  # the last row is the control
        assert whole and clean


KILLED = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
from lowrankflow.flow.checkpoint import Checkpoint

file, rng = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2]))

def write(n):
    Checkpoint({"n": n}, {"a": np.full(20_000, float(n)), "b": np.full((3, 3), n)}).write(file)

write(0)
seen = []
for _ in range(20):
    listen, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        n = Checkpoint.read(file).head["n"]
        while True:
            n += 1
            write(n)
            os.write(tell, b".")
    os.read(listen, 1)  # at least one was written
    time.sleep(rng.uniform(0, 0.03))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    back = Checkpoint.read(file)
    n = back.head["n"]
    whole = bool((back.arrays["a"] == n).all() and (back.arrays["b"] == n).all())
    seen.append([n, whole, len(list(file.parent.iterdir())) - 1])
write(-1)
print(json.dumps([seen, os.listdir(file.parent)]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a kill is a signal of posix")
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    seen, left = run(KILLED, tmp_path / "c.npz", 7)
    counters = [n for n, _, _ in seen]
    assert counters == sorted(
        set(counters)
    )  # each kill fell after a new one was whole, and never an older one is there
    assert all(whole for _, whole, _ in seen)
    orphans = [n for *_, n in seen]
    assert max(orphans) == 1  # some kill fell into a write, and its temporary file was removed by the next
    assert left == ["c.npz"]


def test_only_files_of_dead_writers_to_the_same_path_are_removed(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()  # a number of a process that is no more
    host, dead, alive = platform.node(), child.pid, os.getpid()
    orphan = tmp_path / f".c[1].npz-{host}-{dead}-x1.tmp"
    kept = [
        tmp_path / f".c[1].npz-{host}-{alive}-x1.tmp",
        tmp_path / f".c[1].npz-elsewhere-{dead}-x1.tmp",
        tmp_path / f".c1.npz-{host}-{dead}-x1.tmp",
        tmp_path / f".c[1].npz-{host}-mine.tmp",
        tmp_path / f".c[1].npz-{host}-{'9' * 40}-x1.tmp",  # no number of a process at all
        tmp_path / f"c[1].npz-{host}-{dead}-x1.tmp",
    ]
    for file in [orphan, *kept]:
        file.write_bytes(b"half")
    Checkpoint({}, {}).write(tmp_path / "c[1].npz")
    assert {f.name for f in tmp_path.iterdir()} == {"c[1].npz", *(f.name for f in kept)}


# ---------------------------------------------------------------------------------------------------------------------
# points


def many(kind, rng):
    if kind == "low rank":
        return [lrf.random_point(4, 3, 2, rng=rng) for _ in range(3)]
    if kind == "networks":  # more than nine factors: their order is by number
        return [lrf.LinearNetwork.gaussian((4, 3), 11, widths=range(2, 12), rng=rng) for _ in range(3)]
    return []


def factors(w):
    return (w.u, w.s, w.vt) if isinstance(w, lrf.LowRankMatrix) else w.factors


@pytest.mark.parametrize("kind", ["low rank", "networks", "none"])
def test_points_come_back_through_a_checkpoint(kind, rng, tmp_path):
    points = many(kind, rng)
    Checkpoint({}, {"t": np.arange(3.0), **pack_points(points)}).write(tmp_path / "c")
    back = unpack_points(Checkpoint.read(tmp_path / "c").arrays)
    assert len(back) == len(points)
    for a, b in zip(back, points, strict=True):
        assert type(a) is type(b) and a.shape == b.shape
        for x, y in zip(factors(a), factors(b), strict=True):
            np.testing.assert_array_equal(x, y, strict=True)


@pytest.mark.parametrize("kind", ["low rank", "networks"])
def test_points_of_different_lengths_are_refused(kind, rng):
    arrays = pack_points(many(kind, rng))
    last = list(arrays)[-1]
    with pytest.raises(ValueError, match="shorter"):
        unpack_points(arrays | {last: arrays[last][:2]})


def test_pipes_are_refused_links_followed_and_modes_kept(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"`path` must be a regular file, got .*pipe', a pipe or a device"):
        Checkpoint({}, {}).write(tmp_path / "pipe")
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    (tmp_path / "far").mkdir()
    (tmp_path / "link.npz").symlink_to(tmp_path / "far" / "real.npz")
    Checkpoint({"k": 1}, {}).write(tmp_path / "link.npz")
    assert (tmp_path / "link.npz").is_symlink()
    assert Checkpoint.read(tmp_path / "far" / "real.npz").head == {"k": 1}
    os.chmod(tmp_path / "far" / "real.npz", 0o600)
    Checkpoint({"k": 2}, {}).write(tmp_path / "link.npz")
    assert stat.S_IMODE(os.stat(tmp_path / "far" / "real.npz").st_mode) == 0o600
    assert os.listdir(tmp_path / "far") == ["real.npz"]

"""The cache of compiled code: never stale, shared by processes, bounded, and not necessary."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vmcs import jitcache

ROOT = Path(__file__).parents[2]

HELPER = """
import numpy as np
from vmcs.jit import jit

STEP = np.uint64(3)

@jit("uint64(uint64)")
def moved(word):
    return word + STEP
"""

CALLER = """
from helper import moved
from vmcs.jit import jit

@jit("uint64(uint64)")
def twice(word):
    return moved(moved(word))

if __name__ == "__main__":
    print(twice(10))
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "caller.py").write_text(CALLER)
    return tmp_path


def start(project, cache, **environment):
    return subprocess.Popen(
        [sys.executable, "caller.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=project,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NESTLING_CACHE_DIR": str(cache),
            "NESTLING_DISABLE_JIT": "0",
            "NUMBA_DISABLE_JIT": "0",
            **environment,
        },
    )


def finish(process):
    out, errors = process.communicate()

    assert 0 == process.returncode, errors
    return int(out)


def run(project, cache, **environment):
    return finish(start(project, cache, **environment))


def compiled(cache):
    """Compiled files of the cache, with the time at which each was written."""
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}


def test_a_second_run_compiles_nothing(project, tmp_path):
    cache = tmp_path / "cache"
    first = run(project, cache)
    kept = compiled(cache)
    second = run(project, cache)

    assert (16, 16) == (first, second)
    assert 2 == len(kept)
    assert kept == compiled(cache)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("np.uint64(3)", "np.uint64(5)", 20),
        ("word + STEP", "word * STEP", 90),
        ("uint64(uint64)", "uint32(uint64)", 16),
    ],
    ids=["constant", "body", "signature"],
)
def test_a_changed_helper_is_never_stale(project, tmp_path, old, new, expected):
    cache = tmp_path / "cache"
    run(project, cache)
    kept = compiled(cache)
    (project / "helper.py").write_text(HELPER.replace(old, new))

    assert expected == run(project, cache)
    assert 2 * len(kept) == len(compiled(cache))


def test_a_moved_helper_leaves_its_caller_compiled(project, tmp_path):
    cache = tmp_path / "cache"
    run(project, cache)
    callers = {path: at for path, at in compiled(cache).items() if "twice" in path.name}
    (project / "helper.py").write_text("\n\n" + HELPER)

    assert 16 == run(project, cache)
    assert callers == {path: at for path, at in compiled(cache).items() if "twice" in path.name}


def test_first_runs_at_the_same_time_do_not_disturb_each_other(project, tmp_path):
    cache = tmp_path / "cache"
    processes = [start(project, cache) for _ in range(3)]

    assert [16, 16, 16] == [finish(process) for process in processes]
    assert 16 == run(project, cache)


def test_a_cache_that_cannot_be_written_is_done_without(project, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")

    assert 16 == run(project, in_the_way)
    assert [] == list(project.rglob("*.nbc"))


def test_a_damaged_file_is_compiled_anew(project, tmp_path):
    cache = tmp_path / "cache"
    run(project, cache)
    for path in compiled(cache):
        path.write_bytes(b"")

    assert 16 == run(project, cache)


def test_another_processor_has_a_directory_of_its_own(project, tmp_path):
    cache = tmp_path / "cache"

    assert 16 == run(project, cache)
    assert 16 == run(project, cache, NUMBA_CPU_NAME="generic")
    assert 2 == len(list((cache / "jit").iterdir()))


def test_old_directories_are_removed(tmp_path):
    for age, name in enumerate("edcba"):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "compiled").write_text("")
        os.utime(directory, (1000 - age, 1000 - age))
    jitcache.prune(tmp_path)

    assert {"e", "d", "c"} == {path.name for path in tmp_path.iterdir()}


def test_versions_of_one_function_are_bounded(monkeypatch, tmp_path):
    monkeypatch.setenv("NESTLING_CACHE_DIR", str(tmp_path))
    versions = [jitcache.digest(str(step)) for step in range(5)]
    for age, version in enumerate(versions):
        directory = jitcache.function_directory("helper.moved", version)
        os.utime(directory, (1000 + age, 1000 + age))
    kept = {path.name for path in tmp_path.glob("jit/*/helper.moved/*")}

    assert {version[:32] for version in versions[-jitcache.KEPT :]} == kept


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NESTLING_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/nestling"),
        ({"HOME": "/c"}, "/c/.cache/nestling"),
    ],
)
def test_the_directory_follows_the_environment(monkeypatch, environment, expected):
    for name in ("NESTLING_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert Path(expected) == jitcache.base_directory()


def test_the_processor_is_told_by_its_features():
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M)

    assert flags is not None
    assert flags[1].strip() in jitcache.processor()


def test_digests_keep_parts_apart():
    assert jitcache.digest("ab", "c") != jitcache.digest("a", "bc")
    assert jitcache.digest("ab") == jitcache.digest("ab")

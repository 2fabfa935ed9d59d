"""Compiling ahead: every function once, callees first, and a test of it that costs nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

INNER = """
import numpy as np
from vmcs.jit import jit

ONE = np.uint64(1)


@jit("uint64(uint64)")
def outer(word):
    return inner(word) + ONE


@jit("uint64(uint64)")
def inner(word):
    return word << ONE
"""

BROKEN = """
from vmcs.jit import jit


@jit("uint64(uint64)")
def broken(word):
    return word.no_such_thing
"""

REPORT = """
import json, sys
from vmcs.warm import WarmError, is_warm, jitted_sources, warm
calls, failure = [], ""
before = is_warm(("small",))
try:
    count = warm(lambda *call: calls.append(call), ("small",))
except WarmError as error:
    count, failure = -1, str(error)
print(json.dumps({
    "sources": list(jitted_sources(("small",))), "before": before, "count": count,
    "calls": calls, "after": is_warm(("small",)), "failure": failure,
    "numba": "numba" in sys.modules,
}))
"""


@pytest.fixture
def project(tmp_path):
    package = tmp_path / "small"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text(INNER)
    (package / "plain.py").write_text("raise ImportError('holds nothing that is jitted')\n")
    return tmp_path


def report(project, cache="cache", **environment):
    done = subprocess.run(
        [sys.executable, "-c", REPORT],
        capture_output=True,
        text=True,
        check=True,
        cwd=project,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(project)]),
            "NESTLING_CACHE_DIR": str(project / cache),
            "NESTLING_DISABLE_JIT": "0",
            "NUMBA_DISABLE_JIT": "0",
            **environment,
        },
    )
    return json.loads(done.stdout)


def test_everything_is_compiled_once_and_callees_first(project):
    first = report(project)
    second = report(project)

    assert ["small.words"] == first["sources"]
    assert (False, 2, True) == (first["before"], first["count"], first["after"])
    assert [[1, 2, "small.words.inner"], [2, 2, "small.words.outer"]] == first["calls"]
    assert (True, 0, []) == (second["before"], second["count"], second["calls"])


def test_the_process_that_asks_does_not_load_numba(project):
    assert not report(project)["numba"]


def test_a_changed_source_is_not_warm(project):
    report(project)
    words = project / "small" / "words.py"
    words.write_text(words.read_text().replace("word << ONE", "word * ONE"))
    again = report(project)

    assert (False, 2) == (again["before"], again["count"])


def test_a_few_sources_are_remembered(project):
    words = project / "small" / "words.py"
    for step in range(5):
        words.write_text(f"{INNER}\n# {step}\n")
        report(project)

    assert 3 == len(list(project.glob("cache/jit/*/warm-*")))


def test_a_function_that_does_not_compile_is_named(project):
    (project / "small" / "wrong.py").write_text(BROKEN)
    failed = report(project)

    assert failed["failure"].startswith("small.wrong.broken: ")
    assert "no_such_thing" in failed["failure"]
    assert not failed["after"]


def test_without_a_cache_the_process_itself_is_warmed(project):
    (project / "file").write_text("")
    here = report(project, cache="file")

    assert (2, True, False) == (here["count"], here["numba"], here["after"])


def test_there_is_nothing_to_do_where_compiling_is_disabled(project):
    idle = report(project, NESTLING_DISABLE_JIT="1")

    assert (True, 0, True) == (idle["before"], idle["count"], idle["after"])

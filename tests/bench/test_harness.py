"""The benchmarks' harness: turns, medians, and benchmarks that can be listed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import harness
from bench.harness import Figure, Timing, as_json, as_line, compared

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the candidates move."""

    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(harness, "time", clock)
    return clock


def test_the_median_of_the_rounds_counts(clock):
    costs = iter([9, 9, 1, 5, 3])

    def candidate():
        clock.now += next(costs)

    assert {"a": Timing(3, 1, 5)} == compared({"a": candidate}, rounds=3)


def test_candidates_take_turns(clock):
    called = []

    def candidate(name):
        def run():
            called.append(name)
            clock.now += 1

        return run

    compared({name: candidate(name) for name in "ab"}, rounds=2)

    assert list("aabb" + "abab") == called


def test_a_short_candidate_is_called_more_often_in_a_round(clock):
    calls = 0

    def candidate():
        nonlocal calls
        calls += 1
        clock.now += harness.LEAST_SECONDS / 10

    compared({"a": candidate}, rounds=1)

    assert 12 == calls


def test_every_benchmark_says_what_it_asks():
    assert {"remap", "checksum", "compile"} <= set(harness.names())
    assert all(harness.question(name).endswith(".") for name in harness.names())


def test_the_machine_is_described():
    machine = harness.machine()

    assert machine["processor"]
    assert 0 < int(machine["processors"])
    assert harness.available_memory() > 0


def test_a_figure_is_a_line_or_an_object():
    figure = Figure("4 records", "remap", 12.5, "ns/record", 0.8, "np.copyto")

    assert ["remap", "12.5", "ns/record", "0.80", "x", "np.copyto"] == as_line(figure).split()
    assert {"bench": "x", "name": "remap", "value": 12.5, "ratio": 0.8}.items() <= (
        as_json("x", figure).items()
    )
    assert "x" not in as_line(Figure("", "start", 1, "s")).split()


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_benchmarks_are_listed():
    listed = run("--list")

    assert 0 == listed.returncode, listed.stderr
    assert {"remap", "checksum", "compile"} <= {
        line.split()[0] for line in listed.stdout.split("\n") if line
    }


def test_an_unknown_benchmark_is_named():
    refused = run("nothing")

    assert 2 == refused.returncode
    assert "no benchmark 'nothing'" in refused.stderr


def test_a_run_can_be_read_by_a_program(monkeypatch, capsys):
    monkeypatch.setattr(harness, "run", lambda name: iter([Figure("g", name, 1.0, "s")]))
    monkeypatch.setattr(sys, "argv", ["bench", "--json", "remap"])

    assert 0 == command.main()
    report = json.loads(capsys.readouterr().out)
    assert [("remap", 1.0)] == [(f["bench"], f["value"]) for f in report["figures"]]
    assert "processor" in report["machine"]

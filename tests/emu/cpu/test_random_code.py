"""Random bytes as code break nothing, and compiled they do what they do as plain Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emu.cpu.random_code import MODES, Rig, image

ROOT = Path(__file__).parents[3]


def outcome(folder, *arguments, seconds=600):
    """What a process of its own found; one that crashes or hangs fails with the seed it was at."""
    where = folder / "seed"
    command = [sys.executable, "-m", "tests.emu.cpu.random_code", "--seed-file", str(where)]
    try:
        done = subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"seed {where.read_text().strip()}: it does not end")
    if done.returncode:
        pytest.fail(f"seed {where.read_text().strip()}: ends with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def test_random_code_breaks_nothing_and_runs_the_same_compiled_and_plain(tmp_path):
    found = outcome(tmp_path, "--cases", 300, "--compare-every", 2)

    assert [] == found["failures"]
    assert 300 == found["cases"] == 2 * found["compared"]
    assert found["instructions"] > 10_000
    assert found["exceptions"] > 5_000


def test_every_mode_is_entered_as_it_says():
    rig = Rig("skylake-x")
    for seed, mode in enumerate(MODES):
        rig.prepare(seed)

        assert (mode.bits, mode.cpl == 3, "86" in mode.name) == rig.cpu.mode[:3]


def test_a_crash_of_the_process_is_told_with_its_seed(tmp_path):
    (tmp_path / "seed").write_text("7")

    with pytest.raises(pytest.fail.Exception, match="seed 7: ends with 2"):
        outcome(tmp_path, "--no-such-option")


def test_an_image_is_the_same_every_time():
    first = image(3).copy()
    image.cache_clear()

    assert first.tobytes() == image(3).tobytes() != image(4).tobytes()

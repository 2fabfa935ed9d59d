"""Ten million instructions of random code, in processes of their own: no crash, no hang."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.emu.cpu.test_random_code import outcome

INSTRUCTIONS = int(os.environ.get("RANDOM_INSTRUCTIONS", "10000000"))
PROCESSES = 2
APART = 1 << 32  # seeds of one process and the next


@pytest.mark.conformance
def test_ten_million_instructions_of_random_code_break_nothing(tmp_path):
    def process(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        share = INSTRUCTIONS // PROCESSES
        first = (number + 1) * APART
        options = ("--first", first, "--instructions", share, "--compare-every", 50)
        return outcome(folder, *options, seconds=7200)

    with ThreadPoolExecutor(PROCESSES) as pool:
        found = list(pool.map(process, range(PROCESSES)))

    assert [[]] * PROCESSES == [one["failures"] for one in found]
    assert sum(one["instructions"] for one in found) >= INSTRUCTIONS

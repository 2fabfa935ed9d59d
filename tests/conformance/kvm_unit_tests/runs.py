"""The runs: an image, the machine it gets, and why it may skip. Images are built outside the tree.

kvm-unit-tests at commit 1da1819e (June 2026). What a run must print is in `verdicts.json.gz`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from emu.cpu.models import MODELS
from emu.machine.board import Board, Outcome
from emu.machine.config import BoardConfig
from emu.machine.core import Cores
from emu.machine.loaders import load

VERDICT: Final = re.compile(r"^(PASS|FAIL|SKIP): (.*)$")
NUMBER: Final = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,16}\b|\d+")
SUCCESS, ALL_SKIPPED = 1, 77  # exit statuses: of report_summary() 0, and of a test that skips

SIEVE: Final = ("static:78498 out of 1000000", "virtual:5761455 out of 100000000")


class Run(NamedTuple):
    """An image on a machine.

    Names of subtests that are `timed` hold measured numbers, or what a register happened to hold:
    numbers are left out of the comparison. Without `test_device` the image is told that it runs on
    hardware, and asks nothing of a hypervisor.
    """

    name: str
    image: str
    model: str = "skylake-x"
    processors: int = 1
    arguments: str = ""
    test_device: bool = True
    timed: bool = False
    slow: bool = False
    says: tuple[str, ...] = ()
    status: int = SUCCESS


RUNS: Final = (
    Run("dummy", "dummy", says=("Dummy Hello World!",)),
    Run("setjmp", "setjmp"),
    Run("tsc", "tsc", "sapphire-rapids", timed=True),
    Run("memory", "memory"),
    Run("syscall", "syscall", "zen3"),
    Run("idt_test", "idt_test"),
    Run("umip", "umip"),
    Run("smap", "smap"),
    Run("pku", "pku"),
    Run("pks", "pks", "sapphire-rapids"),
    Run("access", "access_test", "minimal", slow=True),
    Run("debug", "debug"),
    Run("xsave", "xsave", timed=True),
    Run("emulator", "emulator"),
    Run("realmode", "realmode", slow=True),
    Run("apic", "apic", processors=2, test_device=False, timed=True, slow=True),
    Run("ioapic", "ioapic", processors=4),
    Run("eventinj", "eventinj"),
    Run("msr", "msr", slow=True),
    Run("tscdeadline_latency", "tscdeadline_latency", timed=True, slow=True),
    Run("rdpru", "rdpru"),
    Run("rdpru-zen3", "rdpru", "zen3", status=ALL_SKIPPED),
    Run("pcid", "pcid"),
    Run("la57", "la57", "sapphire-rapids"),
    Run("la57-without", "la57"),
    Run("sieve", "sieve", slow=True, says=SIEVE),
    Run("smptest", "smptest", processors=2),
    Run("smptest3", "smptest", processors=3),
    Run("rmap_chain", "rmap_chain"),
    Run("tsc_adjust", "tsc_adjust", timed=True),
    Run("lam", "lam"),
    Run("s3", "s3", slow=True),
    Run("pmu", "pmu", slow=True),
    *(
        Run(name, name, status=ALL_SKIPPED)
        for name in ("asyncpf", "cet", "hyperv_clock", "hyperv_connections", "hyperv_stimer",
                     "hyperv_synic", "kvmclock_test", "pmu_lbr", "pmu_pebs", "tsx-ctrl")
    ),
)  # fmt: skip


def start(run: Run, folder: Path, output: bytearray) -> Board:
    """A board that holds the image of a run; what it prints goes to `output`."""
    cores = Cores(MODELS[run.model])
    config = BoardConfig(processors=run.processors, apic=cores.apic())
    board = Board(config, cores, transmit=output.extend)
    path = folder / f"{run.image}.flat"
    environment = b"" if run.test_device else environ(board)
    command_line = f"{path.name} {run.arguments}".strip()
    load(board, path.read_bytes(), path.name, command_line, environment)
    return board


def environ(board: Board) -> bytes:
    """The environment of an image that is to take the board for plain hardware."""
    config = board.config
    lines = (f"NR_CPUS={config.processors}", f"MEMSIZE={config.memory >> 20}", "TEST_DEVICE=0")
    return "".join(f"{line}\n" for line in lines).encode()


def verdicts(run: Run, text: str) -> list[list[str]]:
    """The PASS, FAIL and SKIP lines, in order."""
    found = [match.groups() for line in text.splitlines() if (match := VERDICT.match(line))]
    return [[word, NUMBER.sub("#", name) if run.timed else name] for word, name in found]


def perform(run: Run, folder: Path, limit: int | None = None) -> tuple[Outcome, str]:
    """Run an image to its end: how it ended, what it printed."""
    output = bytearray()
    outcome = start(run, folder, output).run(limit)
    return outcome, output.decode("utf-8", "replace")

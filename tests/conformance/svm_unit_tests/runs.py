"""svm.flat and svm_npt.flat, subtest by subtest. Images are built outside the tree.

kvm-unit-tests at commit 1da1819e (June 2026). A boot runs the subtests of its rows one after the
other; `unittests.cfg` runs svm.flat so, with two processors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from emu.cpu.models import MODELS, varied
from emu.machine.board import Board, Outcome
from emu.machine.config import BoardConfig
from emu.machine.core import Cores
from emu.machine.loaders import load

MIB: Final = 1 << 20
HEADING: Final = "SVM test: "
VERDICT: Final = re.compile(r"^(PASS|FAIL|SKIP): (.*)$")
NOT_SUPPORTED: Final = re.compile(r"^(.*) \(not supported\)$")


class Boot(NamedTuple):
    """One boot of an image, on a model with features more or less; `pause` is what PAUSE takes."""

    name: str
    image: str
    model: str = "zen3"
    processors: int = 2
    pause: int = 140


class Row(NamedTuple):
    """A subtest in a boot: how many PASS and FAIL lines it prints, or that it is skipped.

    `reason` says why it is not green.
    """

    boot: str
    name: str
    passes: int = 1
    fails: int = 0
    skips: int = 0
    reason: str = ""


LONG_PAUSE: Final = 10_000
"""Ticks of a PAUSE where a subtest waits for hundreds of millions of them."""

BOOTS: Final = (
    Boot("svm", "svm"),
    Boot("svm, MSRs", "svm"),
    Boot("svm, latency", "svm"),
    Boot("svm, waiting", "svm", pause=LONG_PAUSE),
    Boot("svm, zen4", "svm", "zen4"),
    Boot("svm, TSC_ADJUST", "svm", "zen3,+tsc_adjust"),
    Boot(
        "svm_unsupported",
        "svm",
        "zen3,-rdtscp,-xsave,-invpcid,-skinit,-rdpru",
        1,
    ),
    Boot("svm_no_npt", "svm", "zen3,-npt"),
    Boot("svm_npt", "svm_npt"),
)

NO_FORCED_EMULATION: Final = "a prefix that KVM alone takes: on a processor it is #UD"
NO_FEATURE: Final = "the model lacks the feature; it runs in a boot of its own"
MAP_OF_NOTHING: Final = (
    "a permissions map in range, where there is no memory: KVM cannot read it and refuses, a "
    "processor enters the guest, as a comment of the subtest says"
)
THREE_PROCESSORS: Final = (
    "needs three processors, where unittests.cfg has two; by the manual the INIT that was "
    "intercepted is taken at STGI, and the subtest never ends"
)

SVM: Final = (
    *("null", "vmrun", "ioio", "vmrun intercept check", "rsm", "sel cr0 write intercept"),
    *("sel cr0 write intercept priority", "sel cr0 write nointercept", "sel cr0 lmsw intercept"),
    *("cr3 read intercept", "cr3 read nointercept", "cr3 read intercept emulate"),
    *("dr intercept check", "next_rip", "mode_switch", "asid_zero"),
    *("pending_event", "pending_event_cli", "virq_inject", "virq_inject_within_shadow"),
    *("host_rflags", "svm_vmrun_errata_test", "svm_no_nm_test", "svm_shutdown_intercept_test"),
)
"""Subtests of svm.flat that print one PASS line."""
FORCED: Final = (
    *("sel cr0 write intercept emulate", "sel cr0 write intercept priority emulate"),
    *("sel cr0 write nointercept emulate", "sel cr0 lmsw intercept emulate"),
)
COUNTED: Final = (
    ("exc_inject", 4),
    ("interrupt", 3),
    ("nmi", 2),
    ("vgif", 3),
    ("svm_pae_test", 78),
    ("svm_pse_test", 27),
    ("svm_cr4_osxsave_test", 3),
    ("svm_vmload_vmsave", 8),
    ("svm_test_singlestep", 3),
    ("svm_exception_test", 27),
    *((f"svm_lbrv_test{n}", 0) for n in range(4)),
    *((f"svm_lbrv_nested_test{n}", 0) for n in range(1, 4)),
    ("svm_intr_intercept_mix_if", 5),
    ("svm_intr_intercept_mix_gif", 6),
    ("svm_intr_intercept_mix_gif2", 6),
    ("svm_intr_intercept_mix_nmi", 6),
    ("svm_intr_intercept_mix_smi", 2),
    ("pause_filter_test", 4),
)
"""Subtests that print so many; those of LBR virtualization print failures alone."""


def quick(boot: str, guest_state: int) -> tuple[Row, ...]:
    """The rows of svm.flat that end soon."""
    return (
        *(Row(boot, name) for name in SVM),
        *(Row(boot, name, 0, skips=1, reason=NO_FORCED_EMULATION) for name in FORCED),
        *(Row(boot, name, passes) for name, passes in COUNTED),
        Row(boot, "svm_guest_state_test", guest_state, fails=2, reason=MAP_OF_NOTHING),
        *(Row(boot, name, 0, skips=1, reason=NO_FEATURE) for name in ("tsc_adjust", "vnmi")),
    )


ROWS: Final = (
    *quick("svm", 134),
    Row("svm", "reg_corruption", 2),
    Row("svm, MSRs", "msr intercept check", 11),
    *(
        Row("svm, latency", f"latency_{name}")
        for name in ("run_exit", "run_exit_clean", "svm_insn")
    ),
    Row("svm, waiting", "nmi_hlt", 4),
    Row("svm, waiting", "svm_init_startup_test"),
    Row("svm, waiting", "svm_init_intercept_test", 0, reason=THREE_PROCESSORS),
    Row("svm, waiting", "svm_tsc_scale_test", 13),
    Row("svm, zen4", "vnmi", 4),
    Row("svm, TSC_ADJUST", "tsc_adjust"),
    Row("svm_unsupported", "svm_unsupported_instruction_intercept_test", 10),
    *quick("svm_no_npt", 121),
    *(Row("svm_npt", name) for name in ("npt_nx", "npt_np", "npt_us")),
    *(Row("svm_npt", f"npt_gmet_{name}") for name in ("null", "nx", "us")),
    *(Row("svm_npt", name) for name in ("npt_rw", "npt_rw_pfwalk", "npt_l1mmio", "npt_rw_l1mmio")),
    Row("svm_npt", "svm_npt_rsvd_bits_test", 128),
)


def start(boot: Boot, subtests: list[str], folder: Path, output: bytearray) -> Board:
    """A board that holds the image of a boot; what it prints goes to `output`."""
    name, *changes = boot.model.split(",")
    cores = Cores(varied(MODELS[name], changes) if changes else MODELS[name])
    config = BoardConfig(
        processors=boot.processors,
        memory=256 * MIB,
        apic=cores.apic(),
        pause_ticks=boot.pause,
    )
    board = Board(config, cores, transmit=output.extend)
    path = folder / f"{boot.image}.flat"
    wanted = " ".join(subtest.replace(" ", "_") for subtest in subtests)
    load(board, path.read_bytes(), path.name, f"{path.name} {wanted}")
    return board


def perform(boot: Boot, subtests: list[str], folder: Path) -> tuple[Outcome, str]:
    """Run subtests to their end: how it ended, what was printed."""
    output = bytearray()
    outcome = start(boot, subtests, folder, output).run()
    return outcome, output.decode("utf-8", "replace")


def verdicts(text: str) -> Iterator[tuple[str, str, str]]:
    """Subtest, PASS or FAIL or SKIP, and the line."""
    subtest = ""
    for line in text.splitlines():
        if line.startswith(HEADING):
            subtest = line.removeprefix(HEADING)
        elif match := VERDICT.match(line):
            unsupported = NOT_SUPPORTED.match(match[2])
            yield unsupported[1] if unsupported else subtest, match[1], match[2]

"""vmx.flat, subtest by subtest. The image is built outside the tree.

kvm-unit-tests at commit 1da1819e (June 2026). A boot runs the subtests of its rows one after the
other, after the image's eleven steps of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from emu.cpu.models import MODELS
from emu.machine.board import Board, Outcome
from emu.machine.config import BoardConfig
from emu.machine.core import Cores
from emu.machine.loaders import load

MIB: Final = 1 << 20
SUCCESS, FAILURES = 1, 3  # exit statuses
HEADING: Final = "Test suite: "
VERDICT: Final = re.compile(r"^(PASS|FAIL|SKIP|XPASS|XFAIL): (.*)$")
LONG_PAUSE: Final = 10_000
"""Ticks of a PAUSE where a subtest waits for hundreds of millions of them."""


class Boot(NamedTuple):
    """One boot of the image; `pause` is what PAUSE takes."""

    name: str
    processors: int = 1
    pause: int = 140
    status: int | None = SUCCESS


class Row(NamedTuple):
    """A subtest in a boot: how many PASS lines it prints; several print failures alone.

    `skips` are parts that ask for what the processor does not have. `reason` says why what is not
    green is not: `expected_failures` are lines that wait for an error of KVM, which a processor
    does not make.
    """

    boot: str
    name: str
    passes: int = 1
    skips: int = 0
    expected_failures: int = 0
    reason: str = ""


WAITING: Final = (
    ("nmi_hlt", 3),
    ("vmx_eoi_bitmap_ioapic_scan_test", 1),
    ("vmx_posted_interrupts_test", 2),
    ("vmx_init_signal_test", 4),
    ("vmx_sipi_signal_test", 4),
)
"""Subtests that wait for another processor, each in a boot of its own; and their PASS lines."""

BOOTS: Final = (
    Boot("basics"),
    Boot("controls"),
    Boot("state"),
    Boot("EPT"),
    Boot("events", status=FAILURES),
    Boot("APIC"),
    *(Boot(name, processors=2, pause=LONG_PAUSE) for name, _ in WAITING),
    Boot("two processors", processors=2),
    Boot("exit from L2"),
)

KVM_ERROR: Final = "report_xfail: a #DB pending after MOV SS, which KVM loses"
NO_LAM: Final = "no linear-address masking"
NO_COUNTERS: Final = "no performance counters: IA32_PERF_GLOBAL_CTRL is not there"
NO_COUNTERS_NO_MPX: Final = "no performance counters, no bounds registers"
NO_CET: Final = "no control-flow enforcement"

ROWS: Final = (
    Row("basics", "null"),
    Row("basics", "vmenter", 2),
    Row("basics", "preemption timer", 5),
    Row("basics", "control field PAT", 3),
    Row("basics", "control field EFER", 3),
    Row("basics", "CR shadowing", 12),
    Row("basics", "I/O bitmap", 15),
    Row("basics", "instruction intercept", 42),
    Row("basics", "interrupt", 8),
    Row("basics", "debug controls", 4),
    Row("basics", "MSR switch", 4),
    Row("basics", "vmmcall"),
    Row("basics", "disable RDTSCP", 2),
    Row("basics", "invalid_msr"),
    Row("basics", "v2_null_test"),
    Row("basics", "v2_multiple_entries_test"),
    Row("basics", "fixture_test_case1"),
    Row("basics", "fixture_test_case2"),
    Row("basics", "vmx_ldtr_test", 2),
    Row("basics", "vmx_cr_load_test", 0),
    Row("basics", "vmx_cr4_osxsave_test", 0),
    Row("basics", "vmx_no_nm_test", 0),
    Row("basics", "vmx_store_tsc_test", 2),
    Row("basics", "vmx_preemption_timer_zero_test", 4),
    Row("basics", "vmx_preemption_timer_expiry_test"),
    Row("basics", "atomic_switch_max_msrs_test", 0),
    Row("basics", "vmx_canonical_test"),
    Row("basics", "vmx_cet_test", 0, skips=1, reason=NO_CET),
    Row("controls", "invvpid_test", 1037, skips=1, reason=NO_LAM),
    Row("controls", "vmx_controls_test", 3246),
    Row("state", "vmx_host_state_area_test", 777, skips=1, reason=NO_COUNTERS),
    Row("state", "vmx_guest_state_area_test", 509, skips=2, reason=NO_COUNTERS_NO_MPX),
    Row("state", "vmentry_movss_shadow_test", 5),
    Row("state", "vmentry_unrestricted_guest_test"),
    Row("state", "vmx_pae_test", 168),
    Row("state", "vmx_pse_test", 29),
    Row("EPT", "EPT A/D disabled", 14),
    Row("EPT", "EPT A/D enabled", 12),
    Row("EPT", "PML", 2),
    Row("events", "vmx_db_test", 18, expected_failures=2, reason=KVM_ERROR),
    Row("events", "vmx_nmi_window_test", 13),
    Row("events", "vmx_intr_window_test", 14),
    Row("events", "vmx_pending_event_test", 3),
    Row("events", "vmx_pending_event_hlt_test", 3),
    Row("events", "vmx_mtf_test", 6),
    Row("events", "vmx_mtf_pdpte_test", 4),
    Row("events", "vmx_exception_test", 27),
    Row("APIC", "vmx_hlt_with_rvi_test"),
    Row("APIC", "apic_reg_virt_test", 783),
    Row("APIC", "virt_x2apic_mode_test", 1034),
    Row("APIC", "vmx_apic_passthrough_test"),
    Row("APIC", "vmx_apic_passthrough_tpr_threshold_test", 3),
    *(Row(name, name, passes) for name, passes in WAITING),
    Row("two processors", "vmx_apic_passthrough_thread_test"),
    Row("exit from L2", "exit_monitor_from_l2_test", 0),
)

NOT_RUN: Final = {
    "a list longer than IA32_VMX_MISC recommends, whose effect the manual leaves open; the entry "
    "fails at the 513th MSR as the subtest expects, and the subtest then ends the image": (
        "atomic_switch_overflow_msrs_test",
    ),
    "too long for a test: billions of instructions, or hundreds of thousands of VM exits": (
        "vmx_basic_vid_test",
        "vmx_eoi_virt_test",
        "vmx_vmcs_shadow_test",
        "vmx_preemption_timer_tf_test",
        "rdtsc_vmexit_diff_test",
        "vmx_pf_exception_test",
        "vmx_pf_exception_forced_emulation_test",
        "vmx_pf_no_vpid_test",
        "vmx_pf_invvpid_test",
        "vmx_pf_vpid_test",
        "ept_access_test_*",
    ),
}
"""Subtests without a row, and why."""


def start(boot: Boot, subtests: list[str], folder: Path, output: bytearray) -> Board:
    """A board that holds the image of a boot; what it prints goes to `output`."""
    cores = Cores(MODELS["skylake-x"])
    config = BoardConfig(
        processors=boot.processors,
        memory=128 * MIB,
        apic=cores.apic(),
        pause_ticks=boot.pause,
    )
    board = Board(config, cores, transmit=output.extend)
    path = folder / "vmx.flat"
    wanted = " ".join(subtest.replace(" ", "_") for subtest in subtests)
    load(board, path.read_bytes(), path.name, f"{path.name} {wanted}")
    return board


def perform(boot: Boot, subtests: list[str], folder: Path) -> tuple[Outcome, str]:
    """Run subtests to their end: how it ended, what was printed."""
    output = bytearray()
    outcome = start(boot, subtests, folder, output).run()
    return outcome, output.decode("utf-8", "replace")


def verdicts(text: str) -> Iterator[tuple[str, str]]:
    """Subtest and PASS, FAIL, SKIP, XPASS or XFAIL, a line each; the image's steps left out."""
    subtest = ""
    for line in text.splitlines():
        if line.startswith(HEADING):
            subtest = line.removeprefix(HEADING)
        elif subtest and (match := VERDICT.match(line)):
            yield subtest, match[1]

"""VMLAUNCH and VMRESUME of L1: KVM's checks, then vmcs02.

The checks are the rows of `rules` that KVM_SET_NESTED_STATE makes too, in the same order; here a
check of the controls is VMfail, one of the guest's state a VM exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from emu.kvm import glossary
from emu.kvm.nested_vmx import rules
from emu.kvm.nested_vmx.enter import abandon_entry, secondary_controls
from emu.kvm.nested_vmx.instructions import fail, fail_invalid, require_vmx_operation
from emu.kvm.nested_vmx.masks import ProcBased, ProcBased2
from emu.kvm.nested_vmx.set import EFFECTS, IOCTL, program_words
from emu.kvm.nested_vmx.state import INVALID_GPA
from emu.kvm.nested_vmx.sync import HLT, LAUNCH_STATE_AT, WAIT_FOR_SIPI, load_host_state
from emu.kvm.nested_vmx.words import BLOB_WORDS, NAMES, VMCS12_AT, WHOLE_SIZE
from emu.kvm.rule_program import RuleProgram
from emu.releases import release as release_named
from vmcs.checks import Kind
from vmcs.vmx.exit_qualification import InvalidGuestState
from vmcs.vmx.exit_reasons import ExitReason
from vmcs.vmx.instruction_errors import InstructionError
from vmcs.vmx.vmcs12 import VMCS12_SIZE

if TYPE_CHECKING:
    from emu.kvm.running.vmx_run import VmxRun
    from emu.releases.schema import Release
    from vmcs.checks import Row

SHADOW_VMCS: Final = 1 << 31
VALID: Final = 1 << 31
ENTRY_FAILURE: Final = 1 << 31
INTERRUPT_FLAG: Final = 1 << 9
MOV_SS: Final = 1
MP_INIT_RECEIVED: Final = 2
FLAGS: Final = (rules.GUEST_MODE | rules.RUN_PENDING).to_bytes(2, "little")

FIRST_WITH_RULES: Final = "4.19"
"""Without the ioctl a release has no rows; its VM entry makes the checks of the one after it."""

_PROC2: Final = tuple(row for row in rules.HEADER_RULES if row.kind is Kind.LET)
ENTRY_PROGRAM: Final = (
    _PROC2 + rules.CONTROL_RULES + rules.HOST_RULES + rules.GUEST_RULES + rules.ENTRY_RULES
)
_HOST: Final = frozenset(row.name for row in rules.HOST_RULES)
_CONTROLS: Final = frozenset(row.name for row in rules.CONTROL_RULES)
_NAMES: Final = frozenset(row.name for row in ENTRY_PROGRAM)

_PROGRAMS: dict[frozenset[str], RuleProgram] = {}


def entry_program(release: Release) -> RuleProgram:
    """The checks of a VM entry of L1 that `release` makes."""
    rules_of = release if release.names("vmx_rules") else release_named(FIRST_WITH_RULES)
    enforced = rules_of.names("vmx_rules") & _NAMES
    program = _PROGRAMS.get(enforced)
    if program is None:
        program = RuleProgram(IOCTL, ENTRY_PROGRAM, NAMES, enforced, BLOB_WORDS, glossary.of_vmx)
        _PROGRAMS[enforced] = program
    return program


def vmlaunch(l0: VmxRun) -> None:
    """VMLAUNCH."""
    run_nested(l0, launch=True)


def vmresume(l0: VmxRun) -> None:
    """VMRESUME."""
    run_nested(l0, launch=False)


def run_nested(l0: VmxRun, *, launch: bool) -> None:
    """Source: arch/x86/kvm/vmx/nested.c: nested_vmx_run."""
    require_vmx_operation(l0)
    vmx, nested = l0.vmx, l0.vmx.nested
    vmcs12 = nested.vmcs12
    if nested.vmcs12_pa == INVALID_GPA or int.from_bytes(vmcs12.view[:4], "little") & SHADOW_VMCS:
        fail_invalid(l0)
        return
    if vmx.get_interrupt_shadow() & MOV_SS:
        fail(l0, InstructionError.ENTRY_EVENTS_BLOCKED_BY_MOV_SS)
        return
    launched = bool(int.from_bytes(vmcs12.view[LAUNCH_STATE_AT : LAUNCH_STATE_AT + 4], "little"))
    if launched == launch:
        error = InstructionError.VMRESUME_NON_LAUNCHED_VMCS
        fail(l0, InstructionError.VMLAUNCH_NON_CLEAR_VMCS if launch else error)
        return
    stop = _enter(l0)
    if stop is None:
        l0.entries += 1
        l0.flush_for_entry()
        _settle(l0)
    elif stop.name in _CONTROLS:
        fail(l0, InstructionError.ENTRY_INVALID_CONTROL_FIELD)
    elif stop.name in _HOST:
        fail(l0, InstructionError.ENTRY_INVALID_HOST_STATE_FIELD)
    else:
        _fail_entry(l0, ExitReason.INVALID_GUEST_STATE, _cause(stop))


def _enter(l0: VmxRun) -> Row | None:
    """Walk the checks and do what stands between them: the row that refused, None in L2."""
    vmx, nested = l0.vmx, l0.vmx.nested
    program = entry_program(vmx.release)
    record = memoryview(bytearray(WHOLE_SIZE))
    record[:2] = FLAGS
    record[VMCS12_AT : VMCS12_AT + VMCS12_SIZE] = nested.vmcs12.view
    words = program.template.copy()
    words[: len(NAMES)] = program_words(vmx, record, WHOLE_SIZE)[0][: len(NAMES)]
    stop = program.walk_record(np.frombuffer(record, np.uint8), words)
    vmx.vcpu.entry_refusal = None
    if stop is not None:
        vmx.vcpu.entry_refusal = (stop.name, program.detail(stop, words))
        if stop.name in _CONTROLS | _HOST:
            return stop
    nested.run_pending, nested.has_deadline = True, False
    met = program.effects
    for name in met:
        EFFECTS[name](vmx, record)
    if stop is not None:
        if "prepare_vmcs02" in met:
            abandon_entry(vmx)
        nested.run_pending = False
        return stop
    nested.pages_requested = False
    failed = vmx.load_msr_list(
        nested.vmcs12["VM_ENTRY_MSR_LOAD_ADDR"], nested.vmcs12["VM_ENTRY_MSR_LOAD_COUNT"]
    )
    if failed:
        abandon_entry(vmx)
        nested.run_pending = False
        _fail_entry(l0, ExitReason.MSR_LOADING, failed)
    return None


def _cause(stop: Row) -> int:
    """The exit qualification of an entry that failed at `stop`."""
    if stop.name.startswith("vmcs_link"):
        return int(InvalidGuestState.VMCS_LINK_POINTER)
    if stop.name.startswith("l2_pdpte"):
        return int(InvalidGuestState.PDPTE)
    return int(InvalidGuestState.OTHER)


def _fail_entry(l0: VmxRun, reason: ExitReason, qualification: int) -> None:
    """A VM-entry failure: L1 goes on at its host state (nested.c: vmentry_fail_vmexit)."""
    nested = l0.vmx.nested
    nested.vmcs12["VM_EXIT_REASON"] = int(reason) | ENTRY_FAILURE
    nested.vmcs12["EXIT_QUALIFICATION"] = qualification
    load_host_state(l0.vmx)
    nested.owes_vmcs12_to_shadow = l0.vmx.shadows_vmcs


def _settle(l0: VmxRun) -> None:
    """What follows a successful entry: the shadow vmcs12, and the activity state of L2."""
    vcpu, nested = l0.vcpu, l0.vmx.nested
    if not nested.guest_mode:
        return
    vmcs12 = nested.vmcs12
    link = vmcs12["VMCS_LINK_POINTER"]
    if secondary_controls(vmcs12) & ProcBased2.VMCS_SHADOWING and link != INVALID_GPA:
        data = vcpu.memory.read(link, VMCS12_SIZE)
        if data is not None:
            nested.shadow_vmcs12.view[:] = data
    activity, proc = vmcs12["GUEST_ACTIVITY_STATE"], vmcs12["CPU_BASED_VM_EXEC_CONTROL"]
    if activity == HLT:
        window = proc & ProcBased.INTERRUPT_WINDOW_EXITING
        wakes = (
            vmcs12["VM_ENTRY_INTR_INFO_FIELD"] & VALID
            or proc & ProcBased.NMI_WINDOW_EXITING
            or (window and vmcs12["GUEST_RFLAGS"] & INTERRUPT_FLAG)
        )
        if not wakes:
            nested.run_pending = False
            l0.halt()
    elif activity == WAIT_FOR_SIPI:
        nested.run_pending = False
        vcpu.mp_state = MP_INIT_RECEIVED

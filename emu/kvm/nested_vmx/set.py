"""KVM_SET_NESTED_STATE on Intel: the program's walk, and its effects on the vCPU."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from errno import EINVAL
from typing import TYPE_CHECKING, Final

import numpy as np

from emu.kvm import glossary
from emu.kvm.control_registers import CR4
from emu.kvm.nested_vmx.capabilities import (
    MSR_BASIC,
    MSR_CR0_FIXED0,
    MSR_CR0_FIXED1,
    MSR_CR4_FIXED0,
    MSR_CR4_FIXED1,
    MSR_EPT_VPID,
    MSR_MISC,
    MSR_PROC2,
    MSR_TRUE_ENTRY,
    MSR_TRUE_EXIT,
    MSR_TRUE_PIN,
    MSR_TRUE_PROC,
    MSR_VMFUNC,
    CapabilityMsrs,
)
from emu.kvm.nested_vmx.enter import abandon_entry, finish_entry, prepare_vmcs02
from emu.kvm.nested_vmx.rules import (
    DEADLINE_VALID,
    MTF_PENDING,
    RUN_PENDING,
    SET_PROGRAM,
    SMM_GUEST_MODE,
)
from emu.kvm.nested_vmx.state import EVMCS_MAP_PENDING, INVALID_GPA
from emu.kvm.nested_vmx.sync import enter_vmx_operation, leave_nested
from emu.kvm.nested_vmx.words import (
    BLOB_WORDS,
    HEADER_WORDS,
    NAMES,
    SHADOW_AT,
    VMCS12_AT,
    VMCS12_WORDS,
    WHOLE_SIZE,
)
from emu.kvm.rule_program import PreparedWalk, RuleProgram
from vmcs.check_programs import Words
from vmcs.checks import Kind
from vmcs.vmx.vmcs12 import VMCS12_BYTES, VMCS12_REVISION

if TYPE_CHECKING:
    from emu.kvm.vmx import Vmx
    from emu.releases.schema import Release

ALL: Final = 0xFFFF_FFFF_FFFF_FFFF
LOW: Final = 0xFFFF_FFFF
PE_PG: Final = 1 << 31 | 1
FLAGS_BY_NAME: Final = {
    "KVM_STATE_NESTED_GUEST_MODE": 0x1,
    "KVM_STATE_NESTED_RUN_PENDING": 0x2,
    "KVM_STATE_NESTED_EVMCS": 0x4,
    "KVM_STATE_NESTED_MTF_PENDING": 0x8,
    "KVM_STATE_NESTED_GIF_SET": 0x100,
}
IOCTL: Final = "KVM_SET_NESTED_STATE"
HEADER: Final = {word.name: (word.offset, word.width) for word in HEADER_WORDS}
LINK_AT: Final = VMCS12_WORDS["VMCS_LINK_POINTER"][0]
NO_PDPTES: Final = bytes(32)
FOUR_WORDS: Final = struct.Struct("<4Q")
CR3_AT: Final = VMCS12_WORDS["GUEST_CR3"][0]

# Words that a vCPU or guest memory sets for each SET; the others change with CPUID or an MSR.
VARYING: Final = (
    "IN_SMM",
    "CURRENT_EFER",
    "VCPU_ADDRESS_WIDTH",
    "LINEAR_ADDRESS_WIDTH",
    "EVMCS_ENABLED",
    "EVMCS_VISIBLE",
    "STATE_BYTES",
    "LINK_BACKED",
    "LINK_FIRST_WORD",
    "VCPU_CR3",
    "PDPTES_KEPT",
    "PDPTES_BACKED",
    "PDPTE0",
    "PDPTE1",
    "PDPTE2",
    "PDPTE3",
)

POSITIONS: Final = np.array([NAMES.index(name) for name in VARYING], np.intp)

_PROGRAMS: dict[frozenset[str], RuleProgram] = {}


def set_program(release: Release) -> RuleProgram:
    """The rules that `release` enforces, compiled once for all releases with the same ones."""
    enforced = release.names("vmx_rules")
    program = _PROGRAMS.get(enforced)
    if program is None:
        program = RuleProgram(IOCTL, SET_PROGRAM, NAMES, enforced, BLOB_WORDS, glossary.of_vmx)
        _PROGRAMS[enforced] = program
    return program


def known_flags(release: Release) -> int:
    """Mask of the flags that the ioctl layer of `release` accepts."""
    return sum(FLAGS_BY_NAME.get(name, 0) for name in release.names("nested_flags"))


def capability_words(msrs: CapabilityMsrs, physical_reserved: int) -> dict[str, int]:
    """The words that the vCPU's VMX capability MSRs contribute."""
    misc, ept = msrs.values[MSR_MISC], msrs.values.get(MSR_EPT_VPID, 0)
    fixed0 = msrs.values[MSR_CR0_FIXED0]
    return {
        "VMCS_REVISION": VMCS12_REVISION,
        "ERROR_CODE_FREE": msrs.values[MSR_BASIC] >> 56 & 1,
        "PIN_MUST_BE_1": msrs.must_be_1(MSR_TRUE_PIN),
        "PIN_MAY_BE_1": msrs.may_be_1(MSR_TRUE_PIN),
        "PROC_MUST_BE_1": msrs.must_be_1(MSR_TRUE_PROC),
        "PROC_MAY_BE_1": msrs.may_be_1(MSR_TRUE_PROC),
        "PROC2_MUST_BE_1": msrs.must_be_1(MSR_PROC2),
        "PROC2_MAY_BE_1": msrs.may_be_1(MSR_PROC2),
        "EXIT_MUST_BE_1": msrs.must_be_1(MSR_TRUE_EXIT),
        "EXIT_MAY_BE_1": msrs.may_be_1(MSR_TRUE_EXIT),
        "ENTRY_MUST_BE_1": msrs.must_be_1(MSR_TRUE_ENTRY),
        "ENTRY_MAY_BE_1": msrs.may_be_1(MSR_TRUE_ENTRY),
        "CR0_FIXED0": fixed0,
        "CR0_FIXED0_UNRESTRICTED": fixed0 & ~PE_PG,
        "CR0_FIXED1": msrs.values[MSR_CR0_FIXED1],
        "CR4_FIXED0": msrs.values[MSR_CR4_FIXED0],
        "CR4_FIXED1": msrs.values[MSR_CR4_FIXED1],
        "CR3_TARGET_LIMIT": misc >> 16 & 0x1FF,
        "MSR_AREA_LIMIT": ((misc >> 25 & 0x7) + 1) * 512,
        "ZERO_LENGTH_INJECTION": misc >> 30 & 1,
        # IA32_VMX_EPT_VPID_CAP: bit 8 UC, 14 WB; bit 6 a walk of 4, 7 of 5; bit 21 A/D flags.
        "EPTP_MEMORY_TYPES": (ept >> 8 & 1) | (ept >> 14 & 1) << 6,
        "EPTP_WALK_LENGTHS": (ept >> 6 & 1) << 3 | (ept >> 7 & 1) << 4,
        "EPTP_RESERVED": physical_reserved | 0xF80 | (0 if ept >> 21 & 1 else 0x40),
        "VMFUNC_RESERVED": ~msrs.values.get(MSR_VMFUNC, 0) & ALL,
    }


def set_nested_state(vmx: Vmx, state: memoryview) -> int:
    """Walk the program over the user's memory `state` and carry out what it met.

    Returns the ioctl's value; raises KvmError with the row that refused.  Where L2 cannot be
    entered and the release gives a positive status, `vmx.entry_refusal` names the row.
    """
    program = set_program(vmx.release)
    given = len(state)
    state = _whole(state)
    record = np.frombuffer(state, np.uint8)
    words, varying = program_words(vmx, state, given)
    was_in_l2 = vmx.nested.guest_mode
    stop = program.walk_record(record, words)
    effects = program.effect_bits
    for bit, row in enumerate(program.program.effects):
        if effects >> bit & 1:
            EFFECTS[row.name](vmx, state)
            if was_in_l2 and row.name == "leave_nested":
                # L1's registers and guest memory may be others now: the rest sees those.
                again, now = program_words(vmx, state, given)
                if now != varying:
                    words = again
                    stop = program.walk_record(record, words)
                    effects = program.effect_bits
    if stop is None:
        return 0
    if stop.kind is Kind.RETURNS:
        return program.result(stop, words)
    met = [row.name for bit, row in enumerate(program.program.effects) if effects >> bit & 1]
    if "prepare_vmcs02" in met:
        abandon_entry(vmx)
    if "set_run_pending" in met and not vmx.does("refusal_keeps_run_pending"):
        vmx.nested.run_pending = False
    result = program.result(stop, words)
    if stop.result == "ENTRY_STATUS":
        if result > 0:
            vmx.vcpu.entry_refusal = (stop.name, program.detail(stop, words))
            return result
        result = EINVAL
    raise program.refusal(stop._replace(result=result), words)


def prepared(vmx: Vmx, state: memoryview) -> PreparedWalk:
    """The program, the record and the words with which SET would walk `state` now."""
    whole = _whole(state)
    words, _ = program_words(vmx, whole, len(state))
    return PreparedWalk(set_program(vmx.release), np.frombuffer(whole, np.uint8), words)


def _whole(state: memoryview) -> memoryview:
    """`state`, with zeroes behind it where it is shorter than the longest blob."""
    if len(state) >= WHOLE_SIZE:
        return state
    return memoryview(bytes(state).ljust(WHOLE_SIZE, b"\0"))


def _word(state: memoryview, offset: int, width: int) -> int:
    return int.from_bytes(state[offset : offset + width], "little")


def program_words(vmx: Vmx, state: memoryview, given: int) -> tuple[Words, tuple[int, ...]]:
    """The program's words but those of the blob; and the values, in the order of `VARYING`."""
    vcpu, nested = vmx.vcpu, vmx.nested
    memory = vcpu.memory
    enabled, keeps = nested.evmcs_enabled, vmx.does("vmcs_switch_keeps_registers")
    of_vcpu = 57 if vcpu.read_cr4() & CR4.LA57 else 48
    width = vmx.host_address_width if vmx.does("canonical_by_host_width") else of_vcpu
    link, backed, first = _word(state, LINK_AT, 8), False, 0
    if link != INVALID_GPA and memory.find(link, 4096) is not None:
        backed, first = True, memory.read_word(link, 4) or 0
    pdptes = memory.read(_word(state, CR3_AT, 8) & ~0x1F, 32)
    values = (
        vcpu.smm,
        vcpu.efer,
        of_vcpu,
        width,
        enabled,
        enabled and (vmx.does("evmcs_without_hyperv_cpuid") or vmx.sees_hyperv),
        given,
        backed,
        first,
        vcpu.read_cr3() if keeps else 0,
        keeps and vcpu.pdptes_unchanged(),
        pdptes is not None,
        *FOUR_WORDS.unpack(pdptes or NO_PDPTES),
    )
    words = vmx.fixed_words()
    words[POSITIONS] = np.array(values, np.uint64)
    return words, values


# Effects ------------------------------------------------------------------------------------------
Record = memoryview


def _flags(record: Record) -> int:
    return _word(record, *HEADER["FLAGS"])


def _enable_evmcs(vmx: Vmx, _record: Record) -> None:
    vmx.nested.evmcs_enabled = True


def _leave_nested(vmx: Vmx, _record: Record) -> None:
    leave_nested(vmx)


def _enter_vmx_operation(vmx: Vmx, record: Record) -> None:
    vmx.nested.vmxon_pa = _word(record, *HEADER["VMXON_PA"])
    enter_vmx_operation(vmx)


def _set_current_vmptr(vmx: Vmx, record: Record) -> None:
    vmx.nested.vmcs12_pa = _word(record, *HEADER["VMCS12_PA"])
    vmx.nested.dirty_vmcs12 = True
    if vmx.shadows_vmcs:
        vmx.nested.owes_vmcs12_to_shadow = True


def _owe_vmcs12_to_evmcs(vmx: Vmx, _record: Record) -> None:
    vmx.nested.owes_vmcs12_to_shadow = True


def _request_evmcs_page(vmx: Vmx, _record: Record) -> None:
    vmx.nested.pages_requested = True


def _mark_evmcs_map_pending(vmx: Vmx, _record: Record) -> None:
    vmx.nested.evmcs = EVMCS_MAP_PENDING


def _apply_smm_flags(vmx: Vmx, record: Record) -> None:
    nested = vmx.nested
    nested.smm_vmxon, nested.vmxon = True, False
    if _word(record, *HEADER["SMM_FLAGS"]) & SMM_GUEST_MODE:
        nested.smm_guest_mode = True


def _copy_vmcs12(vmx: Vmx, record: Record) -> None:
    vmx.nested.vmcs12.view[:VMCS12_BYTES] = record[VMCS12_AT : VMCS12_AT + VMCS12_BYTES]


def _set_run_pending(vmx: Vmx, record: Record) -> None:
    vmx.nested.run_pending = bool(_flags(record) & RUN_PENDING)


def _set_mtf_pending(vmx: Vmx, record: Record) -> None:
    vmx.nested.mtf_pending = bool(_flags(record) & MTF_PENDING)


def _copy_shadow_vmcs12(vmx: Vmx, record: Record) -> None:
    vmx.nested.shadow_vmcs12.view[:VMCS12_BYTES] = record[SHADOW_AT : SHADOW_AT + VMCS12_BYTES]


def _set_deadline(vmx: Vmx, record: Record) -> None:
    nested = vmx.nested
    nested.has_deadline = bool(_word(record, *HEADER["VMX_HEADER_FLAGS"]) & DEADLINE_VALID)
    if nested.has_deadline:
        nested.deadline = _word(record, *HEADER["DEADLINE"])


def _prepare_vmcs02(vmx: Vmx, _record: Record) -> None:
    vmx.nested.dirty_vmcs12 = True
    prepare_vmcs02(vmx)


def _load_l2_pdptrs(vmx: Vmx, record: Record) -> None:
    vmx.vcpu.load_pdptrs(_word(record, CR3_AT, 8))


def _enter_guest_mode(vmx: Vmx, _record: Record) -> None:
    finish_entry(vmx)


EFFECTS: Final[Mapping[str, Callable[[Vmx, Record], None]]] = {
    "enable_evmcs": _enable_evmcs,
    "leave_nested_at_once": _leave_nested,
    "leave_nested": _leave_nested,
    "enter_vmx_operation": _enter_vmx_operation,
    "set_current_vmptr": _set_current_vmptr,
    "owe_vmcs12_to_evmcs": _owe_vmcs12_to_evmcs,
    "request_evmcs_page": _request_evmcs_page,
    "mark_evmcs_map_pending": _mark_evmcs_map_pending,
    "apply_smm_flags": _apply_smm_flags,
    "copy_vmcs12": _copy_vmcs12,
    "set_run_pending": _set_run_pending,
    "set_mtf_pending": _set_mtf_pending,
    "copy_shadow_vmcs12": _copy_shadow_vmcs12,
    "set_deadline": _set_deadline,
    "prepare_vmcs02": _prepare_vmcs02,
    "load_l2_pdptrs": _load_l2_pdptrs,
    "enter_guest_mode": _enter_guest_mode,
}

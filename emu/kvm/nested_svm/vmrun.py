"""VMRUN of L1, and #VMEXIT to it, as KVM carries them out.

The checks are the rows of `rules` that KVM_SET_NESTED_STATE makes too. Kernels with one control
block keep L1 in `hsave` while L2 runs, later ones in vmcb01. Source: arch/x86/kvm/svm/nested.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from emu.cpu.errors import Fault
from emu.cpu.state import Vector
from emu.kvm import glossary
from emu.kvm.control_registers import CR0, EFER
from emu.kvm.nested_svm.enter import V_IRQ, V_TPR, leave_guest_mode, prepare_controls
from emu.kvm.nested_svm.enter import save_l1_controls as keep_l1_controls
from emu.kvm.nested_svm.rules import BLOB_FIELDS, CONTROL_RULES, SAVE, STATE_RULES
from emu.kvm.nested_svm.set import environment
from emu.kvm.nested_svm.state import ControlBlock
from emu.kvm.nested_svm.words import BLOB_WORDS, ENVIRONMENT_WORDS, WORDS
from emu.kvm.rule_program import RuleProgram
from emu.kvm.running.svm_hardware import VMLOADED
from vmcs.nested_state import SIZE_WITH_VMCB12, VMCB12_OFFSET
from vmcs.svm.control_bits import EVENT_INJ
from vmcs.svm.exit_codes import SvmExit
from vmcs.svm.vmcb import SEGMENTS

if TYPE_CHECKING:
    from emu.kvm.running.svm_run import SvmRun
    from emu.kvm.svm import Svm
    from emu.releases.schema import Release

PAGE_OFFSET: Final = 0xFFF
INVALID: Final = (1 << 64) - 1
FIXED_RFLAGS, DR7_FIXED, DR6_FIXED = 0x2, 0x400, 0xFFFF_0FF0
VALID, ERROR_VALID = EVENT_INJ["V"].mask, EVENT_INJ["EV"].mask
EXTERNAL, NMI, EXCEPTION, SOFTWARE = (n << 8 for n in (0, 2, 3, 4))
NMI_VECTOR: Final = 2
INFO_ERROR: Final = "exit_int_info_err"

# Segments that VMRUN loads from vmcb12; the others are VMLOAD's.
OF_VMRUN: Final = tuple(name for name in SEGMENTS if name not in ("fs", "gs", "ldtr", "tr"))
PARTS: Final = ("selector", "attrib", "limit", "base")

# vmcb12's control members that #VMEXIT writes from the block that ran L2.
EXIT_MEMBERS: Final = ("int_state", "exit_code", "exit_info_1", "exit_info_2")

VMRUN_PROGRAM: Final = CONTROL_RULES + tuple(row for row in STATE_RULES if row.section == SAVE)
_NAMES: Final = frozenset(row.name for row in VMRUN_PROGRAM)
_PROGRAMS: dict[frozenset[str], RuleProgram] = {}


def vmrun_program(release: Release) -> RuleProgram:
    """The checks of L1's VMRUN that `release` makes."""
    enforced = release.names("svm_rules") & _NAMES
    program = _PROGRAMS.get(enforced)
    if program is None:
        program = RuleProgram("VMRUN", VMRUN_PROGRAM, WORDS, enforced, BLOB_FIELDS, glossary.of_svm)
        _PROGRAMS[enforced] = program
    return program


def vmrun(l0: SvmRun) -> None:
    """VMRUN (nested_svm_vmrun)."""
    l0.require_svm()
    svm, vcpu = l0.svm, l0.vcpu
    address = vcpu.read_register("rax") & ~PAGE_OFFSET
    data = vcpu.memory.read(address, 4096)
    if data is None:
        raise Fault(Vector.GP, 0)
    page = ControlBlock(bytearray(data))
    l0.skip_instruction()
    if not _allowed(l0, page):
        page["exit_code"], page["exit_info_1"], page["exit_info_2"] = INVALID, 0, 0
        vcpu.memory.write(address, page.view)
        return
    _keep_l1(svm)
    nested = svm.nested
    nested.run_pending = True
    nested.vmcb12_gpa = address
    nested.vmcb12.take(page.view, svm.forms.cached)
    nested.vmcb12.change(svm.guest_forms.changes)
    l0.entries += 1
    _enter(l0, page)
    if page["cr3"] & vcpu.cr3_reserved and page["efer"] & EFER.LMA:
        nested.run_pending = False
        exit_to_l1(l0, INVALID)


def _allowed(l0: SvmRun, page: ControlBlock) -> bool:
    """KVM's checks of vmcb12; the first that fails is noted."""
    svm = l0.svm
    program = vmrun_program(svm.release)
    record = memoryview(bytearray(SIZE_WITH_VMCB12))
    record[VMCB12_OFFSET:] = page.view
    words = program.template.copy()
    first = len(BLOB_WORDS)
    values = environment(svm, record, len(record))
    words[first : first + len(ENVIRONMENT_WORDS)] = values
    stop = program.walk_record(np.frombuffer(record, np.uint8), words)
    l0.vcpu.entry_refusal = None
    if stop is not None:
        l0.vcpu.entry_refusal = (stop.name, program.detail(stop, words))
    return stop is None


def _keep_l1(svm: Svm) -> None:
    """L1's registers, for when L2 exits."""
    vcpu, block = svm.vcpu, svm.vmcb
    for name in ("rax", "rsp", "rip"):
        block[name] = vcpu.registers[name]
    block["efer"], block["cr0"] = vcpu.efer, vcpu.read_cr0()
    block["cr4"], block["cr3"] = vcpu.read_cr4(), vcpu.read_cr3()
    if not svm.two_blocks:
        keep_l1_controls(svm)
        svm.vmcb02.take(block.view, (svm.forms.save_area,))


def _enter(l0: SvmRun, page: ControlBlock) -> None:
    """Load L2 (enter_svm_guest_mode, nested_vmcb02_prepare_save)."""
    svm, vcpu = l0.svm, l0.vcpu
    if svm.two_blocks:
        svm.vmcb02.take(svm.vmcb01.view, VMLOADED)
        svm.vmcb = svm.vmcb02
    prepare_controls(svm)
    block = svm.vmcb
    for segment in OF_VMRUN:
        for part in PARTS:
            block[f"{segment}.{part}"] = page[f"{segment}.{part}"]
    block["cpl"] = page["cpl"]
    svm.set_rflags(page["rflags"] | FIXED_RFLAGS)
    svm.set_efer(page["efer"])
    svm.set_cr0(page["cr0"])
    svm.set_cr4(page["cr4"])
    vcpu.cr2, vcpu.cr3 = page["cr2"], page["cr3"]
    block["cr3"] = page["cr3"]
    for name in ("rax", "rsp", "rip"):
        vcpu.write_register(name, page[name])
    block["dr7"] = page["dr7"] | DR7_FIXED
    block["dr6"] = page["dr6"] | DR6_FIXED
    block["g_pat"] = page["g_pat"] if svm.l2_has_own_pat else vcpu.pat
    svm.set_gif(True)
    l0.flush_for_entry()


def exit_to_l1(l0: SvmRun, code: int, info1: int = 0, info2: int = 0) -> None:
    """A #VMEXIT that L1 sees (nested_svm_vmexit)."""
    svm, vcpu, nested = l0.svm, l0.vcpu, l0.svm.nested
    block = svm.vmcb
    block["exit_code"], block["exit_info_1"], block["exit_info_2"] = code, info1, info2
    data = vcpu.memory.read(nested.vmcb12_gpa, 4096)
    assert data is not None
    page = ControlBlock(bytearray(data))
    _store_l2(l0, page)
    vcpu.memory.write(nested.vmcb12_gpa, page.view)
    svm.vmcb01.take(block.view, VMLOADED)
    l1 = svm.l1_block
    kept = {name: l1[name] for name in ("rflags", "efer", "cr0", "cr4", "cr3", "rax", "rsp", "rip")}
    nested.run_pending = False
    leave_guest_mode(svm)
    if not svm.two_blocks:
        # of hsave, what L2 may have loaded meanwhile by VMLOAD stays
        loaded = bytes(svm.vmcb.view)
        svm.vmcb.take(svm.vmcb02.view, (svm.forms.save_area,))
        svm.vmcb.take(memoryview(loaded), VMLOADED)
    nested.vmcb12_gpa = 0 if not svm.two_blocks else INVALID
    svm.set_gif(False)
    svm.set_rflags(kept["rflags"])
    svm.set_efer(kept["efer"])
    svm.set_cr0(kept["cr0"] | CR0.PE)
    svm.set_cr4(kept["cr4"])
    vcpu.cr3 = svm.vmcb["cr3"] = kept["cr3"]
    for name in ("rax", "rsp", "rip"):
        vcpu.write_register(name, kept[name])
    svm.vmcb["dr7"] = DR7_FIXED
    svm.vmcb["exit_code"] = 0
    vcpu.drop_injected_events()
    vcpu.mp_state = 0


def _store_l2(l0: SvmRun, page: ControlBlock) -> None:
    """L2's registers and the reason of the exit into vmcb12."""
    svm, vcpu = l0.svm, l0.vcpu
    block, cached = svm.vmcb, svm.nested.vmcb12
    for segment in OF_VMRUN:
        for part in PARTS:
            page[f"{segment}.{part}"] = block[f"{segment}.{part}"]
    page["efer"], page["cr0"], page["cr4"] = vcpu.efer, vcpu.read_cr0(), vcpu.read_cr4()
    page["cr2"], page["cr3"] = vcpu.cr2, vcpu.read_cr3()
    page["rflags"] = svm.get_rflags()
    for name in ("rax", "rsp", "rip"):
        page[name] = vcpu.registers[name]
    for name in ("dr7", "dr6", "cpl", *EXIT_MEMBERS):
        page[name] = block[name]
    page["exit_int_info"], page[INFO_ERROR] = in_delivery(l0)
    if svm.guest_has("NRIPS"):
        page["next_rip"] = block["next_rip"]
    taken = V_TPR | V_IRQ
    page["int_ctl"] = cached["int_ctl"] & ~taken | block["int_ctl"] & taken
    page["tlb_ctl"] = 0
    page["event_inj"], page["event_inj_err"] = block["event_inj"], block["event_inj_err"]


def in_delivery(l0: SvmRun) -> tuple[int, int]:
    """The event that L0 or L1 was giving L2 (nested_save_pending_event_to_vmcb12)."""
    events = l0.vcpu.events
    if events.exception_injected:
        info = VALID | EXCEPTION | events.exception_nr
        if events.exception_has_error_code:
            return info | ERROR_VALID, events.exception_error_code
        return info, 0
    if events.nmi_injected:
        return VALID | NMI | NMI_VECTOR, 0
    if events.interrupt_injected:
        kind = SOFTWARE if events.interrupt_soft else EXTERNAL
        return VALID | kind | events.interrupt_nr, 0
    return 0, 0


def check_nested_events(l0: SvmRun) -> None:
    """Leave L2 for the event of highest priority that L1 is to see (svm_check_nested_events)."""
    from emu.kvm.nested_svm.wants import exits_on, intercepts  # noqa: PLC0415 - names of this row

    svm, events = l0.svm, l0.vcpu.events
    vmcb12 = svm.nested.vmcb12
    if svm.nested.run_pending:
        return
    delivering = events.exception_injected or events.nmi_injected or events.interrupt_injected
    if l0.vcpu.pending_init and exits_on(vmcb12, "INIT"):
        exit_to_l1(l0, SvmExit.INIT)
    elif events.exception_pending:
        code = SvmExit.EXCP_DE + events.exception_nr
        if intercepts(vmcb12, code):
            exit_to_l1(l0, code, events.exception_error_code, events.exception_payload)
    elif delivering:
        return
    elif events.nmi_pending and not svm.get_nmi_mask() and exits_on(vmcb12, "NMI"):
        exit_to_l1(l0, SvmExit.NMI)
    elif l0.core.interrupt_waits and l0.interrupt_allowed() and exits_on(vmcb12, "INTR"):
        exit_to_l1(l0, SvmExit.INTR)

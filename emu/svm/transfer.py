"""State between the processor and a VMCB: what VMRUN, #VMEXIT, VMLOAD and VMSAVE exchange.

Restricted Python over the host address of a VMCB; `emu.svm.compiled` has the machine code. Members
and their places are those of `vmcs.svm.vmcb`. APM Vol. 2, VMRUN Instruction; VMSAVE and VMLOAD
Instructions; Segment State in the VMCB.
"""

from __future__ import annotations

from typing import Any

from emu.cpu.compiler.words import (
    outlined,
    raw_load8,
    raw_load16,
    raw_load32,
    raw_load64,
    raw_store8,
    raw_store16,
    raw_store32,
    raw_store64,
    restricted,
    shift_arithmetic,
)
from emu.cpu.debug import DR6_KNOWN, DR6_ONES, DR7_KNOWN, DR7_ONES
from emu.cpu.flags import RESERVED_ONE, VM, set_status_flags, status_flags
from emu.cpu.paging import CR0_ET, CR0_PE, CR0_PG, EFER_LMA, EFER_LME
from emu.cpu.segments import PRESENT, UNUSABLE
from emu.cpu.state import CS, DS, ES, FS, GS, LDTR, SS, TR
from vmcs.svm.vmcb import member

AT_ES, AT_CS = member("es.selector").offset, member("cs.selector").offset
AT_SS, AT_DS = member("ss.selector").offset, member("ds.selector").offset
AT_FS, AT_GS = member("fs.selector").offset, member("gs.selector").offset
AT_LDTR, AT_TR = member("ldtr.selector").offset, member("tr.selector").offset
AT_GDTR, AT_IDTR = member("gdtr.selector").offset, member("idtr.selector").offset
ATTRIB, LIMIT, BASE = 2, 4, 8  # of a segment's members after its selector
AT_CPL, AT_EFER = member("cpl").offset, member("efer").offset
AT_CR4, AT_CR3, AT_CR0 = member("cr4").offset, member("cr3").offset, member("cr0").offset
AT_DR7, AT_DR6 = member("dr7").offset, member("dr6").offset
AT_RFLAGS, AT_RIP = member("rflags").offset, member("rip").offset
AT_RSP, AT_RAX, AT_CR2 = member("rsp").offset, member("rax").offset, member("cr2").offset
AT_STAR, AT_LSTAR, AT_CSTAR = (member(name).offset for name in ("star", "lstar", "cstar"))
AT_SFMASK, AT_KERNEL_GS_BASE = member("sfmask").offset, member("kernel_gs_base").offset
AT_SYSENTER_CS = member("sysenter_cs").offset
AT_SYSENTER_ESP = member("sysenter_esp").offset
AT_SYSENTER_EIP = member("sysenter_eip").offset

AT_EXIT_CODE, AT_EXIT_INT_INFO = member("exit_code").offset, member("exit_int_info").offset
AT_EXIT_INFO_1, AT_EXIT_INFO_2 = member("exit_info_1").offset, member("exit_info_2").offset
AT_INT_CTL, AT_INT_STATE = member("int_ctl").offset, member("int_state").offset
AT_NEXT_RIP, AT_EVENT_INJ = member("next_rip").offset, member("event_inj").offset
NOT_VALID = 0x7FFFFFFF

# access rights keep AVL, L, D and G in bits 15:12, the VMCB in bits 11:8
LOW_ATTRIBUTES, HIGH_ATTRIBUTES, HIGH_SHIFT = 0xFF, 0xF00, 4
UNUSED_LINEAR_BITS = 16
WORD = (1 << 64) - 1
WITHOUT_PRESENT, WITHOUT_LMA, WITHOUT_VM = WORD ^ PRESENT, WORD ^ EFER_LMA, WORD ^ VM
FLAGS_APART = 0x3F7702  # RFLAGS but the status flags, which have a place of their own


@restricted
def canonicalized(linear: int) -> int:
    """`linear` sign-extended. APM Vol. 2, Canonicalization and Consistency Checks."""
    return shift_arithmetic(linear << UNUSED_LINEAR_BITS, UNUSED_LINEAR_BITS)


@restricted
def load_segment(cpu: Any, seg: int, place: int) -> None:
    """A segment register from its four members; one that is not present cannot be used."""
    attributes = raw_load16(place + ATTRIB)
    rights = attributes & LOW_ATTRIBUTES | (attributes & HIGH_ATTRIBUTES) << HIGH_SHIFT
    if rights & PRESENT == 0:
        rights |= UNUSABLE
    cpu.selector[seg] = raw_load16(place)
    cpu.segment_limit[seg] = raw_load32(place + LIMIT)
    cpu.segment_base[seg] = canonicalized(raw_load64(place + BASE))
    cpu.segment_rights[seg] = rights


@restricted
def save_segment(cpu: Any, seg: int, place: int) -> None:
    """A segment register to its four members."""
    rights = cpu.segment_rights[seg]
    if rights & UNUSABLE:
        rights &= WITHOUT_PRESENT
    raw_store16(place, cpu.selector[seg])
    high = rights >> HIGH_SHIFT & HIGH_ATTRIBUTES
    raw_store16(place + ATTRIB, rights & LOW_ATTRIBUTES | high)
    raw_store32(place + LIMIT, cpu.segment_limit[seg])
    raw_store64(place + BASE, cpu.segment_base[seg])


@restricted
def load_tables(cpu: Any, vmcb: int) -> None:
    """GDTR and IDTR."""
    cpu.gdtr_limit = raw_load32(vmcb + AT_GDTR + LIMIT) & 0xFFFF
    cpu.gdtr_base = canonicalized(raw_load64(vmcb + AT_GDTR + BASE))
    cpu.idtr_limit = raw_load32(vmcb + AT_IDTR + LIMIT) & 0xFFFF
    cpu.idtr_base = canonicalized(raw_load64(vmcb + AT_IDTR + BASE))


@restricted
def exchange_load(cpu: Any, vmcb: int) -> None:
    """What VMRUN and #VMEXIT load alike; `vmcs.svm.vmcb.HOST_STATE`."""
    load_segment(cpu, ES, vmcb + AT_ES)
    load_segment(cpu, CS, vmcb + AT_CS)
    load_segment(cpu, SS, vmcb + AT_SS)
    load_segment(cpu, DS, vmcb + AT_DS)
    load_tables(cpu, vmcb)
    cpu.cr3 = raw_load64(vmcb + AT_CR3)
    cpu.cr4 = raw_load64(vmcb + AT_CR4)
    cpu.rip = raw_load64(vmcb + AT_RIP)
    cpu.rsp = raw_load64(vmcb + AT_RSP)
    cpu.rax = raw_load64(vmcb + AT_RAX)


@restricted
def load_flags(cpu: Any, flags: int) -> None:
    """RFLAGS: the status flags have a place of their own."""
    set_status_flags(cpu, flags)
    cpu.rflags = flags & FLAGS_APART


@restricted
def load_efer(cpu: Any, efer: int) -> None:
    """EFER, with LMA as LME and paging make it."""
    cpu.efer = efer & WITHOUT_LMA
    if efer & EFER_LME and cpu.cr0 & CR0_PG:
        cpu.efer |= EFER_LMA


@outlined
def load_guest(cpu: Any, vmcb: int) -> int:
    """VMRUN: the guest's state. APM Vol. 2, Basic Operation, Loading Guest State."""
    exchange_load(cpu, vmcb)
    cpu.cr0 = raw_load64(vmcb + AT_CR0) | CR0_ET
    load_efer(cpu, raw_load64(vmcb + AT_EFER))
    flags = raw_load64(vmcb + AT_RFLAGS)
    load_flags(cpu, flags)
    cpu.cr2 = raw_load64(vmcb + AT_CR2)
    cpu.dr[6] = raw_load64(vmcb + AT_DR6) & DR6_KNOWN | DR6_ONES
    cpu.dr[7] = raw_load64(vmcb + AT_DR7) & DR7_KNOWN | DR7_ONES
    cpu.cpl = raw_load8(vmcb + AT_CPL) & 3
    if cpu.cr0 & CR0_PE == 0:
        cpu.cpl = 0
    elif flags & VM:
        cpu.cpl = 3
    return 0


@outlined
def save_guest(cpu: Any, vmcb: int) -> int:
    """#VMEXIT: the guest's state. APM Vol. 2, #VMEXIT."""
    save_host(cpu, vmcb)
    raw_store64(vmcb + AT_CR2, cpu.cr2)
    raw_store64(vmcb + AT_DR6, cpu.dr[6])
    raw_store64(vmcb + AT_DR7, cpu.dr[7])
    raw_store8(vmcb + AT_CPL, cpu.cpl)
    return 0


@outlined
def save_exit(
    cpu: Any,
    vmcb: int,
    code: int,
    info1: int,
    info2: int,
    vectoring: int,
    int_ctl: int,
    int_state: int,
    next_rip: int,
) -> int:
    """#VMEXIT: why the guest was left; EVENTINJ is no longer valid."""
    raw_store64(vmcb + AT_EXIT_CODE, code)
    raw_store64(vmcb + AT_EXIT_INFO_1, info1)
    raw_store64(vmcb + AT_EXIT_INFO_2, info2)
    raw_store64(vmcb + AT_EXIT_INT_INFO, vectoring)
    raw_store32(vmcb + AT_INT_CTL, int_ctl)
    raw_store32(vmcb + AT_INT_STATE, int_state)
    raw_store64(vmcb + AT_NEXT_RIP, next_rip)
    raw_store32(vmcb + AT_EVENT_INJ, raw_load32(vmcb + AT_EVENT_INJ) & NOT_VALID)
    return 0


@outlined
def save_host(cpu: Any, area: int) -> int:
    """VMRUN: the host's state into its save area. APM Vol. 2, Saving Host State."""
    save_segment(cpu, ES, area + AT_ES)
    save_segment(cpu, CS, area + AT_CS)
    save_segment(cpu, SS, area + AT_SS)
    save_segment(cpu, DS, area + AT_DS)
    raw_store32(area + AT_GDTR + LIMIT, cpu.gdtr_limit)
    raw_store64(area + AT_GDTR + BASE, cpu.gdtr_base)
    raw_store32(area + AT_IDTR + LIMIT, cpu.idtr_limit)
    raw_store64(area + AT_IDTR + BASE, cpu.idtr_base)
    raw_store64(area + AT_CR0, cpu.cr0)
    raw_store64(area + AT_CR3, cpu.cr3)
    raw_store64(area + AT_CR4, cpu.cr4)
    raw_store64(area + AT_EFER, cpu.efer)
    raw_store64(area + AT_RFLAGS, cpu.rflags | status_flags(cpu) | RESERVED_ONE)
    raw_store64(area + AT_RIP, cpu.rip)
    raw_store64(area + AT_RSP, cpu.rsp)
    raw_store64(area + AT_RAX, cpu.rax)
    return 0


@outlined
def load_host(cpu: Any, area: int) -> int:
    """#VMEXIT: the host's state; CR0.PE is set, RFLAGS.VM and CPL clear, breakpoints disabled."""
    exchange_load(cpu, area)
    cpu.cr0 = raw_load64(area + AT_CR0) | CR0_PE | CR0_ET
    load_efer(cpu, raw_load64(area + AT_EFER))
    load_flags(cpu, raw_load64(area + AT_RFLAGS) & WITHOUT_VM)
    cpu.dr[7] = DR7_ONES
    cpu.cpl = 0
    return 0


@outlined
def vmload(cpu: Any, vmcb: int) -> int:
    """VMLOAD: FS, GS, TR, LDTR with their hidden parts, and the MSRs of system calls."""
    load_segment(cpu, FS, vmcb + AT_FS)
    load_segment(cpu, GS, vmcb + AT_GS)
    load_segment(cpu, TR, vmcb + AT_TR)
    load_segment(cpu, LDTR, vmcb + AT_LDTR)
    cpu.kernel_gs_base = canonicalized(raw_load64(vmcb + AT_KERNEL_GS_BASE))
    cpu.star = raw_load64(vmcb + AT_STAR)
    cpu.lstar = canonicalized(raw_load64(vmcb + AT_LSTAR))
    cpu.cstar = canonicalized(raw_load64(vmcb + AT_CSTAR))
    cpu.sfmask = raw_load64(vmcb + AT_SFMASK) & 0xFFFFFFFF
    cpu.sysenter_cs = raw_load64(vmcb + AT_SYSENTER_CS)
    cpu.sysenter_esp = canonicalized(raw_load64(vmcb + AT_SYSENTER_ESP))
    cpu.sysenter_eip = canonicalized(raw_load64(vmcb + AT_SYSENTER_EIP))
    return 0


@outlined
def vmsave(cpu: Any, vmcb: int) -> int:
    """VMSAVE: what VMLOAD loads."""
    save_segment(cpu, FS, vmcb + AT_FS)
    save_segment(cpu, GS, vmcb + AT_GS)
    save_segment(cpu, TR, vmcb + AT_TR)
    save_segment(cpu, LDTR, vmcb + AT_LDTR)
    raw_store64(vmcb + AT_KERNEL_GS_BASE, cpu.kernel_gs_base)
    raw_store64(vmcb + AT_STAR, cpu.star)
    raw_store64(vmcb + AT_LSTAR, cpu.lstar)
    raw_store64(vmcb + AT_CSTAR, cpu.cstar)
    raw_store64(vmcb + AT_SFMASK, cpu.sfmask)
    raw_store64(vmcb + AT_SYSENTER_CS, cpu.sysenter_cs)
    raw_store64(vmcb + AT_SYSENTER_ESP, cpu.sysenter_esp)
    raw_store64(vmcb + AT_SYSENTER_EIP, cpu.sysenter_eip)
    return 0

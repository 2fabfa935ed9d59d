"""What a control block holds when a vCPU of an AMD guest comes out of reset."""

from __future__ import annotations

from typing import Final

INIT_VMCB: Final = "arch/x86/kvm/svm/svm.c: init_vmcb"

# Attributes of a segment as the VMCB packs them: present, code or data, readable or writable.
_DATA, _CODE, _LDT, _BUSY_TSS16 = 0x92, 0x9A, 0x82, 0x83

INITIAL_MEMBERS: Final = (
    *(
        (f"{register}.{part}", value)
        for register, selector, attrib, base in (
            ("es", 0, _DATA, 0),
            ("cs", 0xF000, _CODE, 0xFFFF_0000),
            ("ss", 0, _DATA, 0),
            ("ds", 0, _DATA, 0),
            ("fs", 0, _DATA, 0),
            ("gs", 0, _DATA, 0),
            ("gdtr", 0, 0, 0),
            ("ldtr", 0, _LDT, 0),
            ("idtr", 0, 0, 0),
            ("tr", 0, _BUSY_TSS16, 0),
        )
        for part, value in (
            ("selector", selector),
            ("attrib", attrib),
            ("limit", 0xFFFF),
            ("base", base),
        )
    ),
    ("cr3", 0),
    ("dr7", 0x400),
    ("rflags", 0x2),
    ("rip", 0xFFF0),
)
"""Members of the save area (init_seg, init_sys_seg; DR7 by kvm_update_dr7)."""

_EXCEPTIONS: Final = ("EXCP_UD", "EXCP_MC", "EXCP_AC", "EXCP_DB")
_DEBUG_REGISTERS: Final = tuple(f"DR{n}_{way}" for way in ("READ", "WRITE") for n in range(8))

INITIAL_INTERCEPTS: Final = (
    *("CR0_READ", "CR4_READ", "CR0_WRITE", "CR4_WRITE", "CR8_WRITE"),
    *_DEBUG_REGISTERS,
    *_EXCEPTIONS,
    *("INTR", "NMI", "SMI", "SELECTIVE_CR0", "RDPMC", "CPUID", "INVD", "INVLPGA"),
    *("IOIO_PROT", "MSR_PROT", "TASK_SWITCH", "SHUTDOWN", "VMRUN", "VMMCALL", "VMLOAD", "VMSAVE"),
    *("STGI", "CLGI", "SKINIT", "WBINVD", "XSETBV", "RDPRU", "RSM", "MONITOR", "MWAIT", "HLT"),
    "PAUSE",
)
"""What leaves L1 for KVM, with nested paging on."""

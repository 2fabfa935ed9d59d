"""The checks of KVM_SET_SREGS and KVM_SET_SREGS2, in KVM's order.

A release enforces the rows that its fact `sregs_rules` names; rows of vmx.c apply on Intel only,
because their words are 0 elsewhere.
"""

from __future__ import annotations

from errno import EINVAL
from typing import Final

from emu.kvm.control_registers import CR0, CR4, EFER
from vmcs.checks import (
    allowed,
    bits_clear,
    bits_set,
    has,
    lacks,
    let,
    under,
)

WORDS: Final = (
    "CR0", "CR3", "CR4", "EFER", "CS_L", "APIC_BASE",
    "ONE", "LONG_MODE",
    "CR3_RESERVED", "CR4_RESERVED", "EFER_RESERVED", "APIC_BASE_RESERVED", "APIC_BASE_CHANGES",
    "HAS_XSAVE", "SMM",
    "VMX_SMM", "VMX_OPERATION", "CR0_FIXED0", "CR0_FIXED1", "CR4_FIXED0", "CR4_FIXED1",
)  # fmt: skip

VALID_SREGS: Final = "arch/x86/kvm/x86.c: kvm_is_valid_sregs"
VALID_CR0: Final = "arch/x86/kvm/x86.c: kvm_is_valid_cr0"
VALID_CR4: Final = "arch/x86/kvm/x86.c: __kvm_is_valid_cr4"
VMX_CR0: Final = "arch/x86/kvm/vmx/vmx.c: vmx_is_valid_cr0"
VMX_CR4: Final = "arch/x86/kvm/vmx/vmx.c: vmx_is_valid_cr4"
VALID_EFER: Final = "arch/x86/kvm/x86.c: kvm_valid_efer"
APIC_BASE: Final = "arch/x86/kvm/lapic.c: kvm_apic_set_base"

HIGH_HALF: Final = 0xFFFF_FFFF_0000_0000
APIC_ENABLE, X2APIC_ENABLE = 1 << 11, 1 << 10

LONG = has("LONG_MODE", 1)
NOT_LONG = lacks("LONG_MODE", 1)
IN_VMX = has("VMX_OPERATION", 1)
CHANGES = has("APIC_BASE_CHANGES", 1)
NW, CD, PG, PE = CR0.NW, CR0.CD, CR0.PG, CR0.PE

# fmt: off
_ROWS = (
    *under(VALID_SREGS,
        let("LONG_MODE", "ONE", when=(has("EFER", EFER.LME), has("CR0", CR0.PG))),
        bits_set("sregs_long_mode_pae", "", "CR4", CR4.PAE, when=LONG),
        bits_set("sregs_long_mode_lma", "", "EFER", EFER.LMA, when=LONG),
        bits_clear("sregs_long_mode_cr3_width", "", "CR3", "CR3_RESERVED", when=LONG),
        bits_clear("sregs_lma_outside_long_mode", "", "EFER", EFER.LMA, when=NOT_LONG),
        bits_clear("sregs_cs_l_outside_long_mode", "", "CS_L", 1, when=NOT_LONG),
    ),
    bits_clear("sregs_cr4_osxsave", VALID_SREGS, "CR4", CR4.OSXSAVE, when=lacks("HAS_XSAVE")),
    bits_clear("sregs_cr4_reserved", VALID_CR4, "CR4", "CR4_RESERVED"),
    bits_clear("sregs_cr4_vmxe_in_smm", VMX_CR4, "CR4", CR4.VMXE, when=has("VMX_SMM", 1)),
    allowed("sregs_cr4_vmx_fixed", VMX_CR4, "CR4", "CR4_FIXED0", "CR4_FIXED1", when=IN_VMX),
    bits_clear("sregs_cr0_high_half", VALID_CR0, "CR0", HIGH_HALF),
    bits_set("sregs_cr0_nw_needs_cd", VALID_CR0, "CR0", CD, when=has("CR0", NW)),
    bits_set("sregs_cr0_pg_needs_pe", VALID_CR0, "CR0", PE, when=has("CR0", PG)),
    allowed("sregs_cr0_vmx_fixed", VMX_CR0, "CR0", "CR0_FIXED0", "CR0_FIXED1", when=IN_VMX),
    bits_clear("sregs_efer_reserved", VALID_EFER, "EFER", "EFER_RESERVED"),
    bits_clear("sregs_apic_base_reserved", APIC_BASE, "APIC_BASE", "APIC_BASE_RESERVED", CHANGES),
    bits_set("sregs_x2apic_needs_enable", APIC_BASE, "APIC_BASE", APIC_ENABLE,
             when=(CHANGES, has("APIC_BASE", X2APIC_ENABLE))),
)
# fmt: on

SREGS_RULES: Final = tuple(
    row._replace(result=EINVAL) if row.name[:4] != "let " else row for row in _ROWS
)

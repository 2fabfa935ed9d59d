"""Checks on one entry of the VM-entry MSR-load area (SDM, "Loading MSRs").

The words are the entry's own: MSR_INDEX, MSR_RESERVED, MSR_DATA, and what the processor says of the
MSR: MSR_SMM_ONLY (writable only in SMM), MSR_UNLOADABLE (model-specific: not loadable on VM entry),
MSR_FAULTS (WRMSR of this value would cause #GP), IN_SMM.
"""

from vmcs.check_programs import Vocabulary
from vmcs.checks import bits_clear, differs, lacks, under

IA32_FS_BASE, IA32_GS_BASE = 0xC000_0100, 0xC000_0101
X2APIC_MSRS = 0x800

MSR_LOAD_CHECKS = under(
    "Loading MSRs",
    differs("msr_load_fs_base", "", "MSR_INDEX", IA32_FS_BASE),
    differs("msr_load_gs_base", "", "MSR_INDEX", IA32_GS_BASE),
    differs("msr_load_x2apic", "", "MSR_INDEX", X2APIC_MSRS, 0xFFFF_FF00),
    bits_clear("msr_load_smm_only", "", "MSR_SMM_ONLY", 1, lacks("IN_SMM")),
    bits_clear("msr_load_model_specific", "", "MSR_UNLOADABLE", 1),
    bits_clear("msr_load_reserved", "", "MSR_RESERVED", 0xFFFF_FFFF),
    bits_clear("msr_load_value", "", "MSR_FAULTS", 1),
)

MSR_WORDS = (
    "MSR_INDEX",
    "MSR_RESERVED",
    "MSR_DATA",
    "MSR_SMM_ONLY",
    "MSR_UNLOADABLE",
    "MSR_FAULTS",
    "IN_SMM",
)


def vocabulary() -> Vocabulary:
    """A new vocabulary of the words of one MSR-load entry."""
    return Vocabulary(MSR_WORDS)

"""A processor as a CPU model: CPUID and MSRs as its instructions give them, and what Linux finds.

A model file is a JSON object:

=============  ===================================================================================
key            meaning
=============  ===================================================================================
title          one line for a reader
provenance     where the values come from
cpuid          rows of [leaf, subleaf, EAX, EBX, ECX, EDX]: numbers, or text as ``"0x1f"``
msrs           MSR index to value: the feature MSRs that the processor has
bugs           vulnerabilities by Linux's names (``X86_BUG_*``)
pmu            whether Linux finds performance counters that work
pebs           whether counters can write records into a guest's memory (with EPT)
l1d_flush      false where Linux was told never to flush the L1 data cache at VM entry
=============  ===================================================================================

A file that holds what KVM itself gave to user space is one too: the `environment` of recorded
verdicts, with `cpuid` (KVM_GET_SUPPORTED_CPUID) and `feature_msrs` (KVM_GET_MSRS).  What that KVM
did not pass on is not known then, and is taken as absent; so are vulnerabilities, from what
IA32_ARCH_CAPABILITIES leaves out.  A VMX control that a shown feature needs is taken as present.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from emu.errors import InputError
from emu.files import read_file
from emu.kvm.cpu_models.features import PLACE, WORD
from emu.kvm.cpuid import EAX, EBX, ECX, EDX
from emu.kvm.host import AMD, INTEL
from emu.kvm.nested_vmx.capabilities import MSR_BASIC, MSR_PROC2
from vmcs.vmx.controls import ProcBased2

CPU_MODELS: Final = ("skylake-x", "epyc-milan", "arrow-lake", "sapphire-rapids", "minimal-intel")
"""Names of the models that ship with the project."""

VENDORS: Final = {
    b"GenuineIntel": INTEL,
    b"AuthenticAMD": AMD,
    b"HygonGenuine": AMD,
}
MSR_IA32_ARCH_CAPABILITIES: Final = 0x10A
REQUIRED_VMX_MSRS: Final = (*range(MSR_BASIC, 0x486), 0x487, 0x489)
NO_LEAF: Final = (0, 0, 0, 0)
BASIC, EXTENDED, HYPERVISOR = 0x0, 0x8000_0000, 0x4000_0000

SKIP_L1DFLUSH: Final = 3

Leaf = tuple[int, int, int, int]


class FreeOf(NamedTuple):
    """A bit of IA32_ARCH_CAPABILITIES that says that a processor is free of a vulnerability."""

    name: str
    bit: int
    bug: str


# SDM, IA32_ARCH_CAPABILITIES; arch/x86/kvm/x86.c: kvm_get_arch_capabilities.
FREE_OF: Final = (
    FreeOf("RDCL_NO", 0, "CPU_MELTDOWN"),
    FreeOf("SSB_NO", 4, "SPEC_STORE_BYPASS"),
    FreeOf("MDS_NO", 5, "MDS"),
    FreeOf("TAA_NO", 8, "TAA"),
    FreeOf("GDS_NO", 26, "GDS"),
    FreeOf("RFDS_NO", 27, "RFDS"),
    FreeOf("ITS_NO", 62, "ITS"),
)

# Features that a guest needs a VMX control for (arch/x86/kvm/vmx/vmx.c: vmx_set_cpu_caps).
CONTROL_OF_FEATURE: Final = {
    "INVPCID": ProcBased2.ENABLE_INVPCID,
    "RDTSCP": ProcBased2.ENABLE_RDTSCP,
    "RDPID": ProcBased2.ENABLE_RDTSCP,
    "XSAVES": ProcBased2.ENABLE_XSAVES_XRSTORS,
    "WAITPKG": ProcBased2.ENABLE_USER_WAIT_AND_PAUSE,
    "SGX": ProcBased2.ENABLE_ENCLS_EXITING,
    "SGX_LC": ProcBased2.ENABLE_ENCLS_EXITING,
    "SGX1": ProcBased2.ENABLE_ENCLS_EXITING,
    "SGX2": ProcBased2.ENABLE_ENCLS_EXITING,
    "SGX_EDECCSSA": ProcBased2.ENABLE_ENCLS_EXITING,
}


@dataclass(frozen=True)
class CpuModel:
    """A processor: raw CPUID by (leaf, subleaf), raw MSRs by index, and what Linux finds there."""

    name: str
    vendor: str
    leaves: Mapping[tuple[int, int], Leaf]
    msrs: Mapping[int, int]
    bugs: frozenset[str] = frozenset()
    pmu: bool = True
    pebs: bool = False
    l1d_flush: bool = True
    title: str = ""
    provenance: str = ""

    def leaf(self, function: int, index: int = 0) -> Leaf:
        """CPUID of a leaf and subleaf: EAX, EBX, ECX, EDX; zeroes for one that it lacks."""
        return self.leaves.get((function, index), NO_LEAF)

    def word(self, name: str) -> int:
        """The register of CPUID that the word `name` of `features.WORDS` stands for."""
        word = WORD[name]
        return self.leaf(word.function, word.subleaf)[word.register]

    def has(self, feature: str) -> bool:
        """Whether the processor has a feature (a name of `features.PLACE`)."""
        word, bit = PLACE[feature]
        return bool(self.word(word) & bit)

    def allows(self, msr: int, control: int) -> bool:
        """Whether a VMX capability MSR allows all of the controls `control` to be 1."""
        return not control & ~(self.msrs.get(msr, 0) >> 32)

    @cached_property
    def lfence_serializes(self) -> bool:
        """Linux's X86_FEATURE_LFENCE_RDTSC (arch/x86/kernel/cpu/amd.c, intel.c)."""
        if self.vendor == INTEL:
            return self.has("XMM2")
        return self.has("LFENCE_RDTSC") or bool(self.msrs.get(0xC001_1029, 0) & 2)


def cpu_model(name: str) -> CpuModel:
    """The CPU model `name`: one of `CPU_MODELS`, or the path of a file whose name ends in .json.

    Raises InputError for a name that is not known, and for a file that is no model, saying why.
    """
    return _from_file(name) if name.endswith(".json") else _shipped(name)


@cache
def _shipped(name: str) -> CpuModel:
    if name not in CPU_MODELS:
        known = ", ".join(CPU_MODELS)
        raise InputError(f"no CPU model is named {name!r}; known: {known}, or a file *.json")
    text = resources.files(__package__).joinpath(f"{name}.json").read_text("utf-8")
    return model_of(json.loads(text), name)


def _from_file(name: str) -> CpuModel:
    path = Path(name)
    try:
        stamp = path.stat()
    except OSError as reason:
        raise InputError(f"{name}: no CPU model: {reason.strerror}") from reason
    return _read(path, stamp.st_mtime_ns, stamp.st_size)


@cache
def _read(path: Path, _modified: int, _size: int) -> CpuModel:
    try:
        data = json.loads(read_file(path).decode())
    except ValueError as reason:
        raise InputError(f"{path}: no CPU model: {reason}") from reason
    return model_of(data, str(path))


def model_of(data: object, name: str) -> CpuModel:
    """The CPU model that a JSON object describes; raises InputError with `name` and the reason."""
    if not isinstance(data, dict):
        raise InputError(f"{name}: no CPU model: not a JSON object")
    inner = data.get("environment")
    return _model_of(inner if isinstance(inner, dict) else data, name)


def _model_of(data: Mapping[str, Any], name: str) -> CpuModel:
    given = "msrs" if "msrs" in data else "feature_msrs"
    leaves = _leaves(data.get("cpuid"), name)
    msrs = _msrs(data.get(given), name, given)
    vendor = _vendor(leaves, name)
    if vendor == INTEL:
        missing = [index for index in REQUIRED_VMX_MSRS if index not in msrs]
        if missing:
            raise InputError(
                f"{name}: {given!r} lacks the VMX capability MSR {missing[0]:#x} "
                "(was KVM's parameter nested off?)"
            )
        if given == "feature_msrs":
            msrs = _with_needed_controls(msrs, CpuModel(name, vendor, leaves, msrs))
    model = CpuModel(name, vendor, leaves, msrs, title=str(data.get("title", "")))
    capabilities = msrs.get(MSR_IA32_ARCH_CAPABILITIES, 0)
    facts: dict[str, Any] = {
        "bugs": _bugs(data, model, capabilities, name),
        "pmu": vendor == AMD or bool(model.leaf(0xA)[EAX] & 0xFF),
        "pebs": given == "feature_msrs" and model.has("DS") and model.has("DTES64"),
        "l1d_flush": given == "msrs" or bool(capabilities >> SKIP_L1DFLUSH & 1),
    }
    for key in ("pmu", "pebs", "l1d_flush"):
        if key in data:
            if not isinstance(data[key], bool):
                raise InputError(f"{name}: {key!r} is {data[key]!r}, not true or false")
            facts[key] = data[key]
    return CpuModel(
        name,
        vendor,
        leaves,
        msrs,
        title=str(data.get("title", "")),
        provenance=str(data.get("provenance", data.get("uname", ""))),
        **facts,
    )


def _with_needed_controls(msrs: Mapping[int, int], model: CpuModel) -> Mapping[int, int]:
    """`msrs` with the secondary controls that features shown to guests need."""
    needed = 0
    for feature, control in CONTROL_OF_FEATURE.items():
        if model.has(feature):
            needed |= int(control)
    return MappingProxyType({**msrs, MSR_PROC2: msrs.get(MSR_PROC2, 0) | needed << 32})


def _number(value: object, bits: int) -> int | None:
    """`value` as a number of `bits` bits; None where it is none."""
    if isinstance(value, str):
        try:
            value = int(value, 0)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
        return None
    return value


def _leaves(rows: object, name: str) -> Mapping[tuple[int, int], Leaf]:
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{name}: 'cpuid' is missing, or no list of rows")
    found: dict[tuple[int, int], Leaf] = {}
    for position, row in enumerate(rows):
        numbers = [_number(value, 32) for value in row] if isinstance(row, Sequence) else []
        if len(numbers) != 6 or None in numbers:
            raise InputError(
                f"{name}: row {position} of 'cpuid' is {row!r}, not six numbers of 32 bits: "
                "leaf, subleaf, EAX, EBX, ECX, EDX"
            )
        leaf, subleaf, eax, ebx, ecx, edx = (number or 0 for number in numbers)
        if (leaf, subleaf) in found:
            raise InputError(f"{name}: 'cpuid' has leaf {leaf:#x}, subleaf {subleaf} twice")
        found[leaf, subleaf] = (eax, ebx, ecx, edx)
    return MappingProxyType(found)


def _msrs(values: object, name: str, key: str) -> Mapping[int, int]:
    if not isinstance(values, dict):
        raise InputError(f"{name}: 'msrs' (or 'feature_msrs') is missing, or no object")
    found: dict[int, int] = {}
    for index, value in values.items():
        number, content = _number(index, 32), _number(value, 64)
        if number is None:
            raise InputError(f"{name}: {key!r} has the key {index!r}, not an MSR index as '0x480'")
        if content is None:
            raise InputError(f"{name}: MSR {index} of {key!r} is {value!r}, no number of 64 bits")
        found[number] = content
    return MappingProxyType(found)


def _vendor(leaves: Mapping[tuple[int, int], Leaf], name: str) -> str:
    first = leaves.get((0, 0))
    if first is None:
        raise InputError(f"{name}: 'cpuid' lacks leaf 0, which names the vendor")
    text = b"".join(first[register].to_bytes(4, "little") for register in (EBX, EDX, ECX))
    vendor = VENDORS.get(text)
    if vendor is None:
        raise InputError(f"{name}: CPUID names the vendor {text!r}, neither Intel nor AMD")
    return vendor


def _bugs(data: Mapping[str, Any], model: CpuModel, capabilities: int, name: str) -> frozenset[str]:
    if "bugs" in data:
        bugs = data["bugs"]
        if not isinstance(bugs, list) or not all(isinstance(bug, str) for bug in bugs):
            raise InputError(f"{name}: 'bugs' is {bugs!r}, not a list of names")
        return frozenset(bugs)
    found = {row.bug for row in FREE_OF if not capabilities >> row.bit & 1}
    if model.vendor == AMD and not model.has("NULL_SEL_CLR_BASE"):
        found.add("NULL_SEG")
    return frozenset(found)

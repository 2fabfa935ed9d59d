"""What the words of KVM's checks hold, and what their bits are called: for refusals in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from emu.kvm.control_registers import CR0, CR4, EFER
from vmcs.schema import BitTable, Layout

Table = type[BitTable] | Layout | type[CR0] | type[CR4] | type[EFER]


class Glossary(NamedTuple):
    """The tables of the words whose bits have names, and what words hold that no blob has."""

    tables: Mapping[str, Table]
    meanings: Mapping[str, str]

    def names(self, word: str, bits: int) -> tuple[str, ...]:
        """Names of `bits` of `word`, from bit 0 up; those without one as a mask behind them."""
        if word not in self.tables:
            return ()
        named = [(mask, name) for mask, name in _named(self.tables[word]) if bits & mask]
        if not named:
            return ()
        rest = bits & ~sum(mask for mask, _ in named)
        return (*(name for _, name in named), *((f"bits {rest:#x}",) if rest else ()))

    def meaning(self, word: str) -> str:
        """What `word` holds; empty for a member of the blob."""
        return self.meanings.get(word, "")


def _named(table: Table) -> Iterable[tuple[int, str]]:
    if isinstance(table, Layout):
        return ((row.mask, row.name) for row in table if not row.reserved)
    if issubclass(table, BitTable):
        return ((row.mask, row.name) for row in table.table if not row.reserved)
    bits = {name: value for name, value in vars(table).items() if isinstance(value, int)}
    return ((mask, name) for name, mask in bits.items())


Source = Callable[[], Glossary]


def nameless() -> Glossary:
    """No names at all."""
    return Glossary({}, {})


@cache
def of_sregs() -> Glossary:
    """The words of KVM_SET_SREGS."""
    return Glossary(MappingProxyType({"CR0": CR0, "CR4": CR4, "EFER": EFER}), MappingProxyType({}))


@cache
def of_vmx() -> Glossary:
    """The words of KVM_SET_NESTED_STATE on Intel."""
    from emu.kvm.nested_vmx.words import KVM_WORDS  # noqa: PLC0415 - where a refusal is worded
    from vmcs.nested_state import NestedFlag, SmmFlag, VmxHeaderFlag  # noqa: PLC0415
    from vmcs.vmx.controls import ProcBased2  # noqa: PLC0415
    from vmcs.vmx.entry_checks.words import CONTRIBUTED  # noqa: PLC0415
    from vmcs.vmx.field_formats import FORMATS  # noqa: PLC0415

    formats = {
        name: table
        for name, table in FORMATS.items()
        if isinstance(table, Layout) or issubclass(table, BitTable)
    }
    tables: dict[str, Table] = {
        **formats,
        "FLAGS": NestedFlag,
        "SMM_FLAGS": SmmFlag,
        "VMX_HEADER_FLAGS": VmxHeaderFlag,
        "PROC2": ProcBased2,
        **dict.fromkeys(("GUEST_CR0", "HOST_CR0"), CR0),
        **dict.fromkeys(("GUEST_CR4", "HOST_CR4"), CR4),
        **dict.fromkeys(("GUEST_IA32_EFER", "HOST_IA32_EFER", "CURRENT_EFER"), EFER),
    }
    meanings = {word.name: word.meaning for word in (*CONTRIBUTED, *KVM_WORDS)}
    return Glossary(MappingProxyType(tables), MappingProxyType(meanings))


@cache
def of_svm() -> Glossary:
    """The words of KVM_SET_NESTED_STATE on AMD."""
    from emu.kvm.nested_svm.words import ENVIRONMENT  # noqa: PLC0415 - where a refusal is worded
    from vmcs.nested_state import NestedFlag  # noqa: PLC0415
    from vmcs.svm import control_bits, intercepts  # noqa: PLC0415

    tables: dict[str, Table] = {
        "FLAGS": NestedFlag,
        "INTERCEPTS_3": intercepts.InterceptWord3,
        "INTERCEPTS_4": intercepts.InterceptWord4,
        "INT_CTL": control_bits.INT_CTL,
        "MISC_CTL": control_bits.MiscControl,
        "MISC_CTL_OF_L2": control_bits.MiscControl,
        "EVENT_INJ": control_bits.EVENT_INJ,
        "INJECTED": control_bits.EVENT_INJ,
        "CS.ATTRIB": control_bits.SEGMENT_ATTRIBUTES,
        **dict.fromkeys(("CR0", "VCPU_CR0"), CR0),
        "CR4": CR4,
        **dict.fromkeys(("EFER", "VCPU_EFER"), EFER),
    }
    meanings = {word.name: word.meaning for word in ENVIRONMENT}
    return Glossary(MappingProxyType(tables), MappingProxyType(meanings))

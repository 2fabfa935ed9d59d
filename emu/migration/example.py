"""An example of a broken rule: words of a real vCPU, one of them changed until the check fails."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from emu.kvm import Kvm
from emu.kvm.cpu_models import host_of
from emu.kvm.host import ModuleParameters
from emu.migration.capture import shipped_capture
from emu.migration.guest import load_registers, new_vcpu
from emu.releases import RELEASES
from vmcs.checks import ALL_BITS, Predicate, Row, Shape
from vmcs.failures import explain_failure

# The states whose words the examples start from, by vendor.
STATES = {"intel": "vmx-l2-running", "amd": "svm-l2-running"}
NO_MEMORY_TYPE = 2


def example(row: Row, vendor: str, kernels: tuple[str, ...] = ()) -> str:
    """How `row` fails, in words: with the limits that a vCPU has under the last of `kernels`.

    Empty where no one word can break the row, or where its words are not those of nested state.
    """
    from emu.kvm.glossary import of_svm, of_vmx  # noqa: PLC0415 - only examples need names here

    known = {"intel": of_vmx, "amd": of_svm}[vendor]()
    words = _words(vendor, kernels[-1] if kernels else list(RELEASES)[-1])
    if not set(row.words) <= set(words):
        return ""
    values = {name: words[name] for name in row.words}
    broken = breaking(row.predicate, values)
    return explain_failure(row.predicate, broken, known.names, known.meaning) if broken else ""


@cache
def _words(vendor: str, kernel: str) -> Mapping[str, int]:
    """Every word of the program of KVM_SET_NESTED_STATE for the vendor's example state."""
    capture = shipped_capture(STATES[vendor])
    release = RELEASES[kernel]
    vcpu = new_vcpu(Kvm(release, host_of(capture.cpu, release, ModuleParameters(nested=True))))
    load_registers(vcpu, capture)
    walk = vcpu.operations.prepared_walk(memoryview(bytearray(capture.blob)))
    walk.program.walk_record(walk.record, walk.words)
    values = walk.words.tolist()
    return MappingProxyType(dict(zip(walk.program.vocabulary.names, values, strict=False)))


def breaking(predicate: Predicate, values: Mapping[str, int]) -> dict[str, int] | None:
    """`values` with the first word of `predicate` changed so that it fails; None: no such value."""
    word = predicate.a
    if not isinstance(word, str):
        return None
    a, b, c, d = (values[x] if isinstance(x, str) else int(x) for x in predicate[1:])
    outside = ~(b | c) & ALL_BITS
    changed: int | None
    match predicate.shape:
        case Shape.BITS_CLEAR:
            changed = a | _lowest(b) if b else None
        case Shape.BITS_SET:
            changed = a & ~_lowest(b) if b else None
        case Shape.ANY_SET:
            changed = a & ~b
        case Shape.EQUAL:
            changed = a & ~c | (b ^ _lowest(c)) if c else None
        case Shape.DIFFERENT:
            changed = a & ~c | b
        case Shape.AT_MOST:
            changed = b + 1 if b < ALL_BITS else None
        case Shape.AT_LEAST:
            changed = b - 1 if b else None
        case Shape.ALLOWED:
            changed = a & ~_lowest(b) if b else a | _lowest(outside) if outside else None
        case Shape.SAME:
            changed = a & ~c if b & d and word != predicate.b else a ^ _lowest(c)
        case Shape.CANONICAL:
            changed = 1 << (b - 1)
        case Shape.MEMORY_TYPES:
            changed = a & ~0xFF | NO_MEMORY_TYPE
        case Shape.MSR_AREA:
            changed = a | 8
        case Shape.RANGE:
            changed = a | _lowest(c) if c else None
        case Shape.SHIFTED:
            changed = a ^ 1
        case Shape.MEMBER | Shape.NO_MEMBER:
            wanted = predicate.shape is Shape.NO_MEMBER
            room = range(min(64, (c >> d) + 1))
            found = [n for n in room if bool(b >> n & 1) == wanted]
            changed = a & ~c | found[0] << d if found else None
    return None if changed is None else {**values, word: changed & ALL_BITS}


def _lowest(mask: int) -> int:
    return mask & -mask

"""Mutated nested states, and all that a vCPU is made of, for tests of what a SET may change."""

from functools import cache

import numpy as np
from hypothesis import strategies as st

from emu.kvm.nested_svm.rules import SET_RULES
from emu.kvm.nested_svm.words import BLOB_WORDS as SVM_WORDS
from emu.kvm.nested_vmx.rules import SET_PROGRAM
from emu.kvm.nested_vmx.words import BLOB_WORDS as VMX_WORDS
from emu.migration.capture import shipped
from emu.migration.guest import load_registers, load_state, new_vcpu
from emu.migration.matrix import kernel_of
from emu.releases import release
from tests.reference.naive_checks import walk
from vmcs.checks import Kind

ROWS = {"vmx": (SET_PROGRAM, "vmx_rules"), "svm": (SET_RULES, "svm_rules")}
FIELDS = {
    "vmx": {name: tuple(place) for name, place in VMX_WORDS.items()},
    "svm": {word.name: (word.offset, word.width) for word in SVM_WORDS},
}
HEADER = ((0, 2), (2, 2), (4, 4), (8, 8), (16, 8), (24, 2), (28, 4), (32, 8))
EDGES = (0, 1, 2, 3, 4, 7, 0x80, 0xFFF, 0x1000, 1 << 31, 1 << 32, 1 << 47, 1 << 52, 1 << 63, -1)
SIZES = (0, 1, 127, 128, 129, 997, 998, 1126, 4223, 4224, 4225, 8319, 8320, 12416, 2**32 - 1)


class State(bytes):
    """A nested state that says of itself only what was changed."""

    changes = ()

    def __repr__(self):
        return f"State({self.changes})"


@st.composite
def mutations(draw, blob, kind):
    """`blob` with up to four words replaced or bits flipped, and sometimes another size."""
    made, changes = bytearray(blob.ljust(8320, b"\0")), []
    places = st.one_of(st.sampled_from(HEADER), st.sampled_from(sorted(set(FIELDS[kind].values()))))
    for _ in range(draw(st.integers(0, 4))):
        offset, width = draw(places)
        every = (1 << 8 * width) - 1
        old = int.from_bytes(made[offset : offset + width], "little")
        value = draw(
            st.one_of(
                st.sampled_from(EDGES),
                st.integers(0, 8 * width - 1).map(lambda bit, old=old: old ^ 1 << bit),
                st.integers(0, every),
            )
        )
        changes.append((offset, width, value & every))
    if draw(st.integers(0, 7)) == 0:
        changes.append((4, 4, draw(st.sampled_from(SIZES))))
    for offset, width, value in changes:
        made[offset : offset + width] = value.to_bytes(width, "little")
    state = State(made)
    state.changes = tuple(changes)
    return state


@cache
def kernel(name, capture_name):
    return kernel_of(release(name), shipped()[capture_name])


def vcpu_holding(kernel_name, capture_name):
    """A vCPU whose nested state is that of the capture."""
    capture = shipped()[capture_name]
    vcpu = new_vcpu(kernel(kernel_name, capture_name))
    load_registers(vcpu, capture)
    load_state(vcpu, capture.blob)
    return vcpu


def fresh_vcpu(kernel_name, capture_name):
    """A vCPU that is ready for the capture's nested state, and has none."""
    capture = shipped()[capture_name]
    vcpu = new_vcpu(kernel(kernel_name, capture_name))
    load_registers(vcpu, capture)
    return vcpu


# What is derived from other state and made again when it is asked for.
CACHES = {"in_cache"}
# Objects that a SET cannot change, and ways back up.
FIXED = {"release", "host", "kvm", "vcpu", "behaviours", "cpuid", "refused_msr", "entry_refusal"}


def everything(vcpu):
    """All values that the vCPU and its VM are made of, by path; registers read back first."""
    vcpu.get_sregs()
    vcpu.get_regs()
    found = {}
    _collect("", vcpu, found, set())
    for slot in vcpu.memory.slots:
        found[f"memory.{slot.number}"] = vcpu.memory.read(slot.gpa, slot.size)
    return found


def _collect(path, value, found, seen):
    if isinstance(value, int | str | bytes | float | type(None) | np.generic):
        found[path] = value
    elif isinstance(value, bytearray | memoryview):
        found[path] = bytes(value)
    elif isinstance(value, np.ndarray):
        found[path] = value.tobytes()
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(f"{path}[{key}]", item, found, seen)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _collect(f"{path}[{number}]", item, found, seen)
    elif isinstance(getattr(value, "view", None), memoryview):
        found[path] = bytes(value.view)
    elif hasattr(value, "__dict__") and id(value) not in seen:
        seen.add(id(value))
        for name, item in vars(value).items():
            if name not in FIXED | CACHES and not name.startswith("_"):
                _collect(f"{path}.{name}" if path else name, item, found, seen)


def changed(before, after):
    """Paths of what is not as it was."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def expected_walk(vcpu, kind, state):
    """The check that refuses `state` ("": none) and the effects met: the naive oracle's answer."""
    table, fact = ROWS[kind]
    names = vcpu.release.names(fact)
    rows = [row for row in table if row.kind is Kind.LET or row.name in names]
    prepared = vcpu.operations.prepared_walk(memoryview(state))
    vocabulary = prepared.program.vocabulary
    words = {name: int(prepared.words[vocabulary.index(name)]) for name in vocabulary.names}
    for name, (offset, width) in FIELDS[kind].items():
        words[name] = int.from_bytes(state[offset : offset + width], "little")
    stop, effects, _ = walk(rows, words)
    checks = {row.name for row in rows if row.kind is Kind.CHECK}
    return stop if stop in checks else "", effects


def effects_before(vcpu, kind, stop):
    """Every effect that stands before the row `stop` in the release's program."""
    table, fact = ROWS[kind]
    names = [row.name for row in table]
    kept = vcpu.release.names(fact)
    return [
        row.name
        for row in table[: names.index(stop)]
        if row.kind is Kind.EFFECT and row.name in kept
    ]

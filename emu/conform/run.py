"""Replaying recorded verdicts against the emulated kernel of the same release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emu.conform.recorded import BUFFER_SIZE, Recording
from emu.errors import InputError, KvmError
from emu.kvm import Kvm
from emu.kvm.control_registers import EFER
from emu.kvm.structs import Segment, Sregs
from vmcs.batch.checksum import fnv1a_64

MSR_IA32_FEAT_CTL = 0x3A
TSS_ADDRESS = 0xFFFB_D000
GUEST_MEMORY = 4 << 20
CONTROL_REGISTERS = ("cr0", "cr3", "cr4", "efer")
LONG_MODE_CS = Segment(
    base=0, limit=0xFFFF_FFFF, selector=8, type=11, present=1, s=1, l=1, db=0, g=1
)

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Disagreement:
    """A value in which the emulated kernel differs from the recorded one.

    `step` is the number of the ioctl in a sequence; 0 in a single case.
    """

    case: int
    tag: str
    step: int
    value: str
    recorded: Any
    emulated: Any
    rule: str = ""


@dataclass
class Agreement:
    """What came of replaying a recording: counts by tag (of the kind of ioctl in sequences)."""

    name: str
    cases: int = 0
    agreeing: int = 0
    by_tag: dict[str, list[int]] = field(default_factory=dict)
    disagreements: list[Disagreement] = field(default_factory=list)

    def count(self, tag: str, agrees: bool) -> None:
        """Count one more case of `tag`."""
        counts = self.by_tag.setdefault(tag, [0, 0])
        counts[0] += 1
        counts[1] += agrees

    @property
    def complete(self) -> bool:
        """Whether every case agrees."""
        return self.cases == self.agreeing


def replay(
    recording: Recording, keep: int = 20, only: Callable[[Mapping[str, Any]], bool] | None = None
) -> Agreement:
    """Replay every case of `recording`; the first `keep` disagreements are kept in full."""
    kvm = Kvm(recording.release, recording.host)
    made = Agreement(recording.name)
    run = _sequence if recording.sequences else _single
    for case in recording.cases:
        if only is not None and not only(case):
            continue
        found = list(run(recording, kvm, case))
        made.cases += 1
        made.agreeing += not found
        for tag in _tags(case):
            made.count(tag, not any(d.tag == tag for d in found))
        made.disagreements += found[: max(keep - len(made.disagreements), 0)]
    return made


def _tags(case: Mapping[str, Any]) -> tuple[str, ...]:
    if "ops" in case:
        return tuple(Counter(op["op"] for op in case["ops"]))
    return (case["tag"],)


def checksum(data: bytes | bytearray | memoryview) -> str:
    """FNV-1a of `data` as the recordings write it."""
    return f"{fnv1a_64(np.frombuffer(data, np.uint8)):016x}"


class RecordedVcpu:
    """A VM and vCPU set up as those of the recordings, and the recorded operations on them.

    `rule` is the name of the rule that refused the last operation.
    """

    def __init__(self, recording: Recording, kvm: Kvm) -> None:
        self.recording = recording
        self.vm = kvm.create_vm()
        self.vm.set_tss_addr(TSS_ADDRESS)
        self.vm.set_user_memory_region(0, 0, GUEST_MEMORY)
        self.vm.create_irqchip()
        self.vcpu = self.vm.create_vcpu(0)
        self.vcpu.set_cpuid2(kvm.get_supported_cpuid())
        self.rule = ""

    def attempt(self, ioctl: Callable[[], object]) -> int:
        """Errno of a refused ioctl, 0 of one that succeeds."""
        self.rule = ""
        try:
            ioctl()
        except KvmError as refusal:
            self.rule = refusal.rule
            return refusal.errno
        return 0

    def set_cpuid(self, op: Answer) -> Answer:
        """KVM_SET_CPUID2 with bits taken out of the supported table."""
        supported = self.vm.kvm.get_supported_cpuid()
        changed = supported.cleared(op["function"], op["index"], op["register"], op["clear"])
        return {"errno": self.attempt(lambda: self.vcpu.set_cpuid2(changed))}

    def set_msr(self, op: Answer) -> Answer:
        """KVM_SET_MSRS of one MSR."""
        done = self.vcpu.set_msrs([(op["index"], op["value"])])
        self.rule = self.vcpu.refused_msr[1] if self.vcpu.refused_msr else ""
        return {"ret": done}

    def get_msr(self, op: Answer) -> Answer:
        """KVM_GET_MSRS of one MSR."""
        values = self.vcpu.get_msrs([op["index"]])
        self.rule = self.vcpu.refused_msr[1] if self.vcpu.refused_msr else ""
        return {"ret": len(values), "value": values[0] if values else 0}

    def set_sregs(self, op: Answer) -> Answer:
        """KVM_GET_SREGS, four registers (and CS in long mode) replaced, KVM_SET_SREGS."""
        members = dict(self.vcpu.get_sregs().__dict__)
        members.update({name: op[name] for name in CONTROL_REGISTERS})
        if op["efer"] & EFER.LMA:
            members["cs"] = LONG_MODE_CS
        return {"errno": self.attempt(lambda: self.vcpu.set_sregs(Sregs(**members)))}

    def get_sregs(self, _op: Answer) -> Answer:
        """The control registers of KVM_GET_SREGS."""
        return dict(zip(CONTROL_REGISTERS, self.vcpu.get_control_registers(), strict=True))

    def set_nested(self, op: Answer) -> Answer:
        """KVM_SET_NESTED_STATE of the patched base."""
        blob = self.recording.blob(op["patches"])
        returned = 0

        def ioctl() -> None:
            nonlocal returned
            returned = self.vcpu.set_nested_state(blob)

        errno = self.attempt(ioctl)
        return {"ret": -1 if errno else returned, "errno": errno}

    def get_nested_buffer(self, size: int) -> tuple[bytearray, int]:
        """KVM_GET_NESTED_STATE into a zeroed buffer that claims `size` bytes: it, and errno."""
        buffer = bytearray(BUFFER_SIZE)
        buffer[4:8] = size.to_bytes(4, "little")
        return buffer, self.attempt(lambda: self.vcpu.get_nested_state_into(buffer))

    def get_nested(self, op: Answer) -> Answer:
        """KVM_GET_NESTED_STATE."""
        buffer, errno = self.get_nested_buffer(op["size"])
        flags, form, size = header(buffer)
        return {
            "errno": errno,
            "size": size,
            "flags": flags,
            "format": form,
            "fnv64_header": checksum(b"" if errno else buffer[:128]),
            "fnv64": checksum(b"" if errno else buffer[:size]),
        }

    def set_events(self, op: Answer) -> Answer:
        """KVM_GET_VCPU_EVENTS, flags and SMM replaced, KVM_SET_VCPU_EVENTS."""
        events = self.vcpu.get_vcpu_events().replaced(flags=op["flags"], smi_smm=op["smm"])
        return {"errno": self.attempt(lambda: self.vcpu.set_vcpu_events(events))}

    def get_events(self, _op: Answer) -> Answer:
        """KVM_GET_VCPU_EVENTS."""
        events = self.vcpu.get_vcpu_events()
        return {
            "flags": events.flags,
            "smm": events.smi_smm,
            "nmi_masked": events.nmi_masked,
            "exception_injected": events.exception_injected,
        }

    def enable_cap(self, op: Answer) -> Answer:
        """KVM_ENABLE_CAP on the vCPU."""
        version = 0

        def ioctl() -> None:
            nonlocal version
            version = self.vcpu.enable_cap(op["cap"])

        errno = self.attempt(ioctl)
        return {"errno": errno, "version": version}

    def read_page(self, op: Answer) -> Answer:
        """Checksum of a page of guest memory."""
        return {"fnv64": checksum(self.vm.read_memory(op["gpa"], 4096))}

    def write_mem(self, op: Answer) -> Answer:
        """User space writes a word of guest memory."""
        self.vm.write_memory(op["gpa"], op["value"].to_bytes(op["width"], "little"))
        return {}

    def set_mp_state(self, op: Answer) -> Answer:
        """KVM_SET_MP_STATE."""
        return {"errno": self.attempt(lambda: self.vcpu.set_mp_state(op["mp_state"]))}

    def get_mp_state(self, _op: Answer) -> Answer:
        """KVM_GET_MP_STATE."""
        return {"mp_state": self.vcpu.get_mp_state()}


OPERATIONS = (
    "set_cpuid",
    "set_msr",
    "get_msr",
    "set_sregs",
    "get_sregs",
    "set_nested",
    "get_nested",
    "set_events",
    "get_events",
    "enable_cap",
    "read_page",
    "write_mem",
    "set_mp_state",
    "get_mp_state",
)


def header(buffer: bytes | bytearray) -> tuple[int, int, int]:
    """Flags, format and size of a nested-state header."""
    word = int.from_bytes(buffer[:8], "little")
    return word & 0xFFFF, word >> 16 & 0xFFFF, word >> 32


def _single(recording: Recording, kvm: Kvm, case: Mapping[str, Any]) -> Iterator[Disagreement]:
    made = RecordedVcpu(recording, kvm)
    if case.get("feature_control") is not None:
        made.vcpu.set_msrs([(MSR_IA32_FEAT_CTL, case["feature_control"])])
    answer: dict[str, Any] = {"sregs_errno": made.set_sregs(case)["errno"]}
    nested = made.set_nested(case)
    answer |= {"set_errno": nested["errno"], "set_ret": nested["ret"]}
    rule = made.rule
    buffer, errno = made.get_nested_buffer(case["get_size_in"])
    flags, form, size = header(buffer)
    answer |= {"get_errno": errno, "get_size": size, "get_flags": flags, "get_format": form}
    answer["get_fnv64"] = checksum(buffer[:size] if errno == 0 else b"")
    answer |= made.get_sregs({})
    yield from _compare(case, case["tag"], 0, case["expect"], answer, rule)
    recorded = case["expect"].get("get_blob")
    if recorded is not None and case["expect"]["get_fnv64"] != answer["get_fnv64"]:
        yield from _bytes(case, bytes.fromhex(recorded), bytes(buffer[:size]))


def _bytes(case: Mapping[str, Any], recorded: bytes, emulated: bytes) -> Iterator[Disagreement]:
    for offset, (one, other) in enumerate(zip(recorded, emulated, strict=False)):
        if one != other:
            yield Disagreement(case["id"], case["tag"], 0, f"byte {offset}", one, other)


def _sequence(recording: Recording, kvm: Kvm, case: Mapping[str, Any]) -> Iterator[Disagreement]:
    made = RecordedVcpu(recording, kvm)
    for step, op in enumerate(case["ops"]):
        name = op["op"]
        if name not in OPERATIONS:
            raise InputError(f"{recording.name}: case {case['id']}: no operation is named {name!r}")
        made.rule = ""
        answer = getattr(made, name)(op)
        yield from _compare(case, name, step, op.get("expect", {}), answer, made.rule)


def _compare(
    case: Mapping[str, Any], tag: str, step: int, expect: Answer, answer: Answer, rule: str
) -> Iterator[Disagreement]:
    for name, value in answer.items():
        recorded = expect.get(name)
        # null: the value depends on time, so the recording does not have it.
        if recorded is not None and recorded != value:
            yield Disagreement(case["id"], tag, step, name, recorded, value, rule)


def total(agreements: Iterable[Agreement]) -> tuple[int, int]:
    """Number of cases and of agreeing cases in all."""
    every = list(agreements)
    return sum(each.cases for each in every), sum(each.agreeing for each in every)

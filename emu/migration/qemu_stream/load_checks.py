"""What QEMU itself refuses while it loads a vCPU, before the kernel is asked: a row a check.

Rows stand in the order in which QEMU meets them, so the first finding of a vCPU is what QEMU
prints; the others are what it would print next. An error ends the load with
"load of migration failed" and the error's text.

Read in QEMU 4.1 to 8.2, target/i386/machine.c: nested_state_post_load, cpu_post_load;
migration/vmstate.c: vmstate_load_state, vmstate_subsection_load.
The texts and their order were seen on QEMU 7.2.22 but for the lines that need KVM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from errno import EINVAL, ENOENT
from os import strerror
from typing import Literal

from emu.errors import InputError
from emu.migration.qemu_stream.cpu import CpuSection
from emu.migration.qemu_stream.nested import (
    NESTED_STATE,
    SVM_STATE,
    NestedState,
)
from emu.migration.qemu_stream.registers import HFlags
from emu.migration.qemu_stream.stream import QemuStream
from emu.migration.qemu_stream.subsections import SAVE_ORDER, TSC_KHZ
from vmcs.nested_state import HEADER_SIZE, Format, NestedFlag
from vmcs.schema import check_unique, require

QemuVersion = tuple[int, int]
"""Major and minor number of a QEMU release."""

OLDEST: QemuVersion = (4, 1)
"""The first release with nested state in the stream."""

Vendor = Literal["vmx", "svm"]


@dataclass(frozen=True)
class SubsectionSince:
    """The first QEMU release that knows a subsection, where that matters and is known."""

    name: str
    since: QemuVersion


SUBSECTIONS_SINCE = (
    SubsectionSince(NESTED_STATE, (4, 1)),
    SubsectionSince(SVM_STATE, (5, 1)),
    SubsectionSince("cpu/pdptrs", (6, 2)),
    SubsectionSince("cpu/xen_vcpu", (8, 0)),
    SubsectionSince("cpu/cet", (11, 0)),
)

check_unique([row.name for row in SUBSECTIONS_SINCE], "SUBSECTIONS_SINCE")


@dataclass(frozen=True)
class Destination:
    """The QEMU that loads: `kernel_maximum` is its kernel's KVM_CAP_NESTED_STATE.

    `vendor` is the extension in the vCPUs' CPUID, None for neither and for a destination without
    KVM; `user_tsc_khz` the frequency on its command line, 0 for none.
    """

    kernel_maximum: int
    qemu: QemuVersion
    vendor: Vendor | None
    user_tsc_khz: int = 0

    @property
    def has_buffer(self) -> bool:
        """The vCPU has memory for nested state; until 5.1 only one with VMX."""
        if self.kernel_maximum <= 0 or self.vendor is None:
            return False
        return self.vendor == "vmx" or self.qemu >= (5, 1)


@dataclass(frozen=True)
class Arrival:
    """One vCPU of the stream, with its nested state read out."""

    cpu: CpuSection
    nested: NestedState | None


Violation = tuple[int, ...] | None
"""The numbers that go into a check's message, or None when the check holds."""


@dataclass(frozen=True)
class LoadCheck:
    """One condition of QEMU's loader, in releases from `since` up to but not including `before`.

    `errno` None means that QEMU does not refuse but aborts.
    """

    name: str
    condition: str
    message: str
    broken: Callable[[Arrival, Destination], Violation]
    errno: int | None = EINVAL
    since: QemuVersion = OLDEST
    before: QemuVersion | None = None

    def in_release(self, qemu: QemuVersion) -> bool:
        """That release has this check, in these words."""
        return self.since <= qemu and (self.before is None or qemu < self.before)


@dataclass(frozen=True)
class LoadFinding:
    """A check that vCPU `vcpu` breaks, and the line that QEMU prints."""

    check: LoadCheck
    vcpu: int
    text: str

    @property
    def outcome(self) -> str:
        """How the load ends when this is what ends it."""
        if self.check.errno is None:
            return "SIGABRT"
        return f"load of migration failed: {strerror(self.check.errno)}"


def _unknown_subsection(arrival: Arrival, destination: Destination) -> Violation:
    since = {row.name: row.since for row in SUBSECTIONS_SINCE}
    names = [subsection.name for subsection in arrival.cpu.subsections]
    if arrival.nested is not None and arrival.nested.svm is not None:
        names.append(SVM_STATE)
    for name in names:
        known = name in SAVE_ORDER or name in since
        if not known or since.get(name, OLDEST) > destination.qemu:
            return (arrival.cpu.index,)
    return None


def _no_buffer(arrival: Arrival, destination: Destination) -> Violation:
    return () if arrival.nested is not None and not destination.has_buffer else None


def _no_maximum(arrival: Arrival, destination: Destination) -> Violation:
    return () if arrival.nested is not None and destination.kernel_maximum <= 0 else None


def _below_minimum(arrival: Arrival, _: Destination) -> Violation:
    if arrival.nested is None or arrival.nested.size >= HEADER_SIZE:
        return None
    return (arrival.nested.size, HEADER_SIZE)


def _above_maximum(arrival: Arrival, destination: Destination) -> Violation:
    if arrival.nested is None or arrival.nested.size <= destination.kernel_maximum:
        return None
    return (_as_int(arrival.nested.size), destination.kernel_maximum)


def _unknown_format(arrival: Arrival, _: Destination) -> Violation:
    if arrival.nested is None or arrival.nested.format in (Format.VMX, Format.SVM):
        return None
    return (arrival.nested.format,)


def _other_tsc(arrival: Arrival, destination: Destination) -> Violation:
    subsection = arrival.cpu.find(TSC_KHZ)
    if subsection is None:
        return None
    migrated = subsection.values()["tsc_khz"]
    return () if migrated and destination.user_tsc_khz not in (0, migrated) else None


def _not_softfloat(arrival: Arrival, _: Destination) -> Violation:
    return () if arrival.cpu.registers["fpregs_format_vmstate"] else None


def _guest_mode_alone(arrival: Arrival, destination: Destination) -> Violation:
    if HFlags.GUEST not in arrival.cpu.hflags:
        return None
    if destination.has_buffer and arrival.nested is not None:
        return None if arrival.nested.flags & NestedFlag.GUEST_MODE else ()
    return ()


def _as_int(word: int) -> int:
    """A 32-bit word as C's %d prints it."""
    return word - (1 << 32) if word >> 31 else word


LOAD_CHECKS = (
    LoadCheck(
        "subsection_known",
        "the release knows every subsection of the vCPU",
        "error while loading state for instance 0x%x of device 'cpu'",
        _unknown_subsection,
        errno=ENOENT,
    ),
    LoadCheck(
        "nested_buffer_allocated",
        "nested state arrives only at a vCPU with a buffer for it",
        "vmstate_load_state: Assertion `first_elem || !n_elems || !size' failed.",
        _no_buffer,
        errno=None,
    ),
    LoadCheck(
        "nested_state_supported",
        "the kernel's maximum is above 0 (unreachable: such a vCPU has no buffer)",
        "Received nested state when kernel cannot restore it",
        _no_maximum,
    ),
    LoadCheck(
        "nested_size_minimum",
        "size is at least that of the header",
        "Received nested state size less than min: len=%d, min=%d",
        _below_minimum,
    ),
    LoadCheck(
        "nested_size_maximum",
        "size is at most the kernel's maximum",
        "Recieved unsupported nested state size: nested_state->size=%d, max=%d",
        _above_maximum,
        before=(6, 0),
    ),
    LoadCheck(
        "nested_size_maximum",
        "size is at most the kernel's maximum",
        "Received unsupported nested state size: nested_state->size=%d, max=%d",
        _above_maximum,
        since=(6, 0),
    ),
    LoadCheck(
        "nested_format",
        "format is VMX (0) or SVM (1)",
        "Received invalid nested state format: %d",
        _unknown_format,
    ),
    LoadCheck(
        "tsc_khz_matches",
        "the TSC frequency is that of the destination's command line, when it names one",
        "Mismatch between user-specified TSC frequency and migrated TSC frequency",
        _other_tsc,
    ),
    LoadCheck(
        "softfloat_registers",
        "the floating-point registers are in the one format that QEMU writes",
        "Unsupported old non-softfloat CPU state",
        _not_softfloat,
    ),
    LoadCheck(
        "guest_mode_has_nested_state",
        "a vCPU whose hflags say guest mode has nested state that says so too",
        "vCPU set in guest-mode inconsistent with migrated kernel nested state",
        _guest_mode_alone,
    ),
)

check_unique([(check.name, check.since) for check in LOAD_CHECKS], "LOAD_CHECKS")
for _check in LOAD_CHECKS:
    require(_check.since >= OLDEST, f"LOAD_CHECKS: {_check.name} is older than {OLDEST}")


def qemu_version(text: str) -> QemuVersion:
    """The release that `text` names, e.g. "7.2" or "7.2.22"; raises `InputError`."""
    numbers = text.split(".")
    if len(numbers) not in (2, 3) or not all(number.isdecimal() for number in numbers):
        raise InputError(f"a QEMU release such as 7.2 expected, found {text!r}")
    release = int(numbers[0]), int(numbers[1])
    if release < OLDEST:
        raise InputError(f"QEMU {text}: nested state is in the stream from 4.1 on")
    return release


def load_checks(
    stream: QemuStream,
    kernel_maximum: int,
    *,
    qemu: QemuVersion = (7, 2),
    vendor: Vendor | Literal["as sent"] | None = "as sent",
    user_tsc_khz: int = 0,
) -> list[LoadFinding]:
    """Every check that the stream breaks at a destination, vCPU by vCPU, in QEMU's order.

    `kernel_maximum` is what KVM_CHECK_EXTENSION(KVM_CAP_NESTED_STATE) returns there: 8320 on
    Intel, 4224 on AMD, 0 without it. `vendor` "as sent" takes the extension that each vCPU's
    nested state has.
    """
    findings = []
    for cpu in stream.vcpus:
        subsection = cpu.find(NESTED_STATE)
        arrival = Arrival(cpu, None if subsection is None else subsection.nested_state())
        found = _vendor_of(arrival) if vendor == "as sent" else vendor
        destination = Destination(kernel_maximum, qemu, found, user_tsc_khz)
        for check in LOAD_CHECKS:
            if check.in_release(qemu):
                numbers = check.broken(arrival, destination)
                if numbers is not None:
                    findings.append(LoadFinding(check, cpu.index, check.message % numbers))
    return findings


def _vendor_of(arrival: Arrival) -> Vendor:
    return "svm" if arrival.nested is not None and arrival.nested.format == Format.SVM else "vmx"

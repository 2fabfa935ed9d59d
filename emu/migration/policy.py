"""How the two sides of a migration agree on the format of nested state: the options of 2018.

In November 2018 the KVM list asked how to version `struct kvm_nested_state`, so that old and new
hosts can live in one pool.  Each answer, and what came after, is a row of `POLICIES`: what it does
to a kernel that grows (how new content is announced), how the source saves, and what the receiving
side refuses before the kernel is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import E2BIG, EINVAL
from typing import Final, NamedTuple

from emu.errors import InputError, KvmError
from emu.kvm import Kvm, Vcpu
from emu.kvm.host import AMD
from emu.kvm.ioctl_rules import IoctlRule
from emu.releases.schema import Growth, Release

KVM_CAP_NESTED_STATE: Final = 157
FIRST_FREE_FLAG, FIRST_CAPABILITY, FIRST_QUIRK = 0x200, 1000, 1 << 16
PAGE: Final = 4096
# Facts that name what the format holds.
FORMAT_FACTS: Final = {
    "vmx": ("nested_flags", "vmx_header", "vmcs12_fields"),
    "svm": ("nested_flags", "svm_header", "svm_control"),
}


@dataclass(frozen=True)
class Record:
    """What travels: the bytes of nested state, and what the policy puts beside them."""

    blob: bytes
    version: int = 0


Announce = Callable[[Release], Release]
Save = Callable[[Vcpu, Kvm], Record]
Admit = Callable[[Record, Kvm], None]
Enable = Callable[[Release, Release], frozenset[str]]


class Policy(NamedTuple):
    """One answer: `option` names it as the thread of 2018 did, where it did.

    `announce` gives a grown kernel the policy's way to announce content; `enable` says which
    capabilities are turned on and quirks turned off between two kernels; `save` makes the record;
    `admit` raises KvmError where the receiving side refuses it without asking the kernel.
    """

    name: str
    option: str
    title: str
    announce: Announce
    enable: Enable
    save: Save
    admit: Admit


# How a grown kernel announces its content -------------------------------------------------------
def _reannounced(release: Release, gate: str, place: str, first: int) -> Release:
    """`release` with each grown content announced by a gate of its own, or by the word `gate`."""
    items: list[Growth] = []
    value = first
    for item in release.growth:
        if not item.is_content or item.place == "flag":
            items.append(item)
            continue
        if place:
            name = f"{gate}_{item.name.upper()}"
            items.append(Growth(place, name, item.format, value=value))
            items.append(item._replace(announced_by=name))
            value = value + 1 if place == "capability" else value << 1
        else:
            by_size = gate == "size" and item.place == "page"
            items.append(item._replace(announced_by="size" if by_size else "always"))
    return replace(release, growth=tuple(items))


def always(release: Release) -> Release:
    """New content is there whenever the kernel knows it."""
    return _reannounced(release, "always", "", 0)


def by_size(release: Release) -> Release:
    """A new page is there where the size reaches it; smaller growth cannot be announced so."""
    return _reannounced(release, "size", "", 0)


def by_flag(release: Release) -> Release:
    """Each new content has a flag of its own in `kvm_nested_state.flags`."""
    return _reannounced(release, "KVM_STATE_NESTED", "flag", FIRST_FREE_FLAG)


def by_capability(release: Release) -> Release:
    """Each new content has a capability that user space enables on the VM."""
    return _reannounced(release, "KVM_CAP_NESTED_STATE", "capability", FIRST_CAPABILITY)


def by_quirk(release: Release) -> Release:
    """Each new content comes with a quirk that user space disables on the VM."""
    return _reannounced(release, "KVM_X86_QUIRK", "quirk", FIRST_QUIRK)


# What user space turns on -----------------------------------------------------------------------
def nothing(_source: Release, _destination: Release) -> frozenset[str]:
    """User space turns nothing on."""
    return frozenset()


def common(source: Release, destination: Release) -> frozenset[str]:
    """What both kernels of the pool have."""

    def gates(release: Release) -> frozenset[str]:
        kinds = ("capability", "quirk")
        return frozenset(item.name for item in release.growth if item.place in kinds)

    return gates(source) & gates(destination)


# How the source saves ---------------------------------------------------------------------------
def save_used(source: Vcpu, _destination: Kvm) -> Record:
    """Ask for the source kernel's maximum; what it used travels."""
    return Record(source.get_nested_state())


def save_maximum(source: Vcpu, _destination: Kvm) -> Record:
    """Ask for the source kernel's maximum; all of it travels, used or not."""
    maximum = source.vm.check_extension(KVM_CAP_NESTED_STATE)
    return Record(source.get_nested_state().ljust(maximum, b"\0"))


def save_destination_size(source: Vcpu, destination: Kvm) -> Record:
    """Ask for the destination's maximum: the source saves what that version holds."""
    maximum = destination.check_extension(KVM_CAP_NESTED_STATE)
    own = source.vm.check_extension(KVM_CAP_NESTED_STATE)
    return Record(source.get_nested_state(min(maximum, own) if own else maximum))


def save_versioned(source: Vcpu, _destination: Kvm) -> Record:
    """What the kernel used travels, with the version of its format."""
    blob = source.get_nested_state()
    return Record(blob, format_version(source.release, source.host.vendor))


def save_qemu(source: Vcpu, _destination: Kvm) -> Record:
    """QEMU: ask for the maximum, and carry what its migration stream has fields for."""
    from emu.migration.qemu_stream import NestedState  # noqa: PLC0415 - the stream is not small

    blob = source.get_nested_state()
    carried = NestedState.from_kernel(blob)
    return Record(carried.to_kernel() if carried is not None else b"")


# What the receiving side refuses ----------------------------------------------------------------
def admit_all(_record: Record, _destination: Kvm) -> None:
    """Leave every refusal to the kernel."""


def admit_within_maximum(record: Record, destination: Kvm) -> None:
    """Refuse a record that is larger than the destination kernel's maximum."""
    maximum = destination.check_extension(KVM_CAP_NESTED_STATE)
    if len(record.blob) > maximum:
        detail = f"{len(record.blob)} bytes, the destination's maximum is {maximum}"
        raise KvmError("receive", E2BIG, "record_within_maximum", detail)


def admit_qemu(record: Record, destination: Kvm) -> None:
    """QEMU's own checks of the size (target/i386/machine.c: nested_state_post_load)."""
    maximum = destination.check_extension(KVM_CAP_NESTED_STATE)
    if not record.blob:
        return
    size = int.from_bytes(record.blob[4:8], "little")
    if maximum <= 0:
        message = "Received nested state when kernel cannot restore it"
        raise KvmError("receive", EINVAL, "qemu_kernel_has_nested_state", message)
    if size > maximum:
        message = (
            f"Received unsupported nested state size: nested_state->size={size}, max={maximum}"
        )
        raise KvmError("receive", EINVAL, "qemu_size_within_maximum", message)


def admit_version(record: Record, destination: Kvm) -> None:
    """Refuse a format that is newer than the destination kernel's own."""
    own = format_version(destination.release, destination.host.vendor)
    if record.version > own:
        detail = f"format version {record.version}, the destination knows up to {own}"
        raise KvmError("receive", EINVAL, "version_known", detail)


def format_version(release: Release, vendor: str) -> int:
    """The number that a format with a version would have in `release`.

    Such a format is only ever appended to, so its version is the number of things that it holds:
    flags, header words, fields, pages, whatever a kernel adds.
    """
    kind = "svm" if vendor == AMD else "vmx"
    held = sum(len(release.names(fact)) for fact in FORMAT_FACTS[kind])
    pages = release.number(f"{kind}_maximum_size") // PAGE
    return held + pages + sum(item.format == kind and item.is_content for item in release.growth)


# fmt: off
POLICY_RULES: Final = (
    IoctlRule("record_within_maximum", "receive", "E2BIG",
              "the record is not larger than the destination kernel's maximum", "policy `maximum`"),
    IoctlRule("version_known", "receive", "EINVAL",
              "the format's version is not newer than the destination's", "policy `version`"),
    IoctlRule("qemu_kernel_has_nested_state", "receive", "EINVAL",
              "the kernel reports KVM_CAP_NESTED_STATE",
              "QEMU, target/i386/machine.c: nested_state_post_load"),
    IoctlRule("qemu_size_within_maximum", "receive", "EINVAL",
              "`size` is not above what the kernel reports",
              "QEMU, target/i386/machine.c: nested_state_post_load"),
)

POLICIES: Final = (
    Policy("maximum", "(iv)", "always the maximum size",
           always, nothing, save_maximum, admit_within_maximum),
    Policy("size", "(ii)", "the destination's maximum, asked for in `size`",
           by_size, nothing, save_destination_size, admit_all),
    Policy("flags", "(iii)", "flags that announce content",
           by_flag, nothing, save_used, admit_all),
    Policy("capability", "(i)", "a capability that user space enables",
           by_capability, common, save_used, admit_all),
    Policy("quirk", "", "a quirk that user space disables",
           by_quirk, common, save_used, admit_all),
    Policy("version", "", "a version number, append only",
           always, nothing, save_versioned, admit_version),
    Policy("qemu", "", "what QEMU ships",
           by_flag, nothing, save_qemu, admit_qemu),
)
# fmt: on

BY_NAME: Final = {policy.name: policy for policy in POLICIES}


def policy(name: str) -> Policy:
    """The policy `name`; raises InputError with the known ones."""
    if name not in BY_NAME:
        raise InputError(f"no policy is named {name!r}; policies: {', '.join(BY_NAME)}")
    return BY_NAME[name]

"""Nested state that a kernel which does not exist yet adds: saved and loaded around the vendor's.

`Grown` stands between the ioctl layer and the vendor's functions.  GET appends what this vCPU holds
to the blob that the vendor wrote; SET takes it off, refuses what this kernel does not announce, and
keeps it once the vendor has accepted the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from errno import EINVAL
from typing import TYPE_CHECKING

from emu.errors import KvmError

if TYPE_CHECKING:
    from emu.releases.schema import Growth, Release

HEADER_BYTES, VMCS12_OFFSET, VMCS12_END = 128, 128, 4224
PATTERN = 8
EVMCS = 0x4


class Grown:
    """What one vCPU holds of its release's growth: `held` maps a name to a number (0: nothing)."""

    def __init__(self, release: Release, kind: str) -> None:
        self.items: tuple[Growth, ...] = tuple(i for i in release.growth if i.format == kind)
        announcers = {item.announced_by for item in self.items}
        self.contents = tuple(
            item for item in self.items if item.is_content and item.name not in announcers
        )
        self.named = {item.name: item for item in self.items}
        self.held: dict[str, int] = {item.name: 0 for item in self.contents}
        self.enabled: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self.items)

    @property
    def flags(self) -> int:
        """Bits of `kvm_nested_state.flags` that the growth adds."""
        return sum(item.value for item in self.items if item.place == "flag")

    def enable(self, names: Iterable[str]) -> None:
        """User space enables these capabilities, or disables these quirks."""
        self.enabled.update(names)

    def is_offered(self, item: Growth) -> bool:
        """Whether what gates the content (a capability, a quirk) is open."""
        gate = self.named.get(item.announced_by)
        return gate is None or gate.place == "flag" or gate.name in self.enabled

    def hold(self, name: str, value: int) -> None:
        """The guest comes to hold `value`: nothing while a quirk keeps the old behaviour."""
        self.held[name] = 0 if self.is_withheld(name) else value

    def is_withheld(self, name: str) -> bool:
        """Whether a quirk that is not disabled keeps the guest from using the content `name`."""
        gate = self.named.get(self.named[name].announced_by)
        return gate is not None and gate.place == "quirk" and gate.name not in self.enabled

    def save(self, buffer: bytearray, size: int, needed: int) -> int:
        """Add to the blob in `buffer`, `needed` bytes so far; the bytes needed with it."""
        flags = int.from_bytes(buffer[:2], "little")
        for item in self.contents:
            value = self.held[item.name]
            if not self.is_offered(item):
                continue
            announcer = self.named.get(item.announced_by)
            by_flag = announcer is not None and announcer.place == "flag"
            if item.place == "flag":
                flags |= item.value if value else 0
                continue
            if by_flag and not value:
                continue
            if item.place == "page":
                if item.announced_by == "size" and size < item.end:
                    continue
                needed = max(needed, item.end)
                if size >= item.end:
                    buffer[item.offset : item.end] = page_of(value, item.width)
            elif item.place == "header":
                buffer[item.offset : item.end] = value.to_bytes(item.width, "little")
            elif needed >= VMCS12_END and value:
                start = VMCS12_OFFSET + item.offset
                buffer[start : start + item.width] = value.to_bytes(item.width, "little")
            if by_flag and announcer is not None:
                flags |= announcer.value
        buffer[:2] = flags.to_bytes(2, "little")
        buffer[4:8] = needed.to_bytes(4, "little")
        return needed

    def strip(self, state: memoryview) -> bytearray:
        """`state` as the vendor's function reads it: without the flags of the growth.

        Raises KvmError for a flag whose page the size does not reach, and for a flag whose
        capability is not enabled.
        """
        plain = bytearray(state)
        if len(plain) < HEADER_BYTES:
            return plain
        flags, size = int.from_bytes(plain[:2], "little"), int.from_bytes(plain[4:8], "little")
        for item in self.contents:
            announcer = self.named.get(item.announced_by)
            if announcer is None or announcer.place != "flag" or not flags & announcer.value:
                continue
            if item.place == "page" and (size < item.end or len(plain) < item.end):
                detail = f"size {size}, {item.name} ends at {item.end}"
                raise KvmError("KVM_SET_NESTED_STATE", EINVAL, "grown_page_within_size", detail)
        plain[:2] = (flags & ~self.flags).to_bytes(2, "little")
        if any(item.place == "page" for item in self.items) and self._without_vmcs12(plain):
            plain[4:8] = HEADER_BYTES.to_bytes(4, "little")
        return plain

    @staticmethod
    def _without_vmcs12(state: bytearray) -> bool:
        """Whether VMX state holds no vmcs12: a page behind it makes the size say nothing of that.

        A kernel that appends a page must go by the pointer; one that does not know the page goes by
        the size, and refuses.
        """
        is_vmx = int.from_bytes(state[2:4], "little") == 0
        evmcs = int.from_bytes(state[:2], "little") & EVMCS
        return is_vmx and not evmcs and state[16:24] == b"\xff" * 8

    def load(self, state: memoryview) -> None:
        """Keep what an accepted `state` announces; what it does not announce is nothing."""
        flags, size = int.from_bytes(state[:2], "little"), int.from_bytes(state[4:8], "little")
        for item in self.contents:
            announcer = self.named.get(item.announced_by)
            announced = self.is_offered(item)
            if announcer is not None and announcer.place == "flag":
                announced = bool(flags & announcer.value)
            value = 0
            if item.place == "flag":
                value = int(bool(flags & item.value))
            elif announced and item.place == "header":
                value = int.from_bytes(state[item.offset : item.end], "little")
            elif announced and item.place == "vmcs12" and size >= VMCS12_END:
                start = VMCS12_OFFSET + item.offset
                value = int.from_bytes(state[start : start + item.width], "little")
            elif announced and item.place == "page" and min(size, len(state)) >= item.end:
                value = int.from_bytes(state[item.offset : item.offset + PATTERN], "little")
            self.held[item.name] = value


def page_of(value: int, width: int) -> bytes:
    """A page that holds `value`: the 8 bytes of it over and over."""
    return value.to_bytes(PATTERN, "little") * (width // PATTERN)

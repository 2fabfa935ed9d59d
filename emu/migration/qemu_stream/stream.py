"""A migration stream as one object: read it, look at its vCPUs, change them, write it back."""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import BinaryIO, TypeGuard

from emu.migration.qemu_stream.cpu import CpuSection
from emu.migration.qemu_stream.cursor import Buffer
from emu.migration.qemu_stream.description import Description
from emu.migration.qemu_stream.grammar import (
    Configuration,
    DescriptionItem,
    Item,
    ItemType,
    Section,
    Walk,
)
from emu.migration.qemu_stream.libvirt import SaveImage


class QemuStream:
    """A QEMU 4.1 to 11 migration stream of an x86-64 guest, bare or in a libvirt save image.

    `items` are the parts in stream order with their offsets, `vcpus` the `cpu` sections.
    Everything but the `cpu` sections and their entries in the vmdescription is written back from
    the bytes that were read.
    """

    def __init__(
        self, data: Buffer, image: SaveImage | None, walk: Walk, vcpus: list[CpuSection]
    ) -> None:
        self.data, self.image, self.vcpus = data, image, vcpus
        self.items: tuple[Item, ...] = tuple(walk.items)
        self.description: Description | None = walk.description
        self.has_footers = bool(walk.footers)
        self._begin = walk.begin

    @classmethod
    def parse(cls, data: bytes | bytearray | memoryview | mmap) -> QemuStream:
        """Read a stream, or a libvirt save image with one; raises `StreamError`.

        A `mmap` and `bytes` are used in place, anything else is copied. Memory grows with the
        number of sections and of devices described, not with the guest's RAM.
        """
        buffer: Buffer = data if isinstance(data, bytes | mmap) else bytes(data)
        image = SaveImage.parse(buffer)
        walk = Walk(buffer, 0 if image is None else image.body, len(buffer))
        walk.run()
        vcpus = []
        for item in walk.items:
            if _is_cpu(item):
                device = None
                if item.device is not None and walk.description is not None:
                    device = walk.description.devices[item.device]
                vcpus.append(CpuSection.read(buffer, item, device))
        return cls(buffer, image, walk, vcpus)

    @property
    def machine(self) -> str | None:
        """The machine type; None for one before 2.4, which does not say."""
        return next((item.machine for item in self.items if isinstance(item, Configuration)), None)

    @property
    def sections(self) -> tuple[Section, ...]:
        """The sections in stream order."""
        return tuple(item for item in self.items if isinstance(item, Section))

    def vcpu(self, index: int) -> CpuSection:
        """The `cpu` section of vCPU `index`; raises `LookupError`."""
        for cpu in self.vcpus:
            if cpu.index == index:
                return cpu
        raise LookupError(f"the stream has no vCPU {index}")

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the file as it now is, in pieces, so that RAM need not be copied whole."""
        changed = {id(cpu.section): cpu for cpu in self.vcpus}
        position = 0
        for item in self.items:
            cpu = changed.get(id(item))
            if cpu is not None:
                yield from self._copy(position, cpu.section.payload)
                yield cpu.to_payload()
                position = cpu.section.payload_end
            elif isinstance(item, DescriptionItem):
                rewritten = self._rewritten_description()
                if rewritten is not None:
                    yield from self._copy(position, item.offset)
                    yield rewritten
                    position = item.end
        yield from self._copy(position, len(self.data))

    def to_bytes(self) -> bytes:
        """The file as it now is: byte for byte what was read when nothing was changed."""
        return b"".join(self.pieces())

    def write(self, file: BinaryIO) -> None:
        """Write the file as it now is."""
        for piece in self.pieces():
            file.write(piece)

    def _copy(self, begin: int, end: int) -> Iterator[bytes]:
        step = 1 << 20
        for at in range(begin, end, step):
            yield self.data[at : min(at + step, end)]

    def _rewritten_description(self) -> bytes | None:
        """The vmdescription with the vCPUs' subsections; None when it is to stay as it is."""
        changes = {}
        for cpu in self.vcpus:
            entries = cpu.changed_entries()
            if entries is not None and cpu.section.device is not None:
                changes[cpu.section.device] = entries
        if not changes or self.description is None:
            return None
        return self.description.with_subsections(changes)


def _is_cpu(item: Item) -> TypeGuard[Section]:
    return isinstance(item, Section) and item.type == ItemType.SECTION_FULL and item.name == "cpu"

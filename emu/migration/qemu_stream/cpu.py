"""One vCPU's `cpu` section: registers and subsections that can be read and changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emu.migration.qemu_stream.cursor import Buffer, Cursor
from emu.migration.qemu_stream.description import Device, fields_size
from emu.migration.qemu_stream.errors import StreamError
from emu.migration.qemu_stream.grammar import Section
from emu.migration.qemu_stream.nested import NESTED_STATE, NestedState
from emu.migration.qemu_stream.registers import (
    CPU_VERSIONS,
    REGISTER_BYTES,
    HFlags,
    HFlags2,
    Registers,
)
from emu.migration.qemu_stream.subsections import (
    SAVE_ORDER,
    Subsection,
    read_subsections,
)
from vmcs.nested_state import Format, NestedFlag

GUEST_MODE = int(NestedFlag.GUEST_MODE)
GIF_SET = int(NestedFlag.GIF_SET)


class CpuSection:
    """The state of vCPU `index`, from the section at `offset` of the file.

    `registers` is written in place; `subsections` is a plain list, in stream order, that can be
    reordered, cut and added to (`insert` puts one where QEMU would).
    """

    def __init__(
        self, section: Section, registers: Registers, subsections: list[Subsection]
    ) -> None:
        self.section, self.registers, self.subsections = section, registers, subsections
        self._as_read = tuple(subsections)

    @classmethod
    def read(cls, data: Buffer, section: Section, device: Device | None) -> CpuSection:
        """Read the section's payload; raises `StreamError`."""
        if section.version_id not in CPU_VERSIONS:
            raise StreamError(
                section.payload - 4,
                f"cpu version {' or '.join(map(str, CPU_VERSIONS))} expected, "
                f"found {section.version_id}",
            )
        size = REGISTER_BYTES[section.version_id]
        if device is not None and fields_size(device.entry["fields"]) != size:
            raise StreamError(
                section.payload,
                f"cpu version {section.version_id} of an x86-64 guest has {size} bytes of "
                f"registers, the vmdescription says {fields_size(device.entry['fields'])}",
            )
        cursor = Cursor(data, section.payload, section.payload_end)
        registers = Registers(cursor.take(size, "registers of section cpu"), section.version_id)
        entries = None if device is None else device.subsections
        return cls(section, registers, read_subsections(cursor, entries))

    @property
    def index(self) -> int:
        """The vCPU's index: the section's instance id."""
        return self.section.instance_id

    @property
    def version(self) -> int:
        """Version of the section: 12, or 11."""
        return self.section.version_id

    @property
    def offset(self) -> int:
        """Where the section's header begins in the file that was read."""
        return self.section.offset

    @property
    def hflags(self) -> HFlags:
        """The bits of `hflags` that matter for nesting."""
        return HFlags(self.registers.word("hflags") & sum(HFlags))

    @property
    def hflags2(self) -> HFlags2:
        """The bits of `hflags2` that matter for nesting."""
        return HFlags2(self.registers.word("hflags2") & sum(HFlags2))

    def find(self, name: str) -> Subsection | None:
        """The last subsection of that name, which is the one that counts for the loader."""
        return next((sub for sub in reversed(self.subsections) if sub.name == name), None)

    def insert(self, subsection: Subsection) -> None:
        """Put `subsection` in place of those of its name, or where QEMU writes it."""
        for position, present in enumerate(self.subsections):
            if present.name == subsection.name:
                self.remove(subsection.name)
                self.subsections.insert(position, subsection)
                return
        rank = SAVE_ORDER.get(subsection.name, len(SAVE_ORDER))
        for position, present in enumerate(self.subsections):
            if SAVE_ORDER.get(present.name, -1) > rank:
                self.subsections.insert(position, subsection)
                return
        self.subsections.append(subsection)

    def remove(self, name: str) -> None:
        """Take out every subsection of that name."""
        self.subsections[:] = [sub for sub in self.subsections if sub.name != name]

    @property
    def nested_state(self) -> bytes | None:
        """The kernel's blob that the destination's QEMU gets; None when none is in the stream."""
        subsection = self.find(NESTED_STATE)
        return None if subsection is None else subsection.nested_state().to_kernel()

    def set_nested_state(self, blob: bytes | None, *, sync_hflags: bool = True) -> None:
        """Put the blob that KVM_GET_NESTED_STATE returned into the section, as QEMU saves it.

        The subsection is taken out when QEMU would send none: for None, for a VMX blob outside VMX
        operation, for an SVM blob without data. With `sync_hflags` the guest-mode bit of hflags
        and, from an SVM blob, the GIF bit of hflags2 follow the blob's flags, as on a source.
        Raises `StateError` for a blob that is cut short.
        """
        state = None if blob is None else NestedState.from_kernel(blob)
        if state is None:
            self.remove(NESTED_STATE)
        else:
            self.insert(Subsection.of_nested_state(state))
        if not sync_hflags:
            return
        flags = 0 if blob is None else int.from_bytes(blob[:2], "little")
        self.registers.assign_bits("hflags", HFlags.GUEST, bool(flags & GUEST_MODE))
        if blob is not None and int.from_bytes(blob[2:4], "little") == Format.SVM:
            self.registers.assign_bits("hflags2", HFlags2.GIF, bool(flags & GIF_SET))

    def pushed_nested_state(self, *, svm: bool) -> bytes | None:
        """The blob that the destination's QEMU (5.1 and later) passes to KVM_SET_NESTED_STATE.

        Its GUEST_MODE flag is that of hflags, its GIF_SET flag that of hflags2 if the vCPU has
        SVM and clear otherwise. None when no nested state is in the stream.
        """
        blob = self.nested_state
        if blob is None:
            return None
        flags = int.from_bytes(blob[:2], "little") & ~(GUEST_MODE | GIF_SET)
        flags |= GUEST_MODE if HFlags.GUEST in self.hflags else 0
        flags |= GIF_SET if svm and HFlags2.GIF in self.hflags2 else 0
        return flags.to_bytes(2, "little") + blob[2:]

    def to_payload(self) -> bytes:
        """The section's payload as it now is."""
        return bytes(self.registers.raw) + b"".join(sub.to_bytes() for sub in self.subsections)

    def changed_entries(self) -> Sequence[Mapping[str, Any]] | None:
        """Vmdescription entries of the subsections when they are not those that were read."""
        same = len(self.subsections) == len(self._as_read) and all(
            now is before for now, before in zip(self.subsections, self._as_read, strict=True)
        )
        return None if same else [subsection.describe() for subsection in self.subsections]

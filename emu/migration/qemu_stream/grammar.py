"""The grammar of a QEMU migration stream, walked from the magic to the last byte.

::

    stream        := magic version [configuration] (section | command)* EOF [vmdescription]
    configuration := 07 u32 length, machine name, subsection*
    section       := start | part | end | full
    start, full   := type, section id, counted name, instance id, version id, payload, [footer]
    part, end     := type, section id, payload, [footer]
    command       := 08 u16 number, u16 length, data
    footer        := 7E section id                      (machine types 2.4 and later)
    vmdescription := 06 u32 length, JSON                (not with suppress-vmdesc)

A payload's length is not in the stream. `ram` ends itself; any other section ends where the
vmdescription says, or, without one, at the only place where its footer can be.

Read in QEMU 7.2, migration/savevm.h and migration/savevm.c; the kinds of command that end a file
migration's grammar (post-copy, COLO) are refused.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

from emu.migration.qemu_stream.cursor import Buffer, Cursor
from emu.migration.qemu_stream.delimit import FOOTER_BYTES, FooterIndex, has_footer
from emu.migration.qemu_stream.description import HEADER_BYTES, Description, find_description
from emu.migration.qemu_stream.errors import StreamError
from emu.migration.qemu_stream.fields import peek_subsection, read_subsection_header
from emu.migration.qemu_stream.ram import PAGE_BYTES, RAM_VERSION, RamTally, RamWalk

MAGIC = b"QEVM"
VERSION = 3
CAPABILITIES = "configuration/capabilities"


class ItemType(IntEnum):
    """Type bytes of a stream (QEMU, migration/savevm.h: QEMU_VM_*)."""

    EOF = 0x00
    SECTION_START = 0x01
    SECTION_PART = 0x02
    SECTION_END = 0x03
    SECTION_FULL = 0x04
    SUBSECTION = 0x05
    VMDESCRIPTION = 0x06
    CONFIGURATION = 0x07
    COMMAND = 0x08
    SECTION_FOOTER = 0x7E


SECTION_TYPES = frozenset(
    (ItemType.SECTION_START, ItemType.SECTION_PART, ItemType.SECTION_END, ItemType.SECTION_FULL)
)


class CommandNumber(IntEnum):
    """Numbers of commands (QEMU, migration/savevm.c: MIG_CMD_*)."""

    INVALID = 0
    OPEN_RETURN_PATH = 1
    PING = 2
    POSTCOPY_ADVISE = 3
    POSTCOPY_LISTEN = 4
    POSTCOPY_RUN = 5
    POSTCOPY_RAM_DISCARD = 6
    PACKAGED = 7
    ENABLE_COLO = 8
    POSTCOPY_RESUME = 9
    RECV_BITMAP = 10
    SWITCHOVER_START = 11


# Commands after which the bytes are no longer the sections of one migration to a file.
REFUSED_COMMANDS = frozenset(
    (CommandNumber.INVALID, CommandNumber.PACKAGED, CommandNumber.ENABLE_COLO)
)

# Bytes of the subsections of `configuration`; capabilities are counted strings.
CONFIGURATION_SUBSECTIONS = {
    "configuration/target-page-bits": 4,
    "configuration/uuid": 16,
}


@dataclass(frozen=True)
class Configuration:
    """The machine type and what the source announced about itself."""

    offset: int
    end: int
    machine: str
    subsections: tuple[str, ...]
    capabilities: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """One section; `payload` to `payload_end` is what its device reads, the footer follows."""

    offset: int
    end: int
    type: ItemType
    section_id: int
    name: str
    instance_id: int
    version_id: int
    payload: int
    payload_end: int
    device: int | None = None
    ram: RamTally | None = None


@dataclass(frozen=True)
class Command:
    """One command, from `offset` to `end`."""

    offset: int
    end: int
    number: CommandNumber


@dataclass(frozen=True)
class EndOfStream:
    """The EOF byte."""

    offset: int
    end: int


@dataclass(frozen=True)
class DescriptionItem:
    """The vmdescription, from its type byte to the end of the JSON."""

    offset: int
    end: int


Item = Configuration | Section | Command | EndOfStream | DescriptionItem


@dataclass
class Walk:
    """One pass over the stream in `data` from `begin` to `end`."""

    data: Buffer
    begin: int
    end: int
    items: list[Item] = field(default_factory=list)
    description: Description | None = None
    footers: bool | None = None
    ram: RamWalk = field(default_factory=RamWalk)
    content_end: int = 0
    unclaimed: dict[tuple[str, int], deque[int]] = field(default_factory=dict)
    started: dict[int, Section] = field(default_factory=dict)
    index: FooterIndex | None = None

    def run(self) -> None:
        """Fill `items` and `description`; raises `StreamError`."""
        cursor = self._read_header()
        self.content_end = _content_end(self.data, cursor.position, self.end)
        self.description = find_description(self.data, cursor.position, self.content_end)
        if self.description is not None:
            self._read_devices(self.description)
        while True:
            begin = cursor.position
            number = cursor.u8("type of the next section, or EOF (00)")
            if number == ItemType.EOF:
                self.items.append(EndOfStream(begin, cursor.position))
                break
            if number == ItemType.CONFIGURATION and not self.items:
                self.items.append(self._read_configuration(cursor, begin))
            elif number in SECTION_TYPES:
                self.items.append(self._read_section(cursor, begin, ItemType(number)))
            elif number == ItemType.COMMAND:
                self.items.append(_read_command(cursor, begin))
            else:
                raise StreamError(
                    begin,
                    f"a section (01 to 04), a command (08) or EOF (00) expected, "
                    f"found {number:02x}",
                )
        self._read_tail(cursor)

    def _read_devices(self, description: Description) -> None:
        if description.page_size not in (None, PAGE_BYTES):
            raise StreamError(
                description.offset,
                f"pages of {PAGE_BYTES} bytes expected, found {description.page_size}: "
                "not an x86 guest",
            )
        for index, device in enumerate(description.devices):
            key = device.name, device.instance_id
            self.unclaimed.setdefault(key, deque()).append(index)

    def _read_header(self) -> Cursor:
        cursor = Cursor(self.data, self.begin, self.end)
        magic = cursor.take(4, f"magic {MAGIC.hex(' ')} ({MAGIC.decode()})")
        if magic != MAGIC:
            raise StreamError(
                self.begin,
                f"magic {MAGIC.hex(' ')} ({MAGIC.decode()}) expected, found {magic.hex(' ')}: "
                "not a QEMU migration stream",
            )
        version = cursor.u32("stream version")
        if version != VERSION:
            raise StreamError(self.begin + 4, f"stream version {VERSION} expected, found {version}")
        return cursor

    def _read_configuration(self, cursor: Cursor, begin: int) -> Configuration:
        machine = cursor.text(cursor.u32("length of the machine name"), "machine name")
        names: list[str] = []
        capabilities: list[str] = []
        while (name := peek_subsection(cursor, "configuration")) is not None:
            at = cursor.position
            read_subsection_header(cursor)
            names.append(name)
            if name == CAPABILITIES:
                count = cursor.u32("number of capabilities")
                if count > cursor.left:
                    raise StreamError(at, f"{count} capabilities, {cursor.left} bytes are left")
                capabilities += [cursor.counted("capability") for _ in range(count)]
            elif name in CONFIGURATION_SUBSECTIONS:
                cursor.skip(CONFIGURATION_SUBSECTIONS[name], name)
            else:
                raise StreamError(at, f"{name}: no such subsection is known")
        if "mapped-ram" in capabilities:
            raise StreamError(
                begin, "the capability mapped-ram puts the pages outside the stream: not supported"
            )
        self.ram.ignore_shared = "x-ignore-shared" in capabilities
        return Configuration(begin, cursor.position, machine, tuple(names), tuple(capabilities))

    def _read_section(self, cursor: Cursor, begin: int, kind: ItemType) -> Section:
        section_id = cursor.u32("section id")
        if kind in (ItemType.SECTION_START, ItemType.SECTION_FULL):
            name = cursor.counted("section name")
            instance_id = cursor.u32(f"instance id of section {name}")
            version_id = cursor.u32(f"version id of section {name}")
        elif section_id in self.started:
            before = self.started[section_id]
            name, instance_id, version_id = before.name, before.instance_id, before.version_id
        else:
            raise StreamError(begin, f"{kind.name} of section {section_id}, which did not start")
        payload = cursor.position
        device: int | None = None
        tally: RamTally | None = None
        if name == "ram":
            if version_id != RAM_VERSION:
                raise StreamError(
                    payload - 4, f"ram version {RAM_VERSION} expected, found {version_id}"
                )
            tally = self.ram.walk(cursor)
        else:
            device = self._claim(name, instance_id, kind)
            self._skip_payload(cursor, section_id, name, device)
        payload_end = cursor.position
        self._skip_footer(cursor, section_id, name)
        numbers = section_id, name, instance_id, version_id
        end = cursor.position
        section = Section(begin, end, kind, *numbers, payload, payload_end, device, tally)
        if kind == ItemType.SECTION_START:
            self.started[section_id] = section
        return section

    def _claim(self, name: str, instance_id: int, kind: ItemType) -> int | None:
        """The position in the vmdescription of a full section's device, each used once."""
        if kind != ItemType.SECTION_FULL:
            return None
        indices = self.unclaimed.get((name, instance_id))
        return indices.popleft() if indices else None

    def _skip_payload(self, cursor: Cursor, section_id: int, name: str, device: int | None) -> None:
        if device is not None and self.description is not None:
            cursor.skip(self.description.devices[device].size, f"payload of section {name}")
            return
        if self.footers is False:
            raise StreamError(
                cursor.position,
                f"section {name}: neither a vmdescription nor section footers tell its length "
                "(a machine type before 2.4)",
            )
        if self.index is None:
            self.index = FooterIndex(self.data, cursor.position, self.end, self.content_end)
        place = self.index.only_place(section_id, cursor.position, name)
        cursor.skip(place - cursor.position, f"payload of section {name}")

    def _skip_footer(self, cursor: Cursor, section_id: int, name: str) -> None:
        """Pass over the footer, which either every section has or none."""
        found = has_footer(self.data, cursor.position, self.end, section_id)
        if self.footers is None:
            self.footers = found
        if not self.footers:
            return
        if not found:
            what = self.data[cursor.position : min(cursor.position + FOOTER_BYTES, self.end)]
            raise StreamError(
                cursor.position,
                f"footer of section {name} (7e {section_id:08x}) expected, "
                f"found {what.hex(' ') or 'the end'}",
            )
        cursor.skip(FOOTER_BYTES, "section footer")

    def _read_tail(self, cursor: Cursor) -> None:
        """Read what follows EOF: the vmdescription, and zeroes that pad a file."""
        begin = cursor.position
        if self.description is not None:
            if begin != self.description.offset:
                raise StreamError(
                    begin, f"the vmdescription at {self.description.offset:#x} expected after EOF"
                )
            cursor.skip(HEADER_BYTES + len(self.description.text), "vmdescription")
            self.items.append(DescriptionItem(begin, cursor.position))
        elif begin < self.content_end:
            if self.data[begin] != ItemType.VMDESCRIPTION:
                raise StreamError(
                    begin, f"vmdescription (06) or the end expected, found {self.data[begin]:02x}"
                )
            cursor.u8("vmdescription")
            size = cursor.u32("length of the vmdescription")
            cursor.skip(size, "vmdescription")
            raise StreamError(begin, "vmdescription: JSON up to the end of the stream expected")


def _read_command(cursor: Cursor, begin: int) -> Command:
    number, size = cursor.u16("command"), cursor.u16("length of the command")
    if number not in CommandNumber._value2member_map_:
        raise StreamError(begin, f"a command up to {max(CommandNumber)} expected, found {number}")
    command = CommandNumber(number)
    if command in REFUSED_COMMANDS:
        raise StreamError(begin, f"command {command.name}: not a migration to a file")
    cursor.skip(size, f"data of command {command.name}")
    return Command(begin, cursor.position, command)


def _content_end(data: Buffer, begin: int, end: int) -> int:
    """The position behind the last byte that is not zero."""
    step = 1 << 16
    while end > begin:
        low = max(begin, end - step)
        tail = data[low:end].rstrip(b"\0")
        if tail:
            return low + len(tail)
        end = low
    return begin

"""Row types of every table in this package, and the checks that a table passes when imported.

Five shapes cover what the manuals and the kernels define:

=============  ==============================================  ==================================
shape          for                                             written as
=============  ==============================================  ==================================
`Field`        one field of the Intel VMCS                     rows in `vmcs.vmx.fields`
`BitTable`     a word of single-bit controls or intercepts     an `IntFlag`, a member a bit
`CodeTable`    a numbering: exit reasons, exit codes, errors   an `IntEnum`, a member a number
`Layout`       a word of bit fields: MSRs, qualifications      `bit`, `bits` and `gap` rows
`FieldAt`      a byte layout: vmcs12, VMCB, ioctl structures   rows, see `vmcs.byte_layout`
=============  ==============================================  ==================================

Every row says where it was read: `sdm=` and `apm=` hold the section title in the edition that
`vmcs.editions` names, `seen=` holds "kernel file: symbol, release". A table states its citation
once; a row that stands elsewhere in the manual states its own.
Reserved bits, numbers and bytes are written down in place, so that a reader can count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt


class TableError(ValueError):
    """A table contradicts itself or leaves a gap; raised while it is imported."""


@dataclass(frozen=True)
class Cited:
    """A row that says where it was read: section titles of the manuals, or a kernel symbol."""

    sdm: str = field(default="", kw_only=True)
    apm: str = field(default="", kw_only=True)
    seen: str = field(default="", kw_only=True)

    @property
    def sources(self) -> dict[str, str]:
        """The citation as arguments of another row's constructor."""
        return {"sdm": self.sdm, "apm": self.apm, "seen": self.seen}

    @property
    def is_cited(self) -> bool:
        """Whether the row states a citation."""
        return bool(self.sdm or self.apm or self.seen)

    @property
    def cite(self) -> str:
        """The citation as one line of text, e.g. ``SDM: Pin-Based VM-Execution Controls``."""
        parts = (("SDM", self.sdm), ("APM", self.apm), ("Linux", self.seen))
        return "; ".join(f"{source}: {where}" for source, where in parts if where)


Row = TypeVar("Row", bound=Cited)


def require(holds: bool, message: str) -> None:
    """Raise `TableError` with `message` unless `holds`."""
    if not holds:
        raise TableError(message)


def cited(rows: Iterable[Row], *, sdm: str = "", apm: str = "", seen: str = "") -> tuple[Row, ...]:
    """`rows` with their table's citation where they state none of their own."""
    return tuple(row if row.is_cited else replace(row, sdm=sdm, apm=apm, seen=seen) for row in rows)


def check_cited(rows: Iterable[Cited], table: str) -> None:
    """Every row of `table` has a citation; raises `TableError`."""
    for row in rows:
        if not row.is_cited:
            raise TableError(f"{table}: {row} has no citation")


def check_unique(values: Sequence[object], table: str) -> None:
    """No value occurs twice in a column of `table`; raises `TableError`."""
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise TableError(f"{table}: {value!r} occurs twice")
        seen.add(value)


def check_ascending(values: Sequence[int], table: str) -> None:
    """Each value of a column is above the one before, as in the manual; raises `TableError`."""
    for before, after in pairwise(values):
        require(before < after, f"{table}: {after:#x} stands after {before:#x}")


# --- words of single bits -----------------------------------------------------------------------


@dataclass(frozen=True)
class ControlBit(Cited):
    """One bit of a control or intercept word, as a row.

    `phrase` is the manual's phrase; `macro` the kernel's macro where it says it in other words;
    `default1` whether the bit is in the default1 class (SDM: Reserved Controls and Default
    Settings).
    """

    name: str
    bit: int
    phrase: str
    macro: str = ""
    default1: bool = False
    reserved: bool = False

    @property
    def mask(self) -> int:
        """The word with this bit alone."""
        return 1 << self.bit


@dataclass(frozen=True)
class _DeclaredBits(Cited):
    """What stands on the right of a `BitTable` member until the class knows the name."""

    low: int
    high: int
    phrase: str
    macro: str = ""
    default1: bool = False
    reserved: bool = False

    @property
    def mask(self) -> int:
        return (1 << (self.high + 1)) - (1 << self.low)


def flag(
    bit: int,
    phrase: str,
    macro: str = "",
    *,
    default1: bool = False,
    sdm: str = "",
    apm: str = "",
    seen: str = "",
) -> Any:
    """One defined bit of a `BitTable`; `macro` follows the prefix that the table names."""
    return _DeclaredBits(bit, bit, phrase, macro, default1, sdm=sdm, apm=apm, seen=seen)


def reserved(low: int, high: int | None = None, *, default1: bool = False) -> Any:
    """One reserved bit of a `BitTable`, or the run of reserved bits `low` to `high`."""
    last = low if high is None else high
    return _DeclaredBits(low, last, "Reserved", default1=default1, reserved=True)


class BitTable(IntFlag):
    """A word of single-bit controls: an `IntFlag` whose members are the table's rows.

    A subclass names its width in bits, its citation and the prefix of the kernel's macros, and
    lists each bit in order::

        class PinBased(BitTable, width=32, sdm="Pin-Based ...", macros="PIN_BASED_"):
            EXTERNAL_INTERRUPT_EXITING = flag(0, "External-interrupt exiting", "EXT_INTR_MASK")
            RESERVED_1_2 = reserved(1, 2, default1=True)
            ...

    `PinBased.table` holds one `ControlBit` a bit, 0 to width - 1. A gap, an overlap, a wrong order
    or a row without citation raises `TableError` when the module is imported.
    """

    _value_: int
    table: ClassVar[tuple[ControlBit, ...]]
    width: ClassVar[int]
    _declared: _DeclaredBits

    def __new__(cls, declared: Any) -> Self:
        """Make the member that `flag` or `reserved` declared; a call looks a value up instead."""
        member = int.__new__(cls, declared.mask)
        member._value_ = declared.mask
        member._declared = declared
        return member

    def __init_subclass__(
        cls, *, width: int, sdm: str = "", apm: str = "", seen: str = "", macros: str = ""
    ) -> None:
        rows: list[ControlBit] = []
        table_sources = {"sdm": sdm, "apm": apm, "seen": seen}
        for name, member in cls.__members__.items():
            at = member._declared
            require(at.low == len(rows), f"{cls.__name__}: {name} does not follow bit {len(rows)}")
            rows += [
                ControlBit(
                    f"RESERVED_{number}" if at.reserved else name,
                    number,
                    at.phrase,
                    macros + at.macro if at.macro else "",
                    at.default1,
                    at.reserved,
                    **(at.sources if at.is_cited else table_sources),
                )
                for number in range(at.low, at.high + 1)
            ]
        require(len(rows) == width, f"{cls.__name__}: {len(rows)} bits in a word of {width}")
        cls.table = tuple(rows)
        check_cited(cls.table, cls.__name__)
        cls.width = width

    @property
    def row(self) -> ControlBit:
        """The table row of this single bit; raises `ValueError` for a combination."""
        if self.bit_count() != 1:
            raise ValueError(f"{self!r} is not one bit of {type(self).__name__}")
        return self.table[self.bit_length() - 1]

    @property
    def phrase(self) -> str:
        """The manual's phrase for this bit."""
        return self.row.phrase

    @classmethod
    def rows_of(cls, value: int) -> tuple[ControlBit, ...]:
        """Rows whose bits are set in `value`; raises `ValueError` beyond the word's width."""
        if value < 0 or value >> cls.width:
            raise ValueError(f"{value:#x} does not fit the {cls.width} bits of {cls.__name__}")
        return tuple(row for row in cls.table if value >> row.bit & 1)

    @classmethod
    def names_of(cls, value: int) -> tuple[str, ...]:
        """Names of the bits set in `value`, from bit 0 up, reserved ones included."""
        return tuple(row.name for row in cls.rows_of(value))

    @classmethod
    def defined_mask(cls) -> int:
        """Bits that the manual defines."""
        return sum(row.mask for row in cls.table if not row.reserved)

    @classmethod
    def reserved_mask(cls) -> int:
        """Bits that the manual reserves, of either default class."""
        return sum(row.mask for row in cls.table if row.reserved)

    @classmethod
    def default1_mask(cls) -> int:
        """Bits of the default1 class."""
        return sum(row.mask for row in cls.table if row.default1)


# --- numberings ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Code(Cited):
    """One number of a numbering (exit reason, exit code, error number), as a row."""

    name: str
    number: int
    phrase: str
    macro: str = ""
    reserved: bool = False


def code(
    number: int, phrase: str, macro: str = "", *, sdm: str = "", apm: str = "", seen: str = ""
) -> Any:
    """One defined number of a `CodeTable`; `macro` follows the prefix that the table names."""
    return Code("", number, phrase, macro, sdm=sdm, apm=apm, seen=seen)


def unused(number: int) -> Any:
    """One number of a `CodeTable` that the manual skips."""
    return Code("", number, "Not used", reserved=True)


class CodeTable(IntEnum):
    """A numbering: an `IntEnum` whose members are the table's rows, in rising order.

    ``ExitReason.EPT_VIOLATION`` is the number, ``ExitReason.EPT_VIOLATION.phrase`` the manual's
    phrase, ``ExitReason.table`` all rows (`Code`), those of unused numbers included.
    """

    _value_: int
    table: ClassVar[tuple[Code, ...]]
    _by_number: ClassVar[Mapping[int, Code]]
    _declared: Code

    def __new__(cls, declared: Any) -> Self:
        """Make the member that `code` or `unused` declared; a call looks a number up instead."""
        member = int.__new__(cls, declared.number)
        member._value_ = declared.number
        member._declared = declared
        return member

    def __init_subclass__(
        cls, *, sdm: str = "", apm: str = "", seen: str = "", macros: str = ""
    ) -> None:
        table_sources = {"sdm": sdm, "apm": apm, "seen": seen}
        declared = ((name, member._declared) for name, member in cls.__members__.items())
        rows = tuple(
            Code(
                name,
                at.number,
                at.phrase,
                macros + at.macro if at.macro else "",
                at.reserved,
                **(at.sources if at.is_cited else table_sources),
            )
            for name, at in declared
        )
        check_ascending([row.number for row in rows], cls.__name__)
        check_cited(rows, cls.__name__)
        cls.table = rows
        cls._by_number = {row.number: row for row in rows}

    @property
    def row(self) -> Code:
        """The table row of this number."""
        return self._by_number[self.value]

    @property
    def phrase(self) -> str:
        """The manual's phrase for this number."""
        return self._declared.phrase

    @classmethod
    def name_of(cls, number: int) -> str | None:
        """Name of `number`, or None where the manual does not use it."""
        row = cls._by_number.get(number)
        return None if row is None or row.reserved else row.name


# --- words of bit fields ------------------------------------------------------------------------

NO_VALUES: Mapping[int, str] = MappingProxyType({})


def _no_values() -> Mapping[int, str]:
    return NO_VALUES


@dataclass(frozen=True)
class BitField(Cited):
    """Bits `high`:`low` of a word: one piece of information, with the names of its values."""

    name: str
    low: int
    high: int
    phrase: str
    values: Mapping[int, str] = field(default_factory=_no_values, hash=False)
    reserved: bool = False

    @property
    def width(self) -> int:
        """The number of bits."""
        return self.high - self.low + 1

    @property
    def mask(self) -> int:
        """The word with all bits of this field set."""
        return ((1 << self.width) - 1) << self.low

    def of(self, word: int) -> int:
        """Value of this field in `word`."""
        return (word & self.mask) >> self.low

    def placed(self, value: int) -> int:
        """`value` moved to this field's position; raises `ValueError` when it does not fit."""
        if value < 0 or value >> self.width:
            raise ValueError(f"{value:#x} does not fit the {self.width} bits of {self.name}")
        return value << self.low


def bits(
    name: str,
    low: int,
    high: int,
    phrase: str,
    values: Mapping[int, str] = NO_VALUES,
    *,
    sdm: str = "",
    apm: str = "",
    seen: str = "",
) -> BitField:
    """Row for bits `high`:`low` of a `Layout`."""
    named = MappingProxyType(dict(values))
    return BitField(name, low, high, phrase, named, sdm=sdm, apm=apm, seen=seen)


def bit(
    name: str, at: int, phrase: str, *, sdm: str = "", apm: str = "", seen: str = ""
) -> BitField:
    """Row for one bit of a `Layout`."""
    return BitField(name, at, at, phrase, sdm=sdm, apm=apm, seen=seen)


def gap(low: int, high: int | None = None) -> BitField:
    """Row for reserved bits of a `Layout`."""
    last = low if high is None else high
    name = f"RESERVED_{low}" if last == low else f"RESERVED_{low}_{last}"
    return BitField(name, low, last, "Reserved", reserved=True)


class Layout:
    """A word of bit fields, from bit 0 up, with every bit accounted for.

    Construction raises `TableError` on a gap, an overlap, a repeated name or a missing citation.
    """

    def __init__(
        self,
        name: str,
        width: int,
        *rows: BitField,
        sdm: str = "",
        apm: str = "",
        seen: str = "",
    ) -> None:
        self.name = name
        self.width = width
        self.rows = cited(rows, sdm=sdm, apm=apm, seen=seen)
        at = 0
        for row in self.rows:
            require(row.low == at, f"{name}: {row.name} does not start at bit {at}")
            require(row.high >= row.low, f"{name}: {row.name} ends before it starts")
            for value in row.values:
                require(value >> row.width == 0, f"{name}: {row.name} cannot hold {value:#x}")
            at = row.high + 1
        require(at == width, f"{name}: {at} bits in a word of {width}")
        check_unique([row.name for row in self.rows], name)
        check_cited(self.rows, name)
        self._by_name = {row.name: row for row in self.rows}

    def __repr__(self) -> str:
        return f"Layout({self.name!r}, {self.width} bits, {len(self.rows)} rows)"

    def __iter__(self) -> Iterator[BitField]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> BitField:
        """Row called `name`; raises `KeyError`."""
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def get(self, word: int, name: str) -> int:
        """Value of the field called `name` in `word`."""
        return self[name].of(word)

    def put(self, word: int, name: str, value: int) -> int:
        """`word` with the field called `name` replaced; raises `ValueError` if it does not fit."""
        row = self[name]
        return word & ~row.mask | row.placed(value)

    def word(self, **values: int) -> int:
        """Word with the given fields, all others 0."""
        made = 0
        for name, value in values.items():
            made |= self[name].placed(value)
        return made

    def decode(self, word: int) -> dict[str, int]:
        """Every defined field of `word` by name, from bit 0 up."""
        return {row.name: row.of(word) for row in self.rows if not row.reserved}

    def describe(self, word: int) -> tuple[str, ...]:
        """Fields of `word` that say something, as text.

        A set flag is its name; a field is ``NAME=value name`` or ``NAME=0x..``; a zero field is
        left out unless its zero has a name; reserved bits appear only when set.
        """
        parts = []
        for row in self.rows:
            value = row.of(word)
            if value in row.values:
                parts.append(f"{row.name}={row.values[value]}")
            elif value and row.width == 1:
                parts.append(row.name)
            elif value:
                parts.append(f"{row.name}={value:#x}")
        return tuple(parts)

    def reserved_mask(self) -> int:
        """Bits that the layout reserves."""
        return sum(row.mask for row in self.rows if row.reserved)


# --- Intel VMCS fields --------------------------------------------------------------------------


class FieldWidth(IntEnum):
    """Bits 14:13 of a VMCS component encoding. SDM: Structure of VMCS Component Encoding."""

    BITS_16 = 0
    BITS_64 = 1
    BITS_32 = 2
    NATURAL = 3


class FieldType(IntEnum):
    """Bits 11:10 of a VMCS component encoding. SDM: Structure of VMCS Component Encoding."""

    CONTROL = 0
    READ_ONLY_DATA = 1
    GUEST_STATE = 2
    HOST_STATE = 3


ControlWord = type[BitTable]


@dataclass(frozen=True)
class Field(Cited):
    """One field of the VMCS.

    `encoding` is the full-access encoding; `exists` holds the controls of which at least one must
    be supported (have an allowed 1-setting) for the field to exist, and is empty when the field
    always exists.
    """

    name: str
    encoding: int
    width: FieldWidth
    type: FieldType
    phrase: str
    exists: tuple[BitTable, ...] = ()

    @property
    def index(self) -> int:
        """Bits 9:1 of the encoding."""
        return self.encoding >> 1 & 0x1FF

    @property
    def size(self) -> int:
        """Size in bytes on a processor that supports Intel 64 architecture."""
        return {FieldWidth.BITS_16: 2, FieldWidth.BITS_32: 4}.get(self.width, 8)

    @property
    def encoding_high(self) -> int | None:
        """The encoding that accesses bits 63:32, or None for a field that has none."""
        return self.encoding | 1 if self.width is FieldWidth.BITS_64 else None

    def exists_with(self, supported: Mapping[ControlWord, int]) -> bool:
        """Whether the field exists where `supported` holds the allowed 1-settings of each word."""
        return not self.exists or any(
            control & supported.get(control.__class__, 0) for control in self.exists
        )

    @property
    def is_read_only(self) -> bool:
        """Whether the field is VM-exit information."""
        return self.type is FieldType.READ_ONLY_DATA


# --- to structured arrays -----------------------------------------------------------------------


def pack(rows: Iterable[object], **columns: npt.DTypeLike) -> npt.NDArray[np.void]:
    """Named attributes of `rows` as one structured array, shape (rows,), for jitted code.

    `columns` maps an attribute to the dtype of its column: ``pack(FIELDS, encoding="u4")``.
    Raises `OverflowError` when a value does not fit its column.
    """
    names = tuple(columns)
    kept = [tuple(getattr(row, name) for name in names) for row in rows]
    return np.array(kept, dtype=[(name, np.dtype(columns[name])) for name in names])

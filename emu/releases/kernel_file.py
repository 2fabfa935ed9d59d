"""A kernel that does not exist yet, described by its user in TOML.

::

    name = "6.12-v2"
    base = "6.12"
    summary = "a second page of VMX data, announced by the size"

    [[change]]                       # a number of the base
    fact = "vmx_maximum_size"
    value = 12416

    [[add]]                          # a name joins a set ([[remove]]: leaves it)
    fact = "vmx_controls"
    member = "MODE_BASED_EXECUTE_CONTROL"

    [[grow]]                         # content that no kernel has yet
    place = "page"                   # flag, header, vmcs12, page, capability or quirk
    name = "vmx_extension"
    format = "vmx"                   # or "svm"
    offset = 8320
    width = 4096
    sample = 0x1122334455667788
    announced_by = "size"            # always, size, or a flag, capability or quirk of this file

Every rule that the file breaks is reported with its line.
"""

import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from emu.errors import InputError, KernelFileError
from emu.files import read_file
from emu.releases.registry import release
from emu.releases.schema import (
    FACT,
    PLACES,
    SET,
    Added,
    Changed,
    Difference,
    Growth,
    Release,
    Removed,
    after,
)

HEADER_BYTES, VMCS12_PAGE = 128, 4096
# Where a field may grow: vmcs12's padding of the newest release, offsets of vmcs12
# (arch/x86/kvm/vmx/vmcs12.h: struct vmcs12, paddings, 7.2).
VMCS12_PADDING = ((12, 40), (336, 344), (728, 744), (932, 960))
# Header bytes that no release uses (arch/x86/include/uapi/asm/kvm.h: struct kvm_nested_state, 7.2).
FREE_HEADER = {"vmx": (40, 128), "svm": (24, 128)}
USED_FLAGS = 0x10F


class Key(NamedTuple):
    """A key of the file: its type, and whether it may be left out."""

    name: str
    kind: type
    required: bool = True


TOP = (Key("name", str), Key("base", str), Key("summary", str, required=False))
TABLES: Mapping[str, Sequence[Key]] = {
    "add": (Key("fact", str), Key("member", str), Key("seen", str, required=False)),
    "remove": (Key("fact", str), Key("member", str), Key("seen", str, required=False)),
    "change": (Key("fact", str), Key("value", int), Key("seen", str, required=False)),
    "grow": (
        Key("place", str),
        Key("name", str),
        Key("format", str, required=False),
        Key("offset", int, required=False),
        Key("width", int, required=False),
        Key("value", int, required=False),
        Key("sample", int, required=False),
        Key("announced_by", str, required=False),
    ),
}


class _Lines:
    """Where the keys of a TOML text stand: (table, index of the table, key) to a line, 1-based."""

    def __init__(self, text: str) -> None:
        self._line: dict[tuple[str, int, str], int] = {}
        counts: dict[str, int] = {}
        table = ("", 0)
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split("#", 1)[0].strip()
            if words.startswith("["):
                name = words.strip("[] ")
                table = (name, counts.get(name, 0))
                counts[name] = table[1] + 1
                self._line[(*table, "")] = number
            elif "=" in words:
                self._line.setdefault((*table, words.split("=", 1)[0].strip().strip('"')), number)

    def of(self, table: str, index: int = 0, key: str = "") -> int | None:
        """The line of a key, or of its table's head where the key does not stand there."""
        return self._line.get((table, index, key), self._line.get((table, index, "")))


class _Reader:
    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = _Lines(text)
        try:
            self.data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line = getattr(error, "lineno", None) or _line_in(str(error))
            raise KernelFileError(path, line, f"not TOML: {error}") from None

    def fail(self, table: str, index: int, key: str, message: str) -> KernelFileError:
        return KernelFileError(self.path, self.lines.of(table, index, key), message)

    def checked(self, table: str, index: int, row: object, keys: Sequence[Key]) -> dict[str, Any]:
        where = f"[[{table}]]" if table else "the file"
        if not isinstance(row, dict):
            raise self.fail(table, index, "", f"{where} must be a table")
        known = {key.name: key for key in keys}
        for name, value in row.items():
            if name in TABLES and not table:
                continue
            if name not in known:
                names = ", ".join(known)
                raise self.fail(table, index, name, f"{where} has no key {name!r}; keys: {names}")
            if type(value) is not known[name].kind:
                wanted = "a number" if known[name].kind is int else "a string"
                raise self.fail(table, index, name, f"{name} must be {wanted}, not {value!r}")
        for key in keys:
            if key.required and key.name not in row:
                raise self.fail(table, index, "", f"{where} lacks {key.name!r}")
        return row

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows = self.data.get(table, [])
        if not isinstance(rows, list):
            raise self.fail(table, 0, "", f"write [[{table}]], not [{table}]")
        return [self.checked(table, i, row, TABLES[table]) for i, row in enumerate(rows)]

    def differences(self, base: Release) -> list[Difference]:
        found: list[Difference] = []
        for table in ("add", "remove", "change"):
            for index, row in enumerate(self.rows(table)):
                found.append(self.difference(base, table, index, row))
        return found

    def difference(self, base: Release, table: str, index: int, row: dict[str, Any]) -> Difference:
        fact = FACT.get(row["fact"])
        if fact is None:
            names = ", ".join(FACT)
            message = f"no fact is named {row['fact']!r}; facts: {names}"
            raise self.fail(table, index, "fact", message)
        is_set = fact.kind is SET
        if is_set == (table == "change"):
            what = "a set of names: use [[add]]" if is_set else "a number: use [[change]]"
            raise self.fail(table, index, "fact", f"{fact.name} is {what}")
        seen = row.get("seen", f"{self.path}")
        if table == "change":
            if base.number(fact.name) == row["value"]:
                message = f"{fact.name} is {row['value']} in {base.name} already"
                raise self.fail(table, index, "value", message)
            return Changed(fact.name, row["value"], seen)
        present = base.has(fact.name, row["member"])
        if present == (table == "add"):
            state = "has" if present else "does not have"
            message = f"{base.name} {state} {row['member']} in {fact.name}"
            raise self.fail(table, index, "member", message)
        return (Added if table == "add" else Removed)(fact.name, row["member"], seen)

    def growth(self, base: Release) -> tuple[Growth, ...]:
        rows = [Growth(**row) for row in self.rows("grow")]
        names = {item.name: item for item in (*base.growth, *rows)}
        for index, item in enumerate(rows):
            self.check_growth(index, item, names, rows[:index], base)
        return tuple(rows)

    def check_growth(
        self,
        index: int,
        item: Growth,
        names: Mapping[str, Growth],
        before: Sequence[Growth],
        base: Release,
    ) -> None:
        def fail(key: str, message: str) -> KernelFileError:
            return self.fail("grow", index, key, message)

        if item.place not in PLACES:
            raise fail("place", f"no place is named {item.place!r}; places: {', '.join(PLACES)}")
        if item.format not in FREE_HEADER:
            raise fail("format", f"format must be 'vmx' or 'svm', not {item.format!r}")
        if any(other.name == item.name for other in (*base.growth, *before)):
            raise fail("name", f"{item.name!r} is there already")
        if item.place in ("flag", "capability", "quirk"):
            if item.value <= 0:
                raise fail("value", f"a {item.place} needs a value above 0")
            if item.place == "flag" and (item.value & USED_FLAGS or item.value > 0xFFFF):
                message = f"a flag needs free bits of 16 ({USED_FLAGS:#x} are taken)"
                raise fail("value", f"{message}, not {item.value:#x}")
        else:
            self.check_extent(index, item, base)
            others = [x for x in (*base.growth, *before) if x.place == item.place]
            for other in others:
                if other.offset < item.end and item.offset < other.end:
                    raise fail("offset", f"{item.name!r} overlaps {other.name!r}")
        announcer = names.get(item.announced_by)
        if item.announced_by not in ("always", "size") and (
            announcer is None or (announcer.is_content and announcer.place != "flag")
        ):
            message = f"announced_by {item.announced_by!r} is no flag, capability or quirk here"
            raise fail("announced_by", message)
        if item.announced_by == "size" and item.place != "page":
            raise fail("announced_by", "only a page can be announced by the size")

    def check_extent(self, index: int, item: Growth, base: Release) -> None:
        def fail(key: str, message: str) -> KernelFileError:
            return self.fail("grow", index, key, message)

        if item.place == "page":
            maximum = base.number(f"{item.format}_maximum_size")
            if item.width <= 0 or item.width % VMCS12_PAGE:
                raise fail("width", f"a page has a multiple of 4096 bytes, not {item.width}")
            if item.offset < maximum:
                message = f"a page starts at {maximum} or above, behind what {base.name} has"
                raise fail("offset", f"{message}, not at {item.offset}")
            return
        if item.width not in (1, 2, 4, 8):
            raise fail("width", f"width must be 1, 2, 4 or 8 bytes, not {item.width}")
        ranges = (FREE_HEADER[item.format],) if item.place == "header" else VMCS12_PADDING
        if item.offset % item.width or not any(
            low <= item.offset and item.end <= high for low, high in ranges
        ):
            free = ", ".join(f"{low}-{high - 1}" for low, high in ranges)
            raise fail("offset", f"{item.place} bytes {item.offset}-{item.end - 1} are not free "
                       f"and aligned; free: {free}")  # fmt: skip


def _line_in(message: str) -> int | None:
    words = message.replace(",", " ").replace(")", " ").split()
    for before, word in pairwise(words):
        if before == "line" and word.isdigit():
            return int(word)
    return None


def parse_kernel(text: str, path: str = "<kernel>") -> Release:
    """The release that the TOML `text` describes.

    Raises KernelFileError, naming `path` and the line, for anything that is not as described above.
    """
    reader = _Reader(path, text)
    top = reader.checked("", 0, reader.data, TOP)
    try:
        base = release(top["base"])
    except InputError as error:
        raise reader.fail("", 0, "base", str(error)) from None
    differences = reader.differences(base)
    growth = reader.growth(base)
    sizes = {
        kind: max((i.end for i in growth if i.place == "page" and i.format == kind), default=0)
        for kind in FREE_HEADER
    }
    changed = {d.fact for d in differences if isinstance(d, Changed)}
    for kind, size in sizes.items():
        fact = f"{kind}_maximum_size"
        if size > base.number(fact) and fact not in changed:
            differences.append(Changed(fact, size, f"{path}: the pages that it adds"))
    try:
        return after(base, top["name"], *differences, growth=growth)
    except ValueError as error:
        raise KernelFileError(path, None, str(error)) from None


def load_kernel(path: Path | str) -> Release:
    """The release that the TOML file at `path` describes.

    Raises KernelFileError as `parse_kernel` does, and for a file that is no text; InputError for
    one that cannot be read.
    """
    try:
        text = read_file(path).decode()
    except UnicodeDecodeError as error:
        raise KernelFileError(str(path), None, f"not UTF-8 text: {error.reason}") from None
    return parse_kernel(text, str(path))

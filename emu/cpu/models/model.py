"""A processor model: CPUID leaves and MSRs, and what follows from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from emu.cpu.models.features import EAX, EBX, ECX, EDX, FEATURES, REPEATED
from emu.errors import InputError

Words = tuple[int, int, int, int]
INTEL, AMD = "GenuineIntel", "AuthenticAMD"
BASIC, EXTENDED, HYPERVISOR = 0, 0x8000_0000, 0x4000_0000
X87, SSE, YMM, OPMASK, ZMM_LOW, ZMM_HIGH, PKRU = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 9
LEGACY_AREA = 576  # FXSAVE area and XSAVE header


@dataclass(frozen=True)
class Model:
    """`leaves` maps leaf and subleaf to EAX EBX ECX EDX; `msrs` an index to its reset value."""

    name: str
    leaves: Mapping[tuple[int, int], Words]
    msrs: Mapping[int, int] = field(default_factory=dict)

    def word(self, leaf: int, subleaf: int, register: int) -> int:
        """A register of a leaf; 0 where the model has no such leaf."""
        return self.leaves.get((leaf, subleaf), (0, 0, 0, 0))[register]

    def has(self, name: str) -> bool:
        """Whether the processor has a feature of `features.FEATURES`."""
        return name in self.features

    @cached_property
    def features(self) -> frozenset[str]:
        """The names of all features it has."""
        return frozenset(
            f.name
            for f in FEATURES.values()
            if self.word(f.leaf, f.subleaf, f.register) >> f.bit & 1
        )

    @cached_property
    def lacking(self) -> dict[int, bool]:
        """By iced-x86's code, as far as asked: whether it has no such instruction."""
        return {}

    @cached_property
    def vendor(self) -> str:
        """The vendor string of leaf 0."""
        _, ebx, ecx, edx = self.leaves[0, 0]
        return b"".join(w.to_bytes(4, "little") for w in (ebx, edx, ecx)).decode("latin-1")

    @cached_property
    def signature(self) -> int:
        """Family, model and stepping: leaf 1 EAX, and RDX after RESET."""
        return self.word(1, 0, EAX)

    @cached_property
    def maxphyaddr(self) -> int:
        """Physical address bits; 36 where no leaf tells. SDM Vol. 3, Paging, MAXPHYADDR."""
        return self.word(EXTENDED + 8, 0, EAX) & 0xFF or 36

    @cached_property
    def xcr0(self) -> int:
        """The bits that XCR0 may have: leaf 0DH."""
        return self.word(0xD, 0, EAX) | self.word(0xD, 0, EDX) << 32

    @cached_property
    def xss(self) -> int:
        """The bits that IA32_XSS may have: leaf 0DH, subleaf 1."""
        return self.word(0xD, 1, ECX) | self.word(0xD, 1, EDX) << 32

    def component(self, number: int) -> tuple[int, int, bool]:
        """Size, standard offset and alignment of an XSAVE component in compacted form."""
        size, offset, flags, _ = self.leaves[0xD, number]
        return size, offset, bool(flags & 2)

    def cpuid(self, leaf: int, subleaf: int) -> Words:
        """What CPUID gives; leaves out of range give the highest basic one, or zero on AMD."""
        if (leaf, subleaf) in self.leaves:
            return self.leaves[leaf, subleaf]
        if (leaf, 0) in self.leaves and leaf not in SUBLEAVES:
            return self.leaves[leaf, 0]
        highest = self.word(leaf & 0xC000_0000, 0, EAX)
        if highest < leaf and self.vendor == INTEL:
            last = self.word(BASIC, 0, EAX)
            known = self.leaves.get((last, subleaf if last in SUBLEAVES else 0))
            return known or (0, 0, 0, 0)
        return (0, 0, 0, 0)


SUBLEAVES = frozenset((4, 7, 0xB, 0xD, 0xF, 0x10, 0x12, 0x14, 0x1F, 0x8000_001D))


def build(
    name: str,
    vendor: str,
    signature: int,
    brand: str,
    features: Iterable[str],
    leaves: Mapping[tuple[int, int], Words],
    msrs: Mapping[int, int],
    physical: int,
    basic: int,
    extended: int,
) -> Model:
    """A model from the names of its features and the leaves that are no feature bits."""
    table: dict[tuple[int, int], list[int]] = {key: list(words) for key, words in leaves.items()}
    names = frozenset(features)

    def at(leaf: int, subleaf: int = 0) -> list[int]:
        return table.setdefault((leaf, subleaf), [0, 0, 0, 0])

    text = [int.from_bytes(vendor[i : i + 4].encode(), "little") for i in (0, 4, 8)]
    at(BASIC)[:] = [basic, text[0], text[2], text[1]]
    at(EXTENDED)[:] = [extended, *([text[0], text[2], text[1]] if vendor == AMD else [0, 0, 0])]
    at(1)[EAX], at(1)[EBX] = signature, 8 << 8 | 1 << 16
    for feature in (FEATURES[one] for one in sorted(names)):
        at(feature.leaf, feature.subleaf)[feature.register] |= 1 << feature.bit
    if vendor == AMD:
        at(EXTENDED + 1)[EAX] = signature
        for one in REPEATED:
            if one in names:
                at(EXTENDED + 1)[EDX] |= 1 << FEATURES[one].bit
    padded = brand.encode().ljust(48, b"\0")
    for i in range(3):
        piece = padded[16 * i : 16 * i + 16]
        at(EXTENDED + 2 + i)[:] = [
            int.from_bytes(piece[j : j + 4], "little") for j in (0, 4, 8, 12)
        ]
    linear = 57 if "LA57" in names else 48
    at(EXTENDED + 8)[EAX] = physical | linear << 8
    if "XSAVE" in names:
        for key, words in xsave_leaves(names).items():
            at(*key)[:] = [a | b for a, b in zip(at(*key), words, strict=True)]
    frozen = {key: (w[0], w[1], w[2], w[3]) for key, w in table.items()}
    return Model(name, frozen, dict(msrs))


def xsave_leaves(features: frozenset[str]) -> dict[tuple[int, int], Words]:
    """Leaf 0DH for the state components that the features bring. SDM Vol. 1, XSAVE-Supported."""
    out: dict[tuple[int, int], Words] = {}
    components, end = X87 | SSE, LEGACY_AREA
    if "AVX" in features:
        out[0xD, 2] = (256, 576, 0, 0)
        components, end = components | YMM, 832
    if "PKU" in features:
        offset = 2688 if "AVX" in features else 832
        out[0xD, 9] = (8, offset, 0, 0)
        components, end = components | PKRU, offset + 8
    out[0xD, 0] = (components, LEGACY_AREA, end, 0)
    out[0xD, 1] = (0, LEGACY_AREA, 0, 0)
    return out


def from_environment(name: str, environment: Mapping[str, Any]) -> Model:
    """A model from recorded CPUID rows (leaf, subleaf, EAX, EBX, ECX, EDX) and MSRs by index.

    Raises InputError when the record is not that.
    """
    try:
        rows: Sequence[Sequence[int]] = environment["cpuid"]
        leaves = {
            (int(r[0]), int(r[1])): (int(r[2]), int(r[3]), int(r[4]), int(r[5])) for r in rows
        }
        msrs = {int(k, 16): int(v) for k, v in environment.get("feature_msrs", {}).items()}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{name}: not a record of CPUID and MSRs: {error!r}") from error
    if (0, 0) not in leaves or (1, 0) not in leaves:
        raise InputError(f"{name}: the record lacks CPUID leaf 0 or 1")
    return Model(name, leaves, msrs)


def varied(model: Model, changes: Sequence[str]) -> Model:
    """A model with features more or less: "+NAME" and "-NAME". Raises InputError."""
    leaves = {key: list(words) for key, words in model.leaves.items()}
    for change in changes:
        sign, name = change[:1], change[1:].upper()
        if sign not in ("+", "-") or name not in FEATURES:
            raise InputError(f"{change!r} is no change of a processor: write +NAME or -NAME")
        feature = FEATURES[name]
        words = leaves.setdefault((feature.leaf, feature.subleaf), [0, 0, 0, 0])
        words[feature.register] &= ~(1 << feature.bit)
        words[feature.register] |= (sign == "+") << feature.bit
    frozen = {key: (w[0], w[1], w[2], w[3]) for key, w in leaves.items()}
    return Model(",".join((model.name, *changes)), frozen, dict(model.msrs))


def load_model(path: str) -> Model:
    """A model from a JSON file of recorded CPUID and MSRs; raises InputError.

    The file has `cpuid` and `feature_msrs` itself, or under `environment`, or by release under
    `recorded` (the newest counts).
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a record of CPUID and MSRs")
    if isinstance(content.get("recorded"), dict) and content["recorded"]:
        newest = max(content["recorded"], key=lambda r: [int(x) for x in r.split(".")])
        content = content["recorded"][newest]
    return from_environment(path, content.get("environment", content))

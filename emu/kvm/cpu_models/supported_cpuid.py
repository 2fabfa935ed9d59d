"""KVM_GET_SUPPORTED_CPUID: the leaves that KVM of a release shows of a processor.

Source: arch/x86/kvm/cpuid.c: __do_cpuid_func (__do_cpuid_ent before 5.3), get_cpuid_func.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from emu.kvm.cpu_models.capabilities import Capabilities, has
from emu.kvm.cpu_models.features import WORDS
from emu.kvm.cpu_models.model import BASIC, EXTENDED, HYPERVISOR, NO_LEAF
from emu.kvm.cpu_models.setup import EPT_CAP, Setup
from emu.kvm.cpuid import EAX, EBX, CpuidRow

KVM_SIGNATURE: Final = tuple(
    int.from_bytes(b"KVMKVMKVM\0\0\0"[start : start + 4], "little") for start in (0, 4, 8)
)
CACHE_TYPE: Final = 0x1F
LEVEL_TYPE: Final = 0xFF00
# User state that KVM lets a guest enable: x87, SSE, AVX, MPX, AVX-512, PKRU (KVM_SUPPORTED_XCR0).
XCR0: Final = 0x2FF
XCR0_MPX: Final = 0x18
XCR0_TILE_CONFIG: Final = 1 << 17
XSS_CET: Final = 0x1800
XSAVE_HEADER_END: Final = 0x240
XSTATE_SUPERVISOR, XSTATE_ALIGNED, XSTATE_FAULTS = 1, 2, 4
ANYTHREAD_DEPRECATED: Final = 1 << 15
FIXED_COUNTERS: Final = 3
SGX_ATTRIBUTES: Final = 0xB6
SGX_NOTIFY: Final = 1 << 10
SVM_REVISION, SVM_ASIDS = 1, 8

Row = list[int]
"""A row while it is made: function, index, EAX, EBX, ECX, EDX."""

WORDS_OF: Final = {
    leaf: tuple(
        (word.name, 2 + word.register) for word in WORDS if (word.function, word.subleaf) == leaf
    )
    for leaf in {(word.function, word.subleaf) for word in WORDS}
}


class Leaves:
    """Makes the rows; one method a leaf that KVM does not pass on as it is, or leave empty."""

    def __init__(self, setup: Setup, caps: Capabilities) -> None:
        self.setup, self.caps = setup, caps
        self.model, self.release = setup.model, setup.release
        self.ways = setup.release.names("cpuid_leaves")

    def rows(self) -> Iterator[CpuidRow]:
        """All rows, in KVM's order."""
        for first in (BASIC, EXTENDED, HYPERVISOR):
            limit = first
            function = first
            while function <= limit:
                made = list(self._function(function))
                yield from (CpuidRow(*row) for row in made)
                limit = made[-1][2] if function == first else limit
                function += 1

    def _raw(self, function: int, index: int = 0) -> Row:
        return [function, index, *self.model.leaf(function, index)]

    def _function(self, function: int) -> Iterator[Row]:
        make = MAKERS.get(function)
        if make is not None:
            return make(self, function)
        return iter(([function, 0, *NO_LEAF],))

    def _judged(self, function: int, index: int = 0) -> Row:
        """The leaf with every word that KVM judges replaced by what KVM has of it."""
        row = self._raw(function, index)
        for word, position in WORDS_OF[function, index]:
            row[position] = self.caps[word]
        return row

    def as_it_is(self, function: int) -> Iterator[Row]:
        """What the processor says."""
        yield self._raw(function)

    def only_judged(self, function: int) -> Iterator[Row]:
        """Feature bits, and nothing else of the leaf."""
        row = [function, 0, *NO_LEAF]
        for word, position in WORDS_OF[function, 0]:
            row[position] = self.caps[word]
        yield row

    def judged(self, function: int) -> Iterator[Row]:
        """What the processor says, with KVM's feature bits."""
        yield self._judged(function)

    def where(self, way: str) -> Callable[[int], Iterator[Row]]:
        """What the processor says, in releases that pass the leaf on."""
        return self.as_it_is if way in self.ways else self.empty

    def empty(self, function: int) -> Iterator[Row]:
        """Nothing."""
        yield [function, 0, *NO_LEAF]

    def basic_limit(self, function: int) -> Iterator[Row]:
        """Leaf 0H: no further than KVM knows leaves."""
        row = self._raw(function)
        row[2] = min(row[2], self.release.number("cpuid_basic_limit"))
        yield row

    def caches(self, function: int) -> Iterator[Row]:
        """Leaves 4H and 8000_001DH: subleaves up to the first that is no cache."""
        row = self._raw(function)
        yield row
        if function >= EXTENDED and "cache_subleaves" not in self.ways:
            return
        index = 1
        while row[2] & CACHE_TYPE:
            row = self._raw(function, index)
            yield row
            index += 1

    def thermal(self, function: int) -> Iterator[Row]:
        """Leaf 6H: the APIC timer always runs (ARAT)."""
        yield [function, 0, 4, 0, 0, 0]

    def extended_features(self, function: int) -> Iterator[Row]:
        """Leaf 7H with the subleaves that the release knows."""
        row = self._judged(function)
        row[2] = last = min(row[2], self._last_subleaf_of_7())
        yield row
        if last >= 1:
            row = self._judged(function, 1)
            row[3] = 0
            yield row
        if last >= 2:
            row = self._judged(function, 2)
            row[2:5] = 0, 0, 0
            yield row

    def _last_subleaf_of_7(self) -> int:
        if "subleaf_7_2" in self.ways:
            return 2
        return 1 if "subleaf_7_1" in self.ways else 0

    def dca(self, function: int) -> Iterator[Row]:
        """Leaf 9H."""
        return self.where("dca_raw")(function)

    def counters(self, function: int) -> Iterator[Row]:
        """Leaf AH: version 2 at most, and no more fixed counters than KVM has."""
        eax, ebx, _, edx = self.model.leaf(function)
        version = min(eax & 0xFF, 2)
        if not self.setup.pmu or not version:
            unasked = "anythread_without_counters" in self.ways
            yield [function, 0, 0, 0, 0, ANYTHREAD_DEPRECATED if unasked else 0]
            return
        fixed = edx & 0x1F
        if "fixed_counters_limited" in self.ways:
            fixed = min(fixed, FIXED_COUNTERS)
        edx = fixed | edx & 0x1FE0
        if "anythread_deprecated" in self.ways:
            edx |= ANYTHREAD_DEPRECATED
        yield [function, 0, eax & ~0xFF | version, ebx, 0, edx]

    def topology(self, function: int) -> Iterator[Row]:
        """Leaves BH and 1FH: the host's, or none but the APIC ID."""
        row = self._raw(function)
        if "topology_raw" not in self.ways:
            row[2:5] = 0, 0, 0
            yield row
            return
        yield row
        index = 1
        while row[4] & LEVEL_TYPE:
            row = self._raw(function, index)
            yield row
            index += 1

    def xstate(self, function: int) -> Iterator[Row]:
        """Leaf DH: the state components that KVM lets a guest enable."""
        caps = self.caps
        xcr0, xss = self._xcr0(), self._xss()
        row = self._raw(function)
        row[2] &= xcr0
        row[3] = row[4] = self._xsave_size(xcr0, compacted=False)
        row[5] = 0
        yield row
        if not xcr0:
            return
        row = self._judged(function, 1)
        compacts = has(caps, "XSAVES") or has(caps, "XSAVEC")
        row[3] = self._xsave_size(xcr0 | xss, compacted=True) if compacts else 0
        row[4] &= xss
        row[5] = 0
        yield row
        for index in range(2, 32):
            if not (xcr0 | xss) >> index & 1:
                continue
            row = self._raw(function, index)
            if not row[2] or row[4] & XSTATE_SUPERVISOR != xss >> index & 1:
                continue
            if "xstate_alignment" not in self.ways:
                row[4] = 0
            elif not has(caps, "XFD"):
                row[4] &= ~XSTATE_FAULTS
            row[5] = 0
            yield row

    def _xcr0(self) -> int:
        """Components of XCR0; of AMX only what needs no permission (XTILECFG), until that too."""
        known = XCR0
        if "tile_config_shown" in self.ways:
            known |= XCR0_TILE_CONFIG
        if not (self.setup.intel and self.setup.mpx):
            known &= ~XCR0_MPX
        return known & self.model.leaf(0xD)[EAX]

    def _xss(self) -> int:
        cet = has(self.caps, "SHSTK") or has(self.caps, "IBT")
        return XSS_CET if cet and self.setup.xss_cet else 0

    def _xsave_size(self, components: int, compacted: bool) -> int:
        """Bytes of an XSAVE area with `components` (xstate_required_size)."""
        size = XSAVE_HEADER_END
        for index in range(2, 32):
            if components >> index & 1:
                length, offset, flags, _ = self.model.leaf(0xD, index)
                if compacted:
                    offset = -(-size // 64) * 64 if flags & XSTATE_ALIGNED else size
                size = max(size, offset + length)
        return size

    def sgx(self, function: int) -> Iterator[Row]:
        """Leaf 12H."""
        if not has(self.caps, "SGX"):
            yield [function, 0, *NO_LEAF]
            return
        row = self._judged(function)
        row[3] &= 1
        yield row
        row = self._raw(function, 1)
        notify = SGX_NOTIFY if has(self.caps, "SGX_EDECCSSA") else 0
        row[2] &= SGX_ATTRIBUTES | notify
        row[3] = 0
        yield row

    def processor_trace(self, function: int) -> Iterator[Row]:
        """Leaf 14H: a guest has no Intel PT by default."""
        return self.where("processor_trace_raw")(function)

    def tiles(self, function: int) -> Iterator[Row]:
        """Leaf 1DH: palettes."""
        if not has(self.caps, "AMX_TILE"):
            yield [function, 0, *NO_LEAF]
            return
        row = self._raw(function)
        yield row
        for index in range(1, row[2] + 1):
            yield self._raw(function, index)

    def tile_multiply(self, function: int) -> Iterator[Row]:
        """Leaf 1EH."""
        if not has(self.caps, "AMX_TILE"):
            yield [function, 0, *NO_LEAF]
            return
        row = self._raw(function)
        if "subleaf_1e_1" not in self.ways:
            yield row
            return
        row[2] = min(row[2], 1)
        yield row
        if row[2]:
            yield [function, 1, self.caps["1e.1.eax"], 0, 0, 0]

    def avx10(self, function: int) -> Iterator[Row]:
        """Leaf 24H."""
        if not has(self.caps, "AVX10"):
            yield [function, 0, *NO_LEAF]
            return
        eax, ebx, _, _ = self.model.leaf(function)
        two = "subleaf_24_1" in self.ways
        last = min(eax, 1) if two else 0
        version = min(ebx & 0xFF, 2 if two else 1)
        yield [function, 0, last, self.caps["24.0.ebx"] | version, 0, 0]
        if last:
            yield [function, 1, 0, 0, self.caps["24.1.ecx"], 0]

    def signature(self, function: int) -> Iterator[Row]:
        """Leaf 4000_0000H."""
        yield [function, 0, HYPERVISOR + 1, *KVM_SIGNATURE]

    def extended_limit(self, function: int) -> Iterator[Row]:
        """Leaf 8000_0000H: raised to 8000_0021H where KVM has bits of it to show."""
        row = self._raw(function)
        row[2] = min(row[2], self.release.number("cpuid_extended_limit"))
        shows = self.model.lfence_serializes or "NULL_SEG" not in self.model.bugs
        if "synthesizes_80000021" in self.ways and row[2] >= 0x8000_001D and shows:
            row[2] = max(row[2], 0x8000_0021)
        yield row

    def extended_processor(self, function: int) -> Iterator[Row]:
        """Leaf 8000_0001H."""
        row = self._judged(function)
        if self._drops_reserved:
            row[3] &= ~0x0FFF_0000
        yield row

    @property
    def _drops_reserved(self) -> bool:
        return "reserved_bits_dropped" in self.ways

    def l1_caches(self, function: int) -> Iterator[Row]:
        """Leaf 8000_0005H."""
        return self.where("l1_caches_raw")(function)

    def l2_caches(self, function: int) -> Iterator[Row]:
        """Leaf 8000_0006H."""
        row = self._raw(function) if "l2_caches_raw" in self.ways else [function, 0, *NO_LEAF]
        if self._drops_reserved:
            row[5] &= ~0x0003_0000
        yield row

    def address_sizes(self, function: int) -> Iterator[Row]:
        """Leaf 8000_0008H: MAXPHYADDR of a guest, and what it can address with EPT or NPT."""
        row = self._judged(function)
        eax = row[2]
        physical, linear = eax & 0xFF, max(eax >> 8 & 0xFF, 48)
        guest = eax >> 16 & 0xFF
        if "guest_size_told" in self.ways:
            told = 0
            if self.setup.tdp:
                told = physical if self._walks_5_levels else min(physical, 48)
            row[2] = physical | linear << 8 | told << 16
        else:
            usable = self.setup.tdp or "guest_size_needs_tdp" not in self.ways
            if guest and usable and "guest_size_taken" in self.ways:
                physical = guest
            row[2] = physical | linear << 8
        if self._drops_reserved:
            row[4] &= ~0xFFFF_0F00
        row[5] = 0
        yield row

    @property
    def _walks_5_levels(self) -> bool:
        if self.setup.intel:
            return bool(self.setup.ept_cap & EPT_CAP["WALK_LENGTH_5"])
        return self.model.has("LA57")

    def svm(self, function: int) -> Iterator[Row]:
        """Leaf 8000_000AH."""
        if self.setup.intel:
            yield [function, 0, *NO_LEAF]
        elif self.setup.nested or "svm_leaf_without_nested" in self.ways:
            yield [function, 0, SVM_REVISION, SVM_ASIDS, 0, self.caps["8000000a.edx"]]
        else:
            yield [function, 0, *NO_LEAF]

    def tlb_1g(self, function: int) -> Iterator[Row]:
        """Leaf 8000_0019H."""
        row = self._raw(function)
        row[4:] = 0, 0
        yield row

    def optimizations(self, function: int) -> Iterator[Row]:
        """Leaf 8000_001AH."""
        row = self._raw(function)
        if self._drops_reserved:
            row[2:] = row[2] & 7, 0, 0, 0
        yield row

    def node(self, function: int) -> Iterator[Row]:
        """Leaf 8000_001EH: the host's topology, or none."""
        return self.where("node_raw")(function)

    def extended_features_2(self, function: int) -> Iterator[Row]:
        """Leaf 8000_0021H."""
        row = [function, 0, *NO_LEAF]
        for word, position in WORDS_OF[function, 0]:
            row[position] = self.caps[word]
        if has(self.caps, "ERAPS"):
            row[3] = self.model.leaf(function)[EBX] & 0x00FF_0000
        yield row

    def extended_counters(self, function: int) -> Iterator[Row]:
        """Leaf 8000_0022H."""
        if not has(self.caps, "PERFMON_V2"):
            yield [function, 0, *NO_LEAF]
            return
        yield [function, 0, self.caps["80000022.eax"], self.model.leaf(function)[EBX] & 0xF, 0, 0]


MAKERS: Final[dict[int, Callable[[Leaves, int], Iterator[Row]]]] = {
    0x0: Leaves.basic_limit,
    0x1: Leaves.judged,
    0x2: Leaves.as_it_is,
    0x4: Leaves.caches,
    0x6: Leaves.thermal,
    0x7: Leaves.extended_features,
    0x9: Leaves.dca,
    0xA: Leaves.counters,
    0xB: Leaves.topology,
    0xD: Leaves.xstate,
    0x12: Leaves.sgx,
    0x14: Leaves.processor_trace,
    0x1D: Leaves.tiles,
    0x1E: Leaves.tile_multiply,
    0x1F: Leaves.topology,
    0x24: Leaves.avx10,
    0x4000_0000: Leaves.signature,
    0x4000_0001: Leaves.only_judged,
    0x8000_0000: Leaves.extended_limit,
    0x8000_0001: Leaves.extended_processor,
    0x8000_0005: Leaves.l1_caches,
    0x8000_0006: Leaves.l2_caches,
    0x8000_0007: Leaves.only_judged,
    0x8000_0008: Leaves.address_sizes,
    0x8000_000A: Leaves.svm,
    0x8000_0019: Leaves.tlb_1g,
    0x8000_001A: Leaves.optimizations,
    0x8000_001D: Leaves.caches,
    0x8000_001E: Leaves.node,
    0x8000_0021: Leaves.extended_features_2,
    0x8000_0022: Leaves.extended_counters,
}


def supported_cpuid(setup: Setup, caps: Capabilities) -> tuple[CpuidRow, ...]:
    """KVM_GET_SUPPORTED_CPUID, in KVM's order."""
    return tuple(Leaves(setup, caps).rows())

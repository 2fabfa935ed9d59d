"""The time to move N vCPUs' state between layouts, beside copying the same records."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from bench.harness import Figure, available_memory, compared, skip_first_tiers
from vmcs.batch import (
    VMCS,
    VMCS12,
    Place,
    RecordLayout,
    VmcsBatch,
    group_named,
    states,
    vmcs12_layout,
)

COUNTS = (1, 64, 4096, 65_536, 1_000_000)
OLDEST = vmcs12_layout("dead_space")
SPARE = 2 << 30
"""Bytes of memory that are left alone."""

BASE = "np.copyto"
SEGMENTS = group_named("RARE_SEGMENTS")
MANY = 4096
"""Up to here the slower candidates are timed as well."""


def shuffled(layout: RecordLayout) -> RecordLayout:
    """The fields in another order, so that hardly two of them move together."""
    order = np.random.default_rng(1).permutation(len(layout.places))
    places, at = [], 16
    for i in order:
        name, _, width = layout.places[i]
        at = -(-at // width) * width
        places.append(Place(name, at, width))
        at += width
    return RecordLayout("shuffled", layout.size, places)


def by_column(target: VmcsBatch, source: VmcsBatch) -> None:
    """What numpy does without kernels: a strided assignment a field."""
    for name in source.layout.names:
        if name in target.layout:
            target[name] = source[name]


def candidates(source: VmcsBatch, target: VmcsBatch) -> dict[str, Callable[[], object]]:
    """What is timed; every candidate reads `source` and writes `target`."""
    layouts = {
        "vmcs12 of 5.10 to vmcs12 of 7.3": (OLDEST, VMCS12),
        "vmcs12 to the processor's VMCS": (VMCS12, VMCS),
        "vmcs12 to a shuffled layout": (VMCS12, shuffled(VMCS12)),
    }
    found: dict[str, Callable[[], object]] = {
        BASE: lambda: np.copyto(target.data, source.data),
    }
    for name, (here, there) in layouts.items():
        a, b = VmcsBatch.over(there, target.data), VmcsBatch.over(here, source.data)
        found[f"remap, {name}"] = partial(a.remap_from, b)
    vmcs02 = VmcsBatch.over(VMCS, target.data)
    found["copy 36 fields of the segments"] = partial(vmcs02.copy_from, source, SEGMENTS)
    found["copy all fields, keep the rest"] = partial(vmcs02.copy_from, source, VMCS12.names)
    if len(source) <= 65_536:
        words = source.gather()
        found["gather all fields"] = partial(source.gather, out=words)
        found["scatter all fields"] = partial(target.scatter, words)
        found["compare all fields"] = partial(source.compare, target)
    if len(source) <= MANY:
        found["numpy, field by field"] = partial(by_column, vmcs02, source)
    return found


def figures() -> Iterator[Figure]:
    skip_first_tiers(states)
    for count in COUNTS:
        group = f"{count:,} records of 4096 bytes"
        if 2 * count * VMCS12.size + SPARE > available_memory():
            yield Figure(group, "not run", 0, "", note="there is not memory enough")
            continue
        source, target = VmcsBatch(VMCS12, count), VmcsBatch(VMCS12, count)
        source.data[:] = np.arange(count * VMCS12.size // 8, dtype=np.uint64).view(np.uint8)
        target.data[:] = 1
        timings = compared(candidates(source, target))
        del source, target
        for name, timing in timings.items():
            each = timing.median / count * 1e9
            ratio = timing.median / timings[BASE].median
            yield Figure(group, name, each, "ns/record", ratio, BASE)

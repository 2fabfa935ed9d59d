"""The pools and states that the scenarios of a rolling upgrade are counted over."""

from __future__ import annotations

from functools import cache
from importlib import resources

from emu.migration.capture import Capture, shipped
from emu.migration.matrix import Pool
from emu.releases.kernel_file import parse_kernel
from emu.releases.schema import Release


@cache
def example_kernels() -> tuple[Release, ...]:
    """The example kernels whose nested state has grown, one for each place that it can grow in."""
    folder = resources.files("emu.releases") / "examples"
    files = sorted(folder.iterdir(), key=lambda entry: entry.name)
    texts = [(entry.name, entry.read_text("utf-8")) for entry in files]
    return tuple(parse_kernel(text, name) for name, text in texts if name.endswith(".toml"))


def example_pools() -> list[Pool]:
    """Each example kernel with the release that it grew from."""
    return [Pool(kernel.base, kernel) for kernel in example_kernels() if kernel.base is not None]


def scenario_captures() -> list[Capture]:
    """The shipped captures of the example kernels' formats, as kernels handed them out."""
    formats = {item.format for kernel in example_kernels() for item in kernel.growth}
    return [c for c in shipped().values() if c.recorded and c.format.name.lower() in formats]

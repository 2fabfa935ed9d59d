"""Conformance: recorded verdicts of real kernels, replayed against the emulated ones."""

from emu.conform.recorded import Recording, read_recording
from emu.conform.run import Agreement, Disagreement, replay

__all__ = ["Agreement", "Disagreement", "Recording", "read_recording", "replay"]

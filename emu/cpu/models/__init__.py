"""Processor models: what CPUID and the MSRs tell, as data, or as recorded from a machine."""

from emu.cpu.models.model import Model, from_environment, load_model, varied
from emu.cpu.models.rows import MODELS

__all__ = ["MODELS", "Model", "from_environment", "load_model", "varied"]

"""Guest-physical memory: RAM, ROM and device windows, and which pages were written."""

from emu.memory.physical import Device, PhysicalMemory

__all__ = ["Device", "PhysicalMemory"]

"""Guest-physical memory."""

from emu.memory.guest_memory import GuestMemory, MemorySlot
from emu.memory.physical import Device, PhysicalMemory

__all__ = ["Device", "GuestMemory", "MemorySlot", "PhysicalMemory"]

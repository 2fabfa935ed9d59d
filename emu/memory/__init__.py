"""Guest-physical memory."""

from emu.memory.guest_memory import GuestMemory, MemorySlot

__all__ = ["GuestMemory", "MemorySlot"]

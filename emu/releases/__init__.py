"""Linux releases as differences: what each one's KVM does with nested state.

`release("6.12")` is the resolved whole of one kernel; `RELEASES` holds them all, oldest first.
"""

from emu.releases.registry import RELEASES, first_with, release

__all__ = ["RELEASES", "first_with", "release"]

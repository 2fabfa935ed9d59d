"""`python -m emu` is the command `nestling`."""

from emu.cli import main

main()

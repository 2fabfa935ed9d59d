"""Compile one module: IR text on standard input, object code on standard output."""

import sys

from emu.cpu.compiler.backend import assemble

if __name__ == "__main__":
    sys.stdout.buffer.write(assemble(sys.stdin.read()))

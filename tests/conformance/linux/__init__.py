"""Debian's kernels boot on the bare machine, to a program of ours in user space."""

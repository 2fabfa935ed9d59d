"""Restricted Python: words, structures and their compilation through LLVM IR text.

A restricted function computes with unsigned 64-bit words. It may use `if`, `while`, `for` over a
known sequence, integer operators, comparisons (unsigned), named fields of a `Layout`, and calls of
other restricted functions and intrinsics; it allocates nothing. The same function runs as plain
Python (`words.py` masks what wraps) and compiles to LLVM IR (`emit.py`); `backend.py` and
`cache.py` turn the text into machine code and keep it.
"""

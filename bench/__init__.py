"""Benchmarks: one module a question, run by `python -m bench`."""

"""Instruction semantics: a module a family, each with a table `FAMILY`, a row an instruction."""

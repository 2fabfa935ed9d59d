"""Nested state of AMD-V as KVM keeps it: its rules, what SET does and what GET hands out."""

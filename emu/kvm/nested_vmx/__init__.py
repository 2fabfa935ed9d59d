"""Nested VMX as KVM does it: vmcs12 in, vmcs02 merged, state out, and the rules of each step."""

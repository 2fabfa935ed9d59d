"""KVM_RUN: the vCPU of a simulated KVM on the emulated processor.

The processor runs what vmcs01 or vmcs02 (vmcb01, vmcb02) describe; every exit comes back to KVM,
which is L0 here, in Python. It holds what user space can get and set in `emu.kvm.Vcpu` whenever the
processor is outside the guest. `machine` puts it all on a board.
"""

"""What SVM does in a processor: VMRUN, #VMEXIT, intercepts, virtual interrupts. APM Vol. 2, SVM."""

"""AMD SVM: the VMCB, its control bits, intercepts and exit codes, and what VMRUN checks."""

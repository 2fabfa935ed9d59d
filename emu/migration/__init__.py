"""Moving a nested guest between kernels: captures, policies, verdicts, matrices, replay."""

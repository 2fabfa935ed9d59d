"""Moving a nested guest between kernels: snapshot, VMM profile, policy, judge, replay, fleet."""

"""Intel VMX as tables: fields, controls, capability MSRs, exits, errors, and KVM's vmcs12."""

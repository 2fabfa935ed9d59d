"""kvm-unit-tests images on the bare machine: which are run, how, and what must come out."""

"""Nested virtualization as it happens: processor, KVM, releases, migration."""

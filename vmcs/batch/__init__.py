"""N vCPUs at once."""

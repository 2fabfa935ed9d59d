"""The board around the processors: interrupts, timers, ports, tables, loaders, virtual time."""

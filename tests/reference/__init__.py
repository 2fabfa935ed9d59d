"""Slow, plain oracles that share no code with what they judge."""

"""Sweeps: which jobs there are, how they are run, and what came of them."""

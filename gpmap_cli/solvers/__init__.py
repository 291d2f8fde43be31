"""Exact solvers of the linear models. They take arrays and know nothing of models."""

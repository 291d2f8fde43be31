"""Fetching public deposits."""

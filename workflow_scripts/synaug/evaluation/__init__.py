"""Metrics of trained networks, with intervals."""

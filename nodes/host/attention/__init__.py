"""Turns the host's attention hooks into the core's calls."""

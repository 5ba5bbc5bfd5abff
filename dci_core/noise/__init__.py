"""Noise levels, samplers and losses."""

"""Measurements of the methods on the small worlds."""

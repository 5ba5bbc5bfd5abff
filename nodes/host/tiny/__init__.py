"""The small worlds in the host's own classes."""

"""Which family a host's model belongs to."""

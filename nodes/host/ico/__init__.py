"""Training in the host."""

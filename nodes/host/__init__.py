"""The only part of the pack that imports the host."""

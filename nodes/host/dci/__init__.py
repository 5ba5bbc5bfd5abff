"""The dual branch as a patch of the host's MODEL."""

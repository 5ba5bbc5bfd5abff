"""A learned concept: what it is, its file, its exports."""

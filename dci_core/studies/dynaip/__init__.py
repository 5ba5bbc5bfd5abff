"""The adapter's evidence: what an image prompt adapter does on the small flow world, from one command."""

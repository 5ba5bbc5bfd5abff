"""Image prompts in the host."""

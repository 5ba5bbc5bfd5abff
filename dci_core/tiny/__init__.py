"""The small world: a complete text-to-image model that anyone can run."""

"""Training of an image prompt adapter: one loop for the small world and for large bases, on accelerate."""

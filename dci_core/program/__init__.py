"""The headless program: train, sample, info, export, import, demo, world."""

"""Prompts, captions and where a concept's tokens stand."""

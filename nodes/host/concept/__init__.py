"""Concepts in the host: weight patches, triggers, fingerprints."""

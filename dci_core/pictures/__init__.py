"""Reference pictures, and sheets of drawn ones."""

"""Model families as rows of data."""

"""How the small world's weights were made: one script a part, each resumable."""

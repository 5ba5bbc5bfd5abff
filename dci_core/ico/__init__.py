"""Image-specific Context Optimization: training a concept from a few pictures."""

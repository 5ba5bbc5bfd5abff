"""FLUX.1's transformer in the form that an adapter is trained in; the tiny flow world is one of small size."""

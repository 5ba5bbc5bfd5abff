"""The cases of `tests/bench.py`."""

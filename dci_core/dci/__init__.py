"""Divide, Conquer, then Integrate: two branches in the early steps, blended by DBIM."""

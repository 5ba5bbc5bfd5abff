"""Is the tiny world a fair ground?"""

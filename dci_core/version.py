"""The version of the code, written into every concept."""

VERSION = "0.1.0"

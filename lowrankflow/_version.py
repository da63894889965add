"""The version, on which nothing hangs: anything may ask for it."""

__version__ = "0.1.0"

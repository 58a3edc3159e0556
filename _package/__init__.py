"""Muniment: an event-sourced audit and evidence store for release operations."""

__version__ = "0.1.0"
__all__ = ["__version__"]

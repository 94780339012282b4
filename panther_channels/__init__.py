"""Panther's way of writing WebSockets, for Django, on Django Channels."""

__version__ = "0.1.0"

"""Anymail: Django's door to every transactional email service provider."""

from anymail._version import __version__

__all__ = ["__version__"]

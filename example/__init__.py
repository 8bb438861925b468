"""A small Django project that sends with Anymail and listens: copy from it what you need.

``python -m example.demo`` shows it at work with every ESP, on this machine alone.
"""

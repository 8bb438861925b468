"""Django's email backends, one module for each ESP: ``anymail.backends.<esp>.EmailBackend``."""

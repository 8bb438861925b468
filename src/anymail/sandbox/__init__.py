"""A stand-in for every ESP on this machine, for development and tests.

``SandboxServer`` runs it in a thread; ``python -m anymail sandbox`` alone; ``include("anymail.sandbox.urls")`` mounts
it in a development project. ``sandbox_settings`` leads a project's mail to it.
"""

from anymail.sandbox.server import OUTCOMES, Sandbox, SandboxServer, sandbox_esp, sandbox_settings

__all__ = ["OUTCOMES", "Sandbox", "SandboxServer", "sandbox_esp", "sandbox_settings"]

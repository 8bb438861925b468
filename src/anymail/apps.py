from django.apps import AppConfig


class AnymailConfig(AppConfig):
    name = "anymail"
    verbose_name = "Anymail"

    def ready(self) -> None:
        from anymail import checks  # noqa: F401

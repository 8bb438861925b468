"""Django settings of the test suite: the least that Anymail needs."""

SECRET_KEY = "tests"
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "anymail"]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "urls"
USE_TZ = True
TIME_ZONE = "Europe/Amsterdam"
DEFAULT_FROM_EMAIL = "from@example.com"
ANYMAIL: dict[str, object] = {}

from django.urls import include, path

# At the ESP, set https://user:password@<your host>/anymail/<esp>/tracking/ and .../<esp>/inbound/.
urlpatterns = [path("anymail/", include("anymail.urls"))]

import os, sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.db import connection
from django.http import JsonResponse
from django.urls import path

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}},
    MIDDLEWARE=["tenant_django.TenantMiddleware"], ROOT_URLCONF=__name__, ALLOWED_HOSTS=[".localhost"])

def customers(request):
    with connection.cursor() as cursor:
        cursor.execute("select email from customers order by email")
        return JsonResponse({"customers": [email for (email,) in cursor.fetchall()]})

urlpatterns = [path("customers", customers)]
execute_from_command_line(sys.argv)

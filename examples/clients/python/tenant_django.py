"""A tenant's transaction in Django: a context manager, a middleware for requests and a decorator for tasks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from django.db import DatabaseError, connections, transaction
from django.http import HttpRequest, HttpResponse

P = ParamSpec("P")
R = TypeVar("R")
STATUS = {"TN401": 404, "TN402": 403, "TN403": 503}  # any other error of the functions is a 500


def refusal(error: DatabaseError) -> HttpResponse | None:
    status = STATUS.get(getattr(error.__cause__, "sqlstate", None) or "")
    return HttpResponse(status=status) if status else None


@contextmanager
def tenant(slug: str, using: str = "default") -> Iterator[None]:
    with transaction.atomic(using=using, durable=True):  # durable: never inside another transaction
        with connections[using].cursor() as cursor:
            cursor.execute("select public.cgk_enter(%s)", [slug])
        yield
        if not transaction.get_rollback(using):
            with connections[using].cursor() as cursor:
                cursor.execute("select public.cgk_check(%s)", [slug])


class TenantMiddleware:
    """One transaction a request, in the tenant of the subdomain. Put it last in MIDDLEWARE."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            with tenant(request.get_host().split(".")[0].lower()):
                response = self.get_response(request)
                if response.streaming:
                    raise RuntimeError("a streamed response would be read after the tenant's transaction")
                return response
        except DatabaseError as error:
            if answer := refusal(error):
                return answer
            raise

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        transaction.set_rollback(True)  # Django makes a response of the exception, and nothing may be committed


def in_tenant(task: Callable[P, R]) -> Callable[Concatenate[str, P], R]:
    """A task (of Celery, RQ, …) that takes the tenant's name as its first argument."""

    @wraps(task)
    def run(slug: str, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with tenant(slug):
            return task(*args, **kwargs)

    return run

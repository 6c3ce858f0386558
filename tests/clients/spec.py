"""The specification that every Python client meets: python spec.py CLIENT. Started by tests/clients/main.rs, which makes the
database: tenants acme and globex with a table marks, a suspended tenant and one that is being set up."""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg

CONNECTIONS = 8
ALTERNATIONS = int(os.environ.get("CGK_CLIENT_ALTERNATIONS", "400"))
POOLED = os.environ.get("CGK_CLIENT_POOLED") == "1"
BUSY = 3 if POOLED else CONNECTIONS
OWN = "select tag from marks where n = 0"
admin = psycopg.connect(os.environ["CGK_CLIENT_ADMIN"], autocommit=True)
failures: list[str] = []
passed = 0


class Stop(Exception):
    """An error of the application."""


Step = str | Exception


class Async:
    """Runs coroutines on a loop of its own, so that the specification reads the same for every client."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(600)  # what has not ended by then hangs

    def run(self, slug: str, *steps: Step) -> list[Any]:
        return self.wait(self.transaction(slug, *steps))

    async def transaction(self, slug: str, *steps: Step) -> list[Any]:
        raise NotImplementedError

    def alternate(self, count: int) -> int:
        async def worker(first: int) -> int:
            wrong = 0
            for i in range(first, count, CONNECTIONS):
                slug = ("acme", "globex")[(i + i // CONNECTIONS) % 2]
                wrong += (await self.transaction(slug, OWN))[0] != [(slug,)]
            return wrong

        async def all() -> int:
            return sum(await asyncio.gather(*(worker(i) for i in range(CONNECTIONS))))

        return self.wait(all())

    def cancel(self, slug: str, sql: str, running: Callable[[], None]) -> None:
        task = asyncio.run_coroutine_threadsafe(self.transaction(slug, sql), self.loop)
        running()
        task.cancel()


class Psycopg(Async):
    def __init__(self, prepare_threshold: int | None = None, size: int = CONNECTIONS) -> None:
        super().__init__()
        from psycopg_pool import AsyncConnectionPool
        from tenant_psycopg import tenant

        async def open() -> Any:
            pool = AsyncConnectionPool("", kwargs={"prepare_threshold": prepare_threshold}, open=False,
                                       min_size=1, max_size=size)
            await pool.open()
            return pool

        self.pool, self.tenant = self.wait(open()), tenant

    async def transaction(self, slug: str, *steps: Step) -> list[Any]:
        answers = []
        async with self.tenant(self.pool, slug) as connection:
            for step in steps:
                if isinstance(step, Exception):
                    raise step
                cursor = await connection.execute(step)
                answers.append(await cursor.fetchall() if cursor.description else None)
        return answers

    def outside(self, sql: str) -> Any:
        async def go() -> Any:
            async with self.pool.connection() as connection:
                await connection.set_autocommit(True)
                try:
                    return await (await connection.execute(sql)).fetchall()
                finally:
                    await connection.set_autocommit(False)

        return self.wait(go())


    def late(self) -> list[str]:
        sql = "insert into marks (tag, n) values ('late', 70)"

        async def go() -> list[str]:
            outcomes = []
            left = contextlib.AsyncExitStack()
            with contextlib.suppress(psycopg.ProgrammingError):  # what contains a transaction that is not left fails
                async with self.tenant(self.pool, "acme") as unfinished:
                    await left.enter_async_context(unfinished.transaction())
                raise AssertionError("a nested transaction was not left, and the tenant's was committed")
            async with self.tenant(self.pool, "acme") as connection:
                fresh, used = connection.cursor(), await connection.execute("select 1")
                made = connection.transaction()
                async with connection.transaction() as nothing:
                    await connection.execute("select 1")
            assert nothing is None  # psycopg's own transaction leads to its connection
            for handle in (connection.execute, fresh.execute, used.execute, lambda sql: enter(made),
                           lambda sql: left.aclose(), lambda sql: connection.cursor().execute(sql), lambda sql: enter(connection.transaction())):
                async with contextlib.AsyncExitStack() as stack:
                    for _ in range(BUSY):  # all are in globex, so the late statement's own is too; behind a pooler as many as it has
                        await stack.enter_async_context(self.tenant(self.pool, "globex"))
                    try:
                        await handle(sql)
                        outcomes.append("it ran")
                    except psycopg.InterfaceError:
                        outcomes.append("refused")
            return outcomes

        async def enter(manager: Any) -> None:
            async with manager:
                pass

        return self.wait(go())


class SqlAlchemy(Async):
    def __init__(self, driver: str) -> None:
        super().__init__()
        from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
        from tenant_sqlalchemy import TenantSession

        if driver == "asyncpg":
            options: dict[str, Any] = {"connect_args": {"statement_cache_size": 0}}
            url = "postgresql+asyncpg://?prepared_statement_cache_size=0"
        else:
            options = {"connect_args": {"prepare_threshold": None}}
            url = "postgresql+psycopg://"
        self.engine = create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0, **options)
        self.sessions = async_sessionmaker(self.engine, sync_session_class=TenantSession)

    async def transaction(self, slug: str, *steps: Step) -> list[Any]:
        from sqlalchemy import text

        answers = []
        async with self.sessions(info={"tenant": slug}) as session, session.begin():
            for step in steps:
                if isinstance(step, Exception):
                    raise step
                result = await session.execute(text(step.replace(":", "\\:")))
                answers.append([tuple(row) for row in result] if result.returns_rows else None)
        return answers

    def outside(self, sql: str) -> Any:
        from sqlalchemy import text

        async def go() -> Any:
            engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            async with engine.connect() as connection:
                return [tuple(row) for row in await connection.execute(text(sql.replace(":", "\\:")))]

        return self.wait(go())

    def late(self) -> list[str]:
        from contextlib import AsyncExitStack

        from sqlalchemy import text
        from sqlalchemy.exc import InvalidRequestError

        async def go() -> list[str]:
            async with self.sessions(info={"tenant": "acme"}) as session, session.begin():
                connection = await session.connection()
            async with AsyncExitStack() as stack:
                for _ in range(BUSY - 1):
                    other = await stack.enter_async_context(self.sessions(info={"tenant": "globex"}))
                    await stack.enter_async_context(other.begin())
                    await other.execute(text("select 1"))
                # The session begins a transaction of its own again, in its own tenant.
                place = await session.scalar(text("select current_schema()::text"))
                await session.close()
                try:
                    await connection.execute(text("select 1"))
                    outcome = "it ran"
                except InvalidRequestError:
                    outcome = "refused"
            return [outcome, "refused" if place == "tenant_acme" else str(place)]

        return self.wait(go())

    def model(self) -> Any:
        from sqlalchemy import select
        from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

        class Base(DeclarativeBase):
            pass

        class Mark(Base):
            __tablename__ = "marks"
            n: Mapped[int] = mapped_column(primary_key=True)
            tag: Mapped[str]

        async def go() -> Any:
            async with self.sessions(info={"tenant": "globex"}) as session, session.begin():
                session.add(Mark(n=77, tag="model"))
                async with session.begin_nested():
                    await session.execute(select(Mark))
            async with self.sessions(info={"tenant": "globex"}) as session:
                return (await session.scalars(select(Mark.tag).where(Mark.n == 77))).all()

        return self.wait(go())


class Django:
    def __init__(self) -> None:
        import django
        from django.conf import settings

        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"],
                                   "CONN_MAX_AGE": None, "DISABLE_SERVER_SIDE_CURSORS": True}},
            ALLOWED_HOSTS=["*"], ROOT_URLCONF="spec_urls", MIDDLEWARE=["tenant_django.TenantMiddleware"],
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", DEBUG_PROPAGATE_EXCEPTIONS=False)
        django.setup()
        from tenant_django import tenant

        self.tenant = tenant

    def run(self, slug: str, *steps: Step) -> list[Any]:
        from django.db import connection

        answers = []
        with self.tenant(slug):
            for step in steps:
                if isinstance(step, Exception):
                    raise step
                with connection.cursor() as cursor:
                    cursor.execute(step)
                    answers.append(cursor.fetchall() if cursor.description else None)
        return answers

    def outside(self, sql: str) -> Any:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def alternate(self, count: int) -> int:
        def worker(first: int) -> int:
            wrong = 0
            for i in range(first, count, CONNECTIONS):
                slug = ("acme", "globex")[(i + i // CONNECTIONS) % 2]
                wrong += self.run(slug, OWN)[0] != [(slug,)]
            return wrong

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return sum(pool.map(worker, range(CONNECTIONS)))

    def extras(self) -> None:
        import types

        from django.db import connection, models
        from django.http import HttpResponse, StreamingHttpResponse
        from django.test import Client as Browser
        from django.urls import path
        from tenant_django import in_tenant

        class Mark(models.Model):
            n = models.IntegerField(primary_key=True)
            tag = models.TextField()

            class Meta:
                app_label, db_table, managed = "spec", "marks", False

        def fails(request: Any) -> HttpResponse:
            Mark.objects.create(n=88, tag="lost")
            raise Stop

        urls: Any = types.ModuleType("spec_urls")
        urls.urlpatterns = [
            path("tag", lambda request: HttpResponse(Mark.objects.get(n=0).tag)),
            path("add", lambda request: HttpResponse(Mark.objects.create(n=87, tag="kept").tag)),
            path("fails", fails),
            path("stream", lambda request: StreamingHttpResponse(["x"])),
        ]
        sys.modules["spec_urls"] = urls
        browser = Browser(raise_request_exception=False)

        def get(url: str, slug: str = "acme") -> Any:
            return browser.get(url, headers={"host": f"{slug}.example.com"})

        with check("a request is served in the tenant of its subdomain"):
            assert [get("/tag", slug).content for slug in ("acme", "globex")] == [b"acme", b"globex"]
            assert get("/add").content == b"kept" and count("acme", 87) == 1
        with check("a view that raises commits nothing"):
            assert get("/fails").status_code == 500 and count("acme", 88) == 0
            assert get("/stream").status_code == 500
            assert connection.get_autocommit() and get("/tag").content == b"acme"
        with check("a task runs in the tenant that is its first argument"):
            task = in_tenant(lambda n: Mark.objects.get(n=n).tag)
            assert [task("acme", 0), task("globex", n=0)] == ["acme", "globex"]


def count(slug: str, n: int) -> int:
    row = admin.execute(f"select count(*) from tenant_{slug}.marks where n = {n}").fetchone()
    assert row
    return int(row[0])


def code(error: BaseException | None) -> str | None:
    """The SQLSTATE, from whatever a driver and a framework have wrapped around it."""
    for _ in range(8):
        if error is None:
            return None
        for name in ("sqlstate", "pgcode"):
            if getattr(error, name, None):
                return str(getattr(error, name))
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__
    return None


@contextmanager
def check(name: str) -> Iterator[None]:
    global passed
    try:
        yield
    except Exception as error:
        failures.append(name)
        print(f"FAILED {name}: {type(error).__name__}: {error} {code(error) or ''}")
    else:
        passed += 1
        print(f"ok {name}")


@contextmanager
def fails(*codes: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        assert code(error) in codes, f"expected {codes}, got {code(error)}: {error}"
    else:
        raise AssertionError(f"expected {codes}, got no error")


def until(sql: str) -> None:
    for _ in range(2000):
        row = admin.execute(sql).fetchone()
        if row and row[0]:
            return
        time.sleep(0.005)
    raise AssertionError(f"never true: {sql}")


LOGIN = os.environ["PGUSER"]
SESSION = "select current_user::text, coalesce(current_setting('cgk.tenant', true), ''), current_setting('search_path')"


def is_clean(client: Any) -> None:
    for _ in range(2 * CONNECTIONS):
        user, tenant, path = client.outside(SESSION)[0]
        assert (user, tenant) == (LOGIN, "") and "tenant_" not in path, (user, tenant, path)


def specification(client: Any) -> None:
    with check("two statements and a commit"):
        answers = client.run("acme", "insert into marks (tag, n) values ('own', 1)", "select tag from marks where n = 1")
        assert answers[1] == [("own",)] and (count("acme", 1), count("globex", 1)) == (1, 0)
    with check("the other tenant's table by its full name"):
        with fails("42501"):
            client.run("acme", "select * from tenant_globex.marks")
    with check("the session is clean after a commit"):
        is_clean(client)
    with check("an error of the application rolls back"):
        with fails_with_stop():
            client.run("acme", "insert into marks (tag, n) values ('x', 2)", Stop())
        assert count("acme", 2) == 0
        is_clean(client)
    with check("an error of the server rolls back"):
        with fails("22012"):
            client.run("acme", "insert into marks (tag, n) values ('x', 2)", "select 1 / 0")
        assert count("acme", 2) == 0
        is_clean(client)
    with check("unknown, suspended and unfinished tenants have their codes"):
        for slug, sqlstate in (("nope", "TN401"), ("x, tenant_globex", "TN401"), ("sleepy", "TN402"), ("newcomer", "TN403")):
            with fails(sqlstate):
                client.run(slug, "select 1")
        is_clean(client)
    with check("a transaction that left its tenant is not committed"):
        for leave in ("select set_config('search_path', 'public', true)", "reset role", "set local role none",
                      "set local search_path = tenant_globex"):
            with fails("TN501"):
                client.run("acme", "insert into marks (tag, n) values ('x', 3)", leave)
            assert count("acme", 3) == 0, leave
        is_clean(client)
    with check("another tenant cannot be entered inside"):
        with fails("TN405"):
            client.run("acme", "select public.cgk_enter('globex')")
        client.run("acme", "select public.cgk_enter('acme')")
    with check("outside of a tenant nothing of a tenant's is reached"):
        with fails("42P01"):
            client.outside("select * from marks")
        with fails("42501"):
            client.outside("select * from tenant_acme.marks")
    with check("outside of a transaction block no tenant is entered"):
        try:
            client.outside("select public.cgk_enter('acme')")
        except Exception as error:
            assert code(error) == "TN406", error
        is_clean(client)
        with fails("42P01"):
            client.outside("select * from marks")
        with fails("TN501"):
            client.outside("select public.cgk_check('acme')")
    if hasattr(client, "cancel"):
        with check("a cancelled transaction leaves nothing"):
            sleeping = "select count(*) > 0 from pg_stat_activity where datname = current_database() and query like '%pg_sleep(60)%' and pid <> pg_backend_pid() and state = 'active'"
            client.cancel("acme", "insert into marks (tag, n) select 'x', 4 from (select pg_sleep(60)) s", lambda: until(sleeping))
            until(f"select not ({sleeping})")
            assert count("acme", 4) == 0
            is_clean(client)
    if hasattr(client, "late"):
        with check("a statement after the end of its transaction runs in no other tenant"):
            outcomes = client.late()
            assert set(outcomes) == {"refused"}, outcomes
            assert (count("acme", 70), count("globex", 70)) == (0, 0)
            is_clean(client)
    if hasattr(client, "model"):
        with check("a model reads and writes the tenant's table"):
            assert client.model() == ["model"] and (count("globex", 77), count("acme", 77)) == (1, 0)
    if hasattr(client, "extras"):
        client.extras()
    with check(f"{ALTERNATIONS} alternating transactions on {CONNECTIONS} connections"):
        assert client.alternate(ALTERNATIONS) == 0


@contextmanager
def fails_with_stop() -> Iterator[None]:
    try:
        yield
    except Stop:
        return
    raise AssertionError("the application's error did not come through")


def shapes() -> None:
    """What breaks, as docs/other-languages.md says: acme's marks has the columns (tag, n), globex's (n, tag)."""
    for name, threshold, statement, expected in (
        ("named statements with select * fail between tenants that differ", 0, "select * from marks where n = 0", "0A000"),
        ("named statements with named columns do not", 0, "select tag, n from marks where n = 0", None),
        ("unnamed statements with select * do not", None, "select * from marks where n = 0", None),
        ("named statements over a type of each tenant's fail", 0, "select mood from moods", "0A000"),
        ("unnamed statements over such a type do not", None, "select mood from moods", None),
        ("a name qualified with public finds the shared table", None, "select tag from public.marks", "42P01"),
    ):
        client = Psycopg(threshold, size=1)
        with check(name):
            codes = []
            for i in range(40):
                try:
                    client.run(("acme", "globex")[i % 2], statement)
                except Exception as error:
                    codes.append(code(error))
            assert set(codes) == ({expected} if expected else set()), codes


def control() -> None:
    """The control of late statements: the driver's own connection runs them in the next tenant, whose check passes."""
    with check("control: without a guard a late statement is committed in the next tenant"), psycopg.connect("") as late:
        for slug in ("acme", "globex"):
            late.execute("select public.cgk_enter(%s)", [slug])
            if slug == "globex":
                late.execute("insert into marks (tag, n) values ('late', 71)")
            late.execute("select public.cgk_check(%s)", [slug])
            late.commit()
        assert count("globex", 71) == 1


CLIENTS: dict[str, Callable[[], Any]] = {
    "psycopg": Psycopg,
    "sqlalchemy-psycopg": lambda: SqlAlchemy("psycopg"),
    "sqlalchemy-asyncpg": lambda: SqlAlchemy("asyncpg"),
    "django": Django,
}

if __name__ == "__main__":
    if sys.argv[1] == "shapes":
        shapes()
    else:
        control()
        specification(CLIENTS[sys.argv[1]]())
    print(f"{passed} passed, {len(failures)} failed")
    sys.stdout.flush()
    os._exit(1 if failures or not passed else 0)

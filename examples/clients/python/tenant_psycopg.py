"""A tenant's transaction on a psycopg 3 pool.

    pool = AsyncConnectionPool(url, kwargs={"prepare_threshold": None}, open=False)
    async with tenant(pool, "acme") as connection:
        await connection.execute("select id, total_minor from orders")
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from weakref import WeakSet

from psycopg import AsyncConnection, AsyncCursor, AsyncTransaction, InterfaceError
from psycopg_pool import AsyncConnectionPool


class TenantConnection:
    """The connection of one transaction. After its end it and its cursors refuse every use: a late statement runs in no other tenant."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection: AsyncConnection[Any] | None = connection
        self._cursors: WeakSet[AsyncCursor[Any]] = WeakSet()

    @property
    def _open(self) -> AsyncConnection[Any]:
        if self._connection is None:
            raise InterfaceError("the transaction has ended")
        return self._connection

    def cursor(self, *args: Any, **options: Any) -> AsyncCursor[Any]:
        cursor: AsyncCursor[Any] = self._open.cursor(*args, **options)
        self._cursors.add(cursor)
        return cursor

    async def execute(self, query: Any, params: Any = None, **options: Any) -> AsyncCursor[Any]:
        return await self.cursor().execute(query, params, **options)

    def transaction(self, *args: Any, **options: Any) -> AbstractAsyncContextManager[None]:
        return Savepoint(self, self._open.transaction(*args, **options))

    async def end(self) -> None:
        self._connection = None
        for cursor in list(self._cursors):
            await cursor.close()


class Savepoint(AbstractAsyncContextManager[None]):
    """A transaction of psycopg inside the tenant's, which neither begins nor ends after it."""

    def __init__(self, connection: TenantConnection, inner: AbstractAsyncContextManager[AsyncTransaction]) -> None:
        self._connection, self._inner = connection, inner

    async def __aenter__(self) -> None:
        self._connection._open
        await self._inner.__aenter__()

    async def __aexit__(self, *error: Any) -> bool | None:
        self._connection._open
        return await self._inner.__aexit__(*error)


@asynccontextmanager
async def tenant(pool: AsyncConnectionPool[Any], slug: str) -> AsyncIterator[TenantConnection]:
    """Commits if the block ends normally; any exception, also one of cgk_check, rolls back."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("select public.cgk_enter(%s)", [slug])
        inside = TenantConnection(connection)
        try:
            yield inside
        finally:
            await inside.end()
        await connection.execute("select public.cgk_check(%s)", [slug])

"""A tenant's transaction on a psycopg 3 pool.

    pool = AsyncConnectionPool(url, kwargs={"prepare_threshold": None}, open=False)
    async with tenant(pool, "acme") as connection:
        await connection.execute("select id, total_minor from orders")
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool


@asynccontextmanager
async def tenant(pool: AsyncConnectionPool[Any], slug: str) -> AsyncIterator[AsyncConnection[Any]]:
    """Commits if the block ends normally; any exception, also one of cgk_check, rolls back."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("select public.cgk_enter(%s)", [slug])
        yield connection
        await connection.execute("select public.cgk_check(%s)", [slug])

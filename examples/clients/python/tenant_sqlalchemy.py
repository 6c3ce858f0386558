"""A tenant's session with SQLAlchemy 2, with asyncio or without. Every transaction of the session enters the tenant.

    sessions = async_sessionmaker(engine, sync_session_class=TenantSession)
    async with sessions(info={"tenant": "acme"}) as session, session.begin():
        session.add(Order(total_minor=1200))

A session belongs to one tenant: the objects that it has read stay in it after a commit.
"""

from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session, SessionTransaction


class TenantSession(Session):
    """Give it to sessionmaker as class_, or to async_sessionmaker as sync_session_class."""


@event.listens_for(TenantSession, "after_begin")
def enter(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if not transaction.nested:  # a savepoint is in the tenant already
        slug = session.info["tenant"]  # KeyError: a session without a tenant runs no statement
        connection.execute(text("select public.cgk_enter(:slug)"), {"slug": slug})


@event.listens_for(TenantSession, "before_commit")
def check(session: Session) -> None:
    session.flush()  # the check is the last statement before COMMIT
    session.execute(text("select public.cgk_check(:slug)"), {"slug": session.info["tenant"]})

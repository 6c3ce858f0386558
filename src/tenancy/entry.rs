//! Sends the messages that enter and leave a tenant, without a wait between them.

use super::{
    exit,
    lease::Lease,
    options::TxOptions,
    pooled,
    protocol::{NOTICE_LOST_CLIENT, Nonce, begin, begin_locked, demand_same},
    scope::TransactionScope,
};
use crate::{
    config::{Config, Pooling},
    context::TenantContext,
    db::{
        message::{Answer, Message},
        pool::Connection,
    },
    ident::literal,
    tenant::OrganizationId,
};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};
use tokio_postgres::{Error, Row, Statement, types::ToSql};

/// The column of the entering statement that contains the organization's id.
const ORGANIZATION: usize = 1;

/// The prepared check. It was written to the connection, and its response has not arrived.
struct SentCheck(Pin<Box<dyn Future<Output = Result<Vec<Row>, Error>> + Send>>);

impl SentCheck {
    async fn send(connection: &Connection, statement: Statement, values: Vec<String>) -> Self {
        let client = connection.shared_client();
        let mut check: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
            client.query(&statement, &values).await
        });
        // The first poll writes the check. Only a closed connection responds at once, and the later wait detects that
        // again.
        let early = poll_fn(|context| Poll::Ready(check.as_mut().poll(context))).await;
        match early {
            Poll::Ready(outcome) => Self(Box::pin(std::future::ready(outcome))),
            Poll::Pending => Self(check),
        }
    }
}

/// An entry that was sent.
pub(super) struct SentEntry {
    message: Message,
    check: Option<SentCheck>,
    /// The message with the settings from the context, if the entering statement is prepared. Otherwise they are part
    /// of the first message.
    context: Option<Message>,
    error: Option<Error>,
    organization: Option<OrganizationId>,
}

impl SentEntry {
    /// Writes everything that enters the scope. The responses to later messages arrive after its response. If the entry
    /// fails, later messages fail with 25P02.
    pub(super) async fn send(
        lease: &Lease,
        scope: &TransactionScope,
        nonce: Nonce,
        options: &TxOptions,
        config: &Config,
        context: Option<&TenantContext>,
    ) -> Result<Self, Error> {
        let connection = lease.connection();
        let client = connection.client();
        let (isolation, session) = (connection.default_isolation(), config.session());
        let reset = match config.pooling() {
            Pooling::Direct => String::new(),
            Pooling::Transaction => pooled::before(config.pg().get_application_name()),
        };
        let notice = match config.pooling() {
            Pooling::Direct if connection.notices_lost_clients() => NOTICE_LOST_CLIENT,
            Pooling::Direct | Pooling::Transaction => "",
        };
        let (message, check, context) = match scope {
            TransactionScope::Tenant(target) => {
                let begin = begin_locked(&target.slug, options, isolation, session, config.pooling());
                let mut begin = reset + &begin + notice;
                if let Some(sql) = options.sql_before_entry() {
                    begin.push_str("; ");
                    begin.push_str(sql);
                }
                match connection.entry_statement() {
                    Some(statement) => {
                        let message = Message::send(client, &begin).await?;
                        let check = SentCheck::send(connection, statement, target.values(nonce)).await;
                        let context = match context {
                            Some(context) => Some(Message::send(client, &in_context(context)).await?),
                            None => None,
                        };
                        (message, Some(check), context)
                    }
                    None => {
                        let enter = target.enter_text(nonce, connection.isolation_check());
                        let context = context.map(|context| format!("; {}", in_context(context))).unwrap_or_default();
                        (Message::send(client, &format!("{begin}; {enter}{context}")).await?, None, None)
                    }
                }
            }
            TransactionScope::Platform(target) => {
                let begin = reset + &begin(options, isolation, session, config.pooling()) + notice;
                (Message::send(client, &format!("{begin}; {}", target.enter_sql(nonce))).await?, None, None)
            }
            TransactionScope::Reader(target) => {
                let begin = reset + &begin(options, isolation, session, config.pooling()) + notice;
                (Message::send(client, &format!("{begin}; {}", target.enter_sql(nonce))).await?, None, None)
            }
        };
        Ok(Self { message, check, context, error: None, organization: None })
    }

    /// Waits until the scope is entered or the entry is refused. If the entry is refused, returns the error.
    ///
    /// Cancel safety: the future may be dropped, and the function may be called again.
    pub(super) async fn answer(&mut self) -> &mut Option<Error> {
        if self.error.is_none() {
            let answer = self.message.answer().await;
            self.error = answer.error.take();
            // Takes the last row that has such a column.
            let organization = answer.rows.iter().rev().find_map(|(_, row)| row.try_get(ORGANIZATION).ok().flatten());
            self.organization = self.organization.or_else(|| organization?.parse().ok());
        }
        if self.error.is_none()
            && let Some(SentCheck(check)) = &mut self.check
        {
            match check.await {
                Ok(rows) => {
                    let organization: Option<String> = rows.first().and_then(|row| row.try_get(ORGANIZATION).ok());
                    self.organization = organization.and_then(|id| id.parse().ok());
                }
                Err(error) => self.error = Some(error),
            }
            self.check = None;
        }
        if self.error.is_none()
            && let Some(context) = &mut self.context
        {
            self.error = context.answer().await.error.take();
            self.context = None;
        }
        &mut self.error
    }

    /// Returns the organization that the server found. It is `None` for the platform.
    pub(super) fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }
}

/// An exit that was sent.
pub(super) struct SentExit(Message);

impl SentExit {
    /// Writes everything that leaves the scope with a commit, after the scope's guard.
    ///
    /// # Errors
    ///
    /// Fails if the connection was closed before anything was written.
    pub(super) async fn send(lease: &Lease, guard: &str, pooling: Pooling) -> Result<Self, Error> {
        Message::send(lease.connection().client(), &exit::commit(guard, pooling)).await.map(Self)
    }

    /// Waits for the response.
    pub(super) async fn answer(mut self) -> Answer {
        std::mem::take(self.0.answer().await)
    }
}

/// Returns SQL that passes the caller to the transaction, and raises an error unless the tenant is the organization of
/// the context. It runs after the entry, as the tenant's role. It uses SET, which is a statement, because a hardened
/// database could deny the role a function.
fn in_context(context: &TenantContext) -> String {
    let user = context.user_id.map(|user| user.to_string()).unwrap_or_default();
    let organization = "pg_catalog.current_setting('app.current_organization_id', true)";
    let expected = [literal(&context.organization_id.to_string())];
    format!("set local app.current_user_id = {}; {}", literal(&user), demand_same(&[organization], &expected))
}

//! The bounds of the closure that [`Db::with_tenant`](crate::Db::with_tenant) takes.

use super::{PlatformTx, ReaderTx, TenantTx};
use std::future::Future;

mod sealed {
    use super::Future;

    /// Replaces the bound `F(..): Send`, which stable Rust cannot express. It names the future of an async closure, so
    /// that a bound can refer to it.
    pub trait SendFnOnce<A, R>: AsyncFnOnce(A) -> R + FnOnce(A) -> <Self as SendFnOnce<A, R>>::Fut {
        type Fut: Future<Output = R>;
    }

    impl<F, A, Fut, R> SendFnOnce<A, R> for F
    where
        F: AsyncFnOnce(A) -> R + FnOnce(A) -> Fut,
        Fut: Future<Output = R>,
    {
        type Fut = Fut;
    }

    /// Does the same for closures that may run more than once.
    pub trait SendFn<A, R>: AsyncFn(A) -> R + Fn(A) -> <Self as SendFn<A, R>>::Fut {
        type Fut: Future<Output = R>;
    }

    impl<F, A, Fut, R> SendFn<A, R> for F
    where
        F: AsyncFn(A) -> R + Fn(A) -> Fut,
        Fut: Future<Output = R>,
    {
        type Fut = Fut;
    }
}

/// The body of a tenant's transaction. Write `async |tx| { … }`, or pass an
/// `async fn(&mut TenantTx<'_>) -> Result<T, E>`.
///
/// This trait works as an alias: every type with the right bounds implements it, and no other type can. The unusual
/// supertrait requires that the closure's future is `Send`. So a call works in a spawned task or a web handler and may
/// borrow values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the body of a tenant's transaction",
    note = "write `async |tx| {{ … Ok(value) }}`; `|tx| async move {{ … }}` and `|tx| Box::pin(…)` do not fit",
    note = "what lives across an `.await` in the body must be `Send`"
)]
pub trait TenantFn<T, E>:
    for<'t, 'c> AsyncFnOnce(&'t mut TenantTx<'c>) -> Result<T, E>
    + for<'t, 'c> sealed::SendFnOnce<&'t mut TenantTx<'c>, Result<T, E>, Fut: Send>
    + Send
{
}

impl<F, T, E> TenantFn<T, E> for F where
    F: for<'t, 'c> AsyncFnOnce(&'t mut TenantTx<'c>) -> Result<T, E>
        + for<'t, 'c> sealed::SendFnOnce<&'t mut TenantTx<'c>, Result<T, E>, Fut: Send>
        + Send
{
}

/// The body of a transaction on the shared tables. Write `async |tx| { … }`, or pass an
/// `async fn(&mut PlatformTx<'_>) -> Result<T, E>`. It is a separate trait, so that a body with a named argument type
/// cannot be used for the other kind of transaction ([`TenantFn`]).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the body of a transaction of the platform",
    note = "write `async |tx| {{ … Ok(value) }}`; `|tx| async move {{ … }}` and `|tx| Box::pin(…)` do not fit",
    note = "what lives across an `.await` in the body must be `Send`"
)]
pub trait PlatformFn<T, E>:
    for<'t, 'c> AsyncFnOnce(&'t mut PlatformTx<'c>) -> Result<T, E>
    + for<'t, 'c> sealed::SendFnOnce<&'t mut PlatformTx<'c>, Result<T, E>, Fut: Send>
    + Send
{
}

impl<F, T, E> PlatformFn<T, E> for F where
    F: for<'t, 'c> AsyncFnOnce(&'t mut PlatformTx<'c>) -> Result<T, E>
        + for<'t, 'c> sealed::SendFnOnce<&'t mut PlatformTx<'c>, Result<T, E>, Fut: Send>
        + Send
{
}

/// The body of a transaction that reads the shared tables as a role. Write `async |tx| { … }`, or pass an
/// `async fn(&mut ReaderTx<'_>) -> Result<T, E>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the body of a transaction that reads the shared tables",
    note = "write `async |tx| {{ … Ok(value) }}`; `|tx| async move {{ … }}` and `|tx| Box::pin(…)` do not fit",
    note = "what lives across an `.await` in the body must be `Send`"
)]
pub trait ReaderFn<T, E>:
    for<'t, 'c> AsyncFnOnce(&'t mut ReaderTx<'c>) -> Result<T, E>
    + for<'t, 'c> sealed::SendFnOnce<&'t mut ReaderTx<'c>, Result<T, E>, Fut: Send>
    + Send
{
}

impl<F, T, E> ReaderFn<T, E> for F where
    F: for<'t, 'c> AsyncFnOnce(&'t mut ReaderTx<'c>) -> Result<T, E>
        + for<'t, 'c> sealed::SendFnOnce<&'t mut ReaderTx<'c>, Result<T, E>, Fut: Send>
        + Send
{
}

/// The body of a transaction that may run more than once. It is like [`TenantFn`], but captures by reference only.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the body of a transaction that may run more than once",
    note = "write `async |tx| {{ … Ok(value) }}`, not `async move |tx|`, and borrow what the body needs",
    note = "what lives across an `.await` in the body must be `Send`"
)]
pub trait TenantFnMany<T, E>:
    for<'t, 'c> AsyncFn(&'t mut TenantTx<'c>) -> Result<T, E>
    + for<'t, 'c> sealed::SendFn<&'t mut TenantTx<'c>, Result<T, E>, Fut: Send>
    + Send
    + Sync
{
}

impl<F, T, E> TenantFnMany<T, E> for F where
    F: for<'t, 'c> AsyncFn(&'t mut TenantTx<'c>) -> Result<T, E>
        + for<'t, 'c> sealed::SendFn<&'t mut TenantTx<'c>, Result<T, E>, Fut: Send>
        + Send
        + Sync
{
}

/// The body of a transaction on the shared tables that may run more than once. It is like [`PlatformFn`], but captures
/// by reference only.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the body of a transaction of the platform that may run more than once",
    note = "write `async |tx| {{ … Ok(value) }}`, not `async move |tx|`, and borrow what the body needs",
    note = "what lives across an `.await` in the body must be `Send`"
)]
pub trait PlatformFnMany<T, E>:
    for<'t, 'c> AsyncFn(&'t mut PlatformTx<'c>) -> Result<T, E>
    + for<'t, 'c> sealed::SendFn<&'t mut PlatformTx<'c>, Result<T, E>, Fut: Send>
    + Send
    + Sync
{
}

impl<F, T, E> PlatformFnMany<T, E> for F where
    F: for<'t, 'c> AsyncFn(&'t mut PlatformTx<'c>) -> Result<T, E>
        + for<'t, 'c> sealed::SendFn<&'t mut PlatformTx<'c>, Result<T, E>, Fut: Send>
        + Send
        + Sync
{
}

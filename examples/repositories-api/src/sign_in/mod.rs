//! Sign-in by a provider that speaks OpenID Connect: authorization code with PKCE, state and nonce.

mod cookies;
mod handlers;
mod provider;
mod user;

pub use cookies::SESSION;
pub use handlers::*;
pub use provider::SignIn;

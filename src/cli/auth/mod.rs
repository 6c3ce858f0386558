//! The commands about users, API keys and sessions of one tenant.

pub(crate) mod key;
mod password;
pub(crate) mod session;
pub(crate) mod user;

use anyhow::Result;
use cgk::{
    Tenant, TenantStatus,
    auth::{Auth, AuthError, AuthSettings, TokenBrand, User},
};
use std::time::{Duration, SystemTime};

use super::{
    exit::Exit,
    session::Session,
    ui::{
        printer::Printer,
        report::{Missing, Refusal},
        style::{FAINT, count, paint, sanitize},
        table::CellStyle,
    },
};

/// The number of characters of an id in a table. Commands accept them instead of the id.
const ID_SHOWN: usize = 8;
/// The minimum number of characters of a shortened id.
const ID_CHARS_MIN: usize = 4;
/// The library lists at most this many, the newest.
const LISTED_MAX: usize = 1000;

/// The operations, and the tenant of the command.
struct Target {
    auth: Auth,
    tenant: Tenant,
}

impl Target {
    /// Connects, and finds the tenant's row in the registry.
    async fn open(session: &Session<'_>, slug: &str) -> Result<Self> {
        Self::open_with(session, slug, AuthSettings::default()).await
    }

    /// Does the same for tokens that start with a name of the service.
    async fn open_branded(session: &Session<'_>, slug: &str, brand: &TokenBrand) -> Result<Self> {
        let mut settings = AuthSettings::default();
        settings.brand = brand.clone();
        Self::open_with(session, slug, settings).await
    }

    async fn open_with(session: &Session<'_>, slug: &str, settings: AuthSettings) -> Result<Self> {
        let (db, tenant) = session.tenant(slug).await?;
        Ok(Self { auth: Auth::new(&db, settings).acting_as(session.actor(&db)), tenant })
    }

    /// Warns if no service accepts the created credential at the moment.
    fn warn_if_inactive(&self, printer: &Printer) {
        if self.tenant.status != TenantStatus::Active {
            let (slug, status) = (&self.tenant.slug, &self.tenant.status);
            printer.warn(format!("tenant {slug} is {status}: nothing is accepted for it until it is active"));
        }
    }

    /// Returns the user of the tenant with this address or id.
    async fn user(&self, text: &str) -> Result<User> {
        let users = self.auth.users();
        let found = match text.parse() {
            Ok(id) => users.find(self.tenant.id, id).await,
            Err(_) => users.find_by_email(self.tenant.id, text).await,
        };
        found.map_err(|error| self.missing(error, "user", text))
    }

    /// Returns the error. If it says that there is no such object, it names the object.
    fn missing(&self, error: AuthError, what: &str, id: &str) -> anyhow::Error {
        let AuthError::NotFound { .. } = error else { return error.into() };
        let noun = what.rsplit(' ').next().unwrap_or(what);
        let slug = &self.tenant.slug;
        let message = format!("tenant {slug} has no {what} {}", sanitize(id));
        let hint = format!("`cgk {noun}:list {slug}` lists them.");
        Missing { message, hint }.into()
    }

    /// Returns the complete id for a text: the id itself, or the listed id that starts with these characters.
    fn whole_id<I: Copy + ToString + std::str::FromStr>(&self, text: &str, what: &str, listed: &[I]) -> Result<I> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let start = text.to_ascii_lowercase();
        let fits = |c: char| c.is_ascii_hexdigit() || c == '-';
        if start.len() < ID_CHARS_MIN || !start.chars().all(fits) {
            let message = format!("{:?} is no id", sanitize(text));
            let hint = format!("Write a whole id, or its first characters, {ID_CHARS_MIN} or more.");
            return Err(Refusal { message, hint, exit: Exit::Usage }.into());
        }
        let found: Vec<I> = listed.iter().filter(|id| id.to_string().starts_with(&start)).copied().collect();
        match found.as_slice() {
            [id] => Ok(*id),
            [] => Err(self.missing(AuthError::NotFound { what: "object" }, what, &start)),
            several => {
                let slug = &self.tenant.slug;
                let message = format!("{} {what}s of tenant {slug} have an id that starts with {start}", several.len());
                let hint = "Write more characters of the id.".into();
                Err(Refusal { message, hint, exit: Exit::Failed }.into())
            }
        }
    }
}

/// Whether a key or session is valid, without regard to its tenant and user.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Expired,
    Revoked,
}

impl State {
    fn of(expires_at: Option<SystemTime>, revoked_at: Option<SystemTime>) -> Self {
        match (revoked_at, expires_at) {
            (Some(_), _) => Self::Revoked,
            (None, Some(end)) if end <= SystemTime::now() => Self::Expired,
            _ => Self::Live,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    fn style(self) -> CellStyle {
        match self {
            Self::Live => CellStyle::Good,
            Self::Expired => CellStyle::Warning,
            Self::Revoked => CellStyle::Faint,
        }
    }
}

/// Returns the first characters of an id.
pub(crate) fn short(id: impl ToString) -> String {
    id.to_string().chars().take(ID_SHOWN).collect()
}

/// Warns if a list may be incomplete.
fn warn_if_cut(printer: &Printer, number: usize, noun: &str) {
    if number >= LISTED_MAX {
        printer.warn(format!("only the newest {LISTED_MAX} {noun}s are listed"));
    }
}

/// Prints how many rows a list leaves out.
fn note_hidden(printer: &Printer, hidden: usize, noun: &str) {
    if hidden > 0 {
        let hidden = count(hidden, &format!("revoked or expired {noun}"));
        printer.output(paint(FAINT, format!("{hidden}; --all lists them")));
    }
}

/// Parses a duration such as `90days`, `24h` or `30min`.
pub(in crate::cli) fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|_| "write a number with a unit, for example 90days, 24h or 30min".to_owned())
}

/// Parses the prefix of tokens.
fn brand(text: &str) -> Result<TokenBrand, String> {
    text.parse().map_err(|_| "write 2 to 16 of a-z and 0-9, starting with a letter".to_owned())
}

/// Shows a token. Only the token is written to standard output.
fn show_token(printer: &Printer, token: &str) {
    printer.output(token);
    printer.info(paint(super::ui::style::WARNING, "The key is shown only now; cgk stores its hash."));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(span("90days"), Ok(Duration::from_secs(90 * 24 * 3600)));
        assert_eq!(span(" 24h "), Ok(Duration::from_secs(24 * 3600)));
        for text in ["", "90", "days", "-1h", "1 fortnight"] {
            assert!(span(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_revoked_is_no_longer_called_expired() {
        let past = Some(SystemTime::UNIX_EPOCH);
        let future = Some(SystemTime::now() + Duration::from_secs(3600));
        let state = |expires, revoked| State::of(expires, revoked).as_str();
        assert_eq!((state(None, None), state(future, None)), ("live", "live"));
        assert_eq!((state(past, None), state(past, past), state(None, past)), ("expired", "revoked", "revoked"));
    }
}

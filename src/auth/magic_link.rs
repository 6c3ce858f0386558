//! Single-use links that are sent by email: the table `public.magic_links`.

use super::{
    Auth, AuthError, MagicLinkId, Rejection, SecretToken, TokenKind, error::Result, seconds, token::TokenHash,
    user::check_email,
};
use crate::tenancy::PlatformTx;
use serde_json::json;
use std::time::{Duration, SystemTime};
use tokio_postgres::Row;

/// The purpose of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkPurpose {
    /// To sign in.
    Login,
    /// To create an account.
    Signup,
    /// To join an organization.
    Invite,
}

impl LinkPurpose {
    /// Returns the value in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Signup => "signup",
            Self::Invite => "invite",
        }
    }
}

/// A link. Its token is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MagicLink {
    /// The id of the link.
    pub id: MagicLinkId,
    /// The address that it was sent to.
    pub email: String,
    /// When it was issued.
    pub created_at: SystemTime,
    /// When it expires.
    pub expires_at: SystemTime,
    /// When it was used or revoked.
    pub used_at: Option<SystemTime>,
}

/// The operations on magic links; from [`Auth::magic_links`].
///
/// A link belongs to an address and to no organization. Redeeming it proves only access to the mailbox of that address.
#[derive(Clone, Copy, Debug)]
pub struct MagicLinks<'a> {
    pub(super) auth: &'a Auth,
}

const ISSUE: &str = "insert into public.magic_links (email, token_hash, purpose, expires_at)
    values ($1, $2, $3::pg_catalog.text::public.magic_link_purpose, current_timestamp + pg_catalog.make_interval(secs => $4))
    returning id, email, created_at, expires_at, used_at";

// One statement: a second call waits for the row, and then finds it used.
const REDEEM: &str = "update public.magic_links set used_at = current_timestamp
     where token_hash = $1 and purpose = $2::pg_catalog.text::public.magic_link_purpose
       and used_at is null and expires_at > current_timestamp
    returning id, email, created_at, expires_at, used_at, token_hash";

const LINK_OF_TOKEN: &str =
    "select id, email, created_at, expires_at, used_at, token_hash, expires_at <= current_timestamp,
           purpose = $2::pg_catalog.text::public.magic_link_purpose
      from public.magic_links where token_hash = $1";

const PURGE: &str = "delete from public.magic_links l
     using (select id from public.magic_links
             where expires_at < current_timestamp - pg_catalog.make_interval(secs => $1)
             order by id limit $2 for update skip locked) old
     where l.id = old.id";

impl MagicLinks<'_> {
    /// Issues a link for an address.
    ///
    /// The caller must limit the number of links per address; [`list`](Self::list) shows how many were issued.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `Invalid`: the address, or the lifetime in the settings. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a link may exist whose token is lost.
    pub async fn issue(&self, email: &str, purpose: LinkPurpose) -> Result<(MagicLink, SecretToken)> {
        check_email(email)?;
        let lifetime = seconds(self.auth.settings.link_lifetime, "the lifetime of links")?;
        let token = SecretToken::generate(TokenKind::MagicLink, &self.auth.settings.brand);
        let (hash, purpose) = (token.hash(), purpose.as_str());
        let platform = self.auth.db.platform();
        let issued = platform.transaction(async |tx| {
            let link = read(&tx.query_one(ISSUE, &[&email, &hash.bytes(), &purpose, &lifetime]).await?);
            self.record(tx, "cgk.magic_link.issued", &link, purpose).await?;
            Ok(link)
        });
        Ok((issued.await?, token))
    }

    /// Returns the link of a token if it can be redeemed, without redeeming it: for the page that a link opens. Mail
    /// scanners open links too, so it is best to redeem a link with a button on that page.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// Same as [`redeem`](Self::redeem).
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn verify(&self, token: &str, purpose: LinkPurpose) -> Result<MagicLink> {
        let hash = self.hash(token)?;
        let row = self.auth.db.platform().query_opt(LINK_OF_TOKEN, &[&hash.bytes(), &purpose.as_str()]).await?;
        judge(row, &hash)
    }

    /// Redeems a link. Of all calls with the same token, only one can succeed.
    ///
    /// # Locks
    ///
    /// The link's row, until the end of the transaction; a concurrent call waits for the first.
    ///
    /// # Errors
    ///
    /// `Malformed`: the text is not a link token; no query was sent. `Rejected`: the link is unknown, was used or
    /// revoked ([`Rejection::Used`]), is expired or has another purpose; it is not changed. `Database`; if the outcome
    /// of the commit is unknown, the link may be used up.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the link may be used up; then issue another one.
    pub async fn redeem(&self, token: &str, purpose: LinkPurpose) -> Result<MagicLink> {
        let hash = self.hash(token)?;
        let purpose = purpose.as_str();
        let platform = self.auth.db.platform();
        let redeemed = platform.transaction(async |tx| {
            let Some(row) = tx.query_opt(REDEEM, &[&hash.bytes(), &purpose]).await? else { return Ok(None) };
            if !hash.is(row.get(5)) {
                return Err(Rejection::Unknown.into());
            }
            let link = read(&row);
            self.record(tx, "cgk.magic_link.redeemed", &link, purpose).await?;
            Ok(Some(link))
        });
        if let Some(link) = redeemed.await? {
            return Ok(link);
        }
        let why = judge(platform.query_opt(LINK_OF_TOKEN, &[&hash.bytes(), &purpose]).await?, &hash);
        // Open now, but not at the time of the update: a transaction that was rolled back had locked it, or the reason
        // is unknown.
        Err(why.err().unwrap_or(Rejection::Unknown.into()))
    }

    /// Returns the newest thousand links of an address. ASCII letters match in any case.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn list(&self, email: &str) -> Result<Vec<MagicLink>> {
        let list = r#"select id, email, created_at, expires_at, used_at from public.magic_links
             where pg_catalog.lower(email collate pg_catalog."C") = pg_catalog.lower($1 collate pg_catalog."C")
             order by created_at desc, id limit 1000"#;
        if check_email(email).is_err() {
            return Ok(Vec::new());
        }
        Ok(self.auth.db.platform().query(list, &[&email]).await?.iter().map(read).collect())
    }

    /// Revokes all open links of an address and returns their number. ASCII letters match in any case.
    ///
    /// # Locks
    ///
    /// The rows of the links, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `Invalid`: the address. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either all of them are revoked or none.
    pub async fn revoke(&self, email: &str) -> Result<u64> {
        check_email(email)?;
        let revoke = r#"update public.magic_links l set used_at = current_timestamp
              from (select id from public.magic_links
                     where pg_catalog.lower(email collate pg_catalog."C") = pg_catalog.lower($1 collate pg_catalog."C")
                       and used_at is null and expires_at > current_timestamp
                     order by id for update) open
             where l.id = open.id"#;
        let platform = self.auth.db.platform();
        let revoked = platform.transaction(async |tx| {
            let revoked = tx.execute(revoke, &[&email]).await?;
            if revoked > 0 {
                let (resource, after) = (("magic_link", "all".into()), json!({ "email": email, "revoked": revoked }));
                self.auth.record(tx, None, "cgk.magic_link.revoked", resource, (None, Some(after))).await?;
            }
            Ok(revoked)
        });
        revoked.await
    }

    /// Deletes at most `rows_max` links that expired longer ago than this, and returns their number. If it is less than
    /// `rows_max`, there are no more.
    ///
    /// # Locks
    ///
    /// The deleted rows. A row that another transaction has locked stays for the next call.
    ///
    /// # Errors
    ///
    /// `Invalid`: the time. `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either all of them are deleted or none.
    pub async fn purge(&self, older_than: Duration, rows_max: u32) -> Result<u64> {
        self.auth.purge(PURGE, ("cgk.magic_link.purged", "magic_link"), older_than, rows_max).await
    }

    async fn record(&self, tx: &PlatformTx<'_>, name: &'static str, link: &MagicLink, purpose: &str) -> Result<()> {
        let (resource, after) =
            (("magic_link", link.id.to_string()), json!({ "email": link.email, "purpose": purpose }));
        self.auth.record(tx, None, name, resource, (None, Some(after))).await
    }

    fn hash(&self, token: &str) -> Result<TokenHash> {
        TokenHash::of_presented(token, TokenKind::MagicLink, &self.auth.settings.brand)
    }
}

/// Returns the link of a row of [`LINK_OF_TOKEN`] if it can be redeemed.
fn judge(row: Option<Row>, hash: &TokenHash) -> Result<MagicLink> {
    let row = row.filter(|row| hash.is(row.get(5))).ok_or(Rejection::Unknown)?;
    let link = read(&row);
    let reason = match (link.used_at, row.get(6), row.get(7)) {
        (Some(_), _, _) => Rejection::Used,
        (_, true, _) => Rejection::Expired,
        (_, _, false) => Rejection::WrongPurpose,
        _ => return Ok(link),
    };
    Err(AuthError::from(reason))
}

fn read(row: &Row) -> MagicLink {
    MagicLink {
        id: MagicLinkId(row.get(0)),
        email: row.get(1),
        created_at: row.get(2),
        expires_at: row.get(3),
        used_at: row.get(4),
    }
}

//! Single-use links that are sent by mail: the table `public.magic_links`.

use super::{
    Auth, AuthError, MagicLinkId, Rejection, SecretToken, TokenKind, error::Result, seconds, token::TokenHash,
    user::check_email,
};
use std::time::{Duration, SystemTime};
use tokio_postgres::Row;

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkPurpose {
    /// To sign in.
    Login,
    /// To make an account.
    Signup,
    /// To join an organization.
    Invite,
}

impl LinkPurpose {
    /// The value in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Signup => "signup",
            Self::Invite => "invite",
        }
    }
}

/// A link. Its token is not known to anybody but its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MagicLink {
    /// The link.
    pub id: MagicLinkId,
    /// The address that it was sent to.
    pub email: String,
    /// When it was issued.
    pub created_at: SystemTime,
    /// When it ends.
    pub expires_at: SystemTime,
    /// When it was used or revoked.
    pub used_at: Option<SystemTime>,
}

/// The operations on magic links; from [`Auth::magic_links`].
///
/// A link belongs to an address and to no organization: who redeems it reads that address's mail, and nothing more is proven.
#[derive(Clone, Copy, Debug)]
pub struct MagicLinks<'a> {
    pub(super) auth: &'a Auth,
}

const ISSUE: &str = "insert into public.magic_links (email, token_hash, purpose, expires_at)
    values ($1, $2, $3::pg_catalog.text::public.magic_link_purpose, current_timestamp + pg_catalog.make_interval(secs => $4))
    returning id, email, created_at, expires_at, used_at";

// One statement: a second one waits for the row, and then finds it used.
const REDEEM: &str = "update public.magic_links set used_at = current_timestamp
     where token_hash = $1 and purpose = $2::pg_catalog.text::public.magic_link_purpose
       and used_at is null and expires_at > current_timestamp
    returning id, email, created_at, expires_at, used_at, token_hash";

const LOOK: &str = "select id, email, created_at, expires_at, used_at, token_hash, expires_at <= current_timestamp,
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
    /// How many an address may ask for is for the caller to limit; [`list`](Self::list) tells how many there were.
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
    /// Dropped, a link may exist whose token is not known to anybody.
    pub async fn issue(&self, email: &str, purpose: LinkPurpose) -> Result<(MagicLink, SecretToken)> {
        check_email(email)?;
        let lifetime = seconds(self.auth.settings.link_lifetime, "the lifetime of links")?;
        let token = SecretToken::generate(TokenKind::MagicLink, &self.auth.settings.brand);
        let (hash, purpose) = (token.hash(), purpose.as_str());
        let row = self.auth.db.platform().query_one(ISSUE, &[&email, &hash.bytes(), &purpose, &lifetime]).await?;
        Ok((read(&row), token))
    }

    /// The link of a token that could be redeemed now, and leaves it so: for the page that a link opens. Scanners of mail open
    /// links too, so a link is best redeemed by a button on that page.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// As [`redeem`](Self::redeem).
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn verify(&self, token: &str, purpose: LinkPurpose) -> Result<MagicLink> {
        let hash = self.hash(token)?;
        let row = self.auth.db.platform().query_opt(LOOK, &[&hash.bytes(), &purpose.as_str()]).await?;
        judge(row, &hash)
    }

    /// Uses a link, once: of any number of calls with its token, at whatever time, one succeeds.
    ///
    /// # Locks
    ///
    /// The link's row, to the end of the transaction; a second call at the same time waits for the first.
    ///
    /// # Errors
    ///
    /// `Malformed`: it is no token of a link, and the database was not asked. `Rejected`: it is unknown, was used or revoked
    /// ([`Rejection::Used`]), is expired or for another purpose; it stays as it is. `Database`; where that is a commit of
    /// unknown outcome, the link may be used up.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the link may be used up; another one has to be issued then.
    pub async fn redeem(&self, token: &str, purpose: LinkPurpose) -> Result<MagicLink> {
        let hash = self.hash(token)?;
        let purpose = purpose.as_str();
        let platform = self.auth.db.platform();
        if let Some(row) = platform.query_opt(REDEEM, &[&hash.bytes(), &purpose]).await? {
            return match hash.is(row.get(5)) {
                true => Ok(read(&row)),
                false => Err(Rejection::Unknown.into()),
            };
        }
        let why = judge(platform.query_opt(LOOK, &[&hash.bytes(), &purpose]).await?, &hash);
        // Open now, and not then: it was locked by a transaction that was rolled back, or by nothing that can be told.
        Err(why.err().unwrap_or(Rejection::Unknown.into()))
    }

    /// The newest thousand links of an address, whatever the case of its ASCII letters.
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
    /// It changes nothing.
    pub async fn list(&self, email: &str) -> Result<Vec<MagicLink>> {
        let list = r#"select id, email, created_at, expires_at, used_at from public.magic_links
             where pg_catalog.lower(email collate pg_catalog."C") = pg_catalog.lower($1 collate pg_catalog."C")
             order by created_at desc, id limit 1000"#;
        if check_email(email).is_err() {
            return Ok(Vec::new());
        }
        Ok(self.auth.db.platform().query(list, &[&email]).await?.iter().map(read).collect())
    }

    /// Makes all open links of an address useless, whatever the case of its ASCII letters, and returns how many there were.
    ///
    /// # Locks
    ///
    /// The rows of the links, to the end of the transaction.
    ///
    /// # Errors
    ///
    /// `Invalid`: the address. `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, all of them may be useless or none.
    pub async fn revoke(&self, email: &str) -> Result<u64> {
        check_email(email)?;
        let revoke = r#"update public.magic_links l set used_at = current_timestamp
              from (select id from public.magic_links
                     where pg_catalog.lower(email collate pg_catalog."C") = pg_catalog.lower($1 collate pg_catalog."C")
                       and used_at is null and expires_at > current_timestamp
                     order by id for update) open
             where l.id = open.id"#;
        self.auth.db.platform().execute(revoke, &[&email]).await
    }

    /// Deletes at most `rows_max` links that ended longer ago than this, and returns how many. Fewer than `rows_max` means that
    /// there are no more.
    ///
    /// # Locks
    ///
    /// The rows that it deletes; a row that another transaction has locked is left for the next call.
    ///
    /// # Errors
    ///
    /// `Invalid`: the time. `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, all of them may be deleted or none.
    pub async fn purge(&self, older_than: Duration, rows_max: u32) -> Result<u64> {
        let age = seconds(older_than, "the age of what is purged")?;
        self.auth.db.platform().execute(PURGE, &[&age, &i64::from(rows_max)]).await
    }

    fn hash(&self, token: &str) -> Result<TokenHash> {
        TokenHash::of_presented(token, TokenKind::MagicLink, &self.auth.settings.brand)
    }
}

/// Whether the link of a row of [`LOOK`] could be redeemed.
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

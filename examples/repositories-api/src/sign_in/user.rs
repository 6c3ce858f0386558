//! Which user somebody is whom a provider knows.

use super::provider::Person;
use axum::http::StatusCode;
use cgk::{
    Db, OrganizationId, UserId,
    auth::{Auth, AuthError},
    axum::Problem,
};

/// The user of this organization. The first time it is found by its verified address, and from then on by who it is at the provider:
/// an address can become somebody else's.
///
/// 403 where there is none.
pub async fn find(db: &Db, auth: &Auth, organization: OrganizationId, person: &Person) -> Result<UserId, Problem> {
    let platform = db.platform();
    let identity = (&person.issuer, &person.subject);
    let known = async || -> Result<Option<UserId>, Problem> {
        let sql = "select user_id from user_identities where organization_id = $1 and issuer = $2 and subject = $3";
        let row = platform.query_opt(sql, &[&organization, identity.0, identity.1]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.map(UserId))
    };
    if person.subject.contains('\0') {
        return Err(refused("the subject has a NUL"));
    }
    if let Some(user) = known().await? {
        return Ok(user);
    }
    let Some(email) = &person.email else { return Err(refused("the provider has not verified the address")) };
    let user = match auth.users().find_by_email(organization, email).await {
        Ok(user) => user,
        Err(AuthError::NotFound { .. }) => return Err(refused("no user has the address")),
        Err(error) => return Err(error.into()),
    };
    // A user who has an identity at this provider already is somebody else there.
    let link = "insert into user_identities (organization_id, user_id, issuer, subject) values ($1, $2, $3, $4)
                on conflict do nothing";
    match platform.execute(link, &[&organization, &user.id.0, identity.0, identity.1]).await? {
        1 => Ok(user.id),
        // Another sign-in of the same person may have linked it meanwhile.
        _ => known().await?.ok_or_else(|| refused("the user is somebody else at the provider")),
    }
}

pub fn refused(why: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN).detail("nobody of this organization signs in like this").caused_by(why)
}

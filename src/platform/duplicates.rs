//! Finds and merges users who are the same person: several rows with one address, from before one user could be in many
//! organizations.

use super::{
    Actor, PlatformError, RecordedChange,
    error::Result,
    members::UnconfirmedHome,
    page::{Cursor, Page, PageRequest},
    permissions::demand_service,
};
use crate::{
    ident::quoted,
    tenancy::{Db, PlatformTx},
    tenant::OrganizationId,
    user::UserId,
};
use serde_json::json;
use std::time::SystemTime;
use tokio_postgres::Row;

/// A user whose address also belongs to another user, who is the person of that address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Duplicate {
    /// The user to merge.
    pub id: UserId,
    /// The user's home organization.
    pub organization_id: OrganizationId,
    /// The slug of that organization.
    pub slug: String,
    /// The e-mail address.
    pub email: String,
    /// The user to merge it into.
    pub person: UserId,
    /// When the user was created.
    pub created_at: SystemTime,
}

/// Operations on users who are the same person. Cheap to clone.
///
/// A database from before migration 016 may have one address in several organizations. Code that inserts into `users`
/// without using memberships creates more of them. The database does not refuse such users and does not merge them
/// automatically.
#[derive(Clone, Debug)]
pub struct DuplicateUsers {
    db: Db<PlatformError>,
    actor: Option<Actor>,
}

const LIST: &str = r#"select u.id, u.organization_id, o.slug::pg_catalog.text, u.email, p.id, u.created_at
      from public.users u
      join public.organizations o on o.id = u.organization_id
     cross join lateral (
           select w.id from public.users w
            where pg_catalog.lower(w.email collate pg_catalog."C") = pg_catalog.lower(u.email collate pg_catalog."C")
            order by w.holds_address desc, w.created_at, w.id limit 1) p
     where not u.holds_address and p.id <> u.id and (u.created_at, u.id) > ($1, $2)
     order by u.created_at, u.id limit $3"#;

const LOCK_ORGANIZATIONS: &str = "select from public.organizations o
     where o.id in (select m.organization_id from public.memberships m where m.user_id in ($1, $2))
     order by o.id for no key update";

const LOCK_USERS: &str = r#"select u.id, u.organization_id, u.status::pg_catalog.text,
           pg_catalog.lower(u.email collate pg_catalog."C")
      from public.users u where u.id in ($1, $2) order by u.id for update"#;

// Roles are declared from the strongest to the weakest.
const JOIN: &str = "insert into public.memberships (organization_id, user_id, role, confirmed_at, created_at)
    select m.organization_id, $2::pg_catalog.uuid, m.role, m.confirmed_at, m.created_at
      from public.memberships m where m.user_id = $1 order by m.organization_id
    on conflict (organization_id, user_id) do update
       set role = case when (public.memberships.confirmed_at is null) = (excluded.confirmed_at is null)
                       then least(public.memberships.role, excluded.role)
                       when excluded.confirmed_at is null then public.memberships.role
                       else excluded.role end,
           confirmed_at = coalesce(public.memberships.confirmed_at, excluded.confirmed_at)";

// What becomes of the duplicate's memberships outside of its home.
const JOINED: &str = "select d.organization_id, d.role::pg_catalog.text, p.role::pg_catalog.text
      from public.memberships d join public.memberships p on p.organization_id = d.organization_id and p.user_id = $2
     where d.user_id = $1 and d.organization_id <> $3 order by d.organization_id";

// One row for each foreign key to users(id). One of several columns or on a generated column cannot be moved. It comes
// last, because its columns may follow a column that is moved. Memberships are excluded, because they are merged
// separately. Sessions are deleted with their memberships.
const REFERENCES: &str = "select n.nspname::pg_catalog.text, c.relname::pg_catalog.text, a.attname::pg_catalog.text,
           pg_catalog.cardinality(k.conkey) = 1 and a.attgenerated = ''
      from pg_catalog.pg_constraint k
      join pg_catalog.pg_class c on c.oid = k.conrelid
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      join pg_catalog.pg_attribute u on u.attrelid = k.confrelid and u.attname = 'id'
      join pg_catalog.pg_attribute a
        on a.attrelid = k.conrelid and a.attnum = k.conkey[pg_catalog.array_position(k.confkey, u.attnum)]
     where k.contype = 'f' and k.confrelid = 'public.users'::pg_catalog.regclass and k.conparentid = 0
       and k.conrelid <> 'public.memberships'::pg_catalog.regclass
     order by 4 desc, 1, 2, 3";

// How many rows of each table that points at users this transaction has changed. What a foreign key deletes or sets to null counts
// too, also where a policy hides the row from this login, or the key points at the membership.
const TOUCHED: &str = "select n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
           pg_catalog.pg_stat_get_xact_tuples_updated(c.oid) + pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid)
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where exists (select from pg_catalog.pg_constraint k
                    where k.conrelid = c.oid and k.contype = 'f'
                      and k.confrelid in ('public.users'::pg_catalog.regclass, 'public.memberships'::pg_catalog.regclass)
                      and k.conrelid not in ('public.sessions'::pg_catalog.regclass, 'public.memberships'::pg_catalog.regclass))
     order by 1, 2";

impl DuplicateUsers {
    /// Creates the handle for the duplicates of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None }
    }

    /// Sets the actor of the operations. Default: [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Returns a page of the duplicate users of all organizations.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `Forbidden`: the actor is not the service or an operator. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn list(&self, page: &PageRequest) -> Result<Page<Duplicate>> {
        self.actor()?;
        let (at, id) = page.start();
        let rows = self.db.platform().query(LIST, &[&at, &id, &page.rows()]).await?;
        Ok(page.page(rows.iter().map(read).collect(), |row| Cursor::at(row.created_at, row.id)))
    }

    /// Merges a user into another user of the same address, and deletes it. Its memberships become memberships of
    /// `person`. Where both are members of one organization, the stronger role is used. Columns of other tables that
    /// point at the duplicate are changed to point at `person`. The event is written for the home of the duplicate and for
    /// each organization that it was a member of. The sessions of the duplicate end. Its password is
    /// deleted, and the password of `person` is used.
    ///
    /// # Locks
    ///
    /// The rows of the organizations that either user is a member of, the rows of both users, and the rows that point
    /// at the duplicate, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: one of the users does not exist. `Invalid`: they are the same user, they have different addresses,
    /// or only one of them is disabled; or the server's setting `track_counts` is off. `Referenced`: rows point at the
    /// duplicate through a foreign key of several columns or on a generated column, or at its membership, or a policy
    /// hides them from this login; move them first. `Forbidden`: the actor is not the service or an operator.
    /// `TablesMissing`. `Database`, also where a table does not accept a second
    /// row of `person`; then nothing is changed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either everything is committed or nothing.
    pub async fn merge(&self, duplicate: UserId, person: UserId) -> Result<()> {
        let actor = self.actor()?;
        let platform = self.db.platform();
        let merged = platform.transaction(async |tx| {
            tx.query(LOCK_ORGANIZATIONS, &[&duplicate, &person]).await?;
            let (from, into) = locked(tx, duplicate, person).await?;
            move_references(tx, duplicate, person).await?;
            tx.execute(JOIN, &[&duplicate, &person]).await?;
            let unconfirmed = UnconfirmedHome::of(tx, person).await?;
            let joined = tx.query(JOINED, &[&duplicate, &person, &from.organization_id]).await?;
            delete(tx, duplicate).await?;
            // The user that held the address may have been deleted by the merge.
            let holds = r#"update public.users u set holds_address = true,
                       status = case when $2 and u.status = 'invited' then 'active' else u.status end,
                       password_hash = case when $2 and u.status = 'invited' then null else u.password_hash end
                 where u.id = $1
                   and not exists (select from public.users o
                                    where o.holds_address and o.id <> u.id
                                      and pg_catalog.lower(o.email collate pg_catalog."C")
                                          = pg_catalog.lower(u.email collate pg_catalog."C"))"#;
            tx.execute(holds, &[&person, &(from.status == "active")]).await?;
            // The person has not accepted the invitation of its home.
            if let Some(home) = unconfirmed {
                home.keep(tx).await?;
            }
            let mut changes = vec![(
                from.organization_id,
                json!({ "home": from.organization_id }),
                json!({ "user_id": person, "home": into.organization_id }),
            )];
            changes.extend(joined.iter().map(|row| {
                let (before, after): (&str, &str) = (row.get(1), row.get(2));
                (row.get(0), json!({ "role": before }), json!({ "user_id": person, "role": after }))
            }));
            for (organization, before, after) in changes {
                let change = RecordedChange {
                    actor: &actor,
                    organization: Some(organization),
                    name: "cgk.user.merged",
                    resource: ("user", duplicate.to_string()),
                    before: Some(before),
                    after: Some(after),
                };
                change.record(tx).await?;
            }
            Ok(())
        });
        merged.await
    }

    /// Returns the actor. It must be the service itself or an operator, because the operation belongs to no
    /// organization.
    fn actor(&self) -> Result<Actor> {
        let actor = self.actor.clone().unwrap_or_else(Actor::current);
        demand_service(&actor, "users:merge").map(|()| actor)
    }
}

struct LockedUser {
    id: UserId,
    organization_id: OrganizationId,
    status: String,
    address: String,
}

/// Locks both users, and returns an error if they are not the same person.
async fn locked(tx: &PlatformTx<'_>, duplicate: UserId, person: UserId) -> Result<(LockedUser, LockedUser)> {
    let rows = tx.query(LOCK_USERS, &[&duplicate, &person]).await?;
    let mut users: Vec<LockedUser> = rows
        .iter()
        .map(|row| LockedUser { id: row.get(0), organization_id: row.get(1), status: row.get(2), address: row.get(3) })
        .collect();
    let mut take = |id: UserId| {
        let at = users.iter().position(|user| user.id == id);
        at.map(|at| users.swap_remove(at)).ok_or(PlatformError::NotFound { what: "user" })
    };
    let invalid = |why: &str| PlatformError::Invalid { what: "the user", why: why.to_owned() };
    if duplicate == person {
        return Err(invalid("it cannot be merged into itself"));
    }
    let (from, into) = (take(duplicate)?, take(person)?);
    match () {
        () if from.address != into.address => Err(invalid("the two users have different addresses")),
        () if into.status == "disabled" && from.status != "disabled" => {
            Err(invalid("the user to merge into is disabled"))
        }
        () if from.status == "disabled" && into.status != "disabled" => {
            Err(invalid("it is disabled, and the other user would have its roles"))
        }
        () => Ok((from, into)),
    }
}

/// Changes all references from one user to the other.
async fn move_references(tx: &PlatformTx<'_>, duplicate: UserId, person: UserId) -> Result<()> {
    for row in tx.query(REFERENCES, &[]).await? {
        let (schema, table, column): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let (place, column) = (format!("{}.{}", quoted(schema), quoted(table)), quoted(column));
        if row.get(3) {
            let sql = format!("update {place} set {column} = $2 where {column} = $1");
            tx.execute(&sql, &[&duplicate, &person]).await?;
        } else {
            let sql = format!("select from {place} where {column} = $1 limit 1");
            if tx.query_opt(&sql, &[&duplicate]).await?.is_some() {
                return Err(PlatformError::Referenced { table: format!("{schema}.{table}") });
            }
        }
    }
    Ok(())
}

/// Deletes the user, or returns an error if a foreign key changes rows of another table then.
async fn delete(tx: &PlatformTx<'_>, duplicate: UserId) -> Result<()> {
    let counts: bool =
        tx.query_one("select pg_catalog.current_setting('track_counts')::pg_catalog.bool", &[]).await?.get(0);
    if !counts {
        let why = "it is off, and the merge counts the rows that foreign keys change; turn it on for this login".into();
        return Err(PlatformError::Invalid { what: "the server's setting track_counts", why });
    }
    let before = tx.query(TOUCHED, &[]).await?;
    tx.execute("delete from public.users where id = $1", &[&duplicate]).await?;
    let after = tx.query(TOUCHED, &[]).await?;
    let touched = after.iter().zip(&before).find(|(after, before)| after.get::<_, i64>(2) != before.get::<_, i64>(2));
    match touched {
        Some((row, _)) => {
            Err(PlatformError::Referenced { table: format!("{}.{}", row.get::<_, &str>(0), row.get::<_, &str>(1)) })
        }
        None => Ok(()),
    }
}

fn read(row: &Row) -> Duplicate {
    Duplicate {
        id: row.get(0),
        organization_id: row.get(1),
        slug: row.get(2),
        email: row.get(3),
        person: row.get(4),
        created_at: row.get(5),
    }
}

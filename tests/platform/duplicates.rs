//! Users of one address are merged: what each of them had is the person's, or nothing has changed.

use crate::stage::{Stage, must_end, run};
use cgk::{
    Db, UserId,
    platform::{Actor, DuplicateUsers, PageRequest, PlatformError},
};

const MEMBERS: &str = "
    select string_agg(concat_ws(' ', o.slug, u.id = $1, m.role), ', ' order by o.slug)
      from memberships m join users u on u.id = m.user_id join organizations o on o.id = m.organization_id";

/// Two users of one address; the second one is the duplicate.
async fn twins(stage: &Stage) -> (UserId, UserId) {
    let person = stage.user(stage.acme, "ada@x.io", "member").await;
    (person, stage.user(stage.globex, "Ada@x.io", "owner").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_listed_until_it_is_merged() {
    let stage = Stage::set().await;
    let (person, duplicate) = twins(&stage).await;
    stage.user(stage.acme, "alone@x.io", "member").await;
    let users = DuplicateUsers::new(&stage.db);
    let [found] = users.list(&PageRequest::default()).await.unwrap().items.try_into().unwrap();
    assert_eq!((found.id, found.person, found.slug.as_str()), (duplicate, person, "globex"));
    stage
        .run(
            "create table public.notes (id int primary key, author_id uuid references users (id));
             insert into public.notes select 1, id from users where email = 'Ada@x.io';
             grant select, update on public.notes to public;
             insert into memberships (organization_id, user_id, role, confirmed_at)
             select o.id, u.id, 'admin', now() from organizations o, users u where o.slug = 'acme' and u.email = 'Ada@x.io'",
        )
        .await;
    users.merge(duplicate, person).await.unwrap();
    let members: String = stage.watch.query_one(MEMBERS, &[&person]).await.unwrap().get(0);
    // Of two roles in one organization the stronger one; alone@x.io is the third.
    assert_eq!(members, "acme f member, acme t admin, globex t owner");
    let author: UserId = stage.watch.query_one("select author_id from notes", &[]).await.unwrap().get(0);
    assert_eq!(author, person);
    assert!(users.list(&PageRequest::default()).await.unwrap().items.is_empty());
    assert!(matches!(users.merge(duplicate, person).await, Err(PlatformError::NotFound { .. })));
    // One for each of its organizations.
    assert_eq!(stage.count("select count(*) from audit_events where action = 'cgk.user.merged'").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_one_person_is_not_merged() {
    let stage = Stage::set().await;
    let (person, duplicate) = twins(&stage).await;
    let other = stage.user(stage.acme, "ben@x.io", "owner").await;
    let users = DuplicateUsers::new(&stage.db);
    for (from, into) in [(duplicate, other), (person, person)] {
        assert!(matches!(users.merge(from, into).await, Err(PlatformError::Invalid { .. })));
    }
    let by_a_user = users.clone().acting_as(Actor::User(person));
    assert!(matches!(by_a_user.merge(duplicate, person).await, Err(PlatformError::Forbidden { .. })));
    assert!(matches!(by_a_user.list(&PageRequest::default()).await, Err(PlatformError::Forbidden { .. })));
    for disabled in ["ada@x.io", "Ada@x.io"] {
        stage
            .run(&format!(
                "update users set status = case email when '{disabled}' then 'disabled'::user_status else 'active' end"
            ))
            .await;
        assert!(matches!(users.merge(duplicate, person).await, Err(PlatformError::Invalid { .. })), "{disabled}");
    }

    // A foreign key over two columns ties the row to the duplicate's home.
    stage
        .run(
            "update users set status = 'active';
             create table public.badges (organization_id uuid, user_id uuid,
                 foreign key (organization_id, user_id) references users (organization_id, id) on delete cascade);
             insert into public.badges select organization_id, id from users where email = 'Ada@x.io';
             grant select, update, delete on public.badges to public",
        )
        .await;
    let refused = users.merge(duplicate, person).await;
    assert!(matches!(&refused, Err(PlatformError::Referenced { table }) if table == "public.badges"), "{refused:?}");
    assert_eq!(stage.count("select count(*) from users").await, 3);
    stage.run("delete from public.badges").await;
    users.merge(duplicate, person).await.unwrap();
}

/// The row that held the address goes, the other one holds it from then on.
#[tokio::test(flavor = "multi_thread")]
async fn the_one_that_stays_holds_the_address() {
    let stage = Stage::set().await;
    let (first, second) = twins(&stage).await;
    DuplicateUsers::new(&stage.db).merge(first, second).await.unwrap();
    assert_eq!(stage.count("select count(*) from users where holds_address").await, 1);
    let members: String = stage.watch.query_one(MEMBERS, &[&second]).await.unwrap().get(0);
    assert_eq!(members, "acme t member, globex t owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_whose_session_is_ended_leaves_both_users() {
    let stage = Stage::set().await;
    let (person, duplicate) = twins(&stage).await;
    let users = DuplicateUsers::new(&stage.db);
    for lock in [
        "select from organizations for update",
        "select from users for update",
        "select from memberships for update",
        "lock table audit_events in share mode",
    ] {
        let holder = stage.holder(lock).await;
        let merging = users.clone();
        let call = tokio::spawn(async move { merging.merge(duplicate, person).await });
        stage.until_waiting(1).await;
        stage.kill_waiting().await;
        run(&holder, "rollback").await;
        assert!(must_end(call).await.unwrap().is_err(), "{lock}");
        let members: String = stage.watch.query_one(MEMBERS, &[&person]).await.unwrap().get(0);
        assert_eq!(members, "acme t member, globex f owner", "{lock}");
    }
    users.merge(duplicate, person).await.unwrap();
}

/// Each organization of the duplicate is told who its member is from then on; and of two roles that nobody has accepted the stronger
/// one stays too.
#[tokio::test(flavor = "multi_thread")]
async fn every_organization_of_the_duplicate_is_told_of_the_merge() {
    let stage = Stage::set().await;
    let (person, duplicate) = twins(&stage).await;
    stage
        .run(
            "insert into memberships (organization_id, user_id, role)
             select o.id, u.id, 'admin' from organizations o, users u where o.slug = 'acme' and u.email = 'Ada@x.io';
             update memberships m set role = 'member', confirmed_at = null from organizations o
              where o.id = m.organization_id and o.slug = 'acme' and m.role <> 'admin'",
        )
        .await;
    DuplicateUsers::new(&stage.db).merge(duplicate, person).await.unwrap();
    let members: String = stage.watch.query_one(MEMBERS, &[&person]).await.unwrap().get(0);
    assert_eq!(members, "acme t admin, globex t owner");
    for (table, name) in [("domain_events", "type"), ("audit_events", "action")] {
        let sql = format!(
            "select o.slug from organizations o join {table} e on e.organization_id = o.id and e.{name} = 'cgk.user.merged' order by 1"
        );
        let told: Vec<String> = stage.rows(&sql, &[]).await.iter().map(|row| row.get(0)).collect();
        assert_eq!(told, ["acme", "globex"], "{table}");
    }
}

/// A foreign key deletes rows that point at the membership, and rows that a policy hides: then the merge is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_deletes_no_row_of_another_table() {
    const LINKED: &str = "from memberships m join users u on u.id = m.user_id where u.email = 'Ada@x.io'";
    let stage = Stage::set().await;
    let (person, duplicate) = twins(&stage).await;
    let users = DuplicateUsers::new(&stage.db);
    for (table, insert) in [
        (
            "create table public.own (membership_id uuid references memberships (id) on delete cascade)",
            format!("insert into public.own select m.id {LINKED}"),
        ),
        (
            "create table public.own (organization_id uuid, user_id uuid,
                 foreign key (organization_id, user_id) references memberships (organization_id, user_id) on delete set null)",
            format!("insert into public.own select m.organization_id, m.user_id {LINKED}"),
        ),
        (
            "create table public.own (user_id uuid references users (id) on delete cascade)",
            format!("insert into public.own select m.user_id {LINKED}; alter table public.own enable row level security"),
        ),
    ] {
        stage.run(&format!("{table}; grant select, update, delete on public.own to public; {insert}")).await;
        let rows = "select count(*) from public.own o where to_jsonb(o)::text not like '%null%'";
        assert_eq!(stage.count(rows).await, 1, "{table}");
        let refused = users.merge(duplicate, person).await;
        assert!(matches!(&refused, Err(PlatformError::Referenced { table }) if table == "public.own"), "{refused:?}");
        assert_eq!(stage.count(rows).await, 1, "{table}");
        stage.run("drop table public.own").await;
    }
    // The control: without them it is merged.
    users.merge(duplicate, person).await.unwrap();
}

/// Foreign keys of every form from tables of the application to users and memberships: a merge moves each row to the person, or is
/// refused and has changed nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_moves_every_row_or_changes_nothing() {
    let stage = Stage::set().await;
    let (person, duplicate) = twins(&stage).await;
    let users = DuplicateUsers::new(&stage.db);
    stage.run("grant usage on schema tenant_acme to public").await;
    let targets = [
        ("user_id uuid", "references users (id)", "u.id"),
        ("membership_id uuid", "references memberships (id)", "m.id"),
        (
            "organization_id uuid, user_id uuid",
            ", foreign key (organization_id, user_id) references users (organization_id, id)",
            "u.organization_id, u.id",
        ),
        (
            "organization_id uuid, user_id uuid",
            ", foreign key (organization_id, user_id) references memberships (organization_id, user_id)",
            "u.organization_id, u.id",
        ),
    ];
    let actions = [
        "on delete cascade",
        "on delete set null",
        "on delete restrict",
        "",
        "deferrable initially deferred",
        "on delete cascade deferrable initially deferred",
        "on update cascade on delete set default",
    ];
    let policies = ["", "enable row level security", "force row level security, enable row level security"];
    let mut moved = 0;
    for ((columns, target, values), action, policy, place) in targets.into_iter().flat_map(|target| {
        actions.into_iter().flat_map(move |action| {
            policies.into_iter().flat_map(move |policy| {
                ["public.own", "tenant_acme.own", "public.parted"].map(|place| (target, action, policy, place))
            })
        })
    }) {
        let case = format!("{place} {target} {action} {policy}");
        let (by, part) = match place {
            "public.parted" => (
                "partition by hash (id)",
                "create table public.part partition of public.parted for values with (modulus 1, remainder 0);",
            ),
            _ => ("", ""),
        };
        let alter = if policy.is_empty() { String::new() } else { format!("alter table {place} {policy}") };
        let sql = format!(
            "create table {place} (id int primary key, note text, {columns} {target} {action}) {by}; {part}
             grant all on {place} to public;
             insert into {place} select row_number() over (order by u.email), u.email, {values}
               from users u join memberships m on m.user_id = u.id;
             set constraints all immediate; {alter}"
        );
        stage.run(&sql).await;
        let (before, state) = (rows_of(&stage, place).await, shared(&stage).await);
        assert_eq!(before.len(), 2, "{case}");
        let outcome = users.merge(duplicate, person).await;
        let after = rows_of(&stage, place).await;
        match outcome {
            Ok(()) => {
                moved += 1;
                let move_to = |row: &String| row.replace(&duplicate.to_string(), &person.to_string());
                assert_eq!(after, before.iter().map(move_to).collect::<Vec<_>>(), "{case}");
                // The twin comes back for the next case.
                stage.run(&format!("drop table {place}; delete from memberships m using organizations o where o.id = m.organization_id and o.slug = 'globex'")).await;
                let insert = "insert into users (id, organization_id, email, role, status) values ($1, $2, 'Ada@x.io', 'owner', 'active')";
                stage.watch.execute(insert, &[&duplicate, &stage.globex]).await.unwrap();
            }
            Err(error) => {
                assert_eq!((after, shared(&stage).await), (before, state), "{case}: {error:?}");
                stage.run(&format!("drop table {place}")).await;
            }
        }
    }
    // The control: what a single column holds is moved where no policy hides it, in each place.
    assert_eq!(moved, 3 * actions.len());
}

async fn rows_of(stage: &Stage, table: &str) -> Vec<String> {
    let sql = format!("select to_jsonb(o)::text from {table} o order by o.id");
    stage.rows(&sql, &[]).await.iter().map(|row| row.get(0)).collect()
}

/// The users, the memberships and the number of lines about them.
async fn shared(stage: &Stage) -> String {
    let sql = "select concat((select json_agg(u order by id) from users u), (select json_agg(m order by id) from memberships m),
                             (select count(*) from domain_events), (select count(*) from audit_events))";
    stage.rows(sql, &[]).await[0].get(0)
}

/// A person who was invited at home and is active elsewhere has not accepted the invitation of the home.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_confirms_no_membership_that_was_not_accepted() {
    let stage = Stage::set().await;
    let (person, duplicate) = twins(&stage).await;
    let confirmed = "select string_agg(o.slug, ', ' order by o.slug) from memberships m
         join organizations o on o.id = m.organization_id where m.user_id = $1 and m.confirmed_at is not null";
    let invite = "update users set status = 'invited' where email = 'ada@x.io';
         update memberships m set confirmed_at = null from users u where u.id = m.user_id and u.email = 'ada@x.io'";
    stage.run(invite).await;
    DuplicateUsers::new(&stage.db).merge(duplicate, person).await.unwrap();
    let found: String = stage.watch.query_one(confirmed, &[&person]).await.unwrap().get(0);
    assert_eq!(found, "globex");
    assert_eq!(stage.count("select count(*) from users where status = 'active' and email = 'ada@x.io'").await, 1);

    // The duplicate is a member of that home: then the person is one.
    let (person, duplicate) =
        (stage.user(stage.acme, "eve@x.io", "member").await, stage.user(stage.globex, "Eve@x.io", "owner").await);
    stage.run(&invite.replace("ada@", "eve@")).await;
    stage
        .run(&format!(
            "insert into memberships (organization_id, user_id, role, confirmed_at) values ('{}', '{duplicate}', 'member', now())",
            stage.acme
        ))
        .await;
    DuplicateUsers::new(&stage.db).merge(duplicate, person).await.unwrap();
    let found: String = stage.watch.query_one(confirmed, &[&person]).await.unwrap().get(0);
    assert_eq!(found, "acme, globex");
}

/// The rows that foreign keys change are counted by the server, and a generated column cannot be moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_cannot_count_or_move_changes_nothing() {
    let stage = Stage::set().await;
    let (person, duplicate) = twins(&stage).await;
    stage
        .run(
            "create table public.notes (a uuid, b uuid generated always as (a) stored references users (id));
             insert into public.notes (a) select id from users where email = 'Ada@x.io';
             create table public.links (author uuid references users (id),
                                        copy uuid generated always as (author) stored references users (id));
             insert into public.links (author) select id from users where email = 'Ada@x.io';
             grant select, update, delete on public.notes, public.links to public",
        )
        .await;
    let users = DuplicateUsers::new(&stage.db);
    let refused = users.merge(duplicate, person).await;
    assert!(matches!(&refused, Err(PlatformError::Referenced { table }) if table == "public.notes"), "{refused:?}");
    stage.run("delete from public.notes").await;
    stage
        .run("do $$ begin execute format('alter database %I set track_counts = off', current_database()); end $$")
        .await;
    let uncounted: Db = Db::connect(stage.db.config()).await.unwrap();
    let refused = DuplicateUsers::new(&uncounted).merge(duplicate, person).await.unwrap_err();
    assert!(refused.to_string().contains("track_counts"), "{refused}");
    assert_eq!(stage.count("select count(*) from users where email ilike 'ada@x.io'").await, 2);
    // Sessions from before have the setting still, and a generated column follows the one that is moved.
    users.merge(duplicate, person).await.unwrap();
    assert_eq!(
        stage.count(&format!("select count(*) from links where author = '{person}' and copy = author")).await,
        1
    );
}

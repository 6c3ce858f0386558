//! Members: added, changed, removed, by whom they may be, and what stays when a call is cut short.

use crate::stage::{Stage, must_end, run};
use crate::support::cgk::Shell;
use cgk::{
    OrganizationId, UserId,
    auth::{Auth, AuthSettings, ClientInfo, Rejection, UserRole},
    platform::{
        Actor, Members, NewMember, NewSubscription, PageRequest, Permission, PlatformError, Quota, QuotaKind,
        Subscriptions,
    },
};
use insta::assert_snapshot;
use std::collections::BTreeSet;

const OWNERS: &str = "select count(*) from memberships where role = 'owner'";

fn auth(stage: &Stage) -> Auth {
    Auth::new(&stage.db, AuthSettings::default())
}

fn client() -> ClientInfo {
    ClientInfo::default()
}

async fn recorded(stage: &Stage) -> (i64, i64) {
    (stage.count("select count(*) from audit_events").await, stage.count("select count(*) from domain_events").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_to_every_organization_that_it_is_a_member_of() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let (members, auth) = (Members::new(&stage.db), auth(&stage));
    // The control: without a membership there is no way in.
    let outside = auth.sessions().issue(stage.globex, ada, &client()).await;
    assert!(matches!(outside, Err(cgk::auth::AuthError::NotFound { .. })));

    let added = members.add(stage.globex, &NewMember::user(ada).role(UserRole::Admin)).await.unwrap();
    assert_eq!((added.email.as_str(), added.role), ("ada@example.com", UserRole::Admin));
    let (home, at_home) = auth.sessions().issue(stage.acme, ada, &client()).await.unwrap();
    let (_, abroad) = auth.sessions().issue(stage.globex, ada, &client()).await.unwrap();
    assert_eq!(home.role, UserRole::Owner);
    let session = auth.sessions().verify(abroad.reveal()).await.unwrap();
    assert_eq!((session.user_id, session.tenant.slug.as_str(), session.role), (ada, "globex", UserRole::Admin));
    assert_eq!(auth.users().by_email("ADA@example.com").await.unwrap().len(), 2);

    members.set_role(stage.globex, ada, &UserRole::Member).await.unwrap();
    assert_eq!(auth.sessions().verify(abroad.reveal()).await.unwrap().role, UserRole::Member);

    members.remove(stage.globex, ada).await.unwrap();
    let gone = auth.sessions().verify(abroad.reveal()).await.unwrap_err();
    assert_eq!(gone.rejection(), Some(Rejection::Unknown));
    assert!(auth.sessions().verify(at_home.reveal()).await.is_ok());
}

/// A password belongs to the person: who gets a new one is out everywhere, and another organization does not set it.
#[tokio::test(flavor = "multi_thread")]
async fn the_home_organization_alone_decides_about_the_password() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let (members, auth) = (Members::new(&stage.db), auth(&stage));
    members.add(stage.globex, &NewMember::user(ada)).await.unwrap();
    auth.users().set_password(stage.acme, ada, "correct horse").await.unwrap();
    let (_, token) =
        auth.sessions().sign_in(stage.globex, "ada@example.com", "correct horse", &client()).await.unwrap();
    assert!(auth.users().set_password(stage.globex, ada, "taken over").await.is_err());
    assert!(auth.sessions().verify(token.reveal()).await.is_ok());
    auth.users().set_password(stage.acme, ada, "battery staple").await.unwrap();
    assert_eq!(auth.sessions().verify(token.reveal()).await.unwrap_err().rejection(), Some(Rejection::Revoked));
}

/// A membership that is not confirmed lets nobody in.
#[tokio::test(flavor = "multi_thread")]
async fn an_invited_member_is_not_let_in_until_it_is_confirmed() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let insert = "insert into memberships (organization_id, user_id, role) values ($1, $2, 'owner')";
    stage.watch.execute(insert, &[&stage.globex, &ada]).await.unwrap();
    let auth = auth(&stage);
    let refused = auth.sessions().issue(stage.globex, ada, &client()).await.unwrap_err();
    assert_eq!(refused.rejection(), Some(Rejection::UserInactive));
    let members = Members::new(&stage.db).acting_as(Actor::User(ada));
    assert!(matches!(members.list(stage.globex, &PageRequest::default()).await, Err(PlatformError::NotFound { .. })));

    Members::new(&stage.db).add(stage.globex, &NewMember::user(ada)).await.unwrap();
    assert!(auth.sessions().issue(stage.globex, ada, &client()).await.is_ok());
    assert_eq!(members.get(stage.globex, ada).await.unwrap().role, UserRole::Member);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_owner_can_neither_leave_nor_be_demoted() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let members = Members::new(&stage.db).acting_as(Actor::User(ada));
    // Neither one who is disabled nor one who is not confirmed can act as an owner.
    let off = stage.user(stage.acme, "off@example.com", "owner").await;
    stage.run("update users set status = 'disabled' where email = 'off@example.com'").await;
    let insert = "insert into memberships (organization_id, user_id, role) values ($1, $2, 'owner')";
    let guest = stage.user(stage.globex, "guest@example.com", "member").await;
    stage.watch.execute(insert, &[&stage.acme, &guest]).await.unwrap();

    let before = recorded(&stage).await;
    assert!(matches!(members.remove(stage.acme, ada).await, Err(PlatformError::LastOwner)));
    let demoted = members.set_role(stage.acme, ada, &UserRole::Admin).await;
    assert!(matches!(demoted, Err(PlatformError::LastOwner)));
    assert_eq!(recorded(&stage).await, before);
    // The role it has is no change.
    assert_eq!(members.set_role(stage.acme, ada, &UserRole::Owner).await.unwrap().role, UserRole::Owner);

    stage.run("update users set status = 'active' where email = 'off@example.com'").await;
    members.remove(stage.acme, ada).await.unwrap();
    assert!(matches!(Members::new(&stage.db).remove(stage.acme, off).await, Err(PlatformError::LastOwner)));
}

/// Both wait for the organization's row, and the second one finds what the first has done.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_owners_who_leave_at_once_one_stays() {
    let stage = Stage::set().await;
    let (ada, ben) =
        (stage.user(stage.acme, "ada@x.io", "owner").await, stage.user(stage.acme, "ben@x.io", "owner").await);
    let holder = stage.holder("select from organizations where slug = 'acme' for update").await;
    let leave = |user: UserId| {
        let (members, acme) = (Members::new(&stage.db).acting_as(Actor::User(user)), stage.acme);
        tokio::spawn(async move { members.remove(acme, user).await })
    };
    let demote = {
        let (members, acme) = (Members::new(&stage.db), stage.acme);
        tokio::spawn(async move { members.set_role(acme, ben, &UserRole::Member).await.map(|_| ()) })
    };
    let left = leave(ada);
    stage.until_waiting(2).await;
    run(&holder, "commit").await;
    let outcomes = [must_end(left).await.unwrap(), must_end(demote).await.unwrap()];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(PlatformError::LastOwner))), "{outcomes:?}");
    assert_eq!(stage.count(OWNERS).await, 1);
}

/// What the test above finds: the same look and the same change without the lock on the organization.
#[tokio::test(flavor = "multi_thread")]
async fn two_who_look_without_the_lock_leave_no_owner() {
    let stage = Stage::set().await;
    for email in ["ada@x.io", "ben@x.io"] {
        stage.user(stage.acme, email, "owner").await;
    }
    let look = |email: &str| {
        format!(
            "select 1 / (select count(*) from memberships m join users u on u.id = m.user_id where u.email <> '{email}')"
        )
    };
    let (one, other) = (stage.holder(&look("ada@x.io")).await, stage.holder(&look("ben@x.io")).await);
    let leave = |email: &str| {
        format!("delete from memberships using users u where u.id = user_id and u.email = '{email}'; commit")
    };
    run(&one, &leave("ada@x.io")).await;
    run(&other, &leave("ben@x.io")).await;
    assert_eq!(stage.count(OWNERS).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixteen_owners_who_leave_at_once_one_stays() {
    let stage = Stage::set_with_pool(16).await;
    let mut calls = Vec::new();
    for number in 0..16 {
        let user = stage.user(stage.acme, &format!("u{number}@x.io"), "owner").await;
        let (members, acme) = (Members::new(&stage.db).acting_as(Actor::User(user)), stage.acme);
        calls.push(async move { members.remove(acme, user).await });
    }
    let calls: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let (mut left, mut refused) = (0, 0);
    for call in calls {
        match must_end(call).await.unwrap() {
            Ok(()) => left += 1,
            Err(PlatformError::LastOwner) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((left, refused, stage.count(OWNERS).await), (15, 1, 1));
    assert_eq!(stage.count("select count(*) from audit_events where action = 'cgk.membership.removed'").await, 15);
}

/// The address has no user yet: the person is made once.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_who_add_one_address_at_once_make_one_person() {
    let stage = Stage::set_with_pool(16).await;
    let calls: Vec<_> = (0..16)
        .map(|number| {
            let organization = if number % 2 == 0 { stage.acme } else { stage.globex };
            let members = Members::new(&stage.db);
            tokio::spawn(async move { members.add(organization, &NewMember::of_address("New@example.com")).await })
        })
        .collect();
    let mut added = Vec::new();
    for call in calls {
        match must_end(call).await.unwrap() {
            Ok(member) => added.push(member),
            Err(PlatformError::AlreadyMember) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    let organizations: BTreeSet<OrganizationId> = added.iter().map(|member| member.organization_id).collect();
    let users: BTreeSet<UserId> = added.iter().map(|member| member.user_id).collect();
    assert_eq!((added.len(), organizations.len(), users.len()), (2, 2, 1));
    assert_eq!(stage.count("select count(*) from users").await, 1);
    assert_eq!(stage.count("select count(*) from audit_events where action = 'cgk.membership.created'").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_repeated_or_about_nothing_is_refused() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    // Another user of the same address, from before a person was one user.
    let twin = stage.user(stage.globex, "ADA@example.com", "owner").await;
    let members = Members::new(&stage.db);
    let again = members.add(stage.acme, &NewMember::of_address("ada@EXAMPLE.com")).await;
    assert!(matches!(again, Err(PlatformError::AlreadyMember)), "{again:?}");
    assert!(matches!(members.add(stage.acme, &NewMember::user(twin)).await, Err(PlatformError::AlreadyMember)));
    assert!(matches!(members.add(stage.acme, &NewMember::user(ada)).await, Err(PlatformError::AlreadyMember)));
    let (nobody, nowhere) = (UserId(uuid::Uuid::nil()), OrganizationId(uuid::Uuid::nil()));
    for outcome in [
        members.add(stage.acme, &NewMember::user(nobody)).await.map(|_| ()),
        members.add(nowhere, &NewMember::user(ada)).await.map(|_| ()),
        members.set_role(stage.acme, twin, &UserRole::Admin).await.map(|_| ()),
        members.remove(stage.acme, twin).await,
        members.remove(nowhere, ada).await,
        members.get(stage.acme, twin).await.map(|_| ()),
    ] {
        assert!(matches!(outcome, Err(PlatformError::NotFound { .. })), "{outcome:?}");
    }
    let member = members.add(stage.acme, &NewMember::of_address("ben@example.com")).await.unwrap().user_id;
    for outcome in [
        members.add(stage.acme, &NewMember::of_address("no address")).await,
        members.add(stage.acme, &NewMember::of_address("x@x").role(UserRole::Other("king".into()))).await,
        members.set_role(stage.acme, member, &UserRole::Other("king".into())).await,
    ] {
        assert!(matches!(outcome, Err(PlatformError::Invalid { .. })), "{outcome:?}");
    }
    assert_eq!(stage.count("select count(*) from users").await, 3);
}

/// Every role tries everything on every role.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_what() {
    let stage = Stage::set().await;
    stage.user(stage.acme, "first@example.com", "owner").await;
    let mut table = String::new();
    for actor in ["owner", "admin", "member", "outsider"] {
        let home = if actor == "outsider" { stage.globex } else { stage.acme };
        let role = if actor == "outsider" { "owner" } else { actor };
        let acting = stage.user(home, &format!("{actor}@example.com"), role).await;
        let members = Members::new(&stage.db).acting_as(Actor::User(acting));
        for target in ["owner", "admin", "member"] {
            let user = stage.user(stage.acme, &format!("{actor}.{target}@example.com"), target).await;
            let word = |outcome: Result<(), PlatformError>| match outcome {
                Ok(()) => "yes",
                Err(PlatformError::Forbidden { .. }) => "no",
                Err(PlatformError::NotFound { what: "organization" }) => "nothing there",
                Err(other) => panic!("{other:?}"),
            };
            let other = if target == "member" { UserRole::Admin } else { UserRole::Member };
            let new = NewMember::of_address(&format!("new.{actor}.{target}@example.com")).role(target.into());
            let see = word(members.get(stage.acme, user).await.map(|_| ()));
            let add = word(members.add(stage.acme, &new).await.map(|_| ()));
            let change = word(members.set_role(stage.acme, user, &other).await.map(|_| ()));
            stage
                .watch
                .execute("update memberships set role = $2::text::user_role where user_id = $1", &[&user, &target])
                .await
                .unwrap();
            let remove = word(members.remove(stage.acme, user).await);
            table += &format!("{actor:8} {target:6}: sees {see}, adds {add}, changes {change}, removes {remove}\n");
        }
        let demand = members.demand(stage.acme, Permission::OrganizationDelete).await;
        assert_eq!(demand.is_ok(), actor == "owner");
    }
    assert_snapshot!(table, @"
    owner    owner : sees yes, adds yes, changes yes, removes yes
    owner    admin : sees yes, adds yes, changes yes, removes yes
    owner    member: sees yes, adds yes, changes yes, removes yes
    admin    owner : sees yes, adds no, changes no, removes no
    admin    admin : sees yes, adds yes, changes yes, removes yes
    admin    member: sees yes, adds yes, changes yes, removes yes
    member   owner : sees yes, adds no, changes no, removes no
    member   admin : sees yes, adds no, changes no, removes no
    member   member: sees yes, adds no, changes no, removes no
    outsider owner : sees nothing there, adds nothing there, changes nothing there, removes nothing there
    outsider admin : sees nothing there, adds nothing there, changes nothing there, removes nothing there
    outsider member: sees nothing there, adds nothing there, changes nothing there, removes nothing there
    ");
}

/// A key acts by its scopes, in its own organization, while it is live.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_do_what_its_scopes_say() {
    let stage = Stage::set().await;
    let auth = auth(&stage);
    let new = cgk::auth::NewApiKey::named("hr").scope("members:manage");
    let (key, _) = auth.api_keys().create(stage.acme, &new).await.unwrap();
    let members = Members::new(&stage.db).acting_as(Actor::ApiKey(key.id));
    let member = members.add(stage.acme, &NewMember::of_address("ada@example.com")).await.unwrap();
    assert!(matches!(members.get(stage.acme, member.user_id).await, Err(PlatformError::Forbidden { .. })));
    let owner = NewMember::of_address("ben@example.com").role(UserRole::Owner);
    assert!(matches!(members.add(stage.acme, &owner).await, Err(PlatformError::Forbidden { .. })));
    let other = members.add(stage.globex, &NewMember::of_address("ben@example.com")).await;
    assert!(matches!(other, Err(PlatformError::NotFound { .. })));
    auth.api_keys().revoke(stage.acme, key.id).await.unwrap();
    assert!(matches!(members.remove(stage.acme, member.user_id).await, Err(PlatformError::NotFound { .. })));
}

/// Each place where a call can wait is one where its session is ended: nothing is left of it, and the same call does it then.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_session_is_ended_leaves_nothing() {
    let stage = Stage::set().await;
    stage.user(stage.acme, "first@example.com", "owner").await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let state = "select string_agg(concat(user_id, role, confirmed_at is null), ',' order by user_id) from memberships";
    for lock in [
        "select from organizations for update",
        "select from users for update",
        "select from memberships for update",
        "lock table audit_events in share mode",
        "lock table domain_events in share mode",
    ] {
        for change in ["role", "remove", "add"] {
            if change == "add" && lock.contains("memberships") {
                continue; // A row that is not there yet is not waited for.
            }
            let before: Option<String> = stage.watch.query_one(state, &[]).await.unwrap().get(0);
            let counts = recorded(&stage).await;
            let holder = stage.holder(lock).await;
            let (members, acme) = (Members::new(&stage.db), stage.acme);
            let outsider = NewMember::of_address(&format!("{}@example.com", uuid::Uuid::new_v4().simple()));
            let call = async move {
                match change {
                    "role" => members.set_role(acme, ada, &UserRole::Admin).await.map(|_| ()),
                    "remove" => members.remove(acme, ada).await,
                    _ => members.add(acme, &outsider).await.map(|_| ()),
                }
            };
            // Those that meet no lock here are not cut short.
            let waits = !(change == "add" && lock.contains("users"));
            if !waits {
                run(&holder, "rollback").await;
                continue;
            }
            let call = tokio::spawn(call);
            stage.until_waiting(1).await;
            stage.kill_waiting().await;
            run(&holder, "rollback").await;
            let outcome = must_end(call).await.unwrap();
            assert!(matches!(outcome, Err(PlatformError::Database(_))), "{lock} {change}: {outcome:?}");
            let after: Option<String> = stage.watch.query_one(state, &[]).await.unwrap().get(0);
            assert_eq!(after, before, "{lock} {change}");
            assert_eq!(recorded(&stage).await, counts, "{lock} {change}");
        }
    }
    let members = Members::new(&stage.db);
    members.set_role(stage.acme, ada, &UserRole::Admin).await.unwrap();
    members.remove(stage.acme, ada).await.unwrap();
}

/// Dropped while it waits, a call changes nothing either, and its connection goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_leaves_nothing() {
    let stage = Stage::set().await;
    stage.user(stage.acme, "first@example.com", "owner").await;
    let ada = stage.user(stage.acme, "ada@example.com", "member").await;
    let members = Members::new(&stage.db);
    let holder = stage.holder("lock table audit_events in share mode").await;
    tokio::select! {
        outcome = members.remove(stage.acme, ada) => panic!("{outcome:?}"),
        () = stage.until_waiting(1) => {}
    }
    stage.until_waiting(0).await;
    run(&holder, "commit").await;
    assert_eq!(members.get(stage.acme, ada).await.unwrap().role, UserRole::Member);
    members.remove(stage.acme, ada).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_every_member_once() {
    let stage = Stage::set().await;
    for number in 0..7 {
        stage.user(stage.acme, &format!("u{number}@example.com"), "member").await;
    }
    // The same moment: the id decides.
    stage.run("update memberships set created_at = '2026-01-01'").await;
    let members = Members::new(&stage.db);
    let (mut request, mut seen, mut pages) = (PageRequest::default().limit(3), BTreeSet::new(), 0);
    loop {
        let page = members.list(stage.acme, &request).await.unwrap();
        pages += 1;
        for member in &page.items {
            assert!(seen.insert(member.user_id), "{member:?} twice");
        }
        // One who comes or goes meanwhile moves no other.
        match page.next {
            Some(cursor) => request = request.after(cursor.to_string().parse().unwrap()),
            None => break,
        }
    }
    assert_eq!((seen.len(), pages), (7, 3));
    let one = *seen.first().unwrap();
    let own = Members::new(&stage.db).acting_as(Actor::User(one));
    assert_eq!(own.of_user(one, &PageRequest::default()).await.unwrap().items.len(), 1);
    let other = own.of_user(*seen.last().unwrap(), &PageRequest::default()).await;
    assert!(matches!(other, Err(PlatformError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_and_programs_see() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let text = shell.transcript(&[
        "member:list acme",
        "member:add acme ada@example.com --role owner",
        "member:add acme ADA@example.com",
        "member:add acme no-address",
        "member:add globex ada@example.com --json",
        "member:list acme",
        "member:list globex --json",
        "member:role acme ada@example.com admin",
        "member:remove acme ada@example.com",
        "member:add acme ben@example.com --role owner",
        "member:role acme ada@example.com member --json",
        "member:remove acme ada@example.com --json",
        "member:remove acme ada@example.com",
        "member:list nosuch",
        "user:list --duplicates",
    ]);
    let short = regex::Regex::new(r"(?m)^[0-9a-f]{8}  ").unwrap().replace_all(&text, "<short>   ").into_owned();
    assert_snapshot!(short);
    assert_eq!(stage.count("select count(*) from audit_events where actor_kind = 'operator'").await, 7);
    stage.run("drop table memberships cascade").await;
    let answer = shell.run(&["member:list", "acme"]);
    assert!(answer.code == 1 && answer.stderr.contains("--from-builtin memberships"), "{}", answer.stderr);
}

/// The seat of a member is given back when it leaves, in the same transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_seat_is_given_back_when_its_member_leaves() {
    let stage = Stage::set().await;
    stage.user(stage.acme, "first@example.com", "owner").await;
    let plan = NewSubscription::to("hobby".parse().unwrap());
    Subscriptions::new(&stage.db).subscribe(stage.acme, &plan).await.unwrap();
    let (members, quota) = (Members::new(&stage.db), Quota::new(&stage.db));
    let used = async || {
        let left = quota.left(stage.acme).await.unwrap();
        left.iter().find(|balance| balance.kind == QuotaKind::SEATS).unwrap().used
    };
    let member = members.add(stage.acme, &NewMember::of_address("ada@example.com")).await.unwrap();
    assert_eq!(used().await, 2);
    // Nobody else takes or gives back what is counted under its key.
    let (key, db) = (member.seat_key(), stage.db.errors::<PlatformError>());
    let refused = async |outcome: Result<(), PlatformError>| {
        assert!(outcome.unwrap_err().to_string().contains("use Members::add and Members::remove"));
        assert_eq!(used().await, 2);
    };
    refused(quota.consume(stage.acme, &QuotaKind::SEATS, 1, &key).await.map(|_| ())).await;
    refused(quota.release(stage.acme, &key).await.map(|_| ())).await;
    let (platform, seats) = (db.platform(), QuotaKind::SEATS);
    let consumed = platform.transaction(async |tx| quota.consume_in(tx, stage.acme, &seats, 1, &key).await).await;
    refused(consumed.map(|_| ())).await;
    let released = platform.transaction(async |tx| quota.release_in(tx, stage.acme, &key).await).await;
    refused(released.map(|_| ())).await;
    assert!(!quota.release(stage.acme, "\0").await.unwrap());
    assert_eq!(used().await, 2);
    members.remove(stage.acme, member.user_id).await.unwrap();
    assert_eq!(used().await, 1);
}

/// Another tenant than its home does not disable a person, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_names_the_home_where_a_user_cannot_be_disabled() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    Members::new(&stage.db).add(stage.globex, &NewMember::user(ada)).await.unwrap();
    let shell = Shell::on(&stage.database);
    assert_snapshot!(shell.transcript(&["user:disable globex ada@example.com", "user:disable acme ada@example.com"]), @"
    $ cgk user:disable globex ada@example.com
    --- stderr
    error: user ada@example.com is a member of tenant globex, and another tenant decides about it
      help: `cgk member:remove globex ada@example.com` removes it from this tenant alone.
    --- exit 1

    $ cgk user:disable acme ada@example.com
    --- stdout
    disabled user ada@example.com of tenant acme and revoked its sessions
    --- exit 0
    ");
}

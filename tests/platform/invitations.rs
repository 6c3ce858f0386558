//! Invitations: created, sent again, taken back, and accepted once.

use crate::stage::{Stage, must_end, run, slug};
use crate::support::cgk::Shell;
use cgk::{
    UserId,
    auth::{Auth, AuthSettings, ClientInfo, SecretToken, UserRole},
    platform::{
        Accepted, Actor, Invitation, InvitationState, Invitations, Invitee, Members, NewInvitation, NewMember,
        PageRequest, PlatformError,
    },
};
use insta::assert_snapshot;
use std::time::Duration;

const BEN: &str = "ben@example.com";

async fn invite(stage: &Stage) -> (Invitation, SecretToken) {
    Invitations::new(&stage.db).create(stage.acme, &NewInvitation::of_address(BEN).role(UserRole::Admin)).await.unwrap()
}

fn address(text: &str) -> Invitee {
    Invitee::Address(text.to_owned())
}

/// Lets an invitation end, as time would.
async fn expire(stage: &Stage) {
    stage
        .run("update invitations set created_at = now() - interval '2 days', expires_at = now() - interval '1 day'")
        .await;
}

async fn recorded(stage: &Stage, name: &str) -> i64 {
    let audit = format!("select count(*) from audit_events where action = '{name}'");
    let events = format!("select count(*) from domain_events where type = '{name}'");
    let (audit, events) = (stage.count(&audit).await, stage.count(&events).await);
    assert_eq!(audit, events, "{name}");
    audit
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_makes_a_new_user_a_member() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let invitations = Invitations::new(&stage.db);
    let by_ada = invitations.clone().acting_as(Actor::User(ada));
    let new = NewInvitation::of_address(BEN).role(UserRole::Admin);
    let (invitation, token) = by_ada.create(stage.acme, &new).await.unwrap();
    assert_eq!((invitation.state, invitation.invited_by), (InvitationState::Open, Some(ada)));
    // What is stored is not the token, and neither the log nor the event has anything of it.
    let text = token.reveal().to_owned();
    assert!(text.starts_with("cgk_inv_"));
    let stored = "select count(*) from invitations i, audit_events a, domain_events e
                   where concat(i, a, e) like '%' || $1 || '%'";
    assert_eq!(stage.watch.query_one(stored, &[&text]).await.unwrap().get::<_, i64>(0), 0);
    let hashes = "select count(*) from audit_events a, domain_events e, invitations i
                   where concat(a, e) like '%' || encode(i.token_hash, 'hex') || '%'";
    assert_eq!(stage.count(hashes).await, 0);

    assert_eq!(invitations.verify(&text).await.unwrap(), invitation);
    let Accepted { member, is_new_user, .. } = invitations.accept(&text, &address("Ben@Example.com")).await.unwrap();
    assert!(is_new_user && member.confirmed_at.is_some());
    assert_eq!((member.organization_id, member.role.clone()), (stage.acme, UserRole::Admin));
    let auth = Auth::new(&stage.db, AuthSettings::default());
    let (session, _) = auth.sessions().issue(stage.acme, member.user_id, &ClientInfo::default()).await.unwrap();
    assert_eq!(session.role, UserRole::Admin);

    let [listed] = by_ada.list(stage.acme, &PageRequest::default()).await.unwrap().items.try_into().unwrap();
    assert_eq!((listed.state, listed.accepted_by), (InvitationState::Accepted, Some(member.user_id)));
    for name in ["cgk.invitation.created", "cgk.invitation.accepted", "cgk.membership.created"] {
        assert_eq!(recorded(&stage, name).await, 1, "{name}");
    }
    let actors = "select string_agg(concat(action, ' ', actor_kind), ', ' order by action) from audit_events";
    let actors: String = stage.watch.query_one(actors, &[]).await.unwrap().get(0);
    let expected = "cgk.invitation.accepted user, cgk.invitation.created user, cgk.membership.created user, cgk.user.created system";
    assert_eq!(actors, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_makes_a_user_of_another_organization_a_member_of_both() {
    let stage = Stage::set().await;
    let ben = stage.user(stage.globex, "BEN@example.com", "owner").await;
    let (_, token) = invite(&stage).await;
    let accepted = Invitations::new(&stage.db).accept(token.reveal(), &Invitee::User(ben)).await.unwrap();
    assert!(!accepted.is_new_user && accepted.member.user_id == ben);
    let of_ben = Members::new(&stage.db).of_user(ben, &PageRequest::default()).await.unwrap().items;
    assert_eq!(of_ben.len(), 2);
    assert_eq!(stage.count("select count(*) from users").await, 1);
}

/// Another address gets nothing, and the invitation stays for its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_for_its_address_alone() {
    let stage = Stage::set().await;
    let eve = stage.user(stage.globex, "eve@example.com", "owner").await;
    let (_, token) = invite(&stage).await;
    let invitations = Invitations::new(&stage.db);
    // The Kelvin sign is no k, whatever the locale of the database folds.
    for other in
        [Invitee::User(eve), address("eve@example.com"), address("ben@example.com "), address("b\u{45}n@example.co")]
    {
        let outcome = invitations.accept(token.reveal(), &other).await;
        assert!(matches!(outcome, Err(PlatformError::OtherAddress)), "{other:?}: {outcome:?}");
    }
    let unknown = invitations.accept(token.reveal(), &Invitee::User(UserId(uuid::Uuid::nil()))).await;
    assert!(matches!(unknown, Err(PlatformError::NotFound { .. })));
    assert_eq!(stage.count("select count(*) from users").await, 1);
    invitations.accept(token.reveal(), &address(BEN)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_not_accepted() {
    let stage = Stage::set().await;
    let invitations = Invitations::new(&stage.db);
    let (invitation, token) = invite(&stage).await;
    let accept = async |token: &SecretToken| invitations.accept(token.reveal(), &address(BEN)).await;
    assert!(matches!(
        invitations.create(stage.acme, &NewInvitation::of_address("BEN@example.com")).await,
        Err(PlatformError::AlreadyInvited)
    ));

    expire(&stage).await;
    assert!(matches!(accept(&token).await, Err(PlatformError::InvitationExpired)));
    assert!(matches!(invitations.verify(token.reveal()).await, Err(PlatformError::InvitationExpired)));
    let (again, second) = invitations.resend(stage.acme, invitation.id).await.unwrap();
    assert_eq!((again.id, again.state), (invitation.id, InvitationState::Open));
    assert!(matches!(accept(&token).await, Err(PlatformError::NotFound { .. })), "the token before");

    invitations.revoke(stage.acme, invitation.id).await.unwrap();
    invitations.revoke(stage.acme, invitation.id).await.unwrap();
    assert!(matches!(accept(&second).await, Err(PlatformError::InvitationRevoked)));
    let resent = invitations.resend(stage.acme, invitation.id).await;
    assert!(matches!(resent, Err(PlatformError::InvitationRevoked)));

    let (third, token) = invite(&stage).await;
    accept(&token).await.unwrap();
    assert!(matches!(accept(&token).await, Err(PlatformError::InvitationUsed)));
    assert!(matches!(invitations.revoke(stage.acme, third.id).await, Err(PlatformError::InvitationUsed)));
    assert!(matches!(invitations.resend(stage.acme, third.id).await, Err(PlatformError::InvitationUsed)));
    let member = invitations.create(stage.acme, &NewInvitation::of_address(BEN)).await;
    assert!(matches!(member, Err(PlatformError::AlreadyMember)));

    // One whose time is over makes room for another.
    let other = NewInvitation::of_address("carl@example.com");
    invitations.create(stage.acme, &other).await.unwrap();
    expire(&stage).await;
    invitations.create(stage.acme, &other).await.unwrap();
    assert!(matches!(invitations.create(stage.acme, &other).await, Err(PlatformError::AlreadyInvited)));
    assert_eq!(recorded(&stage, "cgk.invitation.revoked").await, 1);
}

/// An open invitation does not outlive the membership of its address.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_added_or_removed_does_not_come_back_with_an_old_token() {
    let stage = Stage::set().await;
    let (invitations, members) = (Invitations::new(&stage.db), Members::new(&stage.db));
    // Ben is invited as an admin, and then added as a member.
    let (_, token) = invite(&stage).await;
    let ben = members.add(stage.acme, &NewMember::of_address(BEN)).await.unwrap().user_id;
    assert_eq!(recorded(&stage, "cgk.invitation.revoked").await, 1);
    members.remove(stage.acme, ben).await.unwrap();
    let refused = invitations.accept(token.reveal(), &Invitee::User(ben)).await.unwrap_err();
    assert!(matches!(refused, PlatformError::InvitationRevoked), "{refused:?}");
    // An invitation that is open when he is removed: here by a row that was written by hand.
    members.add(stage.acme, &NewMember::of_address(BEN)).await.unwrap();
    let (_, other) = invitations.create(stage.globex, &NewInvitation::of_address(BEN)).await.unwrap();
    stage
        .run(&format!(
            "update invitations set organization_id = '{}' where accepted_at is null and revoked_at is null",
            stage.acme
        ))
        .await;
    members.remove(stage.acme, ben).await.unwrap();
    let refused = invitations.accept(other.reveal(), &Invitee::User(ben)).await.unwrap_err();
    assert!(matches!(refused, PlatformError::InvitationRevoked), "{refused:?}");
    assert_eq!(recorded(&stage, "cgk.invitation.revoked").await, 2);
    // The control: a new invitation brings him back, and one to another organization is not touched.
    let (_, elsewhere) = invitations.create(stage.globex, &NewInvitation::of_address(BEN)).await.unwrap();
    let (_, new) = invite(&stage).await;
    invitations.accept(new.reveal(), &Invitee::User(ben)).await.unwrap();
    invitations.accept(elsewhere.reveal(), &Invitee::User(ben)).await.unwrap();
}

/// What a user has sent is worth no more than what the user may do.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_of_who_may_not_invite_any_more_is_refused() {
    let stage = Stage::set().await;
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let eve = stage.user(stage.acme, "eve@example.com", "admin").await;
    let (invitations, members) = (Invitations::new(&stage.db), Members::new(&stage.db).acting_as(Actor::User(ada)));
    let by_eve = invitations.clone().acting_as(Actor::User(eve));
    let mut tokens = Vec::new();
    for (address, role) in [("eve@other.example", UserRole::Admin), ("mia@example.com", UserRole::Member)] {
        tokens.push(by_eve.create(stage.acme, &NewInvitation::of_address(address).role(role)).await.unwrap().1);
    }
    let accept = async |index: usize, of: &str| invitations.accept(tokens[index].reveal(), &address(of)).await;
    let refused = |outcome: Result<Accepted, PlatformError>| {
        assert!(matches!(outcome, Err(PlatformError::InvitationRevoked)), "{outcome:?}");
    };
    members.set_role(stage.acme, eve, &UserRole::Member).await.unwrap();
    refused(accept(0, "eve@other.example").await);
    stage.run(&format!("update users set status = 'disabled' where id = '{eve}'")).await;
    members.set_role(stage.acme, eve, &UserRole::Admin).await.unwrap();
    refused(accept(0, "eve@other.example").await);
    stage.run(&format!("update users set status = 'active' where id = '{eve}'")).await;
    // The control: as an admin again, what she has sent can be accepted; it had not changed.
    accept(1, "mia@example.com").await.unwrap();
    members.remove(stage.acme, eve).await.unwrap();
    refused(accept(0, "eve@other.example").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_invite_and_what_cannot_be_an_invitation() {
    let stage = Stage::set().await;
    let invitations = Invitations::new(&stage.db);
    let mut allowed = Vec::new();
    for role in ["owner", "admin", "member"] {
        let user = stage.user(stage.acme, &format!("{role}@example.com"), role).await;
        let acting = invitations.clone().acting_as(Actor::User(user));
        for to in ["owner", "admin", "member"] {
            let new = NewInvitation::of_address(&format!("{role}.{to}@x.io")).role(to.into());
            match acting.create(stage.acme, &new).await {
                Ok((invitation, _)) => {
                    allowed.push(format!("{role} invites {to}"));
                    acting.resend(stage.acme, invitation.id).await.unwrap();
                    acting.revoke(stage.acme, invitation.id).await.unwrap();
                }
                Err(PlatformError::Forbidden { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
            let outside = acting.create(stage.globex, &new).await;
            assert!(matches!(outside, Err(PlatformError::NotFound { what: "organization" })), "{outside:?}");
        }
    }
    assert_eq!(
        allowed.join(", "),
        "owner invites owner, owner invites admin, owner invites member, admin invites admin, admin invites member"
    );

    // An admin does not take back what an owner has sent to an owner, nor anybody another organization's.
    let (to_owner, _) =
        invitations.create(stage.acme, &NewInvitation::of_address("o@x.io").role(UserRole::Owner)).await.unwrap();
    let admin = stage.user(stage.acme, "admin2@example.com", "admin").await;
    let by_admin = invitations.clone().acting_as(Actor::User(admin));
    assert!(matches!(by_admin.revoke(stage.acme, to_owner.id).await, Err(PlatformError::Forbidden { .. })));
    assert!(matches!(invitations.revoke(stage.globex, to_owner.id).await, Err(PlatformError::NotFound { .. })));
    assert!(matches!(invitations.resend(stage.globex, to_owner.id).await, Err(PlatformError::NotFound { .. })));

    for bad in [
        NewInvitation::of_address("no address"),
        NewInvitation::of_address("x@x").role(UserRole::Other("king".into())),
        NewInvitation::of_address("x@x").lifetime(Duration::ZERO),
        NewInvitation::of_address("x@x").lifetime(Duration::MAX),
    ] {
        assert!(matches!(invitations.create(stage.acme, &bad).await, Err(PlatformError::Invalid { .. })), "{bad:?}");
    }
    for text in ["", "cgk_inv_", "cgk_lnk_0000000000000000000000000000000000000000000000000"] {
        assert!(matches!(invitations.verify(text).await, Err(PlatformError::NotFound { .. })), "{text}");
    }
}

/// Users who were invited as the first migrations have it: `users.status`.
#[tokio::test(flavor = "multi_thread")]
async fn an_invited_user_is_active_then_and_confirmed_where_it_accepted() {
    let stage = Stage::set().await;
    stage.run("insert into users (organization_id, email, status) select id, 'ben@example.com', 'invited' from organizations where slug = 'globex'").await;
    stage.run("insert into users (organization_id, email, status) select id, 'carl@example.com', 'invited' from organizations where slug = 'acme'").await;
    let invitations = Invitations::new(&stage.db);
    let (_, token) = invite(&stage).await;
    let ben = invitations.accept(token.reveal(), &address(BEN)).await.unwrap();
    assert!(!ben.is_new_user);
    let (_, token) = invitations
        .create(stage.acme, &NewInvitation::of_address("carl@example.com").role(UserRole::Owner))
        .await
        .unwrap();
    let carl = invitations.accept(token.reveal(), &address("carl@example.com")).await.unwrap();
    assert!(!carl.is_new_user && carl.member.role == UserRole::Owner);
    let confirmed = "select string_agg(concat_ws(' ', u.email, u.status, o.slug, m.confirmed_at is not null), ', ' order by u.email, o.slug)
                       from memberships m join users u on u.id = m.user_id join organizations o on o.id = m.organization_id";
    let confirmed: String = stage.watch.query_one(confirmed, &[]).await.unwrap().get(0);
    assert_eq!(
        confirmed,
        "ben@example.com active acme t, ben@example.com active globex f, carl@example.com active acme t"
    );

    stage.run("update users set status = 'disabled'; delete from memberships").await;
    let (_, token) = invite(&stage).await;
    let disabled = invitations.accept(token.reveal(), &address(BEN)).await;
    assert!(matches!(disabled, Err(PlatformError::UserDisabled)), "{disabled:?}");
    assert_eq!(invitations.verify(token.reveal()).await.unwrap().state, InvitationState::Open);
}

/// Both wait for the organization's row; the second one finds the invitation used.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_accept_at_once_one_does() {
    let stage = Stage::set().await;
    let (_, token) = invite(&stage).await;
    let holder = stage.holder("select from organizations where slug = 'acme' for update").await;
    let accept = || {
        let (invitations, token) = (Invitations::new(&stage.db), token.clone());
        tokio::spawn(async move { invitations.accept(token.reveal(), &address(BEN)).await })
    };
    let (one, other) = (accept(), accept());
    stage.until_waiting(2).await;
    run(&holder, "commit").await;
    let outcomes = [must_end(one).await.unwrap(), must_end(other).await.unwrap()];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(PlatformError::InvitationUsed))), "{outcomes:?}");
}

/// Accepting and taking back exclude each other.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_accepted_or_revoked() {
    let stage = Stage::set().await;
    let (invitation, token) = invite(&stage).await;
    let holder = stage.holder("select from organizations where slug = 'acme' for update").await;
    let (invitations, acme) = (Invitations::new(&stage.db), stage.acme);
    let revoking = invitations.clone();
    let revoke = tokio::spawn(async move { revoking.revoke(acme, invitation.id).await });
    let accept = tokio::spawn(async move { invitations.accept(token.reveal(), &address(BEN)).await });
    stage.until_waiting(2).await;
    run(&holder, "commit").await;
    match (must_end(revoke).await.unwrap(), must_end(accept).await.unwrap()) {
        (Ok(()), Err(PlatformError::InvitationRevoked)) | (Err(PlatformError::InvitationUsed), Ok(_)) => {}
        both => panic!("{both:?}"),
    }
}

/// How many times eight callers try one invitation; `CGK_INVITATION_RACES=10000` is the long run.
fn races() -> usize {
    std::env::var("CGK_INVITATION_RACES").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_who_accept_at_once_exactly_one_wins_every_time() {
    let stage = Stage::set_with_pool(8).await;
    let ben = stage.user(stage.globex, BEN, "owner").await;
    let members = Members::new(&stage.db);
    for race in 0..races() {
        let (_, token) = invite(&stage).await;
        let calls: Vec<_> = (0..8)
            .map(|number| {
                let (invitations, token) = (Invitations::new(&stage.db), token.clone());
                let invitee = if number % 2 == 0 { Invitee::User(ben) } else { address(BEN) };
                tokio::spawn(async move { invitations.accept(token.reveal(), &invitee).await })
            })
            .collect();
        let mut winners = 0;
        for call in calls {
            match must_end(call).await.unwrap() {
                Ok(_) => winners += 1,
                Err(PlatformError::InvitationUsed) => {}
                Err(other) => panic!("race {race}: {other:?}"),
            }
        }
        assert_eq!(winners, 1, "race {race}");
        members.remove(stage.acme, ben).await.unwrap();
    }
    let expected = i64::try_from(races()).unwrap();
    assert_eq!(recorded(&stage, "cgk.invitation.accepted").await, expected);
    assert_eq!(recorded(&stage, "cgk.membership.created").await, expected);
}

/// Wherever its session is ended, nothing is left of an acceptance, and the same token does it then.
#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_whose_session_is_ended_leaves_nothing() {
    let stage = Stage::set().await;
    let ben = stage.user(stage.globex, BEN, "owner").await;
    let (_, token) = invite(&stage).await;
    let invitations = Invitations::new(&stage.db);
    let state = "select concat((select count(*) from users), (select count(*) from memberships), (select count(*) from audit_events),
                               (select count(*) from invitations where accepted_at is null))";
    let before: String = stage.watch.query_one(state, &[]).await.unwrap().get(0);
    for lock in [
        "select from organizations for update",
        "select from invitations for update",
        "select from users for update",
        "lock table memberships in share mode",
        "lock table audit_events in share mode",
        "lock table domain_events in share mode",
    ] {
        let holder = stage.holder(lock).await;
        let (accepting, text) = (invitations.clone(), token.clone());
        let call = tokio::spawn(async move { accepting.accept(text.reveal(), &Invitee::User(ben)).await });
        stage.until_waiting(1).await;
        stage.kill_waiting().await;
        run(&holder, "rollback").await;
        assert!(must_end(call).await.unwrap().is_err(), "{lock}");
        let after: String = stage.watch.query_one(state, &[]).await.unwrap().get(0);
        assert_eq!(after, before, "{lock}");
    }
    invitations.accept(token.reveal(), &Invitee::User(ben)).await.unwrap();
}

/// A tenant reads its own invitations and no hash, and writes none, as a role and inside a tenant of path mode.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reads_its_own_invitations() {
    let stage = Stage::set().await;
    invite(&stage).await;
    Invitations::new(&stage.db).create(stage.globex, &NewInvitation::of_address(BEN)).await.unwrap();
    let read = "select id from invitations";
    assert_eq!(stage.db.tenant(&slug("acme")).query(read, &[]).await.unwrap().len(), 1);
    for attack in [
        "select token_hash from invitations",
        "select i from invitations i",
        "update invitations set role = 'owner'",
        "insert into invitations (organization_id, email, token_hash, expires_at) select id, 'x@x', sha256('x'), now() + interval '1 day' from organizations",
        "delete from invitations",
    ] {
        let error = stage.db.tenant(&slug("acme")).execute(attack, &[]).await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().code(), "42501", "{attack}");
    }
    // The control: it is the policy.
    stage.run("alter table invitations disable row level security").await;
    assert_eq!(stage.db.tenant(&slug("acme")).query(read, &[]).await.unwrap().len(), 2);

    let stage = Stage::set_path_mode().await;
    invite(&stage).await;
    Invitations::new(&stage.db).create(stage.globex, &NewInvitation::of_address(BEN)).await.unwrap();
    assert_eq!(stage.db.tenant(&slug("globex")).query(read, &[]).await.unwrap().len(), 1);
    let moved =
        stage.db.tenant(&slug("globex")).execute("update invitations set organization_id = $1", &[&stage.acme]).await;
    assert_eq!(moved.unwrap_err().sqlstate().unwrap().code(), "42501");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_and_programs_see() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let text = shell.transcript(&[
        "invite:list acme",
        "invite:create acme ben@example.com --role admin",
        "invite:create acme BEN@example.com",
        "invite:create acme carl@example.com --expires 24h --json",
        "invite:create acme no-address",
        "invite:list acme",
        "invite:resend acme ben@example.com",
        "invite:revoke acme ben@example.com",
        "invite:revoke acme ben@example.com",
        "invite:list acme",
        "invite:list acme --all --json",
        "invite:revoke acme carl@example.com --json",
    ]);
    let text = regex::Regex::new(r"(?m)^[0-9a-f]{8}  ").unwrap().replace_all(&text, "<short>   ").into_owned();
    assert_snapshot!(regex::Regex::new("cgk_inv_[0-9A-Za-z]{49}").unwrap().replace_all(&text, "<token>"));
}

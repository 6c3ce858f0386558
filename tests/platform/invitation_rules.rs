//! Invitations are worth no more than who sent them, and end when their person is a member.

use crate::stage::{Stage, run};
use cgk::{
    UserId,
    auth::{Auth, AuthSettings, NewApiKey, NewUser, SecretToken, UserRole, UserStatus},
    platform::{Actor, DuplicateUsers, Invitations, Invitee, NewInvitation, PlatformError},
};

const BEN: &str = "ben@example.com";

/// What an API key has sent is worth no more than what the key may do.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_of_a_key_that_may_not_invite_any_more_is_refused() {
    let stage = Stage::set().await;
    let auth = Auth::new(&stage.db, AuthSettings::default());
    let keys = auth.api_keys();
    let new = NewApiKey::named("inviter").scope("owners:manage").scope("members:manage");
    let (key, _) = keys.create(stage.acme, &new).await.unwrap();
    let invitations = Invitations::new(&stage.db);
    let by_key = invitations.clone().acting_as(Actor::ApiKey(key.id));
    let new = NewInvitation::of_address(BEN).role(UserRole::Owner);
    let (invitation, token) = by_key.create(stage.acme, &new).await.unwrap();
    assert_eq!((invitation.invited_by, invitation.invited_by_key), (None, Some(key.id)));
    let refused = async |token: &SecretToken, why: &str| {
        let verified = invitations.verify(token.reveal()).await;
        assert!(matches!(verified, Err(PlatformError::InvitationRevoked)), "{why}: {verified:?}");
        let accepted = invitations.accept(token.reveal(), &Invitee::Address(BEN.into())).await;
        assert!(matches!(accepted, Err(PlatformError::InvitationRevoked)), "{why}: {accepted:?}");
    };
    for (why, back) in [
        ("scopes = '{members:manage}'", "scopes = '{members:manage,owners:manage}'"),
        ("created_at = now() - interval '2 days', expires_at = now() - interval '1 day'", "expires_at = null"),
        ("revoked_at = now()", "revoked_at = null"),
    ] {
        stage.run(&format!("update api_keys set {why}")).await;
        refused(&token, why).await;
        stage.run(&format!("update api_keys set {back}")).await;
        // The control.
        assert_eq!(invitations.verify(token.reveal()).await.unwrap(), invitation);
    }
    keys.revoke(stage.acme, key.id).await.unwrap();
    refused(&token, "revoked").await;
    stage.run("delete from api_keys").await;
    refused(&token, "deleted").await;
    // Another sender makes it good again.
    let ada = stage.user(stage.acme, "ada@example.com", "owner").await;
    let (again, token) =
        invitations.clone().acting_as(Actor::User(ada)).resend(stage.acme, invitation.id).await.unwrap();
    assert_eq!((again.invited_by, again.invited_by_key), (Some(ada), None));
    assert_eq!(
        invitations.accept(token.reveal(), &Invitee::Address(BEN.into())).await.unwrap().member.role,
        UserRole::Owner
    );
}

/// Every way to become a member ends the open invitation of the address, in the same transaction.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_becomes_a_member_has_no_open_invitation() {
    let stage = Stage::set().await;
    let auth = Auth::new(&stage.db, AuthSettings::default());
    let invitations = Invitations::new(&stage.db);
    let acme = stage.acme;
    let open = async |email: &str| {
        let sql =
            "select count(*) from invitations where lower(email) = $1 and accepted_at is null and revoked_at is null";
        stage.rows(sql, &[&email.to_lowercase()]).await[0].get::<_, i64>(0)
    };
    // By hand, with another home, whose address is that of the invited person.
    let ways = ["create@x.io", "insert@x.io", "confirm@x.io", "home@x.io", "merge@x.io", "membership@x.io"];
    for email in ways {
        invitations.create(acme, &NewInvitation::of_address(&email.to_uppercase())).await.unwrap();
        invitations.create(stage.globex, &NewInvitation::of_address(email)).await.unwrap();
        assert_eq!(open(email).await, 2);
    }
    auth.users().create(acme, &NewUser::active("create@x.io")).await.unwrap();
    stage.user(acme, "insert@x.io", "member").await;
    let invited = NewUser::invited("confirm@x.io");
    let invited = auth.users().create(acme, &invited).await.unwrap();
    assert_eq!(open("confirm@x.io").await, 2, "an invited user is no member yet");
    auth.users().set_status(acme, invited.id, &UserStatus::Active).await.unwrap();
    let elsewhere = "insert into organizations (slug, name, status) values ('third', 'x', 'active') returning id";
    let third: cgk::OrganizationId = stage.rows(elsewhere, &[]).await[0].get(0);
    let moved = stage.user(third, "home@x.io", "member").await;
    stage.run(&format!("update users set organization_id = '{acme}' where id = '{moved}'")).await;
    let person = stage.user(third, "merge@x.io", "member").await;
    let sql = format!(
        "insert into users (organization_id, email, status) values ('{acme}', 'merge@x.io', 'invited') returning id"
    );
    let duplicate: UserId = stage.rows(&sql, &[]).await[0].get(0);
    stage.run(&format!("update memberships set confirmed_at = now() where user_id = '{duplicate}'")).await;
    DuplicateUsers::new(&stage.db).merge(duplicate, person).await.unwrap();
    let member = stage.user(third, "membership@x.io", "member").await;
    let sql = format!(
        "insert into memberships (organization_id, user_id, confirmed_at) values ('{acme}', '{member}', now())"
    );
    stage.run(&sql).await;
    for email in ways {
        assert_eq!(open(email).await, 1, "{email}: that to the other organization stays");
    }
    // In the same transaction: what is rolled back ends no invitation.
    invitations.create(acme, &NewInvitation::of_address("back@x.io")).await.unwrap();
    let sql = format!("insert into users (organization_id, email, status) values ('{acme}', 'back@x.io', 'active')");
    run(&stage.watch, &format!("begin; {sql}; set constraints all immediate; rollback")).await;
    assert_eq!(open("back@x.io").await, 1);
    // The control: without the trigger it stays open.
    stage.run("alter table memberships disable trigger memberships_invitations").await;
    stage.run(&sql).await;
    assert_eq!(open("back@x.io").await, 1);
}

/// Without its sender an invitation would be one of the service.
#[tokio::test(flavor = "multi_thread")]
async fn the_invitations_of_a_user_who_is_deleted_are_revoked() {
    let stage = Stage::set().await;
    stage.user(stage.acme, "first@example.com", "owner").await;
    let ada = stage.user(stage.acme, "ada@example.com", "admin").await;
    let (invitations, new) = (Invitations::new(&stage.db), NewInvitation::of_address("crony@example.com"));
    let sent = invitations.clone().acting_as(Actor::User(ada)).create(stage.acme, &new).await.unwrap();
    let kept = invitations.create(stage.acme, &NewInvitation::of_address("own@example.com")).await.unwrap();
    stage.run(&format!("delete from users where id = '{ada}'")).await;
    let refused = invitations.accept(sent.1.reveal(), &Invitee::Address("crony@example.com".into())).await;
    assert!(matches!(refused, Err(PlatformError::InvitationRevoked)), "{refused:?}");
    // The control: that of the service is accepted.
    invitations.accept(kept.1.reveal(), &Invitee::Address("own@example.com".into())).await.unwrap();
}

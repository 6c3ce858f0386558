//! What a tenant does to `memberships` and to the new columns: it reads its own rows, and changes nothing. What an organization does
//! to a person that it has invited, or that has left it.

use crate::stage::{Stage, slug};
use cgk::{
    OrganizationId,
    auth::{Auth, AuthSettings, ClientInfo, NewUser, UserRole, UserStatus},
    platform::{Invitations, Invitee, Members, NewInvitation, NewMember, NewSignUp, SignUps},
    provisioning::NewOrganization,
};
use std::time::Duration;

const NEW: &str = "insert into memberships (organization_id, user_id, role, confirmed_at)
                   select id, (select id from users limit 1), 'owner', now() from organizations";

const ATTACKS: &[&str] = &[
    NEW,
    "update memberships set role = 'owner'",
    "delete from memberships",
    "truncate memberships",
    "select role from memberships for update",
    "select holds_address from users",
    "update users set holds_address = true",
    "alter table memberships disable row level security",
    "drop policy memberships_tenant on memberships",
    "select cgk_protect_shared_table('memberships', 'organization_id')",
];

const READ: &str = "select m.user_id from memberships m order by m.user_id";

async fn with_members() -> Stage {
    let stage = Stage::set().await;
    for (organization, name) in [(stage.acme, "acme"), (stage.globex, "globex")] {
        stage.user(organization, &format!("{name}@example.com"), "owner").await;
    }
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_role_reads_its_own_members_and_changes_nothing() {
    let stage = with_members().await;
    for tenant in ["acme", "globex"] {
        assert_eq!(stage.db.tenant(&slug(tenant)).query(READ, &[]).await.unwrap().len(), 1);
        for attack in ATTACKS {
            let outcome = stage.db.tenant(&slug(tenant)).execute(attack, &[]).await;
            let error = outcome.err().unwrap_or_else(|| panic!("{tenant}: {attack}"));
            assert_eq!(error.sqlstate().map(|state| state.code()), Some("42501"), "{attack}: {error:?}");
        }
    }
    assert_eq!(stage.db.platform().query(READ, &[]).await.unwrap().len(), 2);
    // The control: it is the policy that hides the other's row.
    stage.run("alter table memberships disable row level security").await;
    assert_eq!(stage.db.tenant(&slug("acme")).query(READ, &[]).await.unwrap().len(), 2);
}

/// Where the search path keeps tenants apart, the login may change tables; inside a tenant the rows of that tenant.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_inside_a_tenant_reaches_that_tenants_members() {
    let stage = Stage::set_path_mode().await;
    for (organization, name) in [(stage.acme, "acme"), (stage.globex, "globex")] {
        stage.user(organization, &format!("{name}@example.com"), "owner").await;
    }
    let (acme, globex) = (slug("acme"), slug("globex"));
    assert_eq!(stage.db.tenant(&acme).query(READ, &[]).await.unwrap().len(), 1);
    assert_eq!(stage.db.tenant(&acme).execute("update memberships set role = 'member'", &[]).await.unwrap(), 1);
    let other = "insert into memberships (organization_id, user_id, role) values ($1, (select id from users), 'owner')";
    let error = stage.db.tenant(&acme).execute(other, &[&stage.globex]).await.unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42501");
    let owners = "select count(*) from memberships where role = 'owner'";
    assert_eq!(stage.count(owners).await, 1);

    // Whether another organization has an address is not told by an error either.
    let user = "insert into users (organization_id, email) values ($1, 'ACME@example.com')";
    stage.db.tenant(&globex).execute(user, &[&stage.globex]).await.unwrap();
    assert_eq!(stage.count("select count(*) from memberships").await, 3);
}

const OWN: &str = "correct horse";
const SET_BY_EVIL: &str = "battery staple";

/// Whether the user of this address signs in to the organization with this password, and with which role.
async fn signs_in(auth: &Auth, organization: OrganizationId, password: &str) -> Option<UserRole> {
    let session = auth.sessions().sign_in(organization, "eve@example.com", password, &ClientInfo::default()).await;
    session.ok().map(|(session, _)| session.role)
}

/// An organization that has only invited a person, with a password of its own choice, never gets in to where the person is.
#[tokio::test(flavor = "multi_thread")]
async fn who_invites_a_person_with_a_password_does_not_sign_in_as_that_person_elsewhere() {
    for way in ["sign-up", "invitation", "status"] {
        let stage = Stage::set().await;
        let (auth, evil) = (Auth::new(&stage.db, AuthSettings::default()), stage.acme);
        let new = NewUser::invited("eve@example.com").role(UserRole::Owner).password(SET_BY_EVIL);
        let eve = auth.users().create(evil, &new).await.unwrap().id;
        let own = match way {
            "sign-up" => {
                let new = NewSignUp::of_address("eve@example.com", NewOrganization::new(slug("initech")));
                let signed_up = SignUps::new(&stage.db).sign_up("key", &new, Duration::ZERO).await.unwrap();
                stage.run("update organizations set status = 'active'").await;
                signed_up.organization_id
            }
            "invitation" => {
                let invitations = Invitations::new(&stage.db);
                let new = NewInvitation::of_address("eve@example.com").role(UserRole::Owner);
                let (_, token) = invitations.create(stage.globex, &new).await.unwrap();
                invitations.accept(token.reveal(), &Invitee::Address("eve@example.com".into())).await.unwrap();
                stage.globex
            }
            _ => {
                let new = NewMember::user(eve).role(UserRole::Owner);
                Members::new(&stage.db).add(stage.globex, &new).await.unwrap();
                auth.users().set_status(stage.globex, eve, &UserStatus::Active).await.unwrap();
                stage.globex
            }
        };
        assert_eq!(signs_in(&auth, own, SET_BY_EVIL).await, None, "{way}");
        assert!(auth.users().set_password(evil, eve, SET_BY_EVIL).await.is_err(), "{way}");
        assert!(auth.users().set_status(evil, eve, &UserStatus::Disabled).await.is_err(), "{way}");
        // Nor when it makes the person its member, which a change of the status does too.
        if way != "status" {
            Members::new(&stage.db).add(evil, &NewMember::user(eve)).await.unwrap();
        }
        assert!(auth.users().set_password(evil, eve, SET_BY_EVIL).await.is_err(), "{way}");
        // The control: the person's own organization sets one, which is for all of its organizations.
        auth.users().set_password(own, eve, OWN).await.unwrap();
        assert_eq!(signs_in(&auth, own, OWN).await, Some(UserRole::Owner), "{way}");
        assert!(signs_in(&auth, evil, OWN).await.is_some(), "{way}");
    }
}

/// Who has left an organization is none of its persons any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_a_person_has_left_does_not_change_it() {
    let stage = Stage::set().await;
    let (auth, members) = (Auth::new(&stage.db, AuthSettings::default()), Members::new(&stage.db));
    stage.user(stage.acme, "ada@example.com", "owner").await;
    let eve = stage.user(stage.acme, "eve@example.com", "member").await;
    members.add(stage.globex, &NewMember::user(eve)).await.unwrap();
    // The control: as long as it is a member, its home decides, and the other organization does not.
    auth.users().set_password(stage.acme, eve, OWN).await.unwrap();
    assert!(auth.users().set_password(stage.globex, eve, SET_BY_EVIL).await.is_err());
    members.remove(stage.acme, eve).await.unwrap();
    // Also if it takes the person in again.
    for again in [false, true] {
        if again {
            members.add(stage.acme, &NewMember::user(eve)).await.unwrap();
        }
        assert!(auth.users().set_password(stage.acme, eve, SET_BY_EVIL).await.is_err());
        assert!(auth.users().set_status(stage.acme, eve, &UserStatus::Disabled).await.is_err());
        assert_eq!(signs_in(&auth, stage.globex, OWN).await, Some(UserRole::Member));
    }
    auth.users().set_password(stage.globex, eve, "another horse").await.unwrap();
    assert_eq!(signs_in(&auth, stage.globex, "another horse").await, Some(UserRole::Member));
}

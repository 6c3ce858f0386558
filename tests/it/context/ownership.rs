//! Records of one organization, asked for by another.

use cgk::{
    OrganizationId, TenantContext,
    ownership::{Owned, ResourceNotFound},
};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
struct Invoice(OrganizationId);

impl Owned for Invoice {
    const RESOURCE: &'static str = "invoice";

    fn organization_id(&self) -> OrganizationId {
        self.0
    }
}

#[test]
fn a_record_of_another_organization_is_denied_or_not_there() {
    let (acme, globex) = (OrganizationId(Uuid::from_u128(1)), OrganizationId(Uuid::from_u128(2)));
    let context = TenantContext::new(acme, "acme".parse().unwrap()).role("owner");
    context.check_access(&Invoice(acme)).unwrap();
    assert_eq!(context.own(Some(Invoice(acme))).unwrap(), Invoice(acme));

    let denied = context.check_access(&Invoice(globex)).unwrap_err();
    assert_eq!((denied.status().as_u16(), denied.to_string().as_str()), (403, "access to this invoice is denied"));
    // Another's and none are the same in all that a client can see.
    let (others, none) = (context.own(Some(Invoice(globex))).unwrap_err(), context.own(None::<Invoice>).unwrap_err());
    assert_eq!(others, none);
    assert_eq!((others.status().as_u16(), others.to_string().as_str()), (404, "there is no such invoice"));
    assert!(!format!("{others:?} {denied:?}").contains(&globex.to_string()));
    // A role gives nothing in another organization.
    assert!(context.has_role("owner") && !context.has_role("Owner"));
    let missing: Result<Invoice, ResourceNotFound> = context.own(Some(Invoice(OrganizationId(Uuid::nil()))));
    assert!(missing.is_err());
}

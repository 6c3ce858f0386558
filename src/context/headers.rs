//! A context as a pair of headers, for messages and jobs.

use super::TenantContext;
use crate::config::percent;

/// The header that names the tenant.
pub(super) const TENANT: &str = "cgk-tenant";
/// The header that names the request and the caller.
pub(super) const CALLER: &str = "cgk-caller";
/// The version of the format.
const VERSION: &str = "1";

/// The headers do not contain a valid context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header {header} holds no tenant context: {why}")]
pub struct InvalidContext {
    /// The header.
    pub header: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl TenantContext {
    /// Writes the context as two headers, names and values in visible ASCII, for a message or job that another process
    /// handles.
    ///
    /// The headers are not a credential and are not signed: anyone who can write to the queue can name any tenant and
    /// any user. Send them only on channels that only the service writes to, and never accept them from a client. If
    /// others can write to the channel, use [`to_signed_headers`](Self::to_signed_headers).
    ///
    /// [`from_headers`](Self::from_headers) reads everything that this function writes. If a request id contains other
    /// characters than visible ASCII, they are removed, as in [`request_id`](Self::request_id); if nothing remains, a
    /// new id is written.
    ///
    /// ```
    /// use cgk::{OrganizationId, TenantContext};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let context = TenantContext::new(OrganizationId(Default::default()), "acme".parse()?).role("owner");
    /// let message: std::collections::HashMap<_, _> = context.to_headers().into_iter().collect();
    /// // … in the worker:
    /// let found = TenantContext::from_headers(|name| message.get(name).map(String::as_str))?;
    /// assert_eq!(found, context);
    /// # Ok(()) }
    /// ```
    pub fn to_headers(&self) -> [(&'static str, String); 2] {
        let tenant = format!("{VERSION};organization={};slug={}", self.organization_id, self.slug);
        let request = Self::plain_request_id(&self.request_id).unwrap_or_else(Self::new_request_id);
        let mut caller = format!("{VERSION};request={}", percent::encode(&request));
        if let Some(user) = self.user_id {
            caller.push_str(&format!(";user={user}"));
        }
        if let Some(key) = self.api_key_id {
            caller.push_str(&format!(";key={key}"));
        }
        if let Some(email) = &self.email {
            caller.push_str(&format!(";email={}", percent::encode(email)));
        }
        for role in &self.roles {
            caller.push_str(&format!(";role={}", percent::encode(role)));
        }
        [(TENANT, tenant), (CALLER, caller)]
    }

    /// Reads a context from the two headers of [`to_headers`](Self::to_headers). `get` returns the value of a header.
    ///
    /// # Errors
    ///
    /// A header is missing or malformed. Fields of later versions are ignored.
    pub fn from_headers<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, InvalidContext> {
        let tenant = Fields::read(TENANT, get(TENANT))?;
        let caller = Fields::read(CALLER, get(CALLER))?;
        let organization = tenant.one("organization")?.ok_or(tenant.wrong("it names no organization"))?;
        let slug = tenant.one("slug")?.ok_or(tenant.wrong("it names no slug"))?;
        let mut context = Self::new(
            organization.parse().map_err(|_| tenant.wrong("the organization is no UUID"))?,
            slug.parse().map_err(|_| tenant.wrong("the slug is none"))?,
        );
        let request = caller.one("request")?.ok_or(caller.wrong("it names no request"))?;
        if request.is_empty() || !request.chars().all(|c| c.is_ascii_graphic()) {
            return Err(caller.wrong("the request's id is not visible ASCII"));
        }
        context.request_id = request;
        let user = caller.one("user")?.map(|user| user.parse().map_err(|_| caller.wrong("the user is no UUID")));
        context.user_id = user.transpose()?;
        let key = caller.one("key")?.map(|key| key.parse().map_err(|_| caller.wrong("the API key is no UUID")));
        context.api_key_id = key.transpose()?;
        context.email = caller.one("email")?;
        context.roles = caller.all("role").map(ToOwned::to_owned).collect();
        Ok(context)
    }
}

/// The fields of a header, decoded.
struct Fields<'a> {
    header: &'static str,
    fields: Vec<(&'a str, String)>,
}

impl<'a> Fields<'a> {
    fn read(header: &'static str, value: Option<&'a str>) -> Result<Self, InvalidContext> {
        let wrong = |why| InvalidContext { header, why };
        let value = value.ok_or(wrong("it is missing"))?;
        let mut parts = value.split(';');
        if parts.next() != Some(VERSION) {
            return Err(wrong("it is of another version"));
        }
        let field = |part: &'a str| {
            let (name, text) = part.split_once('=')?;
            Some((name, String::from_utf8(percent::decode(text).ok()?).ok()?))
        };
        let fields = parts.map(|part| field(part).ok_or(wrong("a field cannot be read"))).collect::<Result<_, _>>()?;
        Ok(Self { header, fields })
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(found, _)| *found == name).map(|(_, text)| text.as_str())
    }

    /// Returns a field that may occur once.
    fn one(&self, name: &str) -> Result<Option<String>, InvalidContext> {
        let mut found = self.all(name);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(self.wrong("a field stands there more than once")),
            (first, None) => Ok(first.map(ToOwned::to_owned)),
        }
    }

    fn wrong(&self, why: &'static str) -> InvalidContext {
        InvalidContext { header: self.header, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        tenant::OrganizationId,
        user::{ApiKeyId, UserId},
    };
    use proptest::prelude::*;
    use uuid::Uuid;

    fn read(tenant: &str, caller: &str) -> Result<TenantContext, InvalidContext> {
        TenantContext::from_headers(|name| Some(if name == TENANT { tenant } else { caller }))
    }

    #[test]
    fn headers_that_hold_no_context_are_refused() {
        let id = "0195f0a0-0000-7000-8000-000000000001";
        let tenant = format!("1;organization={id};slug=acme");
        let caller = "1;request=r";
        assert_eq!(read(&tenant, caller).unwrap().slug.as_str(), "acme");
        assert_eq!(read(&format!("{tenant};region=eu"), caller).unwrap().slug.as_str(), "acme");
        for wrong in [
            "",
            "1",
            "2;organization=x;slug=acme",
            &format!("1;organization={id}"),
            "1;slug=acme",
            &format!("1;organization={id};slug=Acme"),
            &format!("1;organization={id};slug=acme;slug=globex"),
            &format!("1;organization={id};slug=acme;"),
            "1;organization=7;slug=acme",
        ] {
            assert_eq!(read(wrong, caller).unwrap_err().header, TENANT, "{wrong}");
        }
        for wrong in [
            "",
            "1",
            "1;user=x",
            "1;request=",
            "1;request=%0A",
            "1;request=r;user=7",
            "1;request=r;key=7",
            "1;request=r;email=%zz",
            "1;request=r;email=%ff",
            "1;request=r;request=s",
        ] {
            assert_eq!(read(&tenant, wrong).unwrap_err().header, CALLER, "{wrong}");
        }
        assert!(TenantContext::from_headers(|_| None).unwrap_err().to_string().contains("missing"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            ids in any::<(u128, Option<u128>, Option<u128>)>(), email in "\\PC{0,40}", roles in proptest::collection::vec("\\PC{0,20}", 0..4),
            request in "[!-~]{1,40}",
        ) {
            let mut context = TenantContext::new(OrganizationId(Uuid::from_u128(ids.0)), "my_co".parse().unwrap());
            if let Some(user) = ids.1 {
                context = context.user(UserId(Uuid::from_u128(user)), &email);
            }
            if let Some(key) = ids.2 {
                context = context.api_key(ApiKeyId(Uuid::from_u128(key)));
            }
            context = roles.iter().fold(context, |context, role| context.role(role)).request_id(&request);
            let [(_, tenant), (_, caller)] = context.to_headers();
            prop_assert!(tenant.bytes().chain(caller.bytes()).all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(read(&tenant, &caller).unwrap(), context.clone());
            let json = serde_json::to_string(&context).unwrap();
            prop_assert_eq!(serde_json::from_str::<TenantContext>(&json).unwrap(), context);
        }

        /// A job that is written can be read, whatever the public fields contain.
        #[test]
        fn what_is_written_can_be_read_whatever_the_fields_say(
            request in prop_oneof![Just(String::new()), "\\PC{0,40}", "[ \\t\\r\\n;=%]{0,8}", "[!-~]{1,900}"],
            email in proptest::option::of("\\PC{0,400}"), roles in proptest::collection::vec("\\PC{0,400}", 0..40),
        ) {
            let mut context = TenantContext::new(OrganizationId(Uuid::nil()), "acme".parse().unwrap());
            (context.request_id, context.email, context.roles) = (request.clone(), email, roles);
            let [(_, tenant), (_, caller)] = context.to_headers();
            let found = read(&tenant, &caller).unwrap();
            let is_plain = (1..=320).contains(&request.len()) && request.chars().all(|c| c.is_ascii_graphic());
            prop_assert_eq!(found.request_id == request, is_plain, "{:?}", found.request_id);
            context.request_id.clone_from(&found.request_id);
            prop_assert_eq!(found, context);
        }

        #[test]
        fn any_text_is_read_or_refused(tenant in "\\PC{0,60}", caller in "1;\\PC{0,60}") {
            let _ = read(&tenant, &caller);
        }
    }
}

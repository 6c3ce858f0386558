//! Where a page of a list begins, as an opaque text.

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cgk::{OrganizationId, axum::Problem};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const FORM: u8 = 1;
const SUM_LENGTH: usize = 8;

/// The list that a cursor belongs to: a cursor of another organization's list, or of another list, is refused.
#[derive(Clone, Copy)]
pub struct List<'a> {
    pub organization: OrganizationId,
    /// Its name, with what it is filtered by.
    pub name: &'a str,
}

/// The text that begins a page behind this record.
pub fn encode(list: List<'_>, last: Uuid) -> String {
    let mut bytes = vec![FORM];
    bytes.extend_from_slice(last.as_bytes());
    bytes.extend_from_slice(&sum(list, last));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The record that a page begins behind. 400 for what is no cursor of this list.
///
/// The sum keeps mistakes out, and no secrets in: whoever forges one only chooses where a page of the own list begins.
pub fn decode(list: List<'_>, text: &str) -> Result<Uuid, Problem> {
    let refused = || Problem::new(StatusCode::BAD_REQUEST).detail("the cursor is none of this list");
    // Of a longer text nothing is read.
    let bytes = if text.len() <= 64 { URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())? } else { Vec::new() };
    let Some((&FORM, rest)) = bytes.split_first() else { return Err(refused()) };
    let Some((id, given)) = rest.split_at_checked(16) else { return Err(refused()) };
    let last = Uuid::from_slice(id).map_err(|_| refused())?;
    if given == sum(list, last) { Ok(last) } else { Err(refused()) }
}

fn sum(list: List<'_>, last: Uuid) -> [u8; SUM_LENGTH] {
    let digest = Sha256::new().chain_update(list.organization.0).chain_update(last).chain_update(list.name).finalize();
    digest[..SUM_LENGTH].try_into().expect("SHA-256 is longer")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: List = List { organization: OrganizationId(Uuid::from_u128(1)), name: "jobs" };

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let last = Uuid::from_u128(7);
        assert_eq!(decode(ACME, &encode(ACME, last)).unwrap(), last);
    }

    #[test]
    fn what_is_no_cursor_of_the_list_is_refused() {
        let good = encode(ACME, Uuid::from_u128(7));
        let other = [List { organization: OrganizationId(Uuid::from_u128(2)), ..ACME }, List { name: "job", ..ACME }];
        let mut hostile: Vec<String> = other.map(|list| encode(list, Uuid::from_u128(7))).into();
        hostile.extend(
            ["", "x", "%00", "AQ", "' or 1=1 --", &good[1..], &good.repeat(2), &good.to_lowercase()].map(String::from),
        );
        // Each single character that is changed.
        for place in 0..good.len() {
            let mut changed = good.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            hostile.push(String::from_utf8(changed).unwrap());
        }
        for text in hostile {
            assert!(decode(ACME, &text).is_err(), "{text:?}");
        }
    }
}

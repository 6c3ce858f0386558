//! Translates the record of another version of cgk to this version's format.
//!
//! The query of another version describes the same catalogue differently. Both queries read the current schema, and the
//! differences between the two results are applied to the record, like the changes of a migration. Objects that were
//! created by hand are in both results, so they are not recorded.
//!
//! The record contains no information about aspects that only this version reads. Their current value is used and
//! logged, except for rights: drift reports a right that no version recorded.

use super::{
    carry::{carried_over, keyed},
    snapshot::read_shared_schema,
};
use crate::{catalogue::Query, db::Operator, error::Result};
use std::collections::HashMap;

/// The results of the queries of different versions for the shared schema, each executed once.
#[derive(Default)]
pub(super) struct Looks {
    answers: HashMap<String, Vec<String>>,
}

impl Looks {
    /// Returns a record's objects in the format of this version's query. A record of an unknown query is not changed.
    /// Only reads.
    pub(super) async fn translated(
        &mut self,
        operator: &Operator,
        digest: &str,
        objects: Vec<String>,
    ) -> Result<Vec<String>> {
        match Query::with_digest(digest) {
            Some(query) if query != Query::CURRENT => {
                let earlier = self.of(operator, query).await?;
                let current = self.of(operator, Query::CURRENT).await?;
                let (translated, taken) = without_new_rights(&objects, &carried_over(&objects, &earlier, &current));
                if !taken.is_empty() {
                    tracing::warn!(
                        "cgk accepts objects as they are that earlier versions did not record: {}",
                        taken.join("; ")
                    );
                }
                Ok(translated)
            }
            Some(_) => Ok(objects),
            None => {
                tracing::warn!(query = digest, "an unknown version of cgk wrote the record of the shared schema");
                Ok(objects)
            }
        }
    }

    async fn of(&mut self, operator: &Operator, query: Query) -> Result<Vec<String>> {
        let digest = query.digest();
        if let Some(answer) = self.answers.get(&digest) {
            return Ok(answer.clone());
        }
        let answer = read_shared_schema(operator, query).await?.objects;
        self.answers.insert(digest, answer.clone());
        Ok(answer)
    }
}

/// Removes rights that are not in the record from the translated objects. Also returns the other new aspects of the
/// recorded objects.
fn without_new_rights(record: &[String], translated: &[String]) -> (Vec<String>, Vec<String>) {
    let known = keyed(record);
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    for (key, facts) in keyed(translated) {
        let facts = match known.get(&key) {
            Some(old) if key[0] != "columns" => {
                let has = |aspect: &str| {
                    old.split('\u{1f}').any(|fact| fact.split_once('=').is_some_and(|(of, _)| of == aspect))
                };
                let (new, mut rest): (Vec<&str>, Vec<&str>) = facts
                    .split('\u{1f}')
                    .partition(|fact| fact.split_once('=').is_some_and(|(aspect, _)| !has(aspect)));
                for fact in new.into_iter().filter(|fact| !fact.starts_with("grants=")) {
                    taken.push(format!("{} {} {}: {fact}", key[0], key[1], key[2]));
                    rest.push(fact);
                }
                rest.join("\u{1f}")
            }
            _ => facts.to_owned(),
        };
        kept.extend(key.map(ToOwned::to_owned).into_iter().chain([facts]));
    }
    (kept, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_facts_are_taken_and_new_rights_are_not() {
        let rows =
            |rows: &[[&str; 4]]| -> Vec<String> { rows.iter().flatten().map(|text| (*text).to_owned()).collect() };
        let record = rows(&[["columns", "t", "", "a, b"], ["table", "", "t", "owner=x"]]);
        let translated = rows(&[
            ["columns", "t", "", "a, b"],
            ["statistics", "", "s", "kinds=d"],
            ["table", "", "t", "owner=x\u{1f}logging=logged\u{1f}grants=mallory: insert"],
        ]);
        let (kept, taken) = without_new_rights(&record, &translated);
        let expected = rows(&[
            ["columns", "t", "", "a, b"],
            ["statistics", "", "s", "kinds=d"],
            ["table", "", "t", "owner=x\u{1f}logging=logged"],
        ]);
        assert_eq!((kept, taken), (expected, vec!["table  t: logging=logged".to_owned()]));
    }
}

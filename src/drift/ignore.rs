//! Takes known differences out of a report: they are counted and shown, and are no drift.

use super::report::{Difference, DriftReport, IgnoredDifference};
use crate::{config::IgnoreRule, ident::SchemaName};

/// Moves the differences that a rule is about to the ignored ones. With `everything` the rules that matched nothing are noted.
pub(super) fn apply(report: &mut DriftReport, rules: &[IgnoreRule], everything: bool) {
    let mut used = vec![false; rules.len()];
    let mut sort = |schema: &str, differences: &mut Vec<Difference>| -> Vec<IgnoredDifference> {
        let (mut kept, mut ignored) = (Vec::new(), Vec::new());
        for difference in differences.drain(..) {
            match rules.iter().position(|rule| rule.matches(schema, &difference.kind, &difference.object)) {
                Some(place) => {
                    used[place] = true;
                    ignored.push(IgnoredDifference { difference, reason: rules[place].reason.clone() });
                }
                None => kept.push(difference),
            }
        }
        *differences = kept;
        ignored
    };
    for drift in report.public.iter_mut().chain(&mut report.tenants) {
        drift.ignored = sort(drift.schema.as_str(), &mut drift.differences);
    }
    let public = SchemaName::public();
    report.ignored = sort(public.as_str(), &mut report.rights);
    report.ignored.extend(sort("", &mut report.strays));
    if everything {
        report.unused_rules = rules.iter().zip(used).filter(|(_, used)| !used).map(|(rule, _)| rule.clone()).collect();
    }
}

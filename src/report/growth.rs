//! Reads an earlier report, and compares sizes with it.

use super::{
    ReportOptions,
    model::{Growth, ReportedTenant, TenantGrowth},
};
use crate::error::{ReportError, Result};
use serde::{Deserialize, Deserializer, de};
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    time::SystemTime,
};

/// The fields of an earlier report's JSON that the comparison needs.
#[derive(Clone, Debug, Deserialize)]
pub struct EarlierReport {
    #[serde(deserialize_with = "instant")]
    generated_at: SystemTime,
    tenants: Vec<EarlierTenant>,
}

#[derive(Clone, Debug, Deserialize)]
struct EarlierTenant {
    tenant: String,
    id: String,
    bytes: Option<u64>,
}

impl EarlierReport {
    /// Reads the JSON of a report that `cgk report --data FILE` has written.
    ///
    /// # Errors
    ///
    /// Kind `Invalid`: the text is not the JSON of a report.
    pub fn parse(json: &str) -> Result<Self> {
        Ok(serde_json::from_str(json).map_err(|source| ReportError::NotAReport { source })?)
    }
}

fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(de::Error::custom)
}

/// Compares with the earlier report, if there is one and sizes are known. Tenants are matched by the id of their
/// organization, which does not change with the slug.
pub(super) fn compared(
    options: &ReportOptions,
    tenants: &mut [ReportedTenant],
    sizes_known: bool,
) -> Result<Option<Growth>> {
    let Some(earlier) = &options.earlier else { return Ok(None) };
    let ids: HashSet<&str> = tenants.iter().map(|tenant| tenant.id.as_str()).collect();
    let gone: Vec<&EarlierTenant> = earlier.tenants.iter().filter(|then| !ids.contains(then.id.as_str())).collect();
    if !gone.is_empty() && gone.len() == earlier.tenants.len() {
        return Err(ReportError::OtherFleet { tenants: gone.len() }.into());
    }
    if !sizes_known {
        return Ok(None);
    }
    let before: HashMap<&str, &EarlierTenant> = earlier.tenants.iter().map(|then| (then.id.as_str(), then)).collect();
    let (mut appeared, mut changed) = (Vec::new(), Vec::new());
    for tenant in tenants.iter_mut() {
        let Some(then) = before.get(tenant.id.as_str()) else {
            appeared.push(tenant.tenant.clone());
            continue;
        };
        tenant.bytes_before = then.bytes;
        let (bytes_before, bytes) = (then.bytes.unwrap_or_default(), tenant.bytes.unwrap_or_default());
        if bytes_before != bytes {
            changed.push(TenantGrowth { tenant: tenant.tenant.clone(), bytes_before, bytes });
        }
    }
    changed.sort_by_key(|tenant| Reverse(tenant.bytes.abs_diff(tenant.bytes_before)));
    changed.truncate(options.named_max);
    let named = |slugs: Vec<String>| slugs.into_iter().take(options.named_max).collect();
    Ok(Some(Growth {
        since: earlier.generated_at,
        bytes_before: earlier.tenants.iter().filter_map(|then| then.bytes).sum(),
        bytes_now: tenants.iter().filter_map(|tenant| tenant.bytes).sum(),
        tenants_before: earlier.tenants.len(),
        appeared_count: appeared.len(),
        appeared: named(appeared),
        gone_count: gone.len(),
        gone: named(gone.iter().map(|then| then.tenant.clone()).collect()),
        changed,
    }))
}

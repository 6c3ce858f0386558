//! Reads the tenants' sizes on disk.

use super::model::{ReportedTenant, SizeBucket, Sizes};
use crate::{
    db::Operator,
    error::Result,
    ident::SchemaName,
    migrate::FleetState,
    registry::{SchemaContents, SizeSource, contents_of},
};
use std::collections::HashMap;

/// Returns the contents of every tenant's schema, by the schema's name, and the source of their sizes.
pub(super) async fn read(
    operator: &Operator,
    state: &FleetState,
) -> Result<(HashMap<String, SchemaContents>, SizeSource)> {
    let schemas: Vec<SchemaName> =
        state.tenants.iter().map(|found| SchemaName::of_tenant(&found.tenant.slug)).collect();
    let contents = contents_of(operator, &schemas).await?;
    // All values are from one query.
    let source = contents.values().next().map(|contents| contents.size_source).unwrap_or_default();
    Ok((contents, source))
}

pub(super) fn summary(tenants: &[ReportedTenant], source: SizeSource) -> Sizes {
    let sum = |value: fn(&ReportedTenant) -> Option<u64>| tenants.iter().filter_map(value).sum();
    let mut sorted: Vec<u64> = tenants.iter().filter_map(|tenant| tenant.bytes).collect();
    sorted.sort_unstable();
    Sizes {
        source,
        tenants: sorted.len(),
        bytes: sum(|tenant| tenant.bytes),
        tables: sum(|tenant| tenant.tables),
        rows_estimated: sum(|tenant| tenant.rows_estimated),
        median_bytes: percentile(&sorted, 50),
        p95_bytes: percentile(&sorted, 95),
        largest_bytes: sorted.last().copied().unwrap_or_default(),
        buckets: buckets(&sorted),
    }
}

/// Returns the smallest value that is not exceeded by this many percent of the values.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Returns ranges that start at 0, 1 MB, 4 MB, 16 MB and so on. Below 1 MB they start at 64 kB and 256 kB.
fn buckets(sorted: &[u64]) -> Vec<SizeBucket> {
    let edges: Vec<u64> = std::iter::once(0).chain((16..62).step_by(2).map(|power| 1 << power)).collect();
    let of = |pair: &[u64]| SizeBucket {
        from_bytes: pair[0],
        below_bytes: pair[1],
        tenants: sorted.partition_point(|size| *size < pair[1]) - sorted.partition_point(|size| *size < pair[0]),
    };
    let buckets: Vec<SizeBucket> = edges.windows(2).map(of).collect();
    let is_used = |bucket: &SizeBucket| bucket.tenants > 0;
    match (buckets.iter().position(is_used), buckets.iter().rposition(is_used)) {
        (Some(first), Some(last)) => buckets[first..=last].to_vec(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_are_there() {
        assert_eq!((percentile(&[], 50), percentile(&[7], 95)), (0, 7));
        assert_eq!((percentile(&[1, 2, 3, 4], 50), percentile(&[1, 2, 3, 4], 95)), (2, 4));
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 95)), (50, 95));
    }

    #[test]
    fn every_tenant_is_in_one_bucket() {
        assert_eq!(buckets(&[]), []);
        let sizes = [0, 0, 65_535, 65_536, 1 << 20, 5 << 20];
        let found = buckets(&sizes);
        assert_eq!(found.iter().map(|bucket| bucket.tenants).collect::<Vec<_>>(), [3, 1, 0, 1, 1]);
        assert!(found.windows(2).all(|pair| pair[0].below_bytes == pair[1].from_bytes));
    }
}

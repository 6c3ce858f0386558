//! What the tenants take on disk.

use super::model::{ReportedTenant, SizeBucket, SizeSource, Sizes};
use crate::{
    db::{Operator, milliseconds},
    error::{Result, while_doing},
    ident::SchemaName,
    migrate::FleetState,
    registry::{SchemaContents, SizeMethod, contents_by},
};
use std::collections::HashMap;
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

/// The contents of every tenant's schema, by the schema's name. If a table stays locked, or the files of all tables take too
/// long to look at, the sizes are those of the catalogue.
pub(super) async fn read(
    operator: &Operator,
    state: &FleetState,
) -> Result<(HashMap<String, SchemaContents>, SizeSource)> {
    let schemas: Vec<SchemaName> =
        state.tenants.iter().map(|found| SchemaName::of_tenant(&found.tenant.slug)).collect();
    limit(operator, true).await?;
    let measured = contents_by(operator, &schemas, SizeMethod::Files).await;
    limit(operator, false).await?;
    match measured {
        Ok(contents) => Ok((contents, SizeSource::Measured)),
        Err(error) if took_too_long(error.sqlstate()) => {
            let contents = contents_by(operator, &schemas, SizeMethod::Catalogue).await?;
            Ok((contents, SizeSource::Estimated))
        }
        Err(error) => Err(error),
    }
}

/// Lets the session's statements fail that wait or run longer than the configuration allows, or lifts these limits.
async fn limit(operator: &Operator, limited: bool) -> Result<()> {
    let session = operator.session();
    let (lock, statement) = match limited {
        true => (milliseconds(session.lock_timeout), milliseconds(session.statement_timeout)),
        false => ("0".to_owned(), "0".to_owned()),
    };
    let sql = "select pg_catalog.set_config('lock_timeout', $1, false), pg_catalog.set_config('statement_timeout', $2, false)";
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&lock, Type::TEXT), (&statement, Type::TEXT)];
    operator
        .client()
        .query_typed(sql, &params)
        .await
        .map(drop)
        .map_err(while_doing("limit the time of the next statement"))
}

fn took_too_long(state: Option<&SqlState>) -> bool {
    state.is_some_and(|state| [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(state))
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

/// The smallest value that so many of 100 are not above.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Ranges that begin at 0, 1 MB, 4 MB, 16 MB and so on. Below 1 MB they begin at 64 kB and 256 kB.
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

//! The known differences between schemas and migrations.

use super::model::{DriftSource, DriftedSchema, ReportedDrift};
use crate::{
    doctor::KnownDrift,
    drift::{DriftReport, SchemaDrift},
    error::Result,
};

/// How many differences of one schema the report shows.
const DIFFERENCES_MAX: usize = 5;

pub(super) fn summary(known: Result<KnownDrift>, named_max: usize) -> ReportedDrift {
    let drift = |source, clean, different, not_compared, schemas, others| ReportedDrift {
        source,
        clean,
        different,
        not_compared,
        schemas,
        others,
    };
    match known {
        Ok(KnownDrift::Compared(report)) => compared(&report, named_max),
        Ok(KnownDrift::Recorded { schemas, unchanged }) => {
            let others = schemas.iter().filter(|schema| !unchanged.contains(schema.as_str()));
            let named = others.take(named_max).map(|schema| DriftedSchema {
                schema: schema.as_str().to_owned(),
                count: 0,
                differences: Vec::new(),
                not_compared: Some("not compared since its last change, or differs".into()),
            });
            let (clean, named) = (unchanged.len(), named.collect());
            drift(DriftSource::Recorded, clean, 0, schemas.len() - clean, named, Vec::new())
        }
        Ok(KnownDrift::NoFleet) | Err(_) => drift(DriftSource::Unknown, 0, 0, 0, Vec::new(), Vec::new()),
    }
}

fn compared(report: &DriftReport, named_max: usize) -> ReportedDrift {
    let number = |wanted: fn(&&SchemaDrift) -> bool| report.schemas().filter(wanted).count();
    let mut unclean: Vec<&SchemaDrift> = report.schemas().filter(|schema| !schema.is_clean()).collect();
    unclean.sort_by_key(|schema| schema.differences.is_empty());
    let others = report.rights.iter().map(|right| format!("rights: {right}"));
    let others = others.chain(report.strays.iter().map(ToString::to_string));
    ReportedDrift {
        source: DriftSource::Compared,
        clean: number(|schema| schema.is_clean()),
        different: number(|schema| !schema.differences.is_empty()),
        not_compared: number(|schema| schema.differences.is_empty() && schema.not_compared.is_some()),
        schemas: unclean.into_iter().take(named_max).map(schema).collect(),
        others: others.take(named_max).collect(),
    }
}

fn schema(drift: &SchemaDrift) -> DriftedSchema {
    DriftedSchema {
        schema: drift.schema.as_str().to_owned(),
        count: drift.differences.len(),
        differences: drift.differences.iter().take(DIFFERENCES_MAX).map(ToString::to_string).collect(),
        not_compared: drift.not_compared.map(|reason| reason.to_string()),
    }
}

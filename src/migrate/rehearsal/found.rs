//! What the shared schema holds.

use super::record::Snapshot;
use crate::{
    catalogue::{self, Query, Schemas, objects_sql_of, settings_sql},
    db::{
        Operator,
        message::{self, Answer},
    },
    error::{Result, while_doing},
    ident::SchemaName,
};

/// What a version's query says of the shared schema as it is.
pub(super) async fn look(operator: &Operator, query: Query) -> Result<Snapshot> {
    let schema = SchemaName::public();
    let schemas = Schemas::One { schema: &schema, role: None };
    let isolation = operator.config().isolation();
    let sql = format!(
        "set transaction isolation level read committed, read only;
{};
{};
",
        settings_sql(schema.as_str()),
        objects_sql_of(query, &schemas, isolation),
    );
    let doing = || while_doing("read the catalogue of schema \"public\"");
    let answer = message::run(operator.client(), &sql).await.map_err(doing())?.complete().map_err(doing())?;
    Ok(Snapshot { fingerprint: String::new(), objects: objects(&answer) })
}

/// What belongs to the migrations: not the tables of cgk's own that are made beside them. Functions of cgk's own come with the
/// bundled files.
fn objects(answer: &Answer) -> Vec<String> {
    let is_own = |name: &str| name.starts_with("cgk_");
    catalogue::objects(answer)
        .filter(|[kind, parent, name, _]| !is_own(parent) && (*kind != "table" || !is_own(name)))
        .flatten()
        .map(ToOwned::to_owned)
        .collect()
}

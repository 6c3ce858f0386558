//! Reads the objects of the shared schema.

use super::record::SchemaSnapshot;
use crate::{
    catalogue::{self, Query, Schemas, ServiceAccess, objects_sql_of, settings_sql},
    db::{
        Operator,
        message::{self, Answer},
    },
    error::{Result, while_doing},
    ident::SchemaName,
};

/// Reads the current shared schema, as the query of a version describes it.
pub(super) async fn read_shared_schema(operator: &Operator, query: Query) -> Result<SchemaSnapshot> {
    let schema = SchemaName::public();
    let schemas = Schemas::One { schema: &schema, role: None };
    let sql = format!(
        "set transaction isolation level read committed, read only;
{};
{};
",
        settings_sql(schema.as_str()),
        objects_sql_of(query, &schemas, ServiceAccess::of(operator)),
    );
    let doing = || while_doing("read the catalogue of schema \"public\"");
    let answer = message::run(operator.client(), &sql).await.map_err(doing())?.complete().map_err(doing())?;
    Ok(SchemaSnapshot { fingerprint: String::new(), objects: objects(&answer) })
}

/// Returns the objects of the migrations, without the tables that cgk creates itself. The functions of cgk are created
/// by the bundled files.
fn objects(answer: &Answer) -> Vec<String> {
    let is_own = |name: &str| name.starts_with("cgk_");
    catalogue::objects(answer)
        .filter(|[kind, parent, name, _]| !is_own(parent) && (*kind != "table" || !is_own(name)))
        .flatten()
        .map(ToOwned::to_owned)
        .collect()
}

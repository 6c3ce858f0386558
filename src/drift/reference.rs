//! Reads the recorded objects of the migrations: of the tenants' set from a rehearsal, of the shared schema from its
//! migrations.
//!
//! A comparison runs no user code. The only exception is the adoption of a shared schema that cgk never migrated,
//! because it has no record. Then the files run in an empty schema in a transaction that is rolled back.

use super::objects::Catalogue;
use crate::{
    access::isolation,
    catalogue::{Fingerprint, Schemas, ServiceAccess, fingerprint_sql, fingerprints, objects_sql, settings_sql},
    db::{Operator, message, message_head::set_local, milliseconds},
    error::{Error, MigrationError, Result, while_doing},
    ident::{RoleName, SchemaName},
    migrate::{self, Applied, MigrationFile, Migrations, Set, encodable, execute::guard, rehearsal},
    sql::rewrite::{self, Edits},
};
use std::collections::HashMap;

/// The objects that some of a set's migrations create.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) fingerprint: Fingerprint,
    pub(super) catalogue: Catalogue,
}

/// References by applied files, each read when it is first needed.
pub(super) struct References<'a> {
    operator: &'a Operator,
    migrations: &'a Migrations,
    set: Set,
    read: HashMap<Vec<usize>, Option<Reference>>,
}

impl<'a> References<'a> {
    pub(super) fn new(operator: &'a Operator, migrations: &'a Migrations, set: Set) -> Self {
        Self { operator, migrations, set, read: HashMap::new() }
    }

    /// Returns the objects that the files with these indexes create, in this order; `None` if they are not recorded.
    pub(super) async fn of(&mut self, applied: &[usize]) -> Result<Option<&Reference>> {
        if !self.read.contains_key(applied) {
            let reference = read(self.operator, self.migrations, self.set, applied).await?;
            self.read.insert(applied.to_vec(), reference);
        }
        Ok(self.read[applied].as_ref())
    }
}

async fn read(operator: &Operator, migrations: &Migrations, set: Set, applied: &[usize]) -> Result<Option<Reference>> {
    let record = match set {
        Set::Public => rehearsal::shared::given(operator).await?.map(|objects| (String::new(), objects)),
        // Only prefixes of the set are rehearsed.
        Set::Tenant if applied.iter().copied().eq(0..applied.len()) => {
            let rows: Vec<Applied> = migrations.set(set).files()[..applied.len()].iter().map(Applied::of).collect();
            rehearsal::given(operator, &rows).await?.map(|record| (record.fingerprint, record.objects))
        }
        Set::Tenant => None,
    };
    Ok(record.map(|(fingerprint, objects)| Reference {
        fingerprint: Fingerprint(fingerprint),
        catalogue: Catalogue::of_record(&objects),
    }))
}

/// Returns the objects that the files with these indexes create, for a schema to adopt. If the objects of the tenants'
/// files are not recorded, the files run in a temporary schema.
pub(super) async fn to_adopt(
    operator: &Operator,
    migrations: &Migrations,
    set: Set,
    applied: &[usize],
) -> Result<Reference> {
    if set == Set::Public {
        let files: Vec<_> = applied.iter().map(|index| &migrations.set(set).files()[*index]).collect();
        return build(operator, set, &files).await;
    }
    // A prefix of the set can be adopted even if the complete set cannot be applied.
    match migrate::rehearse(operator, migrations).await {
        Ok(_)
        | Err(
            Error::Migration(MigrationError::Rehearsal { .. })
            | Error::Migration(MigrationError::NotRehearsable { .. }),
        ) => {}
        Err(error) => return Err(error),
    }
    if let Some(reference) = read(operator, migrations, set, applied).await? {
        return Ok(reference);
    }
    let made = rehearsal::try_first(operator, migrations, applied.len()).await?;
    Ok(Reference { fingerprint: Fingerprint(made.fingerprint), catalogue: Catalogue::of_record(&made.objects) })
}

/// Runs the files in one message without BEGIN, so in one implicit transaction. Its last statement rolls it back. An
/// error or a lost connection rolls it back as well, so nothing can remain.
async fn build(operator: &Operator, set: Set, files: &[&MigrationFile]) -> Result<Reference> {
    operator.facts().require_schema_creation()?;
    encodable::check(operator, files).await?;
    operator.reset_session().await.map_err(while_doing("reset the session"))?;
    operator.mark_session();
    let schema = SchemaName::scratch();
    let mark = format!("{:08x}:", rand::random::<u32>());
    let doing = || while_doing("compute the expected schema");
    let answer =
        message::run(operator.client(), &script(operator, set, files, &schema, &mark)).await.map_err(doing())?;
    if let Some(source) = answer.error {
        let reached =
            answer.rows.iter().rev().find_map(|(_, row)| row.get(0)?.strip_prefix(&mark)?.parse::<usize>().ok());
        return Err(match reached.and_then(|index| files.get(index)) {
            Some(file) if !crate::sqlstate::is_lost(&source) => {
                Error::Migration(MigrationError::NoReference { file: file.path().to_owned(), source: source.into() })
            }
            _ => doing()(source),
        });
    }
    let fingerprint = fingerprints(&answer).next().map(|(_, fingerprint)| fingerprint);
    let fingerprint = fingerprint.ok_or_else(|| Error::Unexpected {
        doing: "compute the expected schema".into(),
        found: "no answer about the schema".into(),
    })?;
    Ok(Reference { fingerprint, catalogue: Catalogue::of(&answer) })
}

fn script(operator: &Operator, set: Set, files: &[&MigrationFile], schema: &SchemaName, mark: &str) -> String {
    let session = operator.session();
    let access = ServiceAccess::of(operator);
    let settings = |path: &str| {
        format!(
            "select {}, {}, {}",
            set_local("lock_timeout", &milliseconds(session.lock_timeout)),
            set_local("statement_timeout", &milliseconds(session.migration_statement_timeout)),
            set_local("search_path", path),
        )
    };
    let role = (set == Set::Tenant && access != ServiceAccess::Logins).then(RoleName::placeholder);
    let own = schema.as_str();
    let mut sql = String::from("set transaction isolation level read committed;\n");
    sql.push_str(&format!("{};\ncreate schema {};\n", settings(""), schema.quoted()));
    if set == Set::Public {
        // Functions that no migration creates and that the shared set may call.
        for function in ["cgk_database_tag", "cgk_isolation_modes"] {
            let function = schema.qualified(function);
            sql.push_str(&format!(
                "create function {function}() returns pg_catalog.text stable return null::pg_catalog.text;\n"
            ));
        }
    }
    if let Some(role) = &role {
        sql.push_str(&isolation::grants_to_come_sql(schema, role.ident()));
    }
    for (index, file) in files.iter().enumerate() {
        let path = operator.search_path().of(schema);
        // As during a migration, because a file can SET any setting.
        sql.push_str(&format!("reset all;\n{};\nselect '{mark}{index}';\n", settings(&path)));
        let text = transactional(file, set, schema, &operator.facts().encoding);
        sql.push_str(&format!("{}\n{text}\n;\n{}\n", guard::open_sql(), guard::close_sql()));
    }
    let schemas = Schemas::One { schema, role: role.as_ref() };
    // The shared schema is read with a path in which objects of extensions need no schema either.
    let path = if set == Set::Tenant { own.to_owned() } else { format!("{own}, public") };
    sql.push_str(&format!(
        "reset all;\n{};\nselect '{mark}{}';\n{};\n{};\n{};\n{};\nrollback;\n",
        settings(""),
        files.len(),
        settings_sql(""),
        fingerprint_sql(&schemas, access),
        settings_sql(&path),
        objects_sql(&schemas, access),
    ));
    sql
}

/// Returns a file's text for a transaction in another schema: without CONCURRENTLY, without maintenance statements, and
/// with the temporary schema's name instead of the shared schema's.
fn transactional(file: &MigrationFile, set: Set, schema: &SchemaName, encoding: &str) -> String {
    let mut edits = Edits::default();
    for statement in file.statements() {
        match statement.leading_words().as_slice() {
            // With USING, CLUSTER marks an index, and can run inside a transaction.
            ["cluster", ..] if statement.tokens.iter().any(|token| token.word() == Some("using")) => {}
            ["vacuum" | "checkpoint" | "analyze" | "cluster", ..] | ["alter", "system", ..] => {
                edits.replace(statement.range.clone(), "select");
                continue;
            }
            _ => drop(rewrite::within_a_transaction(statement, &mut edits)),
        }
        if set == Set::Public {
            rewrite::rename_schema(statement, SchemaName::public().as_str(), &schema.quoted(), &mut edits);
        }
    }
    edits.apply(&file.sql_for(encoding))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_run(set: Set, sql: &str) -> String {
        let migrations = Migrations::bundled().with_file(set, "900_x.sql", sql).unwrap();
        let file = migrations.set(set).files().last().unwrap();
        let schema = SchemaName::scratch();
        transactional(file, set, &schema, "UTF8").replace(&schema.quoted(), "<scratch>")
    }

    #[test]
    fn the_shared_set_may_name_its_schema() {
        let sql =
            "create table public.a (b int);\n-- public.a\ncomment on table \"public\".a is 'public.a, \"public\".a'";
        assert_eq!(
            as_run(Set::Public, sql),
            "create table <scratch>.a (b int);\n-- public.a\ncomment on table <scratch>.a is 'public.a, \"public\".a'"
        );
        let tenant = "create table z (id uuid references public.organizations)";
        assert_eq!(as_run(Set::Tenant, tenant), tenant);
    }

    #[test]
    fn house_keeping_is_left_out() {
        assert_eq!(
            as_run(Set::Tenant, "create table z (); analyze z; create index on z ((1))"),
            "create table z (); select; create index on z ((1))"
        );
        let clustered = "create table z (i int primary key); cluster z using z_pkey";
        assert_eq!(as_run(Set::Tenant, clustered), clustered);
        assert_eq!(as_run(Set::Tenant, "cluster; create table z ()"), "select; create table z ()");
    }
}

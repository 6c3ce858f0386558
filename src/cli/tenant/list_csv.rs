//! The tenants of `tenant:list` as CSV.

use cgk::lifecycle::ListedTenant;

use super::view::TenantView;
use crate::cli::ui::csv::line;

/// The columns, which are keys of the JSON.
const COLUMNS: [&str; 10] =
    ["tenant", "id", "name", "status", "schema", "state", "pending", "head", "created_at", "drop_after"];
/// The further columns of `--wide`.
const WIDE_COLUMNS: [&str; 3] = ["tables", "rows_estimated", "bytes"];

/// Returns the header and one line per tenant.
pub(super) fn text(tenants: &[ListedTenant], wide: bool) -> String {
    let further = WIDE_COLUMNS.iter().filter(|_| wide);
    let mut text = line(COLUMNS.iter().chain(further).map(|name| Some(*name)));
    for tenant in tenants {
        let view = TenantView::with_contents(tenant);
        let pending = view.state.pending.map(|pending| pending.to_string());
        let mut fields = vec![
            Some(view.tenant),
            Some(&view.id),
            Some(view.name),
            Some(view.status),
            Some(&view.schema),
            Some(view.state.state),
            pending.as_deref(),
            view.head.as_deref(),
            Some(&view.created_at),
            view.drop_after.as_deref(),
        ];
        let contents =
            view.contents.as_ref().map(|contents| [contents.tables, contents.rows_estimated, contents.bytes]);
        let contents = contents.map(|numbers| numbers.map(|number| number.to_string()));
        if wide {
            fields.extend((0..WIDE_COLUMNS.len()).map(|n| contents.as_ref().map(|numbers| numbers[n].as_str())));
        }
        text.push_str(&line(fields.into_iter()));
    }
    text
}

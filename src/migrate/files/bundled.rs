//! Recognizes the files of the bundled sets.

use crate::version::Checksum;
use std::{collections::HashSet, sync::LazyLock};

/// Whether this is the checksum of a bundled migration's text.
pub(in crate::migrate) fn is_bundled(checksum: &Checksum) -> bool {
    // Computed once, because the lint calls this for every statement.
    static CHECKSUMS: LazyLock<HashSet<Checksum>> =
        LazyLock::new(|| [PUBLIC, TENANT].into_iter().flatten().map(|(_, text)| Checksum::of(text)).collect());
    CHECKSUMS.contains(checksum)
}

macro_rules! bundled {
    ($folder:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../migrations/", $folder, "/", $name)))),*]
    };
}

pub(crate) const PUBLIC: &[(&str, &str)] = bundled!("public":
    "001_organizations.sql" "002_users.sql" "003_sessions.sql" "004_api_keys.sql" "005_billing.sql" "006_magic_links.sql"
    "007_row_level_security.sql" "008_database_tag.sql" "009_enter.sql" "010_change_notices.sql"
    "011_provisioning.sql" "012_organization_domains.sql"
    "013_shared_table_policies.sql"
    "014_audit_events.sql"
    "015_domain_events.sql"
    "016_memberships.sql"
    "017_invitations.sql"
    "019_plans.sql"
    "020_subscriptions.sql"
    "021_grants.sql"
    "022_sign_ups.sql"
    "023_readers.sql"
    "026_audit_months.sql"
    "027_event_limits.sql"
    "028_user_accounts.sql"
    "029_event_rules.sql"
    "030_quota_rules.sql"
    "031_audit_locks.sql"
    "032_enter_rules.sql"
);

pub(crate) const ACCEPTED: &str = include_str!("../../../migrations/accepted.txt");

pub(crate) const TENANT: &[(&str, &str)] = bundled!("tenant":
    "001_orders.sql" "002_customers.sql" "003_products.sql" "004_creators.sql" "005_payouts.sql" "006_reviews.sql"
    "007_blog_posts.sql");

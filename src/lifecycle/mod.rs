//! What happens to a tenant in its life, one verb a file.

mod activate;
mod baseline;
mod create;
mod drop;
mod isolate;
mod suspend;

pub use crate::registry::EnteredSession;
pub use activate::{Activated, activate};
pub use baseline::{BaselineOptions, Baselined, Baselining, baseline, baseline_public};
pub use create::{
    CreateManyOptions, CreateManyReport, CreateObserver, CreateOptions, CreateOutcome, Created, Creation, LostSchema,
    NewTenant, check_rights, create, create_many,
};
pub use drop::{DropObserver, DropOptions, DropPreview, Dropped, drop_tenant, preview_drop};
pub use isolate::{IsolateReport, NewIdentity, isolate, new_identity, without_role};
pub use suspend::{RemainingSessions, SuspendOptions, Suspended, suspend};

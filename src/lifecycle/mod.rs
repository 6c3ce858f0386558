//! What happens to a tenant in its life, one verb a file.

mod baseline;
mod create;
mod isolate;

pub use baseline::{BaselineOptions, Baselined, Baselining, baseline, baseline_public};
pub use create::{
    CreateManyOptions, CreateManyReport, CreateObserver, CreateOptions, CreateOutcome, Created, Creation, LostSchema,
    NewTenant, check_rights, create, create_many,
};
pub use isolate::{IsolateReport, NewIdentity, isolate, new_identity, without_role};

//! What happens to a tenant in its life, one verb a file.

mod create;

pub use create::{
    CreateManyOptions, CreateManyReport, CreateObserver, CreateOptions, CreateOutcome, Created, Creation, NewTenant,
    create, create_many,
};

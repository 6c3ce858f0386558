//! What operators do in a tenant's life, on a real database: `cgk::lifecycle` and the commands `tenant:…`.

mod alias_life;
mod clone;
mod clone_mask;
mod doctor;
mod drop_blocked;
mod drop_contents;
mod drop_expected;
mod drop_later;
mod drop_steps;
mod exec;
mod exec_command;
mod fixture;
mod plain_operator;
mod processes;
mod rename;
mod rename_alias;
mod rename_kills;
mod report;
mod seed;
mod shell;
mod show;
#[path = "../platform/stage.rs"]
#[allow(dead_code)]
mod stage;
#[allow(dead_code)]
mod support;
mod suspend;
mod transfer;
mod transfer_command;
mod transfer_contents;
mod transfer_edges;
mod transfer_enums;
mod transfer_faults;
mod transfer_fixture;
mod transfer_indexes;
mod transfer_locks;
mod transfer_versions;
mod warm;
mod warm_command;

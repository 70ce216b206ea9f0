//! One module for each command.

pub mod backup;
pub mod cat;
pub mod copy;
pub mod diff;
pub mod disk;
pub mod doctor;
pub mod find;
pub mod forget;
pub mod init;
pub mod ls;
pub mod mount;
pub mod pin;
pub mod points;
pub mod protect;
pub mod prune;
pub mod restore;
pub mod serve;
pub mod stats;
pub mod verify;

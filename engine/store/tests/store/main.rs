//! The store as a whole: backups, points, damage, sessions.

mod backups;
mod crashes;
mod damage;
mod kit;

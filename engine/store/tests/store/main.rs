//! The store as a whole: backups, points, damage, sessions.

#[cfg(test)]
mod backups;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod index;
mod kit;

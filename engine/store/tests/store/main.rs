//! The store as a whole: backups, points, damage, sessions, and the index by itself.

#[cfg(test)]
mod backups;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod index;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod together;

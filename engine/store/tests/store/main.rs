//! The store as a whole: backups, points, damage, sessions, and the index by itself.

#[cfg(test)]
mod backups;
#[cfg(test)]
mod catalog;
#[cfg(test)]
mod changed;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod compaction;
#[cfg(test)]
mod compaction_faults;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod difference;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod elsewhere;
#[cfg(test)]
mod flaky;
mod frames;
#[cfg(test)]
mod gathering;
#[cfg(test)]
mod healing;
#[cfg(test)]
mod images;
#[cfg(test)]
mod index;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod known;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod momentary;
#[cfg(test)]
mod order;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod presence;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod pruning;
#[cfg(test)]
mod pruning_index;
#[cfg(test)]
mod pruning_refused;
#[cfg(test)]
mod pruning_rounds;
#[cfg(test)]
mod pruning_slots;
#[cfg(test)]
mod pruning_time;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod standing;
#[cfg(test)]
mod tidying;
#[cfg(test)]
mod together;
#[cfg(test)]
mod truth;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod verifying;
#[cfg(test)]
mod watched;
#[cfg(test)]
mod wide;

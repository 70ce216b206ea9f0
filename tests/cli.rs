//! The contract of the command line, kept by running it on small disks that the tests make themselves.
//!
//! - `against`: every command beside every other, killed at any moment
//! - `archive`: copies as tar and zip
//! - `bench`: a folder with a store, images, and what runs on them
//! - `bitlocker`: encrypted volumes, and the ways in which keys are given
//! - `boot`: machines that start from their recovery points
//! - `browse`: ls, cat, copy
//! - `chains`: differencing disks and their parents
//! - `changed`: backups that read no more than what changed
//! - `check`: what is wrong with images of other hypervisors, and what is refused
//! - `checkpoints`: backups of differencing disks whose parents were backed up before
//! - `conflicts`: what is in the way of a copy
//! - `copy`: many paths in one job
//! - `crash`: killed, interrupted, and two at once
//! - `damage`: what is broken is named, with its exit code
//! - `diff`: what differs between two points
//! - `disk`: what images are, and what is wrong with them
//! - `dynamic`: dynamic disks of Windows
//! - `fat`: files of FAT volumes, in any code page
//! - `find`: files in all points
//! - `forget`: points kept and forgotten by rules, pins, immutability
//! - `full`: disks that are full
//! - `images`: names and formats of disk images
//! - `mount`: coming and going of the mount
//! - `notes`: what a volume cannot show is told
//! - `ntfs`: what NTFS keeps beside content
//! - `overlap`: paths that meet at the target of a copy
//! - `points`: init, backup, points, stats, verify as documents
//! - `prune`: space that is given back
//! - `restore`: whole disks come back
//! - `schedule`: everything at once by chance, some of it killed
//! - `serve`: disks over NBD
//! - `sessions`: those of other hosts, and their end on the user's word
//! - `stats`: what machines and points take, and the chart
//! - `targets`: copies where not all can be kept
//! - `verify`: all ways of verifying, and the doctor
//! - `windows`: drive letters in addresses

mod against;
mod archive;
mod bench;
mod bitlocker;
mod boot;
mod browse;
mod chains;
mod changed;
mod check;
mod checkpoints;
mod conflicts;
mod copy;
mod crash;
mod damage;
mod diff;
mod disk;
mod dynamic;
mod fat;
mod find;
mod forget;
mod full;
mod images;
mod mount;
mod notes;
mod ntfs;
mod overlap;
mod points;
mod prune;
mod restore;
mod schedule;
mod serve;
mod sessions;
mod stats;
mod targets;
mod verify;
mod windows;

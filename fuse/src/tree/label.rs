//! What the journal calls a node, without asking the store.

use crate::failure::Failure;
use crate::inode::{Owner, PointKey};
use crate::journal::Journal;
use crate::node::{Node, PointRef};
use crate::tree::Tree;
use cairn::{Kind, Time};
use std::fmt;
use std::sync::Arc;

/// A node, for messages: `web01 2026-11-20T02-00-00Z disk 0 p1 entry 1234`.
#[derive(Debug, Clone, Default)]
pub struct Label {
    machine: Option<Arc<str>>,
    point: Option<Arc<PointKey>>,
    disk: Option<u16>,
    partition: Option<u32>,
    entry: Option<u64>,
    /// Below `versions`.
    path: Option<Arc<[u8]>>,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.machine.as_ref().map(|machine| machine.to_string()));
        if let Some(point) = &self.point {
            words.push(point.machine.to_string());
            words.push(Time::from_seconds(point.seconds).folder_name());
        }
        words.extend(self.disk.map(|disk| format!("disk {disk}")));
        words.extend(self.partition.map(|number| format!("p{number}")));
        words.extend(self.entry.map(|number| format!("entry {number}")));
        let path = self.path.as_ref();
        words.extend(path.map(|path| format!("versions/{}", String::from_utf8_lossy(path))));
        if words.is_empty() {
            words.push("the mount".into());
        }
        f.write_str(&words.join(" "))
    }
}

impl Label {
    /// Tells `journal` of a failure that is no ordinary answer, and gives it back.
    pub fn note(&self, journal: &Journal, failure: Failure) -> Failure {
        let is_news = match &failure {
            Failure::Gone(_) => true,
            Failure::Engine(error) => matches!(
                error.kind(),
                Kind::Damaged | Kind::Io | Kind::Denied | Kind::Full | Kind::Busy
            ),
            _ => false,
        };
        if is_news {
            journal.tell(&format!("{self}: {failure}"));
        }
        failure
    }
}

impl Tree {
    /// What the journal calls a node.
    pub(super) fn label(&self, node: &Node) -> Label {
        let of_point = |point: &PointRef, disk, partition| Label {
            point: point.key.clone(),
            disk,
            partition,
            ..Label::default()
        };
        match node {
            Node::Root | Node::RootError(_) => Label::default(),
            Node::Machine(machine) | Node::Latest(machine, _) | Node::MachineError(machine, _) => {
                Label {
                    machine: Some(machine.clone()),
                    ..Label::default()
                }
            }
            Node::Past(past) | Node::PastError(past) => Label {
                machine: Some(past.machine.clone()),
                path: Some(past.path.clone()),
                ..Label::default()
            },
            Node::Point(point)
            | Node::PointError(point)
            | Node::Disks(point)
            | Node::Letter(point, _)
            | Node::LettersNotes(point)
            | Node::Files(point) => of_point(point, None, None),
            Node::Raw(point, disk)
            | Node::View(point, disk, _)
            | Node::DiskFiles(point, disk)
            | Node::PartitionsError(point, disk) => of_point(point, Some(*disk), None),
            Node::Unreadable(point, disk, number)
            | Node::VolumeError(point, disk, number)
            | Node::VolumeNotes(point, disk, number) => of_point(point, Some(*disk), Some(*number)),
            Node::Entry(entry) => Label {
                point: match self.slots.owner(entry.tree.point) {
                    Ok(Owner::Point(key)) => Some(key),
                    _ => None,
                },
                disk: Some(entry.tree.disk),
                partition: Some(entry.tree.partition),
                entry: Some(entry.number),
                ..Label::default()
            },
        }
    }

    /// The same result; a failure that is no ordinary answer is told to the journal.
    pub(super) fn noted<T>(&self, inode: u64, result: Result<T, Failure>) -> Result<T, Failure> {
        result.map_err(|failure| {
            let label = self.node(inode).map(|node| self.label(&node));
            label.unwrap_or_default().note(&self.journal, failure)
        })
    }
}

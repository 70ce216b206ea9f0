//! What the files `*.error` and `*.notes` say.

use crate::catalog::{Complaint, explain};
use crate::failure::{Failure, Result};
use crate::node::{Node, name_hash};
use crate::tree::Tree;
use cairn::{Error, Note, VolumeView};

impl Tree {
    /// What an `*.error` or `*.notes` file says.
    pub(super) fn error_text(&self, node: &Node) -> Result<String> {
        let gone = || Error::not_found("what was wrong is wrong no more");
        let told = |complaints: &[Complaint], hash: u64| {
            let found = complaints
                .iter()
                .find(|told| name_hash(told.name.as_bytes()) == hash);
            found.map(|told| told.text.clone()).ok_or_else(gone)
        };
        Ok(match node {
            Node::RootError(hash) => told(&self.catalog()?.machines()?.complaints, *hash)?,
            Node::MachineError(machine, hash) => {
                told(&self.catalog()?.points(machine)?.complaints, *hash)?
            }
            Node::PointError(point) => match self.open_point(point) {
                Err(Failure::Engine(error) | Failure::Gone(error)) => {
                    explain("This point cannot be opened", &error)
                }
                Err(other) => return Err(other),
                Ok(_) => return Err(gone().into()),
            },
            Node::PastError(path) => self.history(path)?.explanation(),
            Node::PartitionsError(point, disk) => {
                let open = self.open_point(point)?;
                let disk = open.disk(*disk)?;
                let missing = format!("The partitions of {} cannot be found", disk.name());
                let error = disk.volumes().err().ok_or_else(gone)?;
                explain(&missing, &error)
            }
            Node::VolumeError(point, disk, number) => {
                let open = self.open_point(point)?;
                let disk = open.disk(*disk)?;
                let found = disk.volume(*number)?.ok_or_else(gone)?;
                let error = found.open().err().ok_or_else(gone)?;
                explain(&unshown(disk.name(), found), &error)
            }
            Node::LettersNotes(point) => {
                let layout = self.known_layout(point)?;
                notes_text("Drive letters of Windows.", layout.notes())
            }
            Node::VolumeNotes(point, disk, number) => {
                let open = self.open_point(point)?;
                let disk = open.disk(*disk)?;
                let found = disk.volume(*number)?.ok_or_else(gone)?;
                let volume = found.open()?;
                let kind = volume.info().file_system;
                let title = match found.dynamic() {
                    Some(volume) => format!("Volume `{}` ({kind}).", volume.name),
                    None => format!("Partition {number} of {} ({kind}).", disk.name()),
                };
                notes_text(&title, &found.notes())
            }
            _ => return Err(Failure::Invalid),
        })
    }
}

/// That a volume's files cannot be shown.
fn unshown(disk: &str, found: &VolumeView) -> String {
    let size = cairn::units::human_bytes(found.size());
    match found.dynamic() {
        Some(volume) => format!(
            "The files of the {} volume `{}` ({size}, shown as {} of {disk}) cannot be shown",
            volume.kind.name(),
            volume.name,
            found.folder_name(),
        ),
        None => format!(
            "The files of partition {} of {disk} ({}, {size} from byte {}) cannot be shown",
            found.number(),
            found.content(),
            found.start(),
        ),
    }
}

/// What a `*.notes` file says.
fn notes_text(title: &str, notes: &[Note]) -> String {
    let mut text = format!("{title}\n");
    let (wrong, facts): (Vec<_>, Vec<_>) = notes.iter().partition(|note| note.is_defect);
    for (title, notes) in [
        ("What it shows may be old, missing or wrong:", wrong),
        ("Good to know:", facts),
    ] {
        if !notes.is_empty() {
            text.push_str(&format!("{title}\n"));
        }
        for note in notes {
            text.push_str(&format!("- {note}\n"));
        }
    }
    text
}

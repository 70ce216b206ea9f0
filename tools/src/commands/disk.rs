//! `cairn disk IMAGE [--check]`

mod dynamic;
mod json;

use crate::exit::{Answer, Exit, Failure, warn};
use crate::guests::GuestArgs;
use crate::images::ImageArgs;
use crate::output::{self, line};
use crate::progress::Progress;
use crate::tame::tame;
use cairn::examine::{Division, Part};
use cairn::units::human_bytes;
use cairn::{
    BitLockerInfo, CheckReport, DiskExamination, DiskReport, Error, FoundBy, ImageCount, ImageFile,
    ImageInfo, ImageSeverity, Kind, Property, TableKind, Value, VolumeInfo,
};
use std::path::{Path, PathBuf};

/// Show what a disk image is: format, sizes, ids, parents, log, partitions and file systems.
///
/// The image is only read. Where a parent of a differencing disk is missing or was changed, what is there is shown, and the command ends with 3.
#[derive(clap::Args)]
#[command(after_long_help = JSON)]
pub struct Args {
    /// A disk image or a block device
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    #[command(flatten)]
    how: ImageArgs,
    /// Walk all structures of the image and its parents, and report everything that is wrong with them
    ///
    /// Checksums of all copies of headers, tables and footers; entries of block tables in states that do not exist, that lead out of the file or to bytes that
    /// others have; reference counts of a QCOW2 that are less than the references; copies of grain tables of a VMDK that differ from these. Each fault with
    /// the file that holds it and the offset at which the entry or field is written. At most 16 of a kind are named for each image, the
    /// others counted. Space that nothing refers to, such as leaked clusters, is a remark. What the blocks hold is not read. Ends with 4 if there is a fault,
    /// with 1 if there is none and not everything could be looked at, with 3 if no more than a parent is missing.
    #[arg(long)]
    check: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    guests: GuestArgs,
}

const JSON: &str = "\
The image is only read. Where a parent of a differencing disk is missing or was changed, what is there is shown, and the command ends with 3.

--json prints one object:
  image             the file
  format            raw, vhd-dynamic, vhdx-differencing, ...; null if it cannot be opened, as the next three are then
  size              bytes of the disk
  allocated_bytes   bytes of the disk that may hold something other than zeros; null while a parent is missing or cannot be read
  sector_size       bytes of a logical sector
  images            the disk's own, then its parents, each with: format, files (path, size, allocated_bytes), found (caller, path, name
                    or id), disk_size, block_size, sector_size, disk_id, data_id, modified, properties (what its format says
                    besides, by name), warnings
  file              path, size, allocated_bytes of the image's file
  complete, error   whether all images are there and good, and why not
  partition_table   kind (none, mbr, gpt), disk_id, sector_size
  partitions        number (0: the whole disk), start, size, type, type_name, name, id, letters (the drive letters that Windows on this disk
                    gives it), content, error, file_system: kind, label, id,
                    block_size, size, free, clean, notes; encryption (null if there is none): kind (bitlocker), error, and,
                    null if it cannot be read: layout, id, method, state, sector_size, created, description, notes,
                    protectors (kind, id)
  dynamic           null, or of a dynamic disk of Windows: disk, disk_id, group, group_id, sequence, disks (name, id) of the group,
                    volumes that lie on this disk: number, name, id, kind (simple, spanned, striped, mirrored, RAID-5), size,
                    chunk_bytes, letter (that it had), letters, pieces (disk, disk_id, start, size), content, error, file_system, notes
  letter_notes      what there is to know of the drive letters: why some may be missing or old, and whose they are. Sentences
  warnings          sentences
  check             null, or with --check: sound (null if no fault was found and not everything looked at), faults, remarks,
                    findings (severity, topic, file, offset, what), counts (severity, topic, file, found), error (why not
                    everything was looked at, or null)";

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let options = args.guests.options()?;
    let examination = DiskExamination::open(&args.image, &args.how.options())?;
    let progress = Progress::default();
    let report = examination.report(&options, &progress);
    let report = report.map_err(Failure::of_input)?;
    let check = args.check.then(|| examination.check(&progress));
    if args.json {
        output::json(&json::document(&report, check.as_ref()))?;
    } else {
        tell(&report)?;
        if let Some(check) = &check {
            tell_check(check)?;
        }
    }
    for warning in warnings(&report) {
        warn(&warning);
    }
    let is_sound = check.as_ref().is_none_or(|check| check.is_sound);
    let unchecked = check.and_then(|check| check.failure);
    match (unchecked, report.failure) {
        (Some(error), _) if !is_sound => {
            warn(&format!("not everything was checked: {error}"));
            Ok(Exit::Damage)
        }
        (Some(error), _) => Err(Failure::of_input(error)),
        _ if !is_sound => Ok(Exit::Damage),
        (None, Some(error)) if report.images.is_empty() => Err(Failure::of_input(error)),
        _ => Ok(Exit::Done),
    }
}

/// What a user should know of a disk that can be looked into.
fn warnings(report: &DiskReport) -> Vec<String> {
    let shown = report.file.path.display();
    let mut warnings: Vec<String> = Vec::new();
    if !report.images.is_empty() {
        warnings.extend(report.failure.iter().map(Error::to_string));
    }
    let of_images = report.warnings.iter();
    warnings.extend(of_images.map(|warning| format!("{shown}: {warning}")));
    match &report.division {
        Some(Ok(division)) => {
            let of_table = division.warnings.iter();
            warnings.extend(of_table.map(|warning| format!("{shown}: {warning}")));
        }
        // That a parent is missing is told once.
        Some(Err(error)) if error.kind() == Kind::NotFound && report.failure.is_some() => {}
        Some(Err(error)) => {
            warnings.push(format!("{shown}: its partitions cannot be told: {error}"))
        }
        None => {}
    }
    warnings
}

fn tell(report: &DiskReport) -> Result<(), Failure> {
    for (index, image) in report.images.iter().enumerate() {
        tell_image(index, image, report)?;
    }
    if report.images.is_empty() {
        line(&tame(&report.file.path.display().to_string()))?;
        tell_file(&report.file)?;
    }
    match &report.division {
        Some(Ok(division)) => tell_division(division),
        Some(Err(error)) => field("partitions", &error.to_string()),
        None => Ok(()),
    }
}

/// `1.5 GiB (1610612736 bytes)`.
fn exact(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", human_bytes(bytes))
}

fn tell_image(index: usize, image: &ImageInfo, report: &DiskReport) -> Result<(), Failure> {
    let path = image
        .files
        .first()
        .map_or(Path::new("-"), |file| &file.path);
    let name = tame(&path.display().to_string());
    match image.found {
        FoundBy::Caller => line(&name)?,
        FoundBy::Path => line(&format!("parent {name}, where its child says"))?,
        FoundBy::Name => line(&format!("parent {name}, by its name"))?,
        FoundBy::Id => line(&format!("parent {name}, by its id alone"))?,
    }
    field("format", &image.format.to_string())?;
    field("disk size", &exact(image.disk_size))?;
    if index == 0 {
        let why = match &report.failure {
            Some(error) if error.kind() == Kind::NotFound => "unknown: a parent is missing",
            Some(_) => "unknown: a parent cannot be used",
            None => "unknown",
        };
        let unknown = why.to_string();
        field("allocated", &report.allocated.map_or(unknown, exact))?;
    }
    for file in &image.files {
        tell_file(file)?;
    }
    if let Some(size) = image.block_size {
        field("block size", &human_bytes(size))?;
    }
    field(
        "logical sector size",
        &human_bytes(image.sector_size.into()),
    )?;
    let identity = &image.identity;
    for (name, id) in [("disk id", identity.disk_id), ("data id", identity.data_id)] {
        if let Some(id) = id {
            field(name, &id.to_string())?;
        }
    }
    for property in &image.properties {
        tell_property(property)?;
    }
    Ok(())
}

fn tell_file(file: &ImageFile) -> Result<(), Failure> {
    let takes = file.allocated.map(human_bytes);
    let takes = takes.map(|takes| format!(", takes {takes}"));
    field(
        "file size",
        &format!("{}{}", exact(file.size), takes.unwrap_or_default()),
    )
}

/// A line with a name and what belongs to it.
fn field(name: &str, value: &str) -> Result<(), Failure> {
    line(&format!("    {name:<20} {}", tame(value)))
}

fn tell_property(property: &Property) -> Result<(), Failure> {
    let name = property.name;
    // The unit stands behind the number.
    let name = name
        .strip_suffix("_bytes")
        .unwrap_or(name)
        .replace('_', " ");
    match &property.value {
        Value::Text(text) => field(&name, text),
        Value::Number(number) => field(&name, &number.to_string()),
        Value::Bytes(bytes) => field(&name, &human_bytes(*bytes)),
        Value::Flag(flag) => field(&name, if *flag { "yes" } else { "no" }),
        Value::Id(id) => field(&name, &id.to_string()),
        Value::Time(time) => field(&name, &time.rfc3339()),
        Value::List(values) => field(&name, &values.join(", ")),
    }
}

fn tell_division(division: &Division) -> Result<(), Failure> {
    let table = table_name(division.table);
    let id = match division.disk_id.as_str() {
        "" => String::new(),
        id => format!(", disk id {}", tame(id)),
    };
    line(&match division.table {
        TableKind::None => "no partition table".to_string(),
        _ => format!(
            "partition table {table}{id}, sectors of {} bytes",
            division.sector_size
        ),
    })?;
    division.parts.iter().try_for_each(tell_part)?;
    division.dynamic.iter().try_for_each(dynamic::tell)?;
    for note in &division.letter_notes {
        line(&format!("    drive letters: {}", tame(&note.text)))?;
    }
    Ok(())
}

/// The name of a kind of partition table in JSON.
fn table_name(table: TableKind) -> &'static str {
    match table {
        TableKind::None => "none",
        TableKind::Mbr => "mbr",
        TableKind::Gpt => "gpt",
    }
}

fn tell_part(part: &Part) -> Result<(), Failure> {
    let name = match part.name.as_str() {
        "" => String::new(),
        name => format!(" `{}`", tame(name)),
    };
    let kind = match (part.kind.as_str(), part.kind_name) {
        ("", _) => String::new(),
        (kind, None) => format!(", type {kind}"),
        (kind, Some(name)) => format!(", type {kind} ({name})"),
    };
    let letters: String = part.letters.iter().map(|c| format!(" {c}:")).collect();
    line(&format!(
        "    p{:<3}{letters} {} at byte {}{kind}{name}: {}",
        part.number,
        human_bytes(part.size),
        part.start,
        content(part)
    ))?;
    tell_held(part)
}

/// What is known of its encryption and of its file system.
fn tell_held(part: &Part) -> Result<(), Failure> {
    if let Some(Ok(info)) = &part.encryption {
        tell_encryption(info)?;
        // An open volume has them among its own.
        let is_open = matches!(part.volume, Some(Ok(_)));
        for note in info.notes.iter().filter(|_| !is_open) {
            line(&format!("         note: {}", tame(&note.text)))?;
        }
    }
    match &part.volume {
        Some(Ok(info)) => tell_volume(info),
        Some(Err(error)) => line(&format!(
            "         cannot be read: {}",
            tame(&error.to_string())
        )),
        None => Ok(()),
    }
}

/// What a partition holds.
fn content(part: &Part) -> String {
    match &part.content {
        None => "logical partitions".to_string(),
        Some(Ok(found)) => found.name().to_string(),
        Some(Err(error)) => tame(&error.to_string()),
    }
}

fn tell_encryption(info: &BitLockerInfo) -> Result<(), Failure> {
    let description = match info.description.as_str() {
        "" => String::new(),
        description => format!(" `{}`", tame(description)),
    };
    line(&format!(
        "         {}, {}{description}, id {}, {}",
        info.method,
        info.state,
        info.id,
        info.layout.name()
    ))?;
    for protector in &info.protectors {
        let (protection, id) = (protector.protection, protector.id);
        line(&format!("         key protector: {protection}, id {id}"))?;
    }
    Ok(())
}

fn tell_volume(info: &VolumeInfo) -> Result<(), Failure> {
    let label = match info.label.as_str() {
        "" => String::new(),
        label => format!(" `{}`", tame(label)),
    };
    line(&format!(
        "         {}{label}, id {}, {} free of {}{}",
        info.file_system,
        tame(&info.uuid),
        human_bytes(info.free),
        human_bytes(info.size),
        if info.clean {
            ""
        } else {
            ", not closed properly"
        }
    ))?;
    for note in &info.notes {
        line(&format!("         note: {}", tame(&note.text)))?;
    }
    Ok(())
}

fn tell_check(check: &CheckReport) -> Result<(), Failure> {
    for found in &check.findings {
        let file = found.file.as_ref();
        let file = file.map(|path| format!("{}: ", path.display()));
        let place = found.offset.map(|offset| format!("byte {offset}: "));
        line(&tame(&format!(
            "{}: {}{}{}",
            severity(found.severity),
            file.unwrap_or_default(),
            place.unwrap_or_default(),
            found.what
        )))?;
    }
    for count in &check.counts {
        tell_unnamed(count, check)?;
    }
    let (faults, remarks) = (
        check.count(ImageSeverity::Fault),
        check.count(ImageSeverity::Remark),
    );
    line(&match &check.failure {
        Some(_) => {
            format!("not everything was checked: {faults} faults, {remarks} remarks so far")
        }
        None => format!("checked: {faults} faults, {remarks} remarks"),
    })
}

/// How many more of a kind there are than were named.
fn tell_unnamed(count: &ImageCount, check: &CheckReport) -> Result<(), Failure> {
    let named = check.findings.iter().filter(|found| {
        (&found.file, found.severity, found.topic) == (&count.file, count.severity, count.topic)
    });
    let named = u64::try_from(named.count()).unwrap_or(u64::MAX);
    let more = count.found.saturating_sub(named);
    if more == 0 {
        return Ok(());
    }
    let file = count.file.as_ref();
    let file = file.map(|path| format!(" of {}", path.display()));
    line(&tame(&format!(
        "{}: {more} more of the kind `{}`{}",
        severity(count.severity),
        count.topic,
        file.unwrap_or_default()
    )))
}

fn severity(severity: ImageSeverity) -> &'static str {
    match severity {
        ImageSeverity::Fault => "fault",
        ImageSeverity::Remark => "remark",
    }
}

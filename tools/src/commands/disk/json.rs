//! The document of `cairn disk --json`. Its fields are told in the help of the command, and stay.

use super::{severity, table_name, warnings};
use cairn::examine::Part;
use cairn::{
    BitLockerInfo, CheckReport, DiskReport, Error, ImageFile, ImageInfo, ImageSeverity, Property,
    Value as Said, VolumeInfo,
};
use serde_json::{Map, Value, json};

/// All of it.
pub fn document(report: &DiskReport, check: Option<&CheckReport>) -> Value {
    let own = report.images.first();
    let division = report.division.as_ref().and_then(|it| it.as_ref().ok());
    let parts = division.map(|division| division.parts.as_slice());
    let letter_notes = division
        .into_iter()
        .flat_map(|division| &division.letter_notes);
    json!({
        "image": report.file.path.display().to_string(),
        "format": own.map(|image| image.format.to_string()),
        "size": own.map(|image| image.disk_size),
        "allocated_bytes": report.allocated,
        "sector_size": own.map(|image| image.sector_size),
        "file": file(&report.file),
        "images": report.images.iter().map(image).collect::<Vec<_>>(),
        "complete": report.failure.is_none(),
        "error": report.failure.as_ref().map(ToString::to_string),
        "partition_table": division.map(|division| json!({
            "kind": table_name(division.table),
            "disk_id": division.disk_id,
            "sector_size": division.sector_size,
        })),
        "partitions": parts.unwrap_or_default().iter().map(part).collect::<Vec<_>>(),
        "dynamic": division.and_then(|division| division.dynamic.as_ref()).map(super::dynamic::document),
        "letter_notes": letter_notes.map(|note| &note.text).collect::<Vec<_>>(),
        "warnings": warnings(report),
        "check": check.map(check_json),
    })
}

fn file(file: &ImageFile) -> Value {
    json!({
        "path": file.path.display().to_string(),
        "size": file.size,
        "allocated_bytes": file.allocated,
    })
}

fn image(image: &ImageInfo) -> Value {
    let identity = &image.identity;
    let said = image.properties.iter();
    let properties: Map<String, Value> = said
        .map(|property| (property.name.to_string(), value(property)))
        .collect();
    json!({
        "format": image.format.to_string(),
        "files": image.files.iter().map(file).collect::<Vec<_>>(),
        "found": image.found.to_string(),
        "disk_size": image.disk_size,
        "block_size": image.block_size,
        "sector_size": image.sector_size,
        "disk_id": identity.disk_id.map(|id| id.to_string()),
        "data_id": identity.data_id.map(|id| id.to_string()),
        "modified": identity.file.map(|stamp| stamp.modified.rfc3339()),
        "properties": properties,
        "warnings": image.warnings,
    })
}

fn value(property: &Property) -> Value {
    match &property.value {
        Said::Text(text) => json!(text),
        Said::Number(number) | Said::Bytes(number) => json!(number),
        Said::Flag(flag) => json!(flag),
        Said::Id(id) => json!(id.to_string()),
        Said::Time(time) => json!(time.rfc3339()),
        Said::List(values) => json!(values),
    }
}

/// What a part holds: its name, why that cannot be told or read, and its file system.
pub(super) fn held(part: &Part) -> (Option<&'static str>, Option<String>, Option<Value>) {
    let content = part.content.as_ref();
    let failed = content.and_then(|content| content.as_ref().err());
    let volume = part.volume.as_ref();
    let failed = failed.or(volume.and_then(|volume| volume.as_ref().err()));
    let name = content.and_then(|content| content.as_ref().ok());
    let opened = volume.and_then(|volume| volume.as_ref().ok());
    (
        name.map(|found| found.name()),
        failed.map(ToString::to_string),
        opened.map(file_system),
    )
}

fn part(part: &Part) -> Value {
    let (content, error, file_system) = held(part);
    json!({
        "number": part.number,
        "start": part.start,
        "size": part.size,
        "type": part.kind,
        "type_name": part.kind_name,
        "name": part.name,
        "id": part.id,
        "letters": part.letters.iter().map(|c| format!("{c}:")).collect::<Vec<_>>(),
        "content": content,
        "error": error,
        "encryption": part.encryption.as_ref().map(encryption),
        "file_system": file_system,
    })
}

fn encryption(known: &Result<BitLockerInfo, Error>) -> Value {
    let info = known.as_ref().ok();
    let protectors = info.map(|info| {
        let all = info.protectors.iter();
        let all = all.map(|one| json!({"kind": one.protection.word(), "id": one.id.to_string()}));
        all.collect::<Vec<_>>()
    });
    let notes = info.map(|info| info.notes.iter().map(|note| &note.text).collect::<Vec<_>>());
    json!({
        "kind": "bitlocker",
        "error": known.as_ref().err().map(ToString::to_string),
        "layout": info.map(|info| info.layout.name()),
        "id": info.map(|info| info.id.to_string()),
        "method": info.map(|info| info.method.to_string()),
        "state": info.map(|info| info.state.word()),
        "sector_size": info.map(|info| info.sector_size),
        "created": info.map(|info| info.created.rfc3339()),
        "description": info.map(|info| &info.description),
        "protectors": protectors,
        "notes": notes,
    })
}

fn file_system(info: &VolumeInfo) -> Value {
    json!({
        "kind": info.file_system,
        "label": info.label,
        "id": info.uuid,
        "block_size": info.block_size,
        "size": info.size,
        "free": info.free,
        "clean": info.clean,
        "notes": info.notes.iter().map(|note| &note.text).collect::<Vec<_>>(),
    })
}

fn check_json(check: &CheckReport) -> Value {
    let findings = check.findings.iter().map(|found| {
        json!({
            "severity": severity(found.severity),
            "topic": found.topic.to_string(),
            "file": found.file.as_ref().map(|path| path.display().to_string()),
            "offset": found.offset,
            "what": found.what,
        })
    });
    let counts = check.counts.iter().map(|count| {
        json!({
            "severity": severity(count.severity),
            "topic": count.topic.to_string(),
            "file": count.file.as_ref().map(|path| path.display().to_string()),
            "found": count.found,
        })
    });
    // Of what was not looked at nobody knows.
    let is_known = check.failure.is_none() || !check.is_sound;
    json!({
        "sound": is_known.then_some(check.is_sound),
        "error": check.failure.as_ref().map(ToString::to_string),
        "faults": check.count(ImageSeverity::Fault),
        "remarks": check.count(ImageSeverity::Remark),
        "findings": findings.collect::<Vec<_>>(),
        "counts": counts.collect::<Vec<_>>(),
    })
}

//! Which disk is of which format, where the user says so: `--format FORMAT` for all disks, `--format DISK=FORMAT` for one.

use cairn::{Error, FormatHint, names};

/// What was said once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Of all disks, if it names none.
    disk: Option<String>,
    hint: FormatHint,
}

impl Said {
    /// This, of all disks.
    pub fn of_all(hint: FormatHint) -> Said {
        Said { disk: None, hint }
    }
}

/// Reads `[DISK=]FORMAT`.
pub fn parse(text: &str) -> Result<Said, String> {
    let (disk, name) = match text.split_once('=') {
        Some((disk, _)) if !names::is_disk_name(disk) => {
            return Err(format!("`{disk}` can be no disk's name"));
        }
        Some((disk, name)) => (Some(disk.to_string()), name),
        None => (None, text),
    };
    let hint = name.parse().map_err(|error: Error| error.to_string())?;
    Ok(Said { disk, hint })
}

/// The formats of `disks`, in their order.
pub fn of_disks(all: &[Said], disks: &[String]) -> Result<Vec<FormatHint>, Error> {
    for (index, said) in all.iter().enumerate() {
        let mut others = all.iter().take(index);
        if others.any(|other| is_same(&other.disk, &said.disk)) {
            return Err(Error::invalid(match &said.disk {
                Some(disk) => format!("the format of `{disk}` is given twice"),
                None => "the format of all disks is given twice".to_string(),
            }));
        }
        if let Some(name) = &said.disk
            && !disks.iter().any(|disk| disk.eq_ignore_ascii_case(name))
        {
            return Err(Error::invalid(format!(
                "a format is given for `{name}`, and there is no such disk"
            ))
            .advise(format!("there is {}", disks.join(", "))));
        }
    }
    let of = |disk: &String| {
        let own = Some(disk.clone());
        let found = all.iter().find(|said| is_same(&said.disk, &own));
        let found = found.or(all.iter().find(|said| said.disk.is_none()));
        found.map_or(FormatHint::Detect, |said| said.hint)
    };
    Ok(disks.iter().map(of).collect())
}

fn is_same(one: &Option<String>, other: &Option<String>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats(said: &[&str], disks: &[&str]) -> Result<Vec<FormatHint>, String> {
        let said: Vec<Said> = said
            .iter()
            .map(|text| parse(text))
            .collect::<Result<_, _>>()?;
        let disks: Vec<String> = disks.iter().map(ToString::to_string).collect();
        of_disks(&said, &disks).map_err(|error| error.to_string())
    }

    #[test]
    fn a_format_is_for_all_or_for_one() {
        use FormatHint::{Detect, Raw, Vhd, Vhdx};
        for (said, expected) in [
            (&[][..], [Detect, Detect]),
            (&["raw"], [Raw, Raw]),
            (&["d=VHD"], [Detect, Vhd]),
            (&["vhdx", "C=raw"], [Raw, Vhdx]),
            (&["C=auto", "raw"], [Detect, Raw]),
        ] {
            assert_eq!(formats(said, &["c", "D"]).unwrap(), expected, "{said:?}");
        }
        for (said, why) in [
            (&["floppy"][..], "no format"),
            (&["E=raw"], "no such disk"),
            (&["C=raw", "c=vhd"], "twice"),
            (&["raw", "vhd"], "twice"),
            (&["a/b=raw"], "no disk's name"),
        ] {
            let error = formats(said, &["c", "D"]).unwrap_err();
            assert!(error.contains(why), "{said:?}: {error}");
        }
    }
}

//! Files of at most 500 lines, functions of at most 70: what fits on a screen can be checked by eye.
//!
//! The exceptions are ratchets: they may only shrink, and fall away when the limit is met.

use super::files::{Finding, Repository};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// File, present lines, reason.
type FileException = (&'static str, usize, &'static str);
/// File, function, present lines, reason.
type FunctionException = (&'static str, &'static str, usize, &'static str);

const LONG_FILES: &[FileException] = &[];
const LONG_FUNCTIONS: &[FunctionException] = &[
    (
        "engine/disk/tests/images.rs",
        "damaged_images_are_refused_or_read",
        85,
        "one image after the other",
    ),
    (
        "engine/disk/tests/qemu.rs",
        "what_is_written_here_qemu_reads",
        75,
        "one list of cases",
    ),
    (
        "engine/guest/tests/linux/compare.rs",
        "compare_attributes",
        83,
        "one field after the other",
    ),
    (
        "engine/guest/tests/linux/images.rs",
        "compare",
        93,
        "one field after the other",
    ),
    (
        "engine/guest/tests/ntfs_images.rs",
        "every_image_is_read_as_its_manifest_says",
        73,
        "one image after the other",
    ),
    (
        "engine/guest/tests/ntfs_made.rs",
        "fill",
        83,
        "one script that fills a volume",
    ),
];

pub fn check(repository: &Repository) -> Vec<Finding> {
    let mut found = files(repository, LONG_FILES);
    found.extend(functions(repository, LONG_FUNCTIONS));
    found
}

fn files(repository: &Repository, exceptions: &[FileException]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in &repository.files {
        let exception = exceptions.iter().find(|(path, ..)| *path == file.path);
        if file.path.ends_with(".rs") || file.path.ends_with(".sh") {
            let lines = file.text().lines().count();
            let ratchet = judge(lines, FILE_LINES, exception.map(|(_, allowed, _)| *allowed));
            found.extend(
                ratchet.map(|why| Finding::new(&file.path, lines, format!("the file has {why}"))),
            );
        }
    }
    for (path, ..) in exceptions {
        if repository.get(path).is_none() {
            found.push(Finding::new(
                path,
                1,
                "the exception for this file's length can go: there is no such file",
            ));
        }
    }
    found
}

fn functions(repository: &Repository, exceptions: &[FunctionException]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut used = vec![false; exceptions.len()];
    for (file, source) in repository.sources() {
        for function in source.functions() {
            let at = exceptions
                .iter()
                .position(|(path, name, ..)| *path == file.path && *name == function.name);
            // Two functions of a file may have the same name: the exception is for the long one.
            let at = at.filter(|_| function.lines > FUNCTION_LINES);
            let allowed = at.map(|at| exceptions[at].2);
            if let Some(at) = at {
                used[at] = true;
            }
            if let Some(why) = judge(function.lines, FUNCTION_LINES, allowed) {
                let reason = format!("function `{}` has {why}", function.name);
                found.push(Finding::new(&file.path, function.line, reason));
            }
        }
    }
    for ((path, name, ..), used) in exceptions.iter().zip(used) {
        if !used {
            let reason =
                format!("the exception for function `{name}` can go: it is short, or is no more");
            found.push(Finding::new(path, 1, reason));
        }
    }
    found
}

/// Why `lines` is wrong, if it is.
fn judge(lines: usize, limit: usize, exception: Option<usize>) -> Option<String> {
    match exception {
        None if lines > limit => Some(format!("{lines} lines, more than {limit}")),
        Some(_) if lines <= limit => {
            Some(format!("{lines} lines, and needs its exception no more"))
        }
        Some(allowed) if lines > allowed => Some(format!(
            "{lines} lines and has grown: its exception is {allowed}"
        )),
        Some(allowed) if lines < allowed => {
            Some(format!("{lines} lines: lower its exception from {allowed}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_rings_and_its_exception_is_a_ratchet() {
        let long = "\n".repeat(510);
        let repository = Repository::of(&[("a.rs", &long), ("b.md", &long), ("c.rs", "fn f() {}")]);
        assert_eq!(
            files(&repository, &[]),
            [Finding::new(
                "a.rs",
                510,
                "the file has 510 lines, more than 500"
            )]
        );
        assert!(files(&repository, &[("a.rs", 510, "")]).is_empty());
        assert_eq!(files(&repository, &[("a.rs", 509, "")]).len(), 1);
        assert_eq!(files(&repository, &[("a.rs", 511, "")]).len(), 1);
        assert_eq!(
            files(&repository, &[("a.rs", 510, ""), ("c.rs", 501, "")]).len(),
            1
        );
        assert_eq!(
            files(&repository, &[("a.rs", 510, ""), ("gone.rs", 501, "")]).len(),
            1
        );
    }

    #[test]
    fn a_long_function_rings_and_its_exception_is_a_ratchet() {
        let text = format!("fn short() {{}}\nfn long() {{{}}}", "\n".repeat(70));
        let repository = Repository::of(&[("a.rs", &text)]);
        let expected = Finding::new("a.rs", 2, "function `long` has 71 lines, more than 70");
        assert_eq!(functions(&repository, &[]), [expected]);
        assert!(functions(&repository, &[("a.rs", "long", 71, "")]).is_empty());
        assert_eq!(functions(&repository, &[("a.rs", "long", 72, "")]).len(), 1);
        assert_eq!(
            functions(
                &repository,
                &[("a.rs", "long", 71, ""), ("a.rs", "short", 71, "")]
            )
            .len(),
            1
        );
    }
}

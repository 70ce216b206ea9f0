//! A folder with a store in it, images, and what runs on them.

use crate::command::{cairn, run};
use serde_json::Value;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Nothing here takes so long, on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder that vanishes at the end of a test, with a store in it.
pub struct Bench {
    pub folder: PathBuf,
}

impl Bench {
    /// A new folder with an empty store.
    pub fn new() -> Bench {
        Bench::with(&["init", "store"])
    }

    /// A new folder with an empty store whose packs have no parity: what is damaged is lost.
    pub fn without_parity() -> Bench {
        Bench::with(&["init", "--parity", "0", "store"])
    }

    fn with(init: &[&str]) -> Bench {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "cairn-cli-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        let bench = Bench { folder };
        bench.expect(0, init);
        bench
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs cairn in the folder.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = cairn();
        command.current_dir(&self.folder).args(arguments);
        command.output().unwrap()
    }

    /// Runs cairn, which must end with this exit code.
    #[track_caller]
    pub fn expect(&self, code: i32, arguments: &[&str]) -> Answer {
        let out = self.run(arguments);
        let answer = Answer {
            stdout: out.stdout,
            stderr: String::from_utf8(out.stderr).unwrap(),
        };
        assert_eq!(
            out.status.code(),
            Some(code),
            "cairn {arguments:?}\n{}{}",
            answer.text(),
            answer.stderr
        );
        answer
    }

    /// Backs images up, which must work without a warning.
    #[track_caller]
    pub fn backup(&self, machine: &str, images: &[&str]) -> Value {
        let mut arguments = vec!["backup", "store", "--json", "--machine", machine];
        arguments.extend_from_slice(images);
        self.expect(0, &arguments).json()
    }

    /// All points, as `cairn points --json` tells.
    pub fn points(&self) -> Vec<Value> {
        let document = self.expect(0, &["points", "store", "--json"]).json();
        document.as_array().unwrap().clone()
    }

    /// A file of bytes that do not compress, the same for the same seed.
    pub fn noise(&self, name: &str, seed: u64, bytes: u64) -> PathBuf {
        let path = self.path(name);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for _ in 0..bytes / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
            file.write_all(&word.to_le_bytes()).unwrap();
        }
        file.flush().unwrap();
        path
    }

    /// Starts cairn in the background, its output kept.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_into(Stdio::piped(), arguments)
    }

    /// As [`start`](Bench::start), with its standard output to somewhere: one that is kept must be short.
    pub fn start_into(&self, output: Stdio, arguments: &[&str]) -> Running {
        let mut command = cairn();
        command.current_dir(&self.folder).args(arguments);
        command.stdout(output).stderr(Stdio::piped());
        Running(Some(command.spawn().unwrap()))
    }

    /// As [`start`](Bench::start), with so many descriptors at most.
    pub fn start_with_descriptors(&self, most: u32, arguments: &[&str]) -> Running {
        let program = cairn().get_program().to_owned();
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
        command.arg("-c").arg(limited).arg(program).args(arguments);
        command.current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Some(command.spawn().unwrap()))
    }

    /// All files below a folder of the store.
    pub fn store_files(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.path("store").join(name)];
        while let Some(folder) = open.pop() {
            // Files come and go while a backup runs.
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(entry.path()),
                    _ => found.push(entry.path()),
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// What a command said.
pub struct Answer {
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Answer {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as the one JSON document that it must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).expect("one JSON document on standard output")
    }

    /// The lines of standard output.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_string).collect()
    }
}

/// A command in the background; killed if a test ends early.
pub struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Sends a signal by its name.
    pub fn signal(&mut self, name: &str) {
        let id = self.child().id();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("kill -{name} {id}")]);
        assert!(shell.status().unwrap().success());
    }

    /// As [`signal`](Running::signal), unless it has ended.
    pub fn signal_if_alive(&mut self, name: &str) {
        // Not waited for yet, so its number is nobody else's.
        if self.is_alive() {
            self.signal(name);
        }
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.child().try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self) -> (ExitStatus, Answer) {
        eventually("the command ends", || !self.is_alive());
        let out = self.0.take().unwrap().wait_with_output().unwrap();
        let answer = Answer {
            stdout: out.stdout,
            stderr: String::from_utf8(out.stderr).unwrap(),
        };
        (out.status, answer)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not yet: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether all these tools are here; says so if not.
pub fn have(names: &[&str]) -> bool {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| {
            !search_path()
                .split(':')
                .any(|at| Path::new(at).join(name).exists())
        })
        .collect();
    if !missing.is_empty() {
        println!("SKIPPED: {missing:?} not installed");
    }
    missing.is_empty()
}

/// Where tools are looked for.
pub fn search_path() -> String {
    // Debian keeps mkfs and its like where only root looks.
    format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}

/// Runs a tool, which must succeed; answers what it printed.
#[track_caller]
pub fn tool(name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(name);
    command.env("PATH", search_path()).args(arguments);
    let out = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name} {arguments:?}: {errors}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Asserts that qemu-img sees the same disk in `image`, of a format in its words, as in the raw file `raw`.
#[track_caller]
pub fn same_disk(raw: &Path, format: &str, image: &Path) {
    let arguments = ["compare", "-f", "raw", "-F", format, text(raw), text(image)];
    tool("qemu-img", &arguments);
}

/// A time for the point of an image `NUMBER.raw`: a minute later for each number, so that none has to move to a second of its own.
pub fn time_of(image: &str) -> String {
    let minutes: u64 = image.trim_end_matches(".raw").parse().unwrap();
    let (hours, days) = (minutes / 60, minutes / 1440);
    let (month, day) = (1 + days / 28, 1 + days % 28);
    format!(
        "2026-{month:02}-{day:02}T{:02}:{:02}:00Z",
        hours % 24,
        minutes % 60
    )
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Asserts that a JSON object has these fields of these types.
#[track_caller]
pub fn has_fields(document: &Value, fields: &[(&str, &str)]) {
    for (name, kind) in fields {
        let value = &document[*name];
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(number) if number.is_u64() => "bytes",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let is_right = found == *kind || *kind == "number" && found == "bytes";
        assert!(is_right, "`{name}` is a {found}, not a {kind}: {document}");
    }
}

#[test]
fn what_is_no_store_is_no_store() {
    let bench = Bench::new();
    let out = run(&["stats", text(&bench.folder)]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("not a store"));
}

//! What tells this host, and the time for which it has been running, from others.

use crate::layout::HostKey;

/// What tells this host from others: its name, and its machine id where it has one.
pub fn host_identity() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    format!("{} {}", host_name(), id.trim())
}

/// Name of this host, for messages.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Stands for this host in the names of its sessions.
pub fn host_key() -> HostKey {
    HostKey::of(&host_identity())
}

/// What the kernel calls the time since it was started; empty where it does not say.
pub(super) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_string()
}

/// Longest command that is noted, in characters.
const MAX_COMMAND: usize = 200;

/// What this process was started as, for messages: at most 200 characters, none of them control characters.
pub(super) fn command() -> String {
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let line = arguments.join(" ");
    let shown = line.chars().take(MAX_COMMAND);
    shown
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

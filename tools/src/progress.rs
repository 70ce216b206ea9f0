//! Progress on a terminal: done, rate, time left. Without a terminal only warnings are told.

use crate::exit;
use crate::signals;
use crate::tame::tame;
use cairn::{Monitor, Stage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;

/// Shows the stages of long work as bars on standard error.
#[derive(Default)]
pub struct Progress {
    bars: Mutex<HashMap<Stage, ProgressBar>>,
}

impl Progress {
    fn bar(&self, stage: Stage) -> Option<ProgressBar> {
        self.bars.lock().ok()?.get(&stage).cloned()
    }
}

fn label(stage: Stage) -> &'static str {
    match stage {
        Stage::Backup => "back up",
        Stage::Restore => "restore",
        Stage::VerifyPacks => "check packs",
        Stage::VerifyPoints => "check points",
        Stage::Copy => "copy",
        Stage::Mark => "mark",
        Stage::Rewrite => "rewrite",
        Stage::Compare => "compare",
        Stage::Count => "count",
        Stage::Find => "find",
        Stage::Check => "check",
    }
}

impl Monitor for Progress {
    fn begin(&self, stage: Stage, total: u64) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let (bar, template) = if total == 0 {
            let template = "{msg:12} {spinner} {bytes} {bytes_per_sec} {elapsed}";
            (ProgressBar::new_spinner(), template)
        } else {
            let template = "{msg:12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
            (ProgressBar::new(total), template)
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(label(stage));
        if let Ok(mut bars) = self.bars.lock() {
            bars.insert(stage, bar);
        }
    }

    fn advance(&self, stage: Stage, amount: u64) {
        if let Some(bar) = self.bar(stage) {
            bar.inc(amount);
        }
    }

    fn finish(&self, stage: Stage) {
        if let Some(bar) = self.bar(stage) {
            bar.finish_and_clear();
        }
    }

    fn warn(&self, warning: &str) {
        exit::warned();
        let line = format!("cairn: warning: {}", tame(warning));
        let bar = self
            .bars
            .lock()
            .ok()
            .and_then(|bars| bars.values().find(|bar| !bar.is_finished()).cloned());
        match bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    fn stop_requested(&self) -> bool {
        signals::stop_requested()
    }
}

//! Ctrl-C and SIGTERM: a flag that long work looks at. A second one ends the process at once.

use crate::exit::Failure;
use cairn::Error;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The flag.
pub fn stop_flag() -> Arc<AtomicBool> {
    STOP.get_or_init(Arc::default).clone()
}

/// Whether the user asked to stop.
pub fn stop_requested() -> bool {
    STOP.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Takes over the signals.
pub fn install() -> Result<(), Failure> {
    let flag = stop_flag();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // The order matters: the first signal finds the flag unset and sets it, the second one ends the process.
        signal_hook::flag::register_conditional_shutdown(signal, 1, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .map_err(|e| Error::io("cannot take over signals", Path::new(""), e))?;
    }
    Ok(())
}

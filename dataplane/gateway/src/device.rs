//! How the journals of a node write.

use std::path::Path;

use disk::{Device, commit_amplification};

use crate::config::HandoffDevice;
use crate::limits::HANDOFF_AMPLIFICATION_MAX;

/// The device that is asked for; `auto`: mapped segments, unless a commit there writes much more than it is given.
pub fn choose(wished: HandoffDevice, dir: &Path) -> Device {
    match wished {
        HandoffDevice::Mmap => Device::Mapped,
        HandoffDevice::Direct => Device::Direct,
        HandoffDevice::Auto => match commit_amplification(dir, Device::Mapped) {
            Ok(Some(ratio)) if ratio > HANDOFF_AMPLIFICATION_MAX => {
                tracing::warn!(
                    ratio,
                    "a commit to a mapped file writes many times what it is given on this file system; the journal is \
                     written directly"
                );
                Device::Direct
            }
            Ok(_) => Device::Mapped,
            Err(err) => {
                tracing::warn!(%err, dir = %dir.display(), "what a commit writes here could not be measured; mapped files are used");
                Device::Mapped
            }
        },
    }
}

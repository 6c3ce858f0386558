//! The memory of this process.

/// How much more memory this process needed at most.
pub(super) struct Memory(usize);

impl Memory {
    pub(super) fn start() -> Self {
        // Linux forgets the peak when it is told so; elsewhere nothing is measured.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self(kilobytes("VmRSS:").unwrap_or_default())
    }

    pub(super) fn grown(&self) -> String {
        match kilobytes("VmHWM:") {
            Some(peak) => format!("{:.1} MB more", peak.saturating_sub(self.0) as f64 / 1024.0),
            None => "an unknown amount".into(),
        }
    }
}

fn kilobytes(key: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

//! Peaks of memory. They are the process's: of these tests one runs at a time, in a binary without others.

#[cfg(target_os = "linux")]
mod evaluation; // an evaluation holds the maps of one class at a time
mod large; // time and memory of the largest published size (ignored: `-- --ignored --nocapture`)

/// The most memory that this process has had, in bytes, where Linux says so.
fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(1024 * line.trim().trim_end_matches(" kB").parse::<usize>().ok()?)
}

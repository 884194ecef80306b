//! The first line under every table: date, kernel, CPUs, build; and what a directory is on.

use std::path::Path;

/// For the reader who wants to measure again.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    // Not `available_parallelism`: this program may have pinned itself.
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let build = if cfg!(debug_assertions) { "kbench development build" } else { "kbench release build" };
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    format!("{date}, Linux {}, {cores} × {model}, {build}", kernel.trim())
}

/// What a directory is on, as `ext4 on /dev/vda`.
pub fn file_system(dir: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    mount_of(&mounts, &dir).unwrap_or_else(|| "an unknown file system".to_owned())
}

/// proc_pid_mountinfo(5): the fifth field is where, the two after the lone `-` are kind and source. Later mounts hide earlier
/// ones at the same place.
fn mount_of(mounts: &str, dir: &Path) -> Option<String> {
    let parse = |line: &str| {
        let (place, source) = line.split_once(" - ")?;
        // A blank is written so, because fields are separated by them.
        let place = place.split(' ').nth(4)?.replace("\\040", " ");
        let mut source = source.split(' ');
        Some((place, format!("{} on {}", source.next()?, source.next()?)))
    };
    let found = mounts.lines().filter_map(parse).filter(|(place, _)| dir.starts_with(place));
    found.max_by_key(|(place, _)| place.len()).map(|(_, source)| source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_on_the_nearest_mount_above_it() {
        let mounts = "\
            21 1 254:0 / / rw,noatime shared:1 - ext4 /dev/vda rw\n\
            30 21 0:26 / /dev/shm rw - tmpfs tmpfs rw,size=24G\n\
            31 21 8:1 / /data rw - ext4 /dev/sda1 rw\n\
            32 21 8:2 / /data rw - xfs /dev/sda2 rw\n\
            33 31 8:3 / /data/with\\040blank rw master:1 propagate_from:2 - btrfs /dev/sda3 rw\n";
        for (dir, expected) in [
            ("/tmp/x", Some("ext4 on /dev/vda")),
            ("/dev/shm", Some("tmpfs on tmpfs")),
            ("/data/gateway", Some("xfs on /dev/sda2")),
            ("/database", Some("ext4 on /dev/vda")),
            ("/data/with blank/x", Some("btrfs on /dev/sda3")),
        ] {
            assert_eq!(mount_of(mounts, Path::new(dir)).as_deref(), expected, "{dir}");
        }
        assert_eq!(mount_of("", Path::new("/")), None);
        assert!(file_system(Path::new("/")).contains(" on "));
    }
}

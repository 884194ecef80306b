//! The first line under every table: date, kernel, CPUs, build.

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

//! Processor time and memory of this process, as the kernel counts them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Of the machines that this runs on.
const PAGE_KIB: f64 = 4.0;

/// User and system time of this process so far, all threads.
pub fn own() -> anyhow::Result<Duration> {
    spent(UsageWho::RUSAGE_SELF)
}

/// User and system time of the calling thread so far.
pub fn this_thread() -> anyhow::Result<Duration> {
    spent(UsageWho::RUSAGE_THREAD)
}

/// User and system time of the children that have ended and been waited for.
pub fn ended_children() -> anyhow::Result<Duration> {
    spent(UsageWho::RUSAGE_CHILDREN)
}

/// User and system time of a process so far, all threads, those that have ended as well (clock_getcpuclockid(3)).
pub fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).context("clock_getcpuclockid")?;
    Ok(Duration::from(clock.now().context("clock_gettime")?))
}

/// How often threads of this process went to sleep and were woken up again (getrusage(2): `ru_nvcsw`).
pub fn wake_ups() -> anyhow::Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?;
    Ok(usage.voluntary_context_switches().max(0).cast_unsigned())
}

fn spent(who: UsageWho) -> anyhow::Result<Duration> {
    let usage = getrusage(who).context("getrusage")?;
    let part = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().max(0) as u64) + Duration::from_micros(time.tv_usec().max(0) as u64)
    };
    Ok(part(usage.user_time()) + part(usage.system_time()))
}

/// Time on a processor of every thread that lives now, by the name of the thread (proc(5): `comm`, `schedstat`).
/// Threads of the same name are added up.
pub fn by_thread() -> anyhow::Result<BTreeMap<String, Duration>> {
    let mut all = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        let read = |file: &str| std::fs::read_to_string(task.join(file));
        // A thread may end in between.
        let (Ok(name), Ok(stat)) = (read("comm"), read("schedstat")) else { continue };
        let nanos = stat.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default();
        *all.entry(name.trim_end().to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    Ok(all)
}

/// Threads of this process.
pub fn threads() -> anyhow::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Files and sockets that this process has open.
pub fn descriptors() -> anyhow::Result<usize> {
    // One of them is the folder that is being read.
    Ok(std::fs::read_dir("/proc/self/fd")?.count().saturating_sub(1))
}

/// Memory of this process that is resident, in KiB (proc(5): `VmRSS`).
pub fn resident_kib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// What TCP's socket buffers hold, of all processes, in KiB (proc(5): `/proc/net/sockstat`).
pub fn socket_buffers_kib() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).context("no TCP in /proc/net/sockstat")?;
    let pages = line.split_once(" mem ").and_then(|(_, pages)| pages.trim().parse::<f64>().ok());
    Ok(pages.context("no mem in /proc/net/sockstat")? * PAGE_KIB)
}

/// The processor, its cores that this process may use, the load before the measurement and the kind of build, in
/// one line for people.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map(|l| l.trim_start_matches(['\t', ' ', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?");
    let build =
        if cfg!(debug_assertions) { "development build: slower than --release" } else { "release build" };
    format!("{}, {cores} cores, load average {load}, {build}", model.unwrap_or("unknown processor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_for_the_thread_that_does_it() {
        let before = (own().unwrap(), this_thread().unwrap());
        let worked = std::thread::Builder::new().name("burner".into()).spawn(|| {
            let start = this_thread().unwrap();
            let mut x = 1u64;
            while this_thread().unwrap() - start < Duration::from_millis(60) {
                x = std::hint::black_box(x.wrapping_mul(31));
            }
            by_thread().unwrap()["burner"]
        });
        let worked = worked.unwrap().join().unwrap();
        assert!(worked >= Duration::from_millis(50), "{worked:?}");
        assert!(own().unwrap() - before.0 >= Duration::from_millis(50));
        assert!(
            this_thread().unwrap() - before.1 < Duration::from_millis(50),
            "the other thread's work counted here"
        );
        assert!(resident_kib().unwrap() > 1000.0);
        assert!(socket_buffers_kib().unwrap() >= 0.0);
        let (by_clock, by_usage) = (of_process(std::process::id()).unwrap(), own().unwrap());
        assert!(by_usage.abs_diff(by_clock) < Duration::from_millis(50), "{by_clock:?} {by_usage:?}");
        let before = wake_ups().unwrap();
        std::thread::sleep(Duration::from_millis(1));
        assert!(wake_ups().unwrap() > before);
    }
}

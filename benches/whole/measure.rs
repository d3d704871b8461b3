//! What a process and a Redis have spent so far.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// What a process has cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// User and system time of its threads. Those that have ended are left out.
    pub cpu: Duration,
    /// Resident memory, in KiB.
    pub resident: u64,
}

impl Cost {
    /// Of the process with that id and its children: nginx works in one.
    pub fn of(pid: u32) -> Self {
        let mut cost = Self { cpu: Duration::ZERO, resident: resident(pid) };
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            // Nanoseconds on the CPU stand first; the ticks of `stat` are 10 ms each.
            let spent = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let spent = spent.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default();
            cost.cpu += Duration::from_nanos(spent);
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                let child = Self::of(child);
                cost.cpu += child.cpu;
                cost.resident += child.resident;
            }
        }
        cost
    }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default()
}

/// What the Redis at that port has done: the scripts it was sent, and the seconds of CPU it took; nothing without a port.
pub fn redis(port: u16) -> (f64, f64) {
    if port == 0 {
        return (0.0, 0.0);
    }
    let mut redis = TcpStream::connect(("127.0.0.1", port)).unwrap();
    redis.write_all(b"INFO everything\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    redis.read_to_string(&mut answer).unwrap();
    // What a script calls counts as a command too, so those that came in are told by their name.
    let scripts = ["cmdstat_evalsha:calls=", "cmdstat_eval:calls="].map(|name| value(&answer, name));
    let cpu = ["used_cpu_user:", "used_cpu_sys:"].map(|name| value(&answer, name));
    (scripts.iter().sum(), cpu.iter().sum())
}

/// The number behind that name; 0 where it does not stand there.
fn value(info: &str, name: &str) -> f64 {
    let rest = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let number = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    number.parse().unwrap_or_default()
}

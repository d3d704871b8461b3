//! No room under SQLite. Calls go on; writes are told, and nothing is half written.

use std::{fs, process::Command, sync::Arc};

use tokio::time::{Instant, sleep};

use super::{Extent, Fleet, Row, all_served, felt, served, served_since, writer::Writer};
use crate::support::{
    rota::{Builder, Rota},
    small_disk::SmallDisk,
};

/// The fault begins and ends.
async fn row(
    fault: &'static str,
    extent: Extent,
    settings: Builder,
    begin: impl FnOnce(&Rota),
    end: impl FnOnce(&Rota),
) -> Row {
    let mut fleet = Fleet::start([settings]).await;
    let writer = Writer::start(&fleet.rotas[0]).await;
    let callers = fleet.callers(extent.count).await;
    served(&callers, extent.calls).await;
    writer.wrote(Instant::now(), true).await;

    begin(&fleet.rotas[0]);
    let full = Instant::now();
    writer.wrote(full, false).await;
    sleep(extent.fault).await;
    served_since(&callers, full, extent.calls, |_| true).await;
    end(&fleet.rotas[0]);
    let over = Instant::now();
    let back = writer.wrote(over, true).await;
    served_since(&callers, over, extent.calls, |_| true).await;
    let calls = callers.end().await;

    all_served(fault, &calls);
    let written = writer.end(&fleet.rotas[0]).await;
    fleet.rotas[0].restart().await;
    assert_eq!(written.scene.through(&fleet.rotas[0]).await.configs_now().await, written.stored);
    Row::new(fault, &calls, written.text()).after(over, &calls, felt).or_later(back.ended - over)
}

/// Every byte taken. None where this process may not mount a disk.
pub async fn full(extent: Extent) -> Option<Row> {
    let disk = SmallDisk::mount(16)?;
    let folder = Arc::new(tempfile::tempdir_in(disk.path()).unwrap());
    let settings = Rota::builder().data_dir(folder);
    Some(row("SQLite's disk is full", extent, settings, |_| disk.fill(), |_| disk.free()).await)
}

/// No file may grow: what a quota does.
pub async fn limited(extent: Extent) -> Row {
    // Whoever ignores the signal is told by an error.
    let settings = Rota::builder().under(&["sh", "-c", r#"trap '' XFSZ; exec "$@""#, "sh"]);
    let largest = |rota: &Rota| {
        let files = fs::read_dir(rota.data_dir()).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap()
    };
    let begin = |rota: &Rota| limit(rota, "fsize", &largest(rota).to_string());
    row("SQLite's files may not grow", extent, settings, begin, |rota| limit(rota, "fsize", "unlimited"))
        .await
}

/// Sets what that resource of the process is bounded by; what it may be set to stays.
pub fn limit(rota: &Rota, resource: &str, bound: &str) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args([&format!("--pid={}", rota.id()), &format!("--{resource}={bound}:")]);
    let output = prlimit.output().expect("prlimit is missing. Run: apt-get install -y util-linux");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

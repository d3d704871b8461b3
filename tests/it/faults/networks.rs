//! The way to the only provider misbehaves: connections end, have limits, or lead to another address than before. Every
//! call could be served, and is.

use std::{fs, path::Path, time::Duration};

use rota::scripted::Upstream;
use tempfile::TempDir;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::{Extent, PATIENCE, Row, all_served, scene_of, served};
use crate::support::{
    callers::{Call, Callers},
    door::Door,
    eventually,
    rota::{Builder, Rota},
    sealed::{Allows, Sealed},
    world::Scene,
};

/// Callers of a Rota whose only provider is at that address.
struct Stand {
    rota: Rota,
    scene: Scene,
    callers: Callers,
}

impl Stand {
    async fn start(builder: Builder, base_url: &str, upstream: &Upstream, extent: Extent) -> Self {
        let rota = builder.start().await;
        let scene = scene_of(&rota, base_url, upstream).await;
        let callers = Callers::start(&[&rota], &scene, extent.count).await;
        served(&callers, extent.calls).await;
        Self { rota, scene, callers }
    }

    /// Ends, and sees that nothing was lost, moved on or cooled.
    async fn end(self, fault: &'static str, beside: impl FnOnce(&[Call]) -> String) -> Row {
        let calls = self.callers.end().await;
        all_served(fault, &calls);
        let moved = calls.iter().filter(|call| call.attempts > 1).count();
        assert_eq!(moved, 0, "{fault}: the fault was held against configs");
        let cooling = self.scene.configs_now().await.iter().filter(|config| config.in_cooldown).count();
        assert_eq!(cooling, 0, "{fault}");
        assert!(!self.rota.logs().contains("panic"), "{fault}");
        Row::new(fault, &calls, beside(&calls))
    }
}

/// The provider's load balancer forgets connections that have served.
pub async fn forgotten(extent: Extent) -> Row {
    let upstream = Upstream::start().await.unwrap();
    let door = Door::to(&upstream).await;
    let stand = Stand::start(Rota::builder(), &door.base_url(), &upstream, extent).await;
    let end = Instant::now() + extent.fault;
    let mut resets = false;
    while Instant::now() < end {
        resets = !resets;
        door.resets(resets);
        door.forget();
        sleep(Duration::from_millis(100)).await;
    }
    eventually(PATIENCE, async || match door.swallowed() {
        0 => Err("no request met a forgotten connection".to_owned()),
        _ => Ok(()),
    })
    .await;
    served(&stand.callers, extent.calls).await;
    let swallowed = door.swallowed();
    let beside = move |_: &[Call]| format!("{swallowed} requests met a forgotten connection and went again");
    stand.end("the provider closes idle connections early, ten times a second", beside).await
}

/// The provider speaks HTTP/2, and allows little.
pub async fn limited(extent: Extent) -> Vec<Row> {
    let cases = [
        (
            Allows { streams: None, calls: Some(100) },
            "the provider ends an HTTP/2 connection after 100 calls",
        ),
        (Allows { streams: Some(10), calls: None }, "the provider allows 10 streams a connection"),
    ];
    let mut rows = Vec::new();
    for (allows, fault) in cases {
        let upstream = Upstream::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let sealed = Sealed::to(&upstream, allows, &file).await;
        let builder = Rota::builder().arg("--upstream-ca").arg(file.to_string_lossy());
        // More at once than a connection takes.
        let mut more = extent;
        more.count.unary = extent.count.unary.max(12);
        let stand = Stand::start(builder, &sealed.base_url(), &upstream, more).await;
        served(&stand.callers, extent.calls + 200).await;
        let made = sealed.made();
        assert!(made > 1, "{fault}: one connection was enough");
        rows.push(
            stand.end(fault, move |calls| format!("{made} connections for {} calls", calls.len())).await,
        );
    }
    rows
}

/// One of two addresses of the provider's name swallows packets; none without the right to mount.
pub async fn dead_address(extent: Extent) -> Option<Row> {
    const FAULT: &str = "one of two addresses of the provider's name swallows packets";
    let upstream = Upstream::start().await.unwrap();
    let names = Names::new()?;
    let door = Door::at("127.0.0.3:0", &upstream).await.unwrap();
    let port = door.address().port();
    // A listener whose queue is full answers no further connection.
    let hole = TcpSocket::new_v4().unwrap();
    hole.bind(format!("127.0.0.2:{port}").parse().unwrap()).unwrap();
    let _hole = hole.listen(1).unwrap();
    let mut queue = Vec::new();
    while let Ok(Ok(queued)) =
        timeout(Duration::from_millis(300), TcpStream::connect(("127.0.0.2", port))).await
    {
        queue.push(queued);
    }
    names.lead_to(&["127.0.0.2", "127.0.0.3"]);
    // So that connections are made all the time.
    let builder = names.known_to(Rota::builder()).arg("--upstream-connection-age").arg("300ms");
    let stand = Stand::start(builder, &named(port), &upstream, extent).await;
    sleep(extent.fault).await;
    served(&stand.callers, extent.calls).await;
    let made = door.made();
    assert!(made > 6, "{FAULT}: {made} connections");
    Some(stand.end(FAULT, move |_| format!("{made} connections were made to the other")).await)
}

/// The provider's name leads to another address, and the old one goes away a while later; none without the right to mount.
pub async fn moved(extent: Extent) -> Option<Row> {
    const FAULT: &str = "the provider's name leads to another address";
    let upstream = Upstream::start().await.unwrap();
    let names = Names::new()?;
    let old = Door::at("127.0.0.2:0", &upstream).await.unwrap();
    let port = old.address().port();
    let new = Door::at(&format!("127.0.0.3:{port}"), &upstream).await.unwrap();
    names.lead_to(&["127.0.0.2"]);
    let builder = names.known_to(Rota::builder()).arg("--upstream-connection-age").arg("1s");
    let stand = Stand::start(builder, &named(port), &upstream, extent).await;
    names.lead_to(&["127.0.0.3"]);
    let began = Instant::now();
    // Under steady traffic, which keeps every connection busy.
    let before = old.made();
    eventually(PATIENCE, async || match old.open() {
        0 => Ok(()),
        open => Err(format!("{open} connections still lead to the old address")),
    })
    .await;
    let took = began.elapsed();
    assert_eq!(old.made(), before, "{FAULT}: connections were still made to the old one");
    drop(old);
    served(&stand.callers, extent.calls).await;
    assert!(new.made() > 0);
    let beside = move |_: &[Call]| {
        format!("all calls went there after {:.1} s; connections live for 1 s", took.as_secs_f64())
    };
    Some(stand.end(FAULT, beside).await)
}

/// A name that one Rota alone knows, and where it leads to.
struct Names {
    folder: TempDir,
}

const NAME: &str = "provider.test";

impl Names {
    /// None where this process may not mount.
    fn new() -> Option<Self> {
        let names = Self { folder: tempfile::tempdir().unwrap() };
        names.lead_to(&[]);
        let [program, args @ ..] = &names.words();
        let tried = std::process::Command::new(program).args(args).arg("true").output().ok()?;
        tried.status.success().then_some(names)
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("hosts")
    }

    /// From now on it leads to these. The file stays the same one, as it is mounted.
    fn lead_to(&self, addresses: &[&str]) {
        let lines: Vec<_> = addresses.iter().map(|address| format!("{address} {NAME}\n")).collect();
        fs::write(self.file(), format!("127.0.0.1 localhost\n{}", lines.concat())).unwrap();
    }

    /// What starts a program that knows it.
    fn words(&self) -> [String; 5] {
        let mount = format!("mount --bind {} /etc/hosts && exec \"$0\" \"$@\"", shown(&self.file()));
        ["unshare", "-m", "sh", "-c", &mount].map(str::to_owned)
    }

    fn known_to(&self, builder: Builder) -> Builder {
        builder.under(&self.words().each_ref().map(String::as_str))
    }
}

/// What goes into a provider's `base_url`.
fn named(port: u16) -> String {
    format!("http://{NAME}:{port}/v1")
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

//! Writes what no caller waits for: successes and releases, in order, many to a round trip.

use super::{
    keys::Key,
    script::{COUNT, script},
};
use crate::{
    balance::MemberKey,
    redis::{Args, Connection, Run},
    state::Lease,
    tasks::{Task, Tasks},
};
use fred::types::Value;
use futures::future::join_all;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// At most this many notes are on their way at once.
const BATCH: usize = 256;

/// A tenant, one of its pools, and whether callers may wait for it.
type PoolOf = (Uuid, Uuid, bool);

enum Note {
    /// To be told as it is, of that pool of that tenant.
    Told((Uuid, Uuid), Run),
    /// A call of this member is over.
    Over(PoolOf, MemberKey),
    /// Nobody waits for that pool of that tenant any more.
    Left(Uuid, Uuid),
    /// Say when everything before is written.
    Flush(oneshot::Sender<()>),
}

pub(super) struct Writer {
    notes: mpsc::UnboundedSender<Note>,
    dropped: Arc<Dropped>,
}

/// What was not written.
#[derive(Default)]
struct Dropped {
    /// Whether anything was.
    any: AtomicBool,
    what: Mutex<DroppedNotes>,
}

/// Whose notes were not written.
#[derive(Debug, Default)]
pub(in crate::state) struct DroppedNotes {
    /// Those of these tenants' pools.
    pub(in crate::state) pools: HashSet<(Uuid, Uuid)>,
    /// Whoever's: it is not known.
    pub(in crate::state) unknown: bool,
}

impl Writer {
    /// The queue needs no bound: there are at most three notes a call, and without Redis each is dropped at once.
    pub(super) fn start(connection: Arc<Connection>, replica: String, tasks: &Tasks) -> Self {
        let (notes, inbox) = mpsc::unbounded_channel();
        let dropped = Arc::<Dropped>::default();
        let (inbox, lost, mut began) = (Arc::new(tokio::sync::Mutex::new(inbox)), dropped.clone(), false);
        tasks.spawn(Task::RedisWriter, move |_| {
            // What one that panicked had taken from the queue is lost with it.
            if mem::replace(&mut began, true) {
                lost.note(|what| what.unknown = true);
            }
            run(connection.clone(), replica.clone(), lost.clone(), inbox.clone())
        });
        Self { notes, dropped }
    }

    /// The call under this lease served; the clock was that far ahead.
    pub(super) fn succeed(&self, lease: &Lease, ahead: i64) {
        self.note(told(lease, ahead, "served", Args::default()));
    }

    /// The call under this lease is over, and has used so many tokens.
    pub(super) fn release(&self, lease: &Lease, used: Option<u64>) {
        let settled = used.filter(|_| lease.member.limits.tokens_per_minute > 0);
        if lease.trial || settled.is_some() {
            let args = Args::default()
                .flag(lease.trial)
                .text(&lease.member.key.to_string())
                .number(lease.tokens)
                .optional(settled);
            self.note(told(lease, 0, "over", args));
        }
        self.note(Note::Over((lease.tenant, lease.pool, lease.awaited), lease.member.key.clone()));
    }

    /// Nobody waits for that pool on this replica any more.
    pub(super) fn leave(&self, tenant: Uuid, pool: Uuid) {
        self.note(Note::Left(tenant, pool));
    }

    fn note(&self, note: Note) {
        // The task ends only with its sender.
        let _ = self.notes.send(note);
    }

    /// What was dropped since this was last asked.
    pub(super) fn dropped(&self) -> Option<DroppedNotes> {
        if !self.dropped.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut what = self.dropped.what.lock();
        self.dropped.any.store(false, Ordering::Relaxed);
        Some(mem::take(&mut *what))
    }

    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.note(Note::Flush(done));
        let _ = written.await;
    }
}

impl Dropped {
    fn note(&self, change: impl FnOnce(&mut DroppedNotes)) {
        let mut what = self.what.lock();
        change(&mut what);
        self.any.store(true, Ordering::Relaxed);
    }
}

async fn run(
    connection: Arc<Connection>,
    replica: String,
    dropped: Arc<Dropped>,
    inbox: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Note>>>,
) {
    let mut inbox = inbox.lock().await;
    let mut batch = Vec::with_capacity(BATCH);
    let mut failing = false;
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let mut runs = Vec::with_capacity(batch.len());
        let mut waiting = Vec::new();
        let mut ended = HashMap::<PoolOf, HashMap<MemberKey, u64>>::new();
        for one in batch.drain(..) {
            match one {
                Note::Told(pool, run) => runs.push((Some(pool), script!("note"), run)),
                Note::Over(pool, member) => {
                    *ended.entry(pool).or_default().entry(member).or_default() += 1;
                }
                Note::Left(tenant, pool) => {
                    let left = Run::new([Key::Line.of(tenant, pool)], Args::default().text(&replica));
                    // What is lost of that ends by itself.
                    runs.push((None, script!("leave"), left));
                }
                Note::Flush(done) => waiting.push(done),
            }
        }
        runs.extend(ended.into_iter().map(|(pool, calls)| {
            let (tenant, id, _) = pool;
            (Some((tenant, id)), &*COUNT, fewer(pool, calls, &replica))
        }));
        let any = !runs.is_empty();
        // Sent in this order, without waiting for one another, each to the node of its tenant.
        let runs = runs.into_iter().map(|(pool, script, run)| {
            let written = connection.run::<Value>(script, run);
            async move { written.await.map_err(|error| (pool, error)) }
        });
        let failed: Vec<_> = join_all(runs).await.into_iter().filter_map(Result::err).collect();
        if !failed.is_empty() {
            dropped.note(|what| what.pools.extend(failed.iter().filter_map(|(pool, _)| *pool)));
        }
        let error = failed.into_iter().next().map(|(_, error)| error);
        // One line a transition, never one a failed command.
        if any && failing != error.is_some() {
            failing = error.is_some();
            if let Some(error) = error {
                tracing::warn!(%error, "redis: successes and releases are being dropped");
            } else {
                tracing::info!("redis: successes and releases are written again");
            }
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

/// Calls of a pool that are over, by member: one command for many.
fn fewer((tenant, pool, awaited): PoolOf, calls: HashMap<MemberKey, u64>, replica: &str) -> Run {
    let mut args = Args::default().text(replica);
    for (member, count) in calls {
        args = args.text(&member.to_string()).number(count);
    }
    let line = awaited.then_some(Key::Line);
    Run::new([Key::Counts].into_iter().chain(line).map(|key| key.of(tenant, pool)), args)
}

/// As `note.lua` takes it.
fn told(lease: &Lease, ahead: i64, what: &str, more: Args) -> Note {
    let args = Args::default()
        .all([ahead])
        .text(what)
        .text(&lease.id.to_string())
        .text(&lease.member.key.record)
        .text(&lease.member.credential)
        .number(lease.began.millis())
        .all(more);
    let line = lease.trial.then_some(Key::Line);
    let keys = [Key::Pool, Key::Credentials, Key::Used].into_iter().chain(line);
    let run = Run::new(keys.map(|key| key.of(lease.tenant, lease.pool)), args);
    Note::Told((lease.tenant, lease.pool), run)
}

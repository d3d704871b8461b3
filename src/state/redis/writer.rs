//! Writes what no caller waits for: successes and releases, in order, many to a round trip.

use super::{
    REPLICA_TTL,
    codec::Args,
    connect::Connection,
    keys::Keys,
    script::{Run, script},
};
use crate::state::{Clock, Lease, STATE_TTL};
use fred::types::Value;
use futures::future::join_all;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// At most this many notes are on their way at once.
const BATCH: usize = 256;

/// A tenant, and one of its pools.
pub(super) type PoolOf = (Uuid, Uuid);
/// How many more or fewer calls are in flight, by member.
pub(super) type Differences = HashMap<Arc<str>, i64>;

#[derive(Debug)]
pub(super) enum Note {
    /// The call under this lease served; the clock was that far ahead.
    Succeed(Lease, u64),
    /// The call under this lease is over, and has used so many tokens.
    Release(Lease, Option<u64>),
    /// More or fewer calls than before are in flight in these pools.
    Counts(Vec<(PoolOf, Differences)>),
    /// Say when everything before is written.
    Flush(oneshot::Sender<()>),
}

pub(super) struct Writer {
    notes: mpsc::UnboundedSender<Note>,
    dropped: Arc<AtomicBool>,
}

impl Writer {
    /// The queue needs no bound: there are never more notes than calls, and without Redis each is dropped at once.
    pub(super) fn start(connection: Arc<Connection>, replica: String, clock: Arc<Clock>) -> Self {
        let (notes, inbox) = mpsc::unbounded_channel();
        let dropped = Arc::new(AtomicBool::new(false));
        tokio::spawn(run(connection, replica, clock, dropped.clone(), inbox));
        Self { notes, dropped }
    }

    pub(super) fn note(&self, note: Note) {
        // The task ends only with its sender.
        let _ = self.notes.send(note);
    }

    /// Whether any were dropped since this was last asked.
    pub(super) fn has_dropped(&self) -> bool {
        self.dropped.swap(false, Ordering::Relaxed)
    }

    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.note(Note::Flush(done));
        let _ = written.await;
    }
}

async fn run(
    connection: Arc<Connection>,
    replica: String,
    clock: Arc<Clock>,
    dropped: Arc<AtomicBool>,
    mut inbox: mpsc::UnboundedReceiver<Note>,
) {
    let (note, count) = (script!("note"), script!("count",));
    let mut batch = Vec::with_capacity(BATCH);
    let mut failing = false;
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let client = connection.client();
        let mut runs = Vec::with_capacity(batch.len());
        let mut waiting = Vec::new();
        let mut counts = Counts::default();
        for one in batch.drain(..) {
            match one {
                Note::Succeed(lease, ahead) => runs.push((&note, served(&lease, ahead))),
                Note::Release(lease, used) if is_more_than_a_count(&lease, used) => {
                    runs.push((&note, over(&lease, &replica, used)));
                }
                Note::Release(lease, _) => counts.add((lease.tenant, lease.pool), lease.member.key, -1),
                Note::Counts(pools) => {
                    for (pool, differences) in pools {
                        for (member, difference) in differences {
                            counts.add(pool, member, difference);
                        }
                    }
                }
                Note::Flush(done) => waiting.push(done),
            }
        }
        runs.extend(counts.runs(&replica, clock.ahead()).map(|run| (&count, run)));
        let any = !runs.is_empty();
        // Sent in this order, without waiting for one another, each to the node of its tenant.
        let runs = runs
            .into_iter()
            .map(|(script, run)| connection.watched(script.name, script.run::<Value>(&client, run)));
        let error = join_all(runs).await.into_iter().find_map(Result::err);
        if error.is_some() {
            dropped.store(true, Ordering::Relaxed);
        }
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

/// What has become more or less in flight, by tenant and pool, and member: many calls of a pool that are over are one
/// command.
#[derive(Default)]
struct Counts(HashMap<PoolOf, Differences>);

impl Counts {
    fn add(&mut self, pool: PoolOf, member: Arc<str>, difference: i64) {
        *self.0.entry(pool).or_default().entry(member).or_default() += difference;
    }

    fn runs(self, replica: &str, ahead: u64) -> impl Iterator<Item = Run> {
        self.0.into_iter().filter_map(move |((tenant, pool), mut differences)| {
            differences.retain(|_, difference| *difference != 0);
            let keys = Keys::of(tenant, pool);
            let mut args = Args::default().number(ahead).text(replica).millis(REPLICA_TTL).millis(STATE_TTL);
            for (member, difference) in &differences {
                args = args.text(member).difference(*difference);
            }
            (!differences.is_empty()).then(|| Run::new(vec![keys.counts(), keys.holders()], args.0))
        })
    }
}

/// Whether the end of that call changes more than how many are in flight.
pub(super) fn is_more_than_a_count(lease: &Lease, used: Option<u64>) -> bool {
    lease.trial || (used.is_some() && lease.member.limits.tokens_per_minute > 0)
}

fn served(lease: &Lease, ahead: u64) -> Run {
    note(lease, Args::default().number(ahead).text("served"))
}

fn over(lease: &Lease, replica: &str, used: Option<u64>) -> Run {
    let settle = used.filter(|_| lease.member.limits.tokens_per_minute > 0);
    let mut run = note(lease, Args::default().number(0).text("over"));
    run.push(
        Args::default()
            .text(replica)
            .flag(lease.trial)
            .number(lease.began)
            .number(lease.tokens)
            .optional(settle),
    );
    run
}

fn note(lease: &Lease, args: Args) -> Run {
    let args = args.text(&lease.id.to_string()).text(&lease.member.key).text(&lease.member.credential);
    let keys = Keys::of(lease.tenant, lease.pool);
    Run::new(vec![keys.pool(), keys.credentials(), keys.counts(), keys.used()], args.0)
}

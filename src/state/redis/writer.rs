//! Writes what no caller waits for: successes and releases, in order, many to a round trip.

use super::{
    codec::Args,
    keys::Keys,
    script::{Run, Script, is_unknown, script},
    state_error,
};
use crate::state::{Lease, StateError};
use fred::{clients::WithOptions, prelude::Client, types::Value};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};

/// At most this many notes go in one pipeline.
const BATCH: usize = 256;

#[derive(Debug)]
pub(super) enum Note {
    /// The call under this lease served; the clock was that far ahead.
    Succeed(Lease, u64),
    /// The call under this lease is over, and has used so many tokens.
    Release(Lease, Option<u64>),
    /// Say when everything before is written.
    Flush(oneshot::Sender<()>),
}

pub(super) struct Writer {
    notes: mpsc::UnboundedSender<Note>,
}

impl Writer {
    /// The queue needs no bound: there are never more notes than calls, and without Redis each is dropped at once.
    pub(super) fn start(client: WithOptions<Client>, replica: String) -> Self {
        let (notes, inbox) = mpsc::unbounded_channel();
        tokio::spawn(run(client, replica, script!("note.lua"), inbox));
        Self { notes }
    }

    pub(super) fn note(&self, note: Note) {
        // The task ends only with its sender.
        let _ = self.notes.send(note);
    }

    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.note(Note::Flush(done));
        let _ = written.await;
    }
}

async fn run(
    client: WithOptions<Client>,
    replica: String,
    script: Script,
    mut inbox: mpsc::UnboundedReceiver<Note>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let failing = AtomicBool::new(false);
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let mut runs = Vec::with_capacity(batch.len());
        let mut waiting = Vec::new();
        for note in batch.drain(..) {
            match note {
                Note::Succeed(lease, ahead) => runs.push(served(&lease, ahead)),
                Note::Release(lease, used) => runs.push(over(&lease, &replica, used)),
                Note::Flush(done) => waiting.push(done),
            }
        }
        let error = if runs.is_empty() { None } else { write(&client, &script, runs).await.err() };
        // One line a transition, never one a failed command.
        if failing.swap(error.is_some(), Ordering::Relaxed) != error.is_some() {
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

async fn write(client: &WithOptions<Client>, script: &Script, runs: Vec<Run>) -> Result<(), StateError> {
    let pipeline = client.pipeline();
    for run in &runs {
        let _: Value = script.send(&pipeline, run.clone()).await.map_err(state_error)?;
    }
    for (answer, run) in pipeline.try_all::<Value>().await.into_iter().zip(runs) {
        match answer {
            Err(error) if is_unknown(&error) => {
                let _: Value = script.send_source(client, run).await.map_err(state_error)?;
            }
            answer => drop(answer.map_err(state_error)?),
        }
    }
    Ok(())
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

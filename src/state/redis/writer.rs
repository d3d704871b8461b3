//! Writes what no caller waits for: successes and releases, in order, many to a round trip.

use super::{
    Keys, flag,
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
    /// The call under this lease served.
    Succeed(Lease),
    /// The call under this lease is over.
    Release(Lease),
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
        let scripts = Scripts { succeed: script!("succeed.lua"), release: script!("release.lua") };
        tokio::spawn(run(client, replica, scripts, inbox));
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

struct Scripts {
    succeed: Script,
    release: Script,
}

async fn run(
    client: WithOptions<Client>,
    replica: String,
    scripts: Scripts,
    mut inbox: mpsc::UnboundedReceiver<Note>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let failing = AtomicBool::new(false);
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let mut commands = Vec::with_capacity(batch.len());
        let mut waiting = Vec::new();
        for note in batch.drain(..) {
            match note {
                Note::Succeed(lease) => commands.push((&scripts.succeed, success(lease))),
                Note::Release(lease) => commands.push((&scripts.release, release(lease, &replica))),
                Note::Flush(done) => waiting.push(done),
            }
        }
        let error = if commands.is_empty() { None } else { write(&client, commands).await.err() };
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

async fn write(client: &WithOptions<Client>, commands: Vec<(&Script, Run)>) -> Result<(), StateError> {
    let pipeline = client.pipeline();
    for (script, run) in &commands {
        let _: Value = script.send(&pipeline, run.clone()).await.map_err(state_error)?;
    }
    for (answer, (script, run)) in pipeline.try_all::<Value>().await.into_iter().zip(commands) {
        match answer {
            Err(error) if is_unknown(&error) => {
                let _: Value = script.send_source(client, run).await.map_err(state_error)?;
            }
            answer => drop(answer.map_err(state_error)?),
        }
    }
    Ok(())
}

fn success(lease: Lease) -> Run {
    let args =
        vec![lease.id.to_string().into(), (&*lease.member.key).into(), (&*lease.member.credential).into()];
    Run::new(Keys::of(lease.tenant, lease.pool).records(), args)
}

fn release(lease: Lease, replica: &str) -> Run {
    let args = vec![
        lease.id.to_string().into(),
        (&*lease.member.key).into(),
        (&*lease.member.credential).into(),
        replica.into(),
        flag(lease.trial),
    ];
    Run::new(Keys::of(lease.tenant, lease.pool).counts(), args)
}

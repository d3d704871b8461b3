//! `rota doctor`: checks everything that serving needs, and says what is wrong and what to do.
//!
//! It changes nothing that Rota reads. Each check has a time limit. A check that fails does not stop the others.
//!
//! People run it wherever they stand, with more rights than they need. So it runs no command unless it is told to, and reads no
//! file of settings that somebody else may have put there.

mod model;
mod places;
mod report;
mod shared;

use crate::{
    catalog::{DatabaseFacts, KeyRing, MasterKeySource, OpenError},
    settings::{Gathered, MasterKey, RawSettings, Settings, SettingsError},
    telemetry::{self, LogFormat},
};
use anyhow::Result;
use chrono::Utc;
use clap::{ArgMatches, Args};
use report::Report;
use secrecy::ExposeSecret;
use shared::{LIMIT, changeable_by_others, clock, open_to_others};
use std::path::Path;
use tokio::time::timeout;

#[derive(Args)]
pub(super) struct Options {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Walk one model of this tenant as a call would
    #[arg(long, requires = "model")]
    tenant: Option<String>,
    /// The model's provider, if several have a model of that name
    #[arg(long, requires = "model", default_value = "")]
    provider: String,
    /// What the model does: llm, text-embedding, rerank, speech2text, moderation or tts
    #[arg(long = "type", default_value = "llm", value_name = "TYPE")]
    model_type: String,
    /// The model to walk
    #[arg(long, requires = "tenant")]
    model: Option<String>,
    /// Ask the provider with the config that would serve next, as cheaply as it can be asked
    #[arg(long, requires = "model")]
    probe: bool,
    /// Run the command of --master-key-command, if that is where the master key comes from
    #[arg(long)]
    run_command: bool,
}

/// Prints what it finds. True if nothing is a failure.
///
/// `given` is the command line with the environment, and `without_file` what it says if there is no `rota.toml` to be read.
pub(super) async fn run(
    options: &Options,
    file: &Path,
    given: &ArgMatches,
    without_file: RawSettings,
) -> Result<bool> {
    let mut report = Report::default();
    let gathered = match changeable_by_others(file) {
        Some(what) => {
            let found = format!("{} is not read: {what}", file.display());
            report.failure(
                "settings file",
                found,
                "chmod go-w it and its folder, or run the doctor elsewhere",
            );
            Ok(Gathered { settings: without_file.clone(), warnings: Vec::new() })
        }
        None => Gathered::read(file, given),
    };
    let settings = examine(gathered, without_file, &mut report);
    let doors = [settings.listen, settings.admin_listen.address].into_iter();
    for address in doors.chain(settings.http_listen.map(|listen| listen.address)) {
        settings.upstream.reserved.port(address);
    }
    places::data_directory(&settings, &mut report);
    let (facts, mut redis) = tokio::join!(database(&settings, &mut report), places::redis(&settings));
    let facts_of_database = facts.as_ref().map(|(facts, _)| facts);
    let ring = master_key(&settings, options.run_command, facts_of_database, &mut report).await;
    // What an older or later schema holds cannot be read.
    let facts = facts.and_then(|(facts, current)| current.then_some(facts));
    report.append(std::mem::take(&mut redis));
    places::collector(&settings, &mut report).await;
    if let Some(facts) = &facts {
        places::providers(&settings, facts, &mut report).await;
    }
    if let (Some(tenant), Some(model)) = (&options.tenant, &options.model) {
        match (facts, ring) {
            (Some(facts), Some(ring)) => {
                let walk = model::Walk {
                    tenant,
                    provider: &options.provider,
                    model_type: &options.model_type,
                    model,
                    probe: options.probe,
                    settings: &settings,
                };
                walk.report(facts.catalog(ring, settings.upstream.networks), &mut report).await;
            }
            _ => report.failure(
                "model",
                "cannot be looked up",
                "mend the database, its migrations and the master key first",
            ),
        }
    }
    print(&if options.json { report.json()? } else { report.text() });
    Ok(report.is_well())
}

/// The settings as far as they can be used. What is wrong with them goes into the report. Nothing is logged by default.
fn examine(
    gathered: Result<Gathered, SettingsError>,
    without_file: RawSettings,
    report: &mut Report,
) -> Settings {
    let mut problems = Vec::new();
    let Gathered { settings: raw, warnings } = gathered.unwrap_or_else(|error| {
        problems.push(error.to_string());
        Gathered { settings: without_file, warnings: Vec::new() }
    });
    let format = raw.log_format().unwrap_or_else(|error| {
        problems.push(error.to_string());
        LogFormat::default()
    });
    let filter = raw.log.clone().filter(|log| !log.is_empty()).unwrap_or_else(|| "off".to_owned());
    if telemetry::init(&filter, format).is_err() {
        problems.push("--log: is a filter such as `info` or `rota=debug,info`".to_owned());
    }
    let (settings, more) = Settings::examine(raw);
    problems.extend(more);
    if problems.is_empty() {
        report.ok("settings", "complete");
    }
    for warning in warnings {
        report.warning("settings", warning, "delete it");
    }
    for problem in problems {
        let setting = problem.split_once(": ").map_or("the settings", |(setting, _)| setting);
        let next = format!("correct {setting}; see `rota --help`");
        report.failure("settings", problem, next);
    }
    settings
}

/// The database, where it can be asked, and whether its schema is up to date.
async fn database(settings: &Settings, report: &mut Report) -> Option<(DatabaseFacts, bool)> {
    const NAME: &str = "database";
    let mut options = settings.database;
    options.wait = options.wait.min(LIMIT);
    let asked = timeout(LIMIT, DatabaseFacts::of(settings.database_url.expose_secret(), options)).await;
    let facts = match asked {
        Ok(Ok(Some(facts))) => facts,
        Ok(Ok(None)) => {
            report.warning(NAME, "there is no file yet", "`rota serve` makes it at its first start");
            return None;
        }
        Ok(Err(error)) => {
            let next = match error {
                OpenError::Pooler(_) => "set the pooler so, or give PostgreSQL's own address",
                _ => "start it, or correct --database-url",
            };
            report.failure(NAME, error.to_string(), next);
            return None;
        }
        Err(_) => {
            let next = "start it, or correct --database-url";
            report.failure(NAME, format!("no answer within {LIMIT:?}"), next);
            return None;
        }
    };
    if facts.read_only {
        let found = format!("{}, which takes no writes", facts.version);
        report.failure(NAME, found, "give the primary's address in --database-url");
    } else if facts.pooled {
        report.ok(NAME, format!("{}, behind a pooler in transaction mode", facts.version));
    } else {
        report.ok(NAME, &facts.version);
    }
    if let Ok(Ok(Some(theirs))) = timeout(LIMIT, facts.now()).await {
        clock(report, "database clock", (theirs - Utc::now()).num_milliseconds());
    }
    let next = "`rota migrate`, or a start of `rota serve`, brings it up to date";
    match timeout(LIMIT, facts.pending()).await {
        Ok(Ok(pending)) if pending.is_empty() => {
            report.ok("migrations", "all have run");
            return Some((facts, true));
        }
        Ok(Ok(pending)) => {
            report.warning("migrations", format!("pending: {}", pending.join(", ")), next);
        }
        Ok(Err(error)) => {
            report.failure("migrations", error.to_string(), "see that Rota may read its tables");
        }
        Err(_) => report.failure("migrations", format!("no answer within {LIMIT:?}"), next),
    }
    Some((facts, false))
}

/// The master key: whether it can be read, opens this database, and is its owner's alone.
async fn master_key(
    settings: &Settings,
    run_command: bool,
    facts: Option<&DatabaseFacts>,
    report: &mut Report,
) -> Option<KeyRing> {
    const NAME: &str = "master key";
    if matches!(settings.master_key, MasterKey::Command(_)) && !run_command {
        let found = "comes from a command, which was not run";
        report.warning(NAME, found, "give --run-command to run --master-key-command");
        return None;
    }
    let (setting, source, file) = match settings.master_key.clone() {
        MasterKey::Value(ring) => ("ROTA_MASTER_KEY", MasterKeySource::Value(ring), None),
        MasterKey::File(path) => ("--master-key-file", MasterKeySource::File(path.clone()), Some(path)),
        MasterKey::Command(command) => ("--master-key-command", MasterKeySource::Command(command), None),
        // Read alone: a first start makes it, not the doctor.
        MasterKey::Own(path) => ("--data-dir", MasterKeySource::File(path.clone()), Some(path)),
    };
    let own = matches!(settings.master_key, MasterKey::Own(_));
    if own && settings.embedded && facts.is_none() && file.as_ref().is_some_and(|file| !file.exists()) {
        report.warning(NAME, "there is no file yet", "`rota serve` makes it at its first start");
        return None;
    }
    let ring = match timeout(LIMIT, source.ring()).await {
        Ok(Ok(ring)) => ring,
        Ok(Err(error)) => {
            report.failure(NAME, error.to_string(), format!("correct {setting}"));
            return None;
        }
        Err(_) => {
            report.failure(NAME, format!("not there within {LIMIT:?}"), format!("correct {setting}"));
            return None;
        }
    };
    if let Some((path, mode)) = file.as_deref().and_then(open_to_others) {
        let found = format!("others may read {}: mode {mode:o}", path.display());
        report.warning("master key file", found, format!("chmod 600 {}", path.display()));
    }
    let opens = match facts {
        Some(facts) => timeout(LIMIT, facts.opens(&ring)).await.ok().and_then(Result::ok),
        None => None,
    };
    match opens {
        Some(Some(true)) => report.ok(NAME, "opens the database"),
        Some(Some(false)) => {
            let next = format!("give in {setting} the key it was begun with, or last rotated to");
            report.failure(NAME, "does not open this database", next);
            return None;
        }
        Some(None) => report.ok(NAME, "well formed; the database holds nothing to try it on"),
        None => report.warning(NAME, "well formed; not tried", "mend the database first"),
    }
    Some(ring)
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn print(text: &str) {
    println!("{text}");
}

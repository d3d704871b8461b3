//! The layers of settings: `rota.toml`, over it the environment, over that the flags.
//!
//! The merging is clap's: what `rota.toml` holds is deserialized, and clap updates it with what the command line and the
//! environment give. `figment` would do the same with a second TOML parser, and would not know the flags.

use super::{RawSettings, values::SettingsError};
use clap::{ArgMatches, Command, FromArgMatches, builder::Resettable};
use std::{env, fs, io, path::Path};

/// The file that is read if it exists, in the working directory.
pub const FILE: &str = "rota.toml";

/// Settings that were removed, with the reason and what to do instead. `rota.toml` and the environment may still hold
/// them and get a warning; the flag is refused like any unknown flag.
const REMOVED: [(&str, &str); 1] = [(
    "turns",
    "was removed in 0.1.0: every pick asks Redis, and callers that ask at the same moment share a command. Nothing replaces it",
)];

/// The settings as they are given, and what to say about them once logging has started.
#[derive(Default)]
pub struct Gathered {
    /// The settings, not yet checked.
    pub settings: RawSettings,
    /// A line for each setting that has no effect.
    pub warnings: Vec<String>,
}

/// The settings of which an empty text says something: that there is none.
const EMPTY_IS_NONE: &[&str] = &["http_listen"];

/// The command with each variable left out that is set to nothing: that is how compose files and shells leave one out.
#[must_use]
pub fn without_empty_variables(command: Command) -> Command {
    command.mut_args(|arg| {
        if EMPTY_IS_NONE.contains(&arg.get_id().as_str()) {
            return arg;
        }
        let value = arg.get_env().and_then(env::var_os);
        let is_empty = value.is_some_and(|value| value.to_string_lossy().trim().is_empty());
        if is_empty { arg.env(Resettable::Reset) } else { arg }
    })
}

impl Gathered {
    /// Reads the file at `path` if it exists, and lets environment and flags, which are in `given`, win over it.
    ///
    /// # Errors
    /// If the file cannot be read, or holds something that is no setting.
    pub fn read(path: &Path, given: &ArgMatches) -> Result<Self, SettingsError> {
        let (mut settings, mut warnings) = match fs::read_to_string(path) {
            Ok(text) => parse(&text).map_err(|problem| of_file(path, &problem))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(of_file(path, &error.to_string())),
        };
        for warning in &mut warnings {
            warning.insert_str(0, &format!("{}: ", path.display()));
        }
        warnings.extend(removed_variables(|name| env::var_os(name).is_some_and(|value| !value.is_empty())));
        settings.update_from_arg_matches(given).map_err(|error| SettingsError(vec![error.to_string()]))?;
        Ok(Self { settings, warnings })
    }
}

fn of_file(path: &Path, problem: &str) -> SettingsError {
    SettingsError(vec![format!("{}: {problem}", path.display())])
}

/// The settings in a file's text, and a warning for each that was removed.
fn parse(text: &str) -> Result<(RawSettings, Vec<String>), String> {
    // The message alone: the whole error quotes the line, which may hold a password.
    let mut table: toml::Table = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let warnings = REMOVED
        .iter()
        .filter(|(key, _)| table.remove(*key).is_some())
        .map(|(key, why)| format!("`{key}` {why}"))
        .collect();
    // Without the text in hand this error quotes no line. It names the key.
    let settings = table.try_into().map_err(|error| error.to_string().trim_end().replace('\n', " "))?;
    Ok((settings, warnings))
}

fn removed_variables(is_set: impl Fn(&str) -> bool) -> Vec<String> {
    let variable = |key: &str| format!("ROTA_{}", key.replace('-', "_").to_uppercase());
    let set = REMOVED.iter().map(|(key, why)| (variable(key), why)).filter(|(name, _)| is_set(name));
    set.map(|(name, why)| format!("{name} {why}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    /// What `rota` takes from this file under these flags.
    fn gathered(file: &str, flags: &[&str]) -> Result<Gathered, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, file).unwrap();
        let command = RawSettings::augment_args(Command::new("rota"));
        let given = command.try_get_matches_from([&["rota"], flags].concat()).unwrap();
        Gathered::read(&path, &given).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_fills_what_flags_leave_open() {
        let merged = gathered("listen = \"127.0.0.1:1\"\nlog = \"debug\"\n", &["--listen", "127.0.0.1:2"]);
        let Gathered { settings, warnings } = merged.unwrap();
        assert_eq!(settings.listen.as_deref(), Some("127.0.0.1:2"));
        assert_eq!(settings.log.as_deref(), Some("debug"));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn each_error_of_a_file_names_its_key_and_no_password() {
        for (file, key) in [
            ("redis_url = \"redis://:hunter2@x\"", "redis_url"),
            ("redis-url = { password = \"hunter2\" }", "redis-url"),
            ("max-calls = true", "max-calls"),
            ("redis-url = hunter2", FILE),
        ] {
            let error = gathered(file, &[]).err().unwrap();
            assert!(error.contains(key) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn removed_settings_are_warnings_that_say_so() {
        let Gathered { settings, warnings } = gathered("turns = 64\nlog = \"debug\"", &[]).unwrap();
        assert_eq!(settings.log.as_deref(), Some("debug"));
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(warning.contains("rota.toml: `turns` was removed"), "{warning}");
        let [warning] = &removed_variables(|name| name == "ROTA_TURNS")[..] else { panic!() };
        assert!(warning.starts_with("ROTA_TURNS was removed"), "{warning}");
    }

    #[test]
    fn a_removed_setting_has_no_flag() {
        let command = RawSettings::augment_args(Command::new("rota"));
        for (key, _) in REMOVED {
            assert!(command.get_arguments().all(|arg| arg.get_long() != Some(key)), "{key}");
        }
    }
}

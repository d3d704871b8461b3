//! `rota token`: creates tokens without a running service.

use crate::{
    app,
    catalog::{NewToken, Role},
    settings::Settings,
};
use anyhow::{Context, Result};
use chrono::Utc;
use clap::{Subcommand, ValueEnum};
use secrecy::ExposeSecret;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a token and print its secret, alone, on standard output
    Create {
        /// What it may do
        #[arg(long, value_enum)]
        role: RoleName,
        /// The tenant it belongs to; required for every role but operator
        #[arg(long, default_value = "")]
        tenant: String,
        /// For people
        #[arg(long, default_value = "")]
        name: String,
        /// When it stops working, such as `30d` from now [default: never]
        #[arg(long, value_name = "TIME")]
        expires_in: Option<String>,
        /// Let Acquire hand the provider's credentials to its bearer
        #[arg(long)]
        may_read_credentials: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum RoleName {
    Operator,
    TenantAdmin,
    Invoker,
    Viewer,
}

pub(super) async fn run(command: Command, settings: &Settings) -> Result<()> {
    let Command::Create { role, tenant, name, expires_in, may_read_credentials } = command;
    let expires_at = match expires_in {
        Some(text) => {
            let time = humantime::parse_duration(&text).context("--expires-in: is a time, such as 30d")?;
            let end =
                chrono::Duration::from_std(time).ok().and_then(|time| Utc::now().checked_add_signed(time));
            Some(end.context("--expires-in: is too far away")?)
        }
        None => None,
    };
    let role = Some(match role {
        RoleName::Operator => Role::Operator,
        RoleName::TenantAdmin => Role::TenantAdmin,
        RoleName::Invoker => Role::Invoker,
        RoleName::Viewer => Role::Viewer,
    });
    let catalog = app::open_catalog(settings).await?;
    let (_, secret) = catalog
        .by_command_line()
        .create_token(NewToken { tenant, role, name, expires_at, may_read_credentials })
        .await?;
    print(secret.expose_secret());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn print(secret: &str) {
    println!("{secret}");
}

//! Postgres: found on the machine, run on a data directory of ours, as a user other than root, on loopback only.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, geteuid};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::datadir::{DataDir, make};
use crate::error::{Error, Result};
use crate::options::{Options, Setting};
use crate::packages;
use crate::process::Spec;
use crate::progress::Progress;

const OLDEST: u32 = 14;
/// Three services with a pool each, the relay, and a person with psql.
const CONNECTIONS: u32 = 300;

/// A Postgres of this machine, ready to be started on a data directory.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    port: u16,
    spec: Spec,
}

impl Postgres {
    /// Finds the programs and makes the data directory where there is none.
    pub(crate) async fn prepare(
        dir: &DataDir,
        options: &Options,
        progress: &Progress,
    ) -> Result<Self> {
        let port = options.ports.postgres;
        let data = dir.postgres();
        let written_by = fs::read_to_string(data.join("PG_VERSION"))
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let found =
            packages::require("Postgres", "postgresql", || newest(written_by), progress).await?;
        found.check(written_by, dir)?;
        let user = unprivileged_user()?;
        if written_by.is_none() {
            initialise(&found, dir, user, progress).await?;
        }
        let ours = [
            format!("port={port}"),
            format!("max_connections={CONNECTIONS}"),
            "listen_addresses=127.0.0.1".to_owned(),
            // A socket's path is limited to some hundred characters; a data directory's is not.
            "unix_socket_directories=".to_owned(),
        ];
        let mut args = vec![OsString::from("-D"), data.clone().into_os_string()];
        // Of two that name the same, Postgres takes the later one.
        let wished = options.postgres_settings.iter().map(Setting::as_str);
        let settings = wished.chain(ours.iter().map(String::as_str));
        args.extend(settings.flat_map(|setting| [OsString::from("-c"), setting.into()]));
        let spec =
            Spec { program: found.bin.join("postgres"), args, env: Vec::new(), dir: data, user };
        Ok(Self { port, spec })
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The superuser's URL.
    pub(crate) fn url(&self) -> String {
        url(self.port, "postgres", "postgres")
    }

    /// Whether it answers a connection.
    pub(crate) async fn answers(&self) -> bool {
        match superuser(self.port).connect().await {
            Ok(connection) => connection.close().await.is_ok(),
            Err(_) => false,
        }
    }
}

/// The address of a database for one of its roles.
pub(crate) fn url(port: u16, role: &str, database: &str) -> String {
    format!("postgres://{role}@127.0.0.1:{port}/{database}")
}

pub(crate) fn superuser(port: u16) -> PgConnectOptions {
    PgConnectOptions::new().host("127.0.0.1").port(port).username("postgres").database("postgres")
}

#[derive(Debug)]
struct Found {
    bin: PathBuf,
    major: u32,
}

impl Found {
    /// Refuses a version that the services or the data cannot live with.
    fn check(&self, written_by: Option<u32>, dir: &DataDir) -> Result<()> {
        let Self { bin, major } = self;
        let (bin, data) = (bin.display(), dir.path().display());
        if *major < OLDEST {
            return Err(Error::Unfit(format!(
                "Postgres {major} in {bin} is too old: install {OLDEST} or newer"
            )));
        }
        match written_by {
            Some(version) if version != *major => Err(Error::Unfit(format!(
                "the data in {data} was written by Postgres {version}, and this machine has {major} ({bin}): \
                 install postgresql-{version}, or forget the data with `settle reset`"
            ))),
            _ => Ok(()),
        }
    }
}

/// The newest Postgres of the machine, or the one that wrote the data.
fn newest(written_by: Option<u32>) -> Option<Found> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let path = packages::in_path("postgres")
        .and_then(|file| Some(file.canonicalize().ok()?.parent()?.to_owned()));
    debian
        .chain(path)
        .filter(|bin| {
            ["postgres", "initdb"].iter().all(|program| packages::is_program(&bin.join(program)))
        })
        .filter_map(|bin| major(&bin).map(|major| Found { bin, major }))
        .max_by_key(|found| (Some(found.major) == written_by, found.major))
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15.
fn major(bin: &Path) -> Option<u32> {
    let output = std::process::Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(2)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Postgres refuses to run as root.
fn unprivileged_user() -> Result<Option<(Uid, Gid)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        let user = User::from_name(name)
            .map_err(|error| Error::io(format!("look up the user {name}"))(error.into()))?;
        if let Some(user) = user {
            return Ok(Some((user.uid, user.gid)));
        }
    }
    Err(Error::Unfit(
        "Postgres does not run as root: run `settle` as another user, or make one named postgres"
            .to_owned(),
    ))
}

async fn initialise(
    found: &Found,
    dir: &DataDir,
    user: Option<(Uid, Gid)>,
    progress: &Progress,
) -> Result<()> {
    let step = progress.step("Making Postgres' data directory");
    let data = dir.postgres();
    make(&data)?;
    if let Some((uid, gid)) = user {
        chown(&data, Some(uid.as_raw()), Some(gid.as_raw()))
            .map_err(Error::io(format!("give {} to Postgres' user", data.display())))?;
    }
    let arguments = [
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-instructions",
    ];
    let mut args: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    args.extend([OsString::from("-D"), data.clone().into_os_string()]);
    if dir.is_temporary() {
        args.push("--no-sync".into());
    }
    let spec = Spec { program: found.bin.join("initdb"), args, env: Vec::new(), dir: data, user };
    let action = "make Postgres' data directory (initdb; its user has to be able to enter the directories above)";
    packages::run_shown(spec.command(), action, &step).await?;
    step.done(format!(
        "Postgres {} has a data directory: {}",
        found.major,
        dir.postgres().display()
    ));
    Ok(())
}

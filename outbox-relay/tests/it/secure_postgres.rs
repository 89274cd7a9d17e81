//! A Postgres that takes TLS and a password only, made by the programs of the one that the tests are given.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::geteuid;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::{
    certificates::{Authority, keep},
    database::{Database, append_many},
    kafka,
    leash::Leash,
    relay::Relay,
};

const PASSWORD: &str = "the-relays-password";

/// A running server, reached as 127.0.0.1.
struct Server {
    port: u16,
    ca: String,
    _leash: Leash,
}

impl Server {
    async fn start(hosts: &[&str], authority: &Authority) -> Self {
        let given = Given::ask().await;
        let directory = tempfile::tempdir().unwrap().keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let data = directory.join("data");
        fs::create_dir(&data).unwrap();
        given.owns(&data);
        let mut initdb = given.command("initdb", &data);
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let (key, certificate) = authority.server(hosts);
        for (name, text) in [
            ("server.key", key.as_str()),
            ("server.crt", &certificate),
            // The tests themselves come in without TLS; the relay does not.
            (
                "pg_hba.conf",
                "host all postgres all trust\nhostssl all outbox_relay all scram-sha-256\n",
            ),
        ] {
            let file = PathBuf::from(keep(&data, name, text));
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            given.owns(&file);
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = given.command("postgres", &data);
        for setting in
            ["ssl=on", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
        {
            postgres.args(["-c", setting]);
        }
        postgres.args(["-c", &format!("port={port}")]);
        let leash = Leash::start(&postgres, "QUIT", &directory);
        let server = Self { port, ca: keep(&directory, "ca.pem", &authority.pem()), _leash: leash };
        let url = server.superuser();
        crate::eventually("Postgres answers", async || PgConnection::connect(&url).await.is_ok())
            .await;
        server
    }

    fn superuser(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    async fn database(&self) -> Database {
        let database = Database::on(&self.superuser()).await;
        let password = format!("alter role outbox_relay password '{PASSWORD}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(password))
            .execute(&mut database.connect().await)
            .await
            .unwrap();
        database
    }
}

/// The Postgres that the tests are given: its programs, and the user that it runs as.
struct Given {
    programs: PathBuf,
    data: PathBuf,
}

impl Given {
    async fn ask() -> Self {
        let mut connection =
            PgConnection::connect(&crate::required("SETTLE_TEST_POSTGRES")).await.unwrap();
        let (programs, data): (String, String) = sqlx::query_as(
            "select (select setting from pg_config where name = 'BINDIR'), current_setting('data_directory')",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        Self { programs: programs.into(), data: data.into() }
    }

    fn owns(&self, file: &Path) {
        let owner = fs::metadata(&self.data).unwrap();
        chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    /// Postgres does not run as root.
    fn command(&self, program: &str, data: &Path) -> Command {
        let program = self.programs.join(program);
        let mut command = if geteuid().is_root() {
            let owner = fs::metadata(&self.data).unwrap();
            let mut command = Command::new("setpriv");
            command.args(["--clear-groups", "--reuid", &owner.uid().to_string()]);
            command.args(["--regid", &owner.gid().to_string()]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("-D").arg(data).current_dir(data);
        command
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_shipped_by_tls_and_a_password_file_and_a_stranger_is_not_believed() {
    let (authority, files) = (Authority::new("settle's tests"), TempDir::new().unwrap());
    let server = Server::start(&["localhost", "127.0.0.1"], &authority).await;
    let (database, topic) = (server.database().await, kafka::topic().await);
    append_many(&mut database.connect().await, &topic, 1, 100).await;
    let password = keep(files.path(), "password", "wrong\n");
    let strangers = keep(files.path(), "ca.pem", &Authority::new("a stranger").pem());
    let url = |name: &str, more: &str| {
        let port = server.port;
        format!("postgres://outbox_relay@127.0.0.1:{port}/{name}?password_file={password}{more}")
    };
    // The first two get nowhere near a database.
    let sources = [
        ("stranger", url("any", &format!("&sslrootcert={strangers}"))),
        ("unencrypted", url("any_other", "&sslmode=disable")),
        ("good", url(&database.name, &format!("&sslrootcert={}", server.ca))),
    ];
    let sources = sources.each_ref().map(|(name, url)| (*name, url.as_str()));
    let relay = Relay::of(&sources, &kafka::bootstrap(), &["--postgres-tls"]).await;
    relay.says("stranger: failing: Postgres: connecting: ").await;
    relay.says("invalid peer certificate").await;
    relay.says("unencrypted: failing: Postgres: connecting: ").await;
    relay.says("no pg_hba.conf entry").await;
    relay.says("good: failing: Postgres: connecting: ").await;
    relay.says("password authentication failed").await;
    assert_eq!(database.unsent().await, 100);
    keep(files.path(), "password", &format!("{PASSWORD}\n"));
    database.drained().await;
    relay.says("good: shipping").await;
    relay.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_a_certificate_for_another_host_is_not_believed() {
    let (authority, files) = (Authority::new("settle's tests"), TempDir::new().unwrap());
    let server = Server::start(&["a.example"], &authority).await;
    let (database, topic) = (server.database().await, kafka::topic().await);
    append_many(&mut database.connect().await, &topic, 1, 100).await;
    let password = keep(files.path(), "password", PASSWORD);
    let url = format!(
        "postgres://outbox_relay@127.0.0.1:{}/{}?password_file={password}&sslrootcert={}",
        server.port, database.name, server.ca
    );
    let relay = Relay::of(&[("test", &url)], &kafka::bootstrap(), &["--postgres-tls"]).await;
    relay.says("not valid for").await;
    assert_eq!(database.unsent().await, 100);
    relay.stop().await.unwrap();
    let told = format!("{url}&sslmode=verify-ca");
    let relay = Relay::of(&[("test", &told)], &kafka::bootstrap(), &["--postgres-tls"]).await;
    database.drained().await;
    relay.stop().await.unwrap();
}

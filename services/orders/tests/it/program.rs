//! The real program on a database of the tests: started, asked, told to stop.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use chassis::testing::Database;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tonic::transport::{Channel, Endpoint};

/// A process that does not outlive its test.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: String,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The program, told where its database is and where to listen; Kafka is nowhere.
pub(crate) fn command(db: &Database, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
    command
        .env("DATABASE_URL", sqlx::ConnectOptions::to_url_lossy(&db.options).as_str())
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        .env("RUST_LOG", "info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Program {
    pub(crate) fn start(db: &Database) -> Self {
        Self::with(db, |_| {})
    }

    /// Starts it with more settings, and waits until it says that it answers.
    pub(crate) fn with(db: &Database, settings: impl FnOnce(&mut Command)) -> Self {
        let port = free_port();
        let mut command = command(db, port);
        settings(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let program =
            Self { child, address: format!("http://127.0.0.1:{port}"), log: Arc::clone(&log) };
        loop {
            let line =
                lines.next().unwrap_or_else(|| panic!("it ended: {:#?}", log.lock().unwrap()));
            let line = line.unwrap();
            let answers = line.contains("orders answers");
            log.lock().unwrap().push(line);
            if answers {
                break;
            }
        }
        // Read on, so that it never waits for us.
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line));
        });
        program
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.address.clone()).unwrap().connect().await.unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    pub(crate) async fn ended(mut self) -> ExitStatus {
        tokio::task::spawn_blocking(move || self.child.wait()).await.unwrap().unwrap()
    }
}

//! The program, and a client of HTTP that sends exactly what it is told.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process that does not outlive its test.
pub(crate) struct Program {
    child: Child,
    address: String,
    metrics: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storefront"));
    // Nobody is there.
    for service in ["ORDERS_URL", "PRODUCTS_URL", "DELIVERY_URL", "ORCHESTRATOR_URL"] {
        command.env(service, "http://127.0.0.1:1");
    }
    command
}

/// What the program says when it refuses to start like this.
pub(crate) fn refused(arguments: &[&str]) -> String {
    let output = command().args(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Program {
    /// With the operator's view.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::with(&[&["--operator"], arguments].concat())
    }

    pub(crate) fn customers_only() -> Self {
        Self::with(&[])
    }

    fn with(arguments: &[&str]) -> Self {
        let (address, metrics) = (free(), free());
        let mut child = command()
            .args(arguments)
            .args(["--listen", &address, "--metrics-listen", &metrics, "--log", "info"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let program = Self { child, address, metrics };
        let mut log = Vec::new();
        while !log.last().is_some_and(|line: &String| line.contains("storefront answers")) {
            let line = lines.next().unwrap_or_else(|| panic!("it ended before: {log:#?}"));
            log.push(line.unwrap());
        }
        // Its log is read on, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        program
    }

    pub(crate) fn get(&self, path: &str, headers: &[&str]) -> Answer {
        ask(&self.address, &format!("GET {path}"), headers, "")
    }

    pub(crate) fn post(&self, path: &str, headers: &[&str], form: &str) -> Answer {
        let kind = "content-type: application/x-www-form-urlencoded";
        ask(&self.address, &format!("POST {path}"), &[headers, &[kind]].concat(), form)
    }

    pub(crate) fn metrics(&self, path: &str) -> Answer {
        ask(&self.metrics, &format!("GET {path}"), &[], "")
    }

    /// The cookie and the token of somebody new.
    pub(crate) fn customer(&self) -> (String, String) {
        let page = self.get("/", &[]);
        let cookie = page.header("set-cookie").unwrap().split(';').next().unwrap();
        let (_, rest) = page.body.split_once("name=\"token\" value=\"").unwrap();
        (format!("cookie: {cookie}"), rest.split('"').next().unwrap().to_owned())
    }

    /// A stream that has begun.
    pub(crate) fn stream(&self, path: &str) -> TcpStream {
        let mut stream = send(&self.address, &format!("GET {path}"), &[], "");
        let mut beginning = [0; 12];
        stream.read_exact(&mut beginning).unwrap();
        assert_eq!(&beginning, b"HTTP/1.1 200");
        stream
    }

    /// Asks it to end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn send(address: &str, line: &str, headers: &[&str], body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut request = format!("{line} HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|header| header.starts_with("host:")) {
        request.push_str(&format!("host: {address}\r\n"));
    }
    for header in headers {
        request.push_str(&format!("{header}\r\n"));
    }
    // A program that refuses a body need not read all of it.
    let _ = stream.write_all(format!("{request}\r\n{body}").as_bytes());
    stream
}

fn ask(address: &str, line: &str, headers: &[&str], body: &str) -> Answer {
    let headers = [headers, &["connection: close"]].concat();
    let mut stream = send(address, line, &headers, body);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

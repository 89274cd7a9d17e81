//! A server that a test starts for itself ends with the test, however that ends, and takes its directory with it: a shell
//! holds it, and lets go when nobody holds the other end of its pipe.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
};

/// `$0` is the signal that ends it, `$1` the directory.
const HOLD: &str = r#"
signal=$0 directory=$1
shift
"$@" < /dev/null &
cat > /dev/null
kill -s "$signal" $!
wait $!
rm -rf "$directory"
"#;

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Leash(Child);

impl Leash {
    /// Starts it in its directory, with its output in `log` there.
    pub(crate) fn start(server: &Command, signal: &str, directory: &Path) -> Self {
        let log = File::create(directory.join("log")).unwrap();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", HOLD, signal])
            .arg(directory)
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Self(shell.spawn().unwrap())
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

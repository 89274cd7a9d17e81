//! Where a stack keeps its data. One stack at a time holds the directory, by a lock that dies with its process.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::error::{Error, Result};

/// What a stack writes into its directory; forgetting removes these and nothing else.
const ENTRIES: [&str; 5] = ["postgres", "kafka", "jaeger", "logs", "run"];
const LOCK: &str = "settle.lock";

/// A directory that belongs to one running stack.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    temporary: Option<TempDir>,
    _lock: File,
}

impl DataDir {
    /// Opens the directory, making it where it does not exist, and locks it until dropped.
    pub fn open(path: &Path) -> Result<Self> {
        make(path)?;
        let path = path.canonicalize().map_err(Error::io(format!("open {}", path.display())))?;
        let lock = lock(&path)?;
        for entry in ["logs", "run"] {
            make(&path.join(entry))?;
        }
        Ok(Self { path, temporary: None, _lock: lock })
    }

    /// A new directory that is removed when dropped.
    pub fn temporary() -> Result<Self> {
        let new = tempfile::Builder::new().prefix("settle-").tempdir();
        let new = new.map_err(Error::io("make a temporary directory"))?;
        // Postgres never runs as root: another user has to be able to enter.
        fs::set_permissions(new.path(), Permissions::from_mode(0o755))
            .map_err(Error::io("let Postgres enter the temporary directory"))?;
        let dir = Self::open(new.path())?;
        Ok(Self { temporary: Some(new), ..dir })
    }

    /// Removes everything a stack has written; the lock stays held.
    pub fn forget(&self) -> Result<()> {
        for entry in ENTRIES {
            let entry = self.path.join(entry);
            match fs::remove_dir_all(&entry) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("remove {}", entry.display()))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One log per process.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The ids of the processes that run.
    pub(crate) fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Postgres' own data directory.
    pub(crate) fn postgres(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// Kafka's configuration and log segments.
    pub(crate) fn kafka(&self) -> PathBuf {
        self.path.join("kafka")
    }

    /// Jaeger's configuration; its traces are in memory.
    pub(crate) fn jaeger(&self) -> PathBuf {
        self.path.join("jaeger")
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }
}

/// Where data is kept when nobody says otherwise.
pub(crate) fn default_data_dir() -> PathBuf {
    // Root's home is closed to the user Postgres runs as.
    if geteuid().is_root() {
        PathBuf::from("/var/lib/settle")
    } else {
        home_dir("XDG_DATA_HOME", ".local/share")
    }
}

/// Where downloads, and what deploy/jaeger builds, are kept when nobody says otherwise.
pub(crate) fn default_cache_dir() -> PathBuf {
    home_dir("XDG_CACHE_HOME", ".cache")
}

pub(crate) fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io(format!("make the directory {}", path.display())))
}

fn home_dir(variable: &str, below_home: &str) -> PathBuf {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(below_home)))
        .unwrap_or_else(std::env::temp_dir)
        .join("settle")
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let action = || format!("lock {}", path.display());
    let mut file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::io(action()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            return Err(Error::Busy { dir: dir.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(Error::io(action())(error)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(Error::io(action()))?;
    Ok(file)
}

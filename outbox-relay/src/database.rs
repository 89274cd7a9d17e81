//! How a database is connected to: its URL as Postgres' own programs read it, a file with the password, and TLS that
//! verifies who answers once it is asked for.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::{Error, secret};

/// Ours, and not part of what Postgres' own programs know.
const PASSWORD_FILE: &str = "password_file";

/// What may stand behind the question mark. A word that nobody knows would be ignored, and with it a misspelt sslmode.
const PARAMETERS: [&str; 19] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
    PASSWORD_FILE,
];

/// Where a database is, and as whom it is connected to.
#[derive(Clone)]
pub struct Database {
    options: PgConnectOptions,
    password_file: Option<PathBuf>,
    /// Certificates and keys that the URL names.
    files: Vec<PathBuf>,
    /// Whether the URL says itself how far TLS goes.
    says_sslmode: bool,
}

/// The password stays out of logs.
impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Database")
            .field("host", &self.options.get_host())
            .field("database", &self.options.get_database())
            .finish_non_exhaustive()
    }
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|error| error.to_string())?;
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        for (name, _) in &pairs {
            if !PARAMETERS.contains(&name.as_str()) && !name.starts_with("options[") {
                return Err(format!("{name:?} is not a parameter of such a URL"));
            }
        }
        let all = |names: &[&str]| {
            let named = pairs.iter().filter(|(name, _)| names.contains(&name.as_str()));
            named.map(|(_, value)| PathBuf::from(value)).collect::<Vec<_>>()
        };
        let password_file = all(&[PASSWORD_FILE]).pop();
        if password_file.is_some() && (url.password().is_some() || !all(&["password"]).is_empty()) {
            return Err(format!("say a password or {PASSWORD_FILE}, not both"));
        }
        let known = pairs.iter().filter(|(name, _)| name != PASSWORD_FILE);
        url.query_pairs_mut().clear().extend_pairs(known);
        Ok(Self {
            options: url.as_str().parse().map_err(|error: sqlx::Error| error.to_string())?,
            password_file,
            files: all(&PARAMETERS[2..9]),
            says_sslmode: !all(&PARAMETERS[..2]).is_empty(),
        })
    }
}

/// As the options say, TLS included.
impl From<PgConnectOptions> for Database {
    fn from(options: PgConnectOptions) -> Self {
        Self { options, password_file: None, files: Vec::new(), says_sslmode: true }
    }
}

impl Database {
    /// Verifies the server's certificate and host name, unless the URL says itself how far TLS goes.
    #[must_use]
    pub fn verified(mut self) -> Self {
        if !self.says_sslmode {
            self.options = self.options.ssl_mode(PgSslMode::VerifyFull);
        }
        self
    }

    /// What to connect with. The password's file is read now.
    ///
    /// # Errors
    /// When that file cannot be read.
    pub fn options(&self) -> Result<PgConnectOptions, Error> {
        let options = self.options.clone();
        Ok(match &self.password_file {
            Some(file) => options.password(&secret::read(file)?),
            None => options,
        })
    }

    /// The same with the password of a file, which replaces that of the URL.
    #[must_use]
    pub(crate) fn with_password_file(self, file: PathBuf) -> Self {
        Self { password_file: Some(file), ..self }
    }

    /// Where the database is: host, port and name. Two sources of one address are one database.
    pub(crate) fn address(&self) -> (String, u16, &str) {
        let host = match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => self.options.get_host().to_ascii_lowercase(),
        };
        let name = self.options.get_database().unwrap_or(self.options.get_username());
        (host, self.options.get_port(), name)
    }

    /// Refuses files that cannot be read.
    ///
    /// # Errors
    /// The first of them.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.files.iter().chain(&self.password_file).try_for_each(|file| secret::check(file))
    }

    /// What is weaker than it looks, in words.
    pub(crate) fn weakness(&self) -> Option<String> {
        if let Some(file) =
            self.password_file.as_deref().filter(|file| secret::is_open_to_all(file))
        {
            return Some(format!(
                "every user of this machine can read {}: chmod 600 it",
                file.display()
            ));
        }
        let weakness = match self.options.get_ssl_mode() {
            _ if self.is_local() => return None,
            PgSslMode::VerifyFull => return None,
            PgSslMode::Disable if self.says_sslmode => return None,
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => {
                "its connections may go unencrypted: add --postgres-tls, or sslmode=disable if that is meant"
            }
            PgSslMode::Require => {
                "sslmode=require believes whoever answers: say sslmode=verify-full"
            }
            PgSslMode::VerifyCa => {
                "sslmode=verify-ca believes every host of the authority: say sslmode=verify-full"
            }
        };
        Some(weakness.to_owned())
    }

    /// Whether nobody else is on the way.
    fn is_local(&self) -> bool {
        let host = self.options.get_host();
        let is_loopback =
            |host: &str| host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        self.options.get_socket().is_some()
            || Path::new(host).is_absolute()
            || host == "localhost"
            || is_loopback(host.trim_matches(['[', ']']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(url: &str) -> Database {
        url.parse().unwrap()
    }

    fn mode(database: Database) -> String {
        format!("{:?}", database.options.get_ssl_mode())
    }

    #[test]
    fn tls_is_verified_in_full_unless_the_url_says_otherwise() {
        assert_eq!(mode(database("postgres://a@h/d").verified()), "VerifyFull");
        assert_eq!(mode(database("postgres://a@h/d?sslmode=require").verified()), "Require");
        assert_eq!(mode(database("postgres://a@h/d?sslmode=disable").verified()), "Disable");
        assert_eq!(mode(database("postgres://a@h/d")), "Prefer");
    }

    #[test]
    fn what_is_weaker_than_it_looks_is_told() {
        let says = |url: &str| database(url).weakness().unwrap_or_default();
        assert!(says("postgres://a@h/d").contains("--postgres-tls"));
        assert!(says("postgres://a@h/d?sslmode=require").contains("believes whoever answers"));
        assert!(says("postgres://a@h/d?sslmode=verify-ca").contains("every host"));
        for strong in [
            "postgres://a@h/d?sslmode=verify-full",
            "postgres://a@h/d?sslmode=disable",
            "postgres://a@127.0.0.1/d",
            "postgres://a@[::1]/d",
            "postgres://a@localhost/d",
            "postgres://a@%2Frun%2Fpostgresql/d",
        ] {
            assert_eq!(says(strong), "", "{strong}");
        }
    }

    #[test]
    fn a_password_is_read_from_its_file_whenever_somebody_connects() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let database =
            database(&format!("postgres://a@h/d?password_file={}", file.path().display()));
        assert!(database.options().is_err(), "an empty password was taken");
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let url = sqlx::ConnectOptions::to_url_lossy(&database.options().unwrap());
        assert_eq!(url.password(), Some("s3cret"));
        assert!(!format!("{database:?}").contains("s3cret"));
    }

    #[test]
    fn a_misspelt_parameter_is_refused_and_not_ignored() {
        for (url, word) in [
            ("postgres://a@h/d?sslmod=verify-full", "sslmod"),
            ("postgres://a@h/d?sslmode=verify", "verify"),
            ("postgres://a:b@h/d?password_file=/f", "not both"),
        ] {
            let text = url.parse::<Database>().expect_err(url);
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn files_that_are_not_there_are_named_before_anything_starts() {
        for parameter in ["sslrootcert", "sslcert", "sslkey", "password_file"] {
            let text = database(&format!("postgres://a@h/d?{parameter}=/not/there")).check();
            assert!(text.unwrap_err().chain().contains("/not/there"), "{parameter}");
        }
    }
}

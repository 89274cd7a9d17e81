//! How the relay reaches Kafka and who it is there: TLS and SASL, for every client of Kafka's alike. With TLS the broker's
//! certificate and its host name are verified unless somebody turns that off by name.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use rdkafka::{
    ClientConfig, ClientContext,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};

use crate::{
    Error, secret,
    token::{self, TokenFile},
    trouble::Trouble,
};

/// How long a reader is polled for what the client reports on its own: one look would end with the first of it.
pub(crate) const OWN_BUSINESS: Duration = Duration::from_millis(50);

/// The settings of a connection to Kafka. Secrets are in files and never in here; where somebody puts one into a variable
/// all the same, the help does not show it.
#[derive(Debug, Clone, Default, Args)]
pub struct Broker {
    /// Connect to Kafka with TLS.
    #[arg(long = "kafka-tls", env = "KAFKA_TLS")]
    tls: bool,

    /// The certificates that Kafka's is verified by, as a PEM file; without it those of the system.
    #[arg(long = "kafka-ca", env = "KAFKA_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The relay's own certificate and its chain, as a PEM file.
    #[arg(long = "kafka-cert", env = "KAFKA_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,

    /// The key of that certificate, as a PEM file.
    #[arg(long = "kafka-key", env = "KAFKA_KEY", hide_env_values = true, value_name = "FILE")]
    key: Option<PathBuf>,

    /// The file with the password of an encrypted key.
    #[arg(
        long = "kafka-key-password-file",
        env = "KAFKA_KEY_PASSWORD_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    key_password_file: Option<PathBuf>,

    /// Take a certificate for another host than the one that was connected to. Whoever holds any certificate of the
    /// same authority can then pose as the broker.
    #[arg(long = "kafka-insecure-hostname", env = "KAFKA_INSECURE_HOSTNAME")]
    insecure_hostname: bool,

    /// Log in by this mechanism.
    #[arg(long = "kafka-sasl", env = "KAFKA_SASL", value_name = "MECHANISM")]
    sasl: Option<Mechanism>,

    /// The user to log in as.
    #[arg(long = "kafka-user", env = "KAFKA_USER", value_name = "NAME")]
    user: Option<String>,

    /// The file with that user's password; read again for every attempt to connect.
    #[arg(
        long = "kafka-password-file",
        env = "KAFKA_PASSWORD_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    password_file: Option<PathBuf>,

    /// The file with a JWT to log in by, which somebody else renews.
    #[arg(
        long = "kafka-token-file",
        env = "KAFKA_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    token_file: Option<PathBuf>,

    /// Send a password or a token as it is although the connection has no TLS.
    #[arg(long = "kafka-insecure-login", env = "KAFKA_INSECURE_LOGIN")]
    insecure_login: bool,
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mechanism {
    #[value(name = "scram-sha-256")]
    ScramSha256,
    #[value(name = "scram-sha-512")]
    ScramSha512,
    Plain,
    #[value(name = "oauthbearer")]
    OauthBearer,
}

impl Mechanism {
    /// As Kafka calls it.
    fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::Plain => "PLAIN",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }

    /// Whether whoever listens on the wire can log in afterwards.
    fn shows_the_secret(self) -> bool {
        match self {
            Self::ScramSha256 | Self::ScramSha512 => false,
            Self::Plain | Self::OauthBearer => true,
        }
    }
}

impl Broker {
    /// Refuses settings that contradict each other, and files that cannot be read.
    ///
    /// # Errors
    /// The first of them, and what to do about it.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let contradiction = self.tls_contradiction().or_else(|| self.sasl_contradiction());
        if let Some(rule) = contradiction {
            return Err(Error::Config(rule.to_owned()));
        }
        self.ca.iter().chain(&self.cert).try_for_each(|file| secret::check(file))?;
        self.secrets().try_for_each(secret::check)
    }

    fn tls_contradiction(&self) -> Option<&'static str> {
        let Self { tls, ca, cert, key, key_password_file, insecure_hostname, .. } = self;
        let wants_tls = ca.is_some() || cert.is_some() || key.is_some() || *insecure_hostname;
        match (tls, cert, key, key_password_file) {
            (false, ..) if wants_tls => Some(
                "--kafka-ca, --kafka-cert, --kafka-key and --kafka-insecure-hostname mean nothing without \
                 --kafka-tls: add it",
            ),
            (_, Some(_), None, _) => Some("--kafka-cert needs --kafka-key"),
            (_, None, Some(_), _) => Some("--kafka-key needs --kafka-cert"),
            (_, _, None, Some(_)) => {
                Some("--kafka-key-password-file is for an encrypted --kafka-key: name that, too")
            }
            _ => None,
        }
    }

    fn sasl_contradiction(&self) -> Option<&'static str> {
        let Self { tls, sasl, user, password_file, token_file, insecure_login, .. } = self;
        let logs_in = user.is_some() || password_file.is_some() || token_file.is_some();
        let missing = match (sasl, user, password_file, token_file) {
            (None, ..) if logs_in => {
                "--kafka-user, --kafka-password-file and --kafka-token-file need --kafka-sasl to say how to log in"
            }
            (None, ..) => return None,
            (Some(Mechanism::OauthBearer), None, None, Some(_)) => "",
            (Some(Mechanism::OauthBearer), ..) => {
                "--kafka-sasl oauthbearer needs --kafka-token-file, and neither a user nor a password"
            }
            (Some(_), Some(_), Some(_), None) => "",
            (Some(_), _, _, Some(_)) => "--kafka-token-file is for --kafka-sasl oauthbearer",
            (Some(_), None, ..) => "--kafka-sasl needs --kafka-user",
            (Some(_), _, None, _) => "--kafka-sasl needs --kafka-password-file",
        };
        if !missing.is_empty() {
            return Some(missing);
        }
        let shown = sasl.is_some_and(Mechanism::shows_the_secret) && !tls && !insecure_login;
        shown.then_some(
            "--kafka-sasl plain and oauthbearer show the secret to whoever listens: add --kafka-tls, or \
             --kafka-insecure-login if nobody can",
        )
    }

    /// What is weaker than it looks, in words.
    pub(crate) fn weaknesses(&self) -> Vec<String> {
        let open = self.secrets().filter(|file| secret::is_open_to_all(file));
        open.map(|file| {
            format!("every user of this machine can read {}: chmod 600 it", file.display())
        })
        .collect()
    }

    /// What every client of Kafka's has in common. Passwords are read now.
    ///
    /// # Errors
    /// When a password's file cannot be read.
    pub fn client(&self, servers: &str) -> Result<ClientConfig, Error> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", servers).set("security.protocol", self.protocol());
        if self.tls {
            self.set_tls(&mut settings)?;
        }
        if let Some(mechanism) = self.sasl {
            settings.set("sasl.mechanisms", mechanism.name());
        }
        if let (Some(user), Some(file)) = (&self.user, &self.password_file) {
            settings.set("sasl.username", user).set("sasl.password", secret::read(file)?);
        }
        Ok(settings)
    }

    /// The context of a client that reports nothing on its own.
    pub fn context(&self) -> Quiet {
        Quiet { token: self.token(), trouble: Trouble::default() }
    }

    /// A reader that has its token, if it needs one: the client asks for it only while somebody polls.
    pub(crate) fn reader(&self, settings: &ClientConfig) -> KafkaResult<BaseConsumer<Quiet>> {
        let reader: BaseConsumer<Quiet> = settings.create_with_context(self.context())?;
        let _ = reader.poll(OWN_BUSINESS);
        Ok(reader)
    }

    /// What the client's context hands on when it is asked for a token.
    pub(crate) fn token(&self) -> Option<TokenFile> {
        self.token_file.as_deref().map(TokenFile::new)
    }

    fn protocol(&self) -> &'static str {
        match (self.tls, self.sasl) {
            (false, None) => "plaintext",
            (true, None) => "ssl",
            (false, Some(_)) => "sasl_plaintext",
            (true, Some(_)) => "sasl_ssl",
        }
    }

    fn set_tls(&self, settings: &mut ClientConfig) -> Result<(), Error> {
        let text = |file: &Path| file.to_string_lossy().into_owned();
        settings.set("enable.ssl.certificate.verification", "true");
        let identification = if self.insecure_hostname { "none" } else { "https" };
        settings.set("ssl.endpoint.identification.algorithm", identification);
        if let Some(ca) = &self.ca {
            settings.set("ssl.ca.location", text(ca));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            settings.set("ssl.certificate.location", text(cert));
            settings.set("ssl.key.location", text(key));
        }
        if let Some(file) = &self.key_password_file {
            settings.set("ssl.key.password", secret::read(file)?);
        }
        Ok(())
    }

    fn secrets(&self) -> impl Iterator<Item = &Path> {
        let Self { key, key_password_file, password_file, token_file, .. } = self;
        [key, key_password_file, password_file, token_file].into_iter().flatten().map(AsRef::as_ref)
    }
}

/// The context of a client whose answers are looked at by whoever asks: what it reports on its own is no news.
#[derive(Debug)]
pub struct Quiet {
    token: Option<TokenFile>,
    /// What became of the connections.
    pub(crate) trouble: Trouble,
}

impl ClientContext for Quiet {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "Kafka's client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "Kafka's client reports");
        self.trouble.note(&error, reason);
    }

    fn generate_oauth_token(
        &self,
        _configuration: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token::supply(self.token.as_ref())
    }
}

impl ConsumerContext for Quiet {}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        broker: Broker,
    }

    /// `FILE` stands for a file that holds a secret.
    fn broker(arguments: &str) -> (tempfile::NamedTempFile, Broker) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret\n").unwrap();
        let arguments = arguments.replace("FILE", &file.path().display().to_string());
        let words = ["relay"].into_iter().chain(arguments.split_whitespace());
        (file, Arguments::parse_from(words).broker)
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_with_what_to_do() {
        for (arguments, remedy) in [
            ("--kafka-ca FILE", "--kafka-tls"),
            ("--kafka-insecure-hostname", "--kafka-tls"),
            ("--kafka-tls --kafka-cert FILE", "--kafka-key"),
            ("--kafka-tls --kafka-key FILE", "--kafka-cert"),
            ("--kafka-tls --kafka-key-password-file FILE", "--kafka-key"),
            ("--kafka-password-file FILE", "--kafka-sasl"),
            ("--kafka-sasl scram-sha-256 --kafka-password-file FILE", "--kafka-user"),
            ("--kafka-sasl scram-sha-512 --kafka-user a", "--kafka-password-file"),
            ("--kafka-sasl plain --kafka-user a --kafka-password-file FILE", "--kafka-tls"),
            ("--kafka-sasl oauthbearer --kafka-token-file FILE", "--kafka-tls"),
            ("--kafka-tls --kafka-sasl oauthbearer --kafka-user a", "--kafka-token-file"),
            (
                "--kafka-tls --kafka-sasl oauthbearer --kafka-token-file FILE --kafka-user a",
                "neither",
            ),
            ("--kafka-tls --kafka-sasl plain --kafka-token-file FILE", "oauthbearer"),
        ] {
            let text = broker(arguments).1.check().expect_err(arguments).to_string();
            assert!(text.contains(remedy), "{arguments}: {text}");
        }
    }

    #[test]
    fn settings_that_fit_together_are_accepted() {
        for arguments in [
            "",
            "--kafka-tls",
            "--kafka-tls --kafka-ca FILE --kafka-insecure-hostname",
            "--kafka-tls --kafka-cert FILE --kafka-key FILE --kafka-key-password-file FILE",
            "--kafka-sasl scram-sha-512 --kafka-user a --kafka-password-file FILE",
            "--kafka-tls --kafka-sasl plain --kafka-user a --kafka-password-file FILE",
            "--kafka-insecure-login --kafka-sasl plain --kafka-user a --kafka-password-file FILE",
            "--kafka-tls --kafka-sasl oauthbearer --kafka-token-file FILE",
        ] {
            let (_file, broker) = broker(arguments);
            broker.check().expect(arguments);
        }
    }

    #[test]
    fn tls_verifies_the_host_unless_that_is_turned_off_by_name() {
        let algorithm = |arguments| {
            let (_file, broker) = broker(arguments);
            let client = broker.client("k:9093").unwrap();
            client.get("ssl.endpoint.identification.algorithm").map(ToOwned::to_owned)
        };
        assert_eq!(algorithm("--kafka-tls").as_deref(), Some("https"));
        assert_eq!(algorithm("--kafka-tls --kafka-insecure-hostname").as_deref(), Some("none"));
        assert_eq!(algorithm(""), None);
    }

    #[test]
    fn a_file_that_is_not_there_is_named_before_anything_starts() {
        let arguments =
            "--kafka-sasl scram-sha-256 --kafka-user a --kafka-password-file /not/there";
        let text = broker(arguments).1.check().unwrap_err().chain();
        assert!(text.contains("/not/there"), "{text}");
    }

    #[test]
    fn a_password_reaches_the_client_and_no_print() {
        let arguments = "--kafka-tls --kafka-sasl plain --kafka-user a --kafka-password-file FILE \
                         --kafka-cert FILE --kafka-key FILE --kafka-key-password-file FILE";
        let (_file, broker) = broker(arguments);
        let client = broker.client("k:9093").unwrap();
        assert_eq!(client.get("sasl.password"), Some("s3cret"));
        assert_eq!(client.get("ssl.key.password"), Some("s3cret"));
        assert_eq!(client.get("security.protocol"), Some("sasl_ssl"));
        for printed in [format!("{broker:?}"), format!("{client:?}")] {
            assert!(!printed.contains("s3cret"), "{printed}");
        }
    }

    #[test]
    fn a_secret_that_every_user_can_read_is_pointed_at() {
        let arguments = "--kafka-sasl scram-sha-256 --kafka-user a --kafka-password-file FILE";
        let (file, broker) = broker(arguments);
        assert_eq!(broker.weaknesses().len(), 0);
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(broker.weaknesses()[0].contains("chmod 600"));
    }
}

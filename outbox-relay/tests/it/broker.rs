//! A broker with TLS, SASL and an authorizer, from the jars that `settle infra` has. All tests share one; what they may do
//! is granted per topic.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OnceCell,
};

use crate::{
    certificates::{Authority, keep},
    leash::Leash,
};

/// Whom SCRAM and PLAIN know, and by which password.
pub(crate) const USER: &str = "relay";
pub(crate) const PASSWORD: &str = "the-users-password";

/// A running broker.
pub(crate) struct Broker {
    /// Nothing but a plaintext listener, at which everybody may do everything.
    pub(crate) open: String,
    /// SASL over TLS.
    pub(crate) sasl: String,
    /// The same with a certificate for another host.
    pub(crate) elsewhere: String,
    /// TLS with a certificate of the client's.
    pub(crate) mutual: String,
    /// Who signed the broker's certificates, and believes the clients'.
    pub(crate) authority: Authority,
    /// Where the authority's certificate is.
    pub(crate) ca: String,
    _leash: Leash,
}

static BROKER: OnceCell<Broker> = OnceCell::const_new();

/// The broker; the first caller starts it.
pub(crate) async fn shared() -> &'static Broker {
    BROKER.get_or_init(Broker::start).await
}

impl Broker {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        let authority = Authority::new("settle's tests");
        let ca = keep(&directory, "ca.pem", &authority.pem());
        for (name, hosts) in
            [("here", ["localhost", "127.0.0.1"]), ("elsewhere", ["a.example", "b.example"])]
        {
            let (key, certificate) = authority.server(&hosts);
            keep(&directory, &format!("{name}.pem"), &(key + &certificate));
        }
        let ports = free_ports();
        let properties = keep(&directory, "server.properties", &properties(&directory, ports));
        format(&properties).await;
        let mut server = java("kafka.Kafka");
        server.arg(&properties);
        let leash = Leash::start(&server, "KILL", &directory);
        let [open, sasl, elsewhere, mutual, _] = ports.map(|port| format!("127.0.0.1:{port}"));
        let broker = Self { open, sasl, elsewhere, mutual, authority, ca, _leash: leash };
        crate::eventually("the broker answers", async || answers(&broker.open).await).await;
        broker
    }

    /// Lets somebody do something, or no more.
    pub(crate) async fn grant(&self, user: &str, right: Right<'_>, may: bool) {
        let mut request = Request::new(if may { CREATE_ACLS } else { DELETE_ACLS });
        let (resource, name, pattern, operation) = right.parts();
        request.number(1_i32.to_be_bytes()).number([resource]).text(name).number([pattern]);
        request.text(&format!("User:{user}")).text("*").number([operation, ALLOW]);
        let answer = request.send(&self.open).await;
        // Correlation, throttling, one result, and its error.
        assert_eq!(answer[..14], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], "{answer:?}");
    }
}

/// What somebody may do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Right<'a> {
    /// Write to this topic.
    Write(&'a str),
    /// Read this topic.
    Read(&'a str),
    /// Use transactional ids that begin like this.
    Transact(&'a str),
}

impl<'a> Right<'a> {
    /// The resource, its name, how that is meant, and the operation, by Kafka's numbers.
    fn parts(self) -> (u8, &'a str, u8, u8) {
        const TOPIC: u8 = 2;
        const TRANSACTIONAL_ID: u8 = 5;
        const LITERAL: u8 = 3;
        const PREFIXED: u8 = 4;
        const READ: u8 = 3;
        const WRITE: u8 = 4;
        match self {
            Self::Write(topic) => (TOPIC, topic, LITERAL, WRITE),
            Self::Read(topic) => (TOPIC, topic, LITERAL, READ),
            Self::Transact(prefix) => (TRANSACTIONAL_ID, prefix, PREFIXED, WRITE),
        }
    }
}

fn java(main: &str) -> Command {
    let mut java = Command::new(crate::required("SETTLE_TEST_JAVA"));
    let jars = PathBuf::from(crate::required("SETTLE_TEST_KAFKA_JARS")).join("*");
    java.args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    java.arg(jars).arg(main);
    java
}

async fn format(properties: &str) {
    let mut format = java("kafka.tools.StorageTool");
    format.args(["format", "--cluster-id", "settles-tests", "--config", properties]);
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        format.args(["--add-scram", &format!("{mechanism}=[name={USER},password={PASSWORD}]")]);
    }
    let done = tokio::process::Command::from(format).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

async fn answers(bootstrap: &str) -> bool {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let asked =
        tokio::task::spawn_blocking(move || client.fetch_metadata(None, Duration::from_secs(1)));
    asked.await.unwrap().is_ok()
}

fn free_ports() -> [u16; 5] {
    let listeners = [0; 5].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn properties(directory: &Path, ports: [u16; 5]) -> String {
    let [open, sasl, elsewhere, mutual, controller] = ports;
    let directory = directory.display();
    let mut text = format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=OPEN://127.0.0.1:{open},SASL://127.0.0.1:{sasl},ELSEWHERE://127.0.0.1:{elsewhere},MUTUAL://127.0.0.1:{mutual},\
CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=OPEN:PLAINTEXT,SASL:SASL_SSL,ELSEWHERE:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=OPEN
controller.listener.names=CONTROLLER
log.dirs={directory}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=1
num.io.threads=2
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.truststore.type=PEM
listener.name.mutual.ssl.truststore.location={directory}/ca.pem
"
    );
    let login = "org.apache.kafka.common.security";
    for (listener, certificate) in
        [("sasl", "here"), ("elsewhere", "elsewhere"), ("mutual", "here")]
    {
        let of = format!("listener.name.{listener}");
        text += &format!(
            "{of}.ssl.keystore.type=PEM
{of}.ssl.keystore.location={directory}/{certificate}.pem
{of}.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER
{of}.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;
{of}.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
{of}.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
{of}.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required \
unsecuredLoginStringClaim_sub=\"broker\";
{of}.oauthbearer.connections.max.reauth.ms=3600000
"
        );
    }
    text
}

const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
const ALLOW: u8 = 3;

/// One request of Kafka's protocol: the client library cannot change what is granted
/// (<https://kafka.apache.org/protocol#The_Messages_CreateAcls>).
struct Request(Vec<u8>);

impl Request {
    fn new(what: i16) -> Self {
        let mut request = Self(Vec::new());
        request.number(what.to_be_bytes()).number(1_i16.to_be_bytes());
        request.number(1_i32.to_be_bytes()).text("test");
        request
    }

    fn number<const N: usize>(&mut self, bytes: [u8; N]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.number(i16::try_from(text.len()).unwrap().to_be_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    async fn send(&self, bootstrap: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(bootstrap).await.unwrap();
        stream.write_all(&i32::try_from(self.0.len()).unwrap().to_be_bytes()).await.unwrap();
        stream.write_all(&self.0).await.unwrap();
        let mut answer = vec![0; usize::try_from(stream.read_i32().await.unwrap()).unwrap()];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    }
}

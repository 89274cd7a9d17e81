//! A service from start to stop: nothing listens before configuration, database and migrations are fine; every task ends
//! on shutdown, and a task that ends before it ends the process.

use std::{convert::Infallible, future::Future, sync::Arc};

use anyhow::Context as _;
use sqlx::{PgPool, migrate::Migrator};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{
    body::Body,
    codec::CompressionEncoding::Gzip,
    server::NamedService,
    service::Routes,
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use crate::{
    answering,
    config::Config,
    consumer::Consumer,
    database,
    doorbell::Doorbell,
    health, housekeeping,
    inbox::Inbox,
    metrics::{self, Metrics},
    operations::{Operations, Redrive},
    parked,
    policy::Book,
    progress::Progress,
    running::{Signals, Task, forever, listen},
    switches::{Switch, Switches},
    telemetry::Telemetry,
};

/// Messages larger than this are refused.
pub const LARGEST_MESSAGE: usize = 1 << 20;

/// A service that is being put together.
pub struct Service {
    name: &'static str,
    config: Config,
    pool: PgPool,
    telemetry: Telemetry,
    metrics: Metrics,
    shutdown: CancellationToken,
    doorbell: Doorbell,
    routes: Routes,
    answered: Vec<&'static str>,
    inbox: Option<Arc<dyn Redrive>>,
    progress: Progress,
    switches: Switches,
    tasks: Vec<Task>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Starts logging, checks the configuration, opens the database and brings its tables up to date.
    /// Errors: what is wrong with the configuration, or why the database cannot be used.
    pub async fn boot(
        name: &'static str,
        config: Config,
        migrations: &Migrator,
    ) -> anyhow::Result<Self> {
        config.check()?;
        let telemetry = Telemetry::start(name, &config.observing)?;
        let metrics = Metrics::start(name, &config.observing)?;
        let options = database::options(&config.database_url, name);
        let pool =
            database::open(options, config.database_connections, config.database_wait, migrations)
                .await?;
        Ok(Self {
            name,
            config,
            pool,
            telemetry,
            metrics,
            shutdown: CancellationToken::new(),
            doorbell: Doorbell::default(),
            routes: Routes::default(),
            answered: Vec::new(),
            inbox: None,
            progress: Progress::default(),
            switches: Switches::default(),
            tasks: Vec::new(),
        })
    }

    /// The connections that calls share.
    pub fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// To be rung after every commit that appended events.
    pub fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    /// Cancelled when the service is to stop: streams end, workers return.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Answers the calls of a gRPC service.
    #[must_use]
    pub fn answers<S>(mut self, service: S) -> Self
    where
        S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes = self.routes.add_service(service);
        self.answered.push(S::NAME);
        self
    }

    /// Reacts to events, as one consumer of the service's group.
    /// Errors: the Kafka settings make no sense; Kafka itself need not be there.
    pub fn reacts<B: Book>(mut self, inbox: Inbox<B>) -> anyhow::Result<Self> {
        let inbox = Arc::new(inbox);
        self.inbox = Some(Arc::clone(&inbox) as Arc<dyn Redrive>);
        let options = database::options(&self.config.database_url, &format!("{}-inbox", self.name));
        let batch_size = self.config.batch_size;
        let consumer = Consumer::new(
            inbox,
            self.name,
            &self.config.kafka,
            options,
            batch_size,
            self.progress.clone(),
            self.doorbell(),
        )?;
        self.progress.show(&metrics::meter());
        let parked = parked::watch(self.pool(), self.name, self.shutdown());
        self.tasks.push(("what is parked", forever(parked)));
        let (on, shutdown) = (self.switches.add("consume", true), self.shutdown());
        Ok(self.works("inbox", consumer.run(on, shutdown)))
    }

    /// A demonstration switch as it is set now; it cannot be turned without `--demo`.
    pub fn switch(&mut self, name: &'static str, on: bool) -> Switch {
        self.switches.add(name, on)
    }

    /// Runs a worker until [`Service::shutdown`]; one that ends before ends the process.
    #[must_use]
    pub fn works(
        mut self,
        name: &'static str,
        worker: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) -> Self {
        self.tasks.push((name, Box::pin(worker)));
        self
    }

    /// Listens, and runs until a signal or a dead task ends it. Errors: the port is taken, or which task died of what.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let signals = Signals::hear()?;
        let grpc = listen(self.config.listen, "LISTEN").await?;
        let http = match self.config.metrics_listen {
            Some(address) => Some(listen(address, "METRICS_LISTEN").await?),
            None => None,
        };
        tracing::info!(address = %grpc.local_addr()?, "{} answers", self.name);
        let tasks = self.all_tasks(grpc, http)?;
        let shutdown = self.shutdown();
        // Closing waits for connections, also for those whose caller has gone while his statement waits for a lock.
        let close = async { self.pool.close().await };
        let limit = self.config.drain_limit;
        let ended = signals.run(self.name, tasks, shutdown, limit, close).await;
        tokio::join!(self.telemetry.shutdown(), self.metrics.shutdown());
        ended
    }

    fn all_tasks(
        &mut self,
        grpc: TcpListener,
        http: Option<TcpListener>,
    ) -> anyhow::Result<Vec<Task>> {
        let (ready, readiness) = watch::channel(true);
        let (reporter, health) = tonic_health::server::health_reporter();
        let routes =
            std::mem::take(&mut self.routes).add_service(health).add_service(self.operations());
        let routes = self.reflection(routes)?.into_axum_router();
        let routes =
            answering::wrap(routes, self.config.max_concurrent_calls, self.config.default_deadline);
        let server = server(&self.config)?;
        let shutdown = self.shutdown();

        let mut tasks = std::mem::take(&mut self.tasks);
        tasks.push((
            "gRPC server",
            Box::pin(async move {
                // The server's own setting counts only where tonic binds the socket itself; without it every small answer
                // waits for the caller's delayed acknowledgement.
                let connections = TcpIncoming::from(grpc).with_nodelay(Some(true));
                let server = server.layer(tonic_web::GrpcWebLayer::new()).add_routes(routes.into());
                server
                    .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned())
                    .await?;
                Ok(())
            }),
        ));
        if let Some(http) = http {
            let pages = health::pages(self.metrics.registry.clone(), readiness);
            let shutdown = self.shutdown();
            let server =
                axum::serve(http, pages).with_graceful_shutdown(shutdown.cancelled_owned());
            tasks.push(("HTTP pages", Box::pin(async move { Ok(server.await?) })));
        }
        let watch =
            health::watch(self.pool(), self.answered.clone(), reporter, ready, self.shutdown());
        tasks.push(("health", forever(watch)));
        tasks.push(("housekeeping", forever(housekeeping::run(self.pool(), self.shutdown()))));
        let options =
            database::options(&self.config.database_url, &format!("{}-doorbell", self.name));
        tasks.push(("doorbell", forever(self.doorbell().carry(options, self.shutdown()))));
        Ok(tasks)
    }

    fn operations(
        &self,
    ) -> proto::operations::v1::operations_service_server::OperationsServiceServer<Operations> {
        proto::operations::v1::operations_service_server::OperationsServiceServer::new(Operations {
            service: self.name,
            pool: self.pool(),
            inbox: self.inbox.clone(),
            progress: self.progress.clone(),
            doorbell: self.doorbell(),
            switches: self.config.demo.then(|| self.switches.clone()),
        })
        .max_decoding_message_size(LARGEST_MESSAGE)
        .accept_compressed(Gzip)
        .send_compressed(Gzip)
    }

    fn reflection(&self, routes: Routes) -> anyhow::Result<Routes> {
        let builder = || {
            let names = self
                .answered
                .iter()
                .chain(&["shop.operations.v1.OperationsService", "grpc.health.v1.Health"]);
            let mut builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // So that a caller can read the details of an error.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET);
            for name in names {
                builder = builder.with_service_name(*name);
            }
            builder
        };
        Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
    }
}

fn server(config: &Config) -> anyhow::Result<Server> {
    let keepalive = std::time::Duration::from_secs(20);
    let server = Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(keepalive))
        .http2_keepalive_timeout(Some(keepalive));
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(server) };
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).with_context(|| format!("read {}", path.display()))
    };
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(read(cert)?, read(key)?));
    if let Some(authorities) = &config.tls_client_ca {
        tls = tls.client_ca_root(Certificate::from_pem(read(authorities)?));
    }
    server.tls_config(tls).context("use the TLS certificate and key")
}

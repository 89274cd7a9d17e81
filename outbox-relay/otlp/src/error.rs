use tonic::transport;

/// A collector that cannot even be called.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was given as its address is none.
    #[error("the OTLP endpoint {0:?} is neither http:// nor https://")]
    Endpoint(String),

    /// Its address, or what shall vouch for it, cannot be used.
    #[error("the OTLP endpoint {endpoint:?} cannot be used")]
    Transport {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: transport::Error,
    },

    /// The exporter of metrics refuses it.
    #[error("metrics cannot be sent to an OTLP collector")]
    Metrics(#[source] opentelemetry_otlp::ExporterBuildError),

    /// A variable of the environment says something else than it may.
    #[error("{name}={value:?} is not {expected}")]
    Variable {
        /// Its name.
        name: String,
        /// What it says.
        value: String,
        /// What it may say.
        expected: &'static str,
    },
}

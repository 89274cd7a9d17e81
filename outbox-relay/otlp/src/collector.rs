//! One collector: the call that hands it spans, which are on the wire already.

use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use tonic::{
    Code, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::MetadataMap,
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::{ProstCodec, ProstDecoder};

use crate::{Error, variables::Variables};

const EXPORT: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");

/// A collector that is being restarted is asked again after these.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// A collector, connected to when it is first asked, and again whenever that is needed.
#[derive(Debug)]
pub(crate) struct Collector {
    grpc: Grpc<Channel>,
    headers: MetadataMap,
}

/// An `ExportTraceServiceRequest` in two pieces.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) above: Bytes,
    pub(crate) spans: Bytes,
}

impl Collector {
    /// Call it inside the Tokio runtime.
    pub(crate) fn new(endpoint: &str, variables: &Variables) -> Result<Self, Error> {
        let refused = |source| Error::Transport { endpoint: endpoint.to_owned(), source };
        let transport = Endpoint::from_shared(endpoint.to_owned()).map_err(refused)?;
        let transport = match tls(endpoint)? {
            Some(tls) => transport.tls_config(tls).map_err(refused)?,
            None => transport,
        };
        let mut grpc = Grpc::new(transport.timeout(variables.timeout).connect_lazy());
        if variables.gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        Ok(Self { grpc, headers: variables.headers.clone() })
    }

    /// Hands it spans. Returns how many of them it did not want.
    pub(crate) async fn take(&mut self, request: Request) -> Result<u64, Status> {
        for pause in PAUSES {
            match self.ask(request.clone()).await {
                Err(status) if is_passing(status.code()) => {
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                }
                result => return result,
            }
        }
        self.ask(request).await
    }

    async fn ask(&mut self, request: Request) -> Result<u64, Status> {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = tonic::Request::new(request);
        *request.metadata_mut() = self.headers.clone();
        let response = self.grpc.unary(request, EXPORT, Encoded).await?.into_inner();
        let rejected = response.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }
}

/// What an endpoint wants in the way of encryption.
pub(crate) fn tls(endpoint: &str) -> Result<Option<ClientTlsConfig>, Error> {
    match endpoint.split_once("://") {
        Some(("http", _)) => Ok(None),
        Some(("https", _)) => Ok(Some(ClientTlsConfig::new().with_enabled_roots())),
        _ => Err(Error::Endpoint(endpoint.to_owned())),
    }
}

/// As the protocol says; an expired deadline is not among them: it has taken long enough.
/// <https://opentelemetry.io/docs/specs/otlp/#failures>
fn is_passing(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Aborted | Code::OutOfRange | Code::DataLoss)
}

/// The codec of what is encoded already.
#[derive(Debug, Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Request;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = ProstDecoder<ExportTraceServiceResponse>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<(), _>::raw_decoder(Default::default())
    }
}

impl Encoder for Encoded {
    type Item = Request;
    type Error = Status;

    fn encode(&mut self, request: Request, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(request.above.len() + request.spans.len());
        buffer.put(request.above);
        buffer.put(request.spans);
        Ok(())
    }
}

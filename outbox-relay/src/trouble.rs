//! Why Kafka's client has no connection: the last thing that it said, in words that fit the relay's own settings.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{
    Error,
    verdict::{Verdict, of_kafka},
};

/// What went wrong with the connections of one client.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Whether a broker has answered once.
    reached: bool,
    last: Option<(String, Verdict)>,
}

impl Trouble {
    /// The client reports an error of its own. While it flows a refusal is told at once, as it may go on for a while: until
    /// a token expires that could not be renewed.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        // That says only that there is trouble.
        if code == RDKafkaErrorCode::AllBrokersDown {
            return;
        }
        let (reason, refused) = explain(reason);
        let refused =
            refused || matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL);
        let verdict = if refused { Verdict::Stop } else { of_kafka(code) };
        let mut told = self.lock();
        let refused_before = matches!(told.last, Some((_, Verdict::Stop)));
        // A refused client is cut off afterwards: the refusal says more.
        if verdict != Verdict::Stop && refused_before && !told.reached {
            return;
        }
        let news = Some((reason, verdict));
        if told.last == news {
            return;
        }
        if let (true, true, Some((reason, _))) = (told.reached, refused, &news) {
            tracing::warn!(reason, "Kafka refuses the client, which tries again");
        }
        told.last = news;
    }

    /// A broker has answered: what was before is over.
    pub fn end(&self) {
        *self.lock() = Told { reached: true, last: None };
    }

    /// The last of it, as the reason why the action failed.
    pub fn error(&self, action: &'static str) -> Option<Error> {
        let (reason, verdict) = self.lock().last.clone()?;
        Some(Error::Connection { action, reason, verdict })
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is behind the client's words, and whether somebody has to mend it. The client does not tell a wrong authority from
/// a wrong host name, and takes a broker that hangs up on its certificate for one that is gone.
fn explain(reason: &str) -> (String, bool) {
    // How long it took is different each time, and no news.
    let reason = reason.split(" (after ").next().unwrap_or(reason);
    let (broker, refusal) = reason.rsplit_once("SSL routines::").unwrap_or((reason, ""));
    let broker = broker.split_once(": SSL handshake").or(broker.split_once(": Receive failed"));
    let broker = broker.map_or("Kafka", |(broker, _)| broker);
    if refusal.starts_with("certificate verify failed") {
        let words = "its certificate is signed by nobody in --kafka-ca, or is for another host";
        return (format!("{broker}: {words}"), true);
    }
    let alerts = ["bad certificate", "certificate required", "certificate unknown", "unknown ca"];
    match alerts.iter().find(|alert| refusal.contains(&format!("alert {alert}"))) {
        Some(alert) => {
            let words = "the broker does not take the relay's certificate, --kafka-cert";
            (format!("{broker}: {words} ({alert})"), true)
        }
        None => (reason.to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNVERIFIED: &str = "sasl_ssl://k:9093/bootstrap: SSL handshake failed: error:0A000086:SSL \
        routines::certificate verify failed: broker certificate could not be verified, verify that ssl.ca.location is \
        correctly configured or root CA certificates are installed (install ca-certificates package) (after 5ms in \
        state SSL_HANDSHAKE)";
    const ALERT: &str = "ssl://k:9093/bootstrap: Receive failed: error:0A000412:SSL routines::sslv3 alert bad \
        certificate: SSL alert number 42 (after 0ms in state APIVERSION_QUERY)";

    fn note(trouble: &Trouble, code: RDKafkaErrorCode, reason: &str) {
        trouble.note(&KafkaError::Global(code), reason);
    }

    fn told(trouble: &Trouble) -> (String, Verdict) {
        let error = trouble.error("testing").unwrap();
        (error.to_string(), error.verdict())
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_settings() {
        let trouble = Trouble::default();
        note(&trouble, RDKafkaErrorCode::SSL, UNVERIFIED);
        let words = "Kafka: testing: sasl_ssl://k:9093/bootstrap: its certificate is signed by nobody in --kafka-ca, or \
                     is for another host";
        assert_eq!(told(&trouble), (words.to_owned(), Verdict::Stop));
        note(&trouble, RDKafkaErrorCode::BrokerTransportFailure, ALERT);
        let words = "Kafka: testing: ssl://k:9093/bootstrap: the broker does not take the relay's certificate, \
                     --kafka-cert (bad certificate)";
        assert_eq!(told(&trouble), (words.to_owned(), Verdict::Stop));
    }

    #[test]
    fn a_lost_connection_does_not_hide_the_refusal_before_it_and_an_answer_ends_both() {
        let trouble = Trouble::default();
        let gone = "k:9093/1: Connect failed: Connection refused (after 0ms in state CONNECT)";
        note(&trouble, RDKafkaErrorCode::BrokerTransportFailure, gone);
        assert_eq!(
            told(&trouble),
            (
                "Kafka: testing: k:9093/1: Connect failed: Connection refused".to_owned(),
                Verdict::Retry
            )
        );
        note(
            &trouble,
            RDKafkaErrorCode::Authentication,
            "invalid credentials (after 9ms in state)",
        );
        note(&trouble, RDKafkaErrorCode::BrokerTransportFailure, gone);
        assert_eq!(
            told(&trouble),
            ("Kafka: testing: invalid credentials".to_owned(), Verdict::Stop)
        );
        trouble.end();
        assert!(trouble.error("testing").is_none());
    }
}

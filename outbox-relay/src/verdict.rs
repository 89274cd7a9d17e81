//! What an error asks for: the one table from what Kafka and Postgres answer to retry, park or stop.

use rdkafka::error::RDKafkaErrorCode;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass: try again, with everything that was on its way.
    Retry,
    /// This event will not be taken however often it is sent: set its key aside, and let the others flow.
    Park(Reason),
    /// Nothing can be sent until a person changes something: say so, and look again from time to time.
    Stop,
}

/// Why an event is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is larger than the topic or the broker takes.
    TooLarge,
    /// It breaks a rule of its topic: a compacted topic needs a key, a timestamp is out of range, a header is not text.
    Invalid,
    /// The topic or the partition does not exist.
    UnknownTopic,
    /// The relay may not write to the topic.
    Unauthorised,
    /// An earlier event of its key is parked.
    Behind,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::TooLarge, Self::Invalid, Self::UnknownTopic, Self::Unauthorised, Self::Behind];

    /// As it stands in the table, in the metrics and on the screen.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
            Self::UnknownTopic => "unknown_topic",
            Self::Unauthorised => "unauthorised",
            Self::Behind => "behind",
        }
    }

    /// Whether every event of the topic meets the same refusal, and the refusal ends when somebody mends the topic: such
    /// events are tried again without being asked for.
    pub fn is_the_topics(self) -> bool {
        match self {
            Self::UnknownTopic | Self::Unauthorised => true,
            Self::TooLarge | Self::Invalid | Self::Behind => false,
        }
    }
}

/// What Kafka's answer asks for. A code that is not named is worth another try: waiting is safe, skipping is not.
pub fn of_kafka(code: RDKafkaErrorCode) -> Verdict {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            Verdict::Park(Reason::TooLarge)
        }
        Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation
        | Code::KeySerialization
        | Code::ValueSerialization => Verdict::Park(Reason::Invalid),
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::InvalidTopic => Verdict::Park(Reason::UnknownTopic),
        Code::TopicAuthorizationFailed => Verdict::Park(Reason::Unauthorised),
        Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SSL
        | Code::SecurityDisabled
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::BadCompression
        | Code::InvalidConfig
        | Code::InvalidArgument
        | Code::InvalidRequiredAcks
        | Code::InvalidTransactionTimeout
        | Code::NotConfigured
        | Code::NotImplemented => Verdict::Stop,
        _ => Verdict::Retry,
    }
}

/// What Postgres' answer asks for. Nothing of Postgres' parks an event.
pub fn of_postgres(error: &sqlx::Error) -> Verdict {
    match error {
        sqlx::Error::Database(error) => of_sqlstate(error.code().unwrap_or_default().as_ref()),
        sqlx::Error::Configuration(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::Decode(_) => Verdict::Stop,
        _ => Verdict::Retry,
    }
}

/// By the class of the SQLSTATE, its first two letters: who are you, you may not, there is no such thing, and that does
/// not fit are a person's; connections, locks, resources and operators pass
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn of_sqlstate(code: &str) -> Verdict {
    match code.get(..2) {
        Some("0A" | "22" | "23" | "28" | "3D" | "3F" | "42") => Verdict::Stop,
        _ => Verdict::Retry,
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaRespErr;

    use super::*;

    /// Every code that Kafka's client knows, by what it asks for; those to try again are the rest.
    #[test]
    fn the_table_of_kafkas_codes_is_this() {
        let codes: Vec<RDKafkaErrorCode> = (-200..200)
            .filter_map(|code| RDKafkaRespErr::try_from(code).ok())
            .map(RDKafkaErrorCode::from)
            .collect();
        let named = |verdict: Verdict| {
            let asks = codes.iter().filter(|code| of_kafka(**code) == verdict);
            asks.map(|code| format!("{code:?}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            named(Verdict::Park(Reason::TooLarge)),
            "InvalidMessageSize MessageSizeTooLarge MessageBatchTooLarge"
        );
        assert_eq!(
            named(Verdict::Park(Reason::Invalid)),
            "KeySerialization ValueSerialization InvalidTimestamp PolicyViolation InvalidRecord"
        );
        assert_eq!(
            named(Verdict::Park(Reason::UnknownTopic)),
            "UnknownPartition UnknownTopic UnknownTopicOrPartition InvalidTopic"
        );
        assert_eq!(named(Verdict::Park(Reason::Unauthorised)), "TopicAuthorizationFailed");
        assert_eq!(
            named(Verdict::Stop),
            "BadCompression InvalidArgument SSL NotImplemented Authentication UnsupportedFeature \
             NotConfigured InvalidRequiredAcks GroupAuthorizationFailed ClusterAuthorizationFailed \
             UnsupportedSASLMechanism IllegalSASLState UnsupportedVersion InvalidConfig \
             UnsupportedForMessageFormat InvalidTransactionTimeout \
             TransactionalIdAuthorizationFailed SecurityDisabled SaslAuthenticationFailed \
             UnsupportedCompressionType"
        );
        let retried = codes.iter().filter(|code| of_kafka(**code) == Verdict::Retry).count();
        assert!(retried > 100, "{retried}");
    }

    #[test]
    fn what_postgres_says_about_rights_and_tables_is_a_persons_and_the_rest_passes() {
        assert_eq!(of_sqlstate("42501"), Verdict::Stop);
        assert_eq!(of_sqlstate("42P01"), Verdict::Stop);
        assert_eq!(of_sqlstate("28P01"), Verdict::Stop);
        for passing in ["40001", "40P01", "57P01", "53300", "08006", "55P03", "25P03", "25006"] {
            assert_eq!(of_sqlstate(passing), Verdict::Retry, "{passing}");
        }
    }
}

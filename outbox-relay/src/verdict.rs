//! What Kafka's answer to one event asks for: the one table from an error code to a decision.

use rdkafka::error::RDKafkaErrorCode;

/// What Kafka's refusal of one event means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may succeed when sent again.
    Transient,
    /// The record is larger than the topic or the broker takes.
    TooLarge,
    /// The record breaks a rule of its topic (a compacted topic needs a key, the timestamp is out of range).
    Invalid,
    /// The topic or the partition does not exist.
    UnknownTopic,
    /// The relay may not write there.
    Unauthorised,
}

impl Verdict {
    /// Whether sending the same event again cannot succeed until somebody changes something.
    pub fn is_permanent(self) -> bool {
        match self {
            Self::Transient => false,
            Self::TooLarge | Self::Invalid | Self::UnknownTopic | Self::Unauthorised => true,
        }
    }

    /// The value of the metrics' label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
            Self::UnknownTopic => "unknown_topic",
            Self::Unauthorised => "unauthorised",
        }
    }
}

/// The one table from Kafka's error to what it means. A code that is not named is worth another try: waiting is
/// safe, skipping is not.
pub fn verdict(code: RDKafkaErrorCode) -> Verdict {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => Verdict::TooLarge,
        Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation
        | Code::InvalidTopic => Verdict::Invalid,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => {
            Verdict::UnknownTopic
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => Verdict::Unauthorised,
        _ => Verdict::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_repeats_is_told_from_one_that_passes() {
        assert_eq!(verdict(RDKafkaErrorCode::MessageSizeTooLarge), Verdict::TooLarge);
        assert_eq!(verdict(RDKafkaErrorCode::UnknownTopicOrPartition), Verdict::UnknownTopic);
        assert!(!verdict(RDKafkaErrorCode::MessageTimedOut).is_permanent());
        assert!(!verdict(RDKafkaErrorCode::AllBrokersDown).is_permanent());
    }
}

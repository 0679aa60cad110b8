//! What Kafka's errors mean to the log.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use shopstream_domain::Partition;

use super::Options;
use crate::raw::RawError;

/// An error as the log says it.
pub(super) fn from_kafka(error: KafkaError) -> RawError {
    match error.rdkafka_error_code() {
        Some(code) => from_code(code, &error.to_string()),
        None => match error {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => {
                RawError::Refused { detail: error.to_string() }
            }
            KafkaError::AdminOp(code) => from_code(code, &error.to_string()),
            _ => RawError::Unavailable { detail: error.to_string() },
        },
    }
}

pub(super) fn from_code(code: Code, text: &str) -> RawError {
    let detail = text.to_owned();
    if code == Code::QueueFull {
        RawError::Full
    } else if is_for_good(code) {
        RawError::Refused { detail }
    } else {
        RawError::Unavailable { detail }
    }
}

/// Asking again would be refused again, until somebody changes a setting, a right or the record.
fn is_for_good(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidTimestamp
            | Code::InvalidRecord
            | Code::InvalidTopic
            | Code::InvalidRequiredAcks
            | Code::InvalidConfig
            | Code::InvalidRequest
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::PolicyViolation
            | Code::SecurityDisabled
            | Code::TopicAlreadyExists
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedVersion
    ) || is_no_topic(code)
}

/// The topic or the partition does not exist.
pub(super) fn is_no_topic(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId
    )
}

/// The topic was there and is not any more.
pub(super) fn topic_gone(options: &Options, partition: Partition) -> RawError {
    let Options { brokers, topic, .. } = options;
    let detail = format!("topic {topic} does not exist at {brokers} any more: it was deleted");
    RawError::Broken { partition, detail }
}

pub(super) fn no_topic(options: &Options) -> RawError {
    let Options { brokers, topic, .. } = options;
    RawError::Refused {
        detail: format!(
            "topic {topic} does not exist at {brokers}: make it with `shopstream topics apply`, or name the right one"
        ),
    }
}

/// What an error means to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// librdkafka goes on by itself.
    Passing,
    /// Bytes that the broker sent do not match their checksum.
    BadBytes,
    /// Nobody knows where the consumer stands now.
    Doubt,
}

pub(super) fn trouble(code: Option<Code>) -> Trouble {
    match code {
        Some(
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::BrokerNotAvailable
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::ReplicaNotAvailable
            | Code::SSL
            | Code::Authentication
            | Code::PartitionEOF
            // The group is a name that the client library wants; nothing is ever asked of it.
            | Code::GroupAuthorizationFailed
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::WaitingForCoordinator,
        ) => Trouble::Passing,
        Some(Code::BadMessage | Code::InvalidMessage | Code::BadCompression) => Trouble::BadBytes,
        _ => Trouble::Doubt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_be_refused_again_is_refused() {
        let report = |code| from_kafka(KafkaError::MessageProduction(code));
        assert!(matches!(report(Code::MessageSizeTooLarge), RawError::Refused { .. }));
        assert!(matches!(report(Code::InvalidTimestamp), RawError::Refused { .. }));
        assert!(matches!(report(Code::TopicAuthorizationFailed), RawError::Refused { .. }));
        assert!(matches!(report(Code::UnknownTopic), RawError::Refused { .. }));
        assert!(matches!(report(Code::MessageTimedOut), RawError::Unavailable { .. }));
        assert!(matches!(report(Code::NotEnoughReplicas), RawError::Unavailable { .. }));
        assert!(matches!(report(Code::OutOfOrderSequenceNumber), RawError::Unavailable { .. }));
        assert_eq!(report(Code::QueueFull), RawError::Full);
    }

    #[test]
    fn a_reader_waits_for_brokers_and_doubts_everything_else() {
        assert_eq!(trouble(Some(Code::AllBrokersDown)), Trouble::Passing);
        assert_eq!(trouble(Some(Code::AutoOffsetReset)), Trouble::Doubt);
        assert_eq!(trouble(Some(Code::UnknownTopicOrPartition)), Trouble::Doubt);
        assert_eq!(trouble(Some(Code::BadMessage)), Trouble::BadBytes);
        assert_eq!(trouble(None), Trouble::Doubt);
    }
}

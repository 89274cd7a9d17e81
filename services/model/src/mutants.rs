//! Every rule left out, and the least network that shows it.

use chassis::cause::Coordination;

use crate::{
    checking::World,
    network::Network,
    scenario::{Actors, Scenario},
    seam::Rule,
    verdict::{self, Verdict},
};

/// What the table in saga.md says of a rule, or its text.
pub fn title(rule: Rule) -> &'static str {
    match rule {
        Rule::RowDecides => "row decides, not the causal path",
        Rule::CancelThroughDelivery => "cancel of a confirmed order goes through delivery",
        Rule::DispatchAfterConfirmed => "dispatch only after OrderConfirmed",
        Rule::CompensateSent => "compensate what was sent, not what was answered",
        Rule::Tombstone => "tombstone",
        Rule::RowsKept => "rows never deleted before topic retention",
        Rule::RepliesMatched => "replies matched to their command",
        Rule::ReleaseForwardOnly => "forward-only compare-and-set on release",
        Rule::ReplicaByVersion => "replica upsert by version",
        Rule::RequestIdUnique => "request_id unique in the same transaction",
        Rule::FactsRecorded => "R1: facts are recorded in every state",
        Rule::CancelByReason => "R2: a command cancels a confirmed order for two reasons",
        Rule::CompletionRefusesWish => "R3: completion refuses the wish that nobody decided",
        Rule::FailedAnswersCancel => "R4: CancelDelivery of a failed delivery is answered",
        Rule::ParkedHears => "R5: answers and facts apply to a parked saga",
        Rule::SagaBeginsOnce => "a second start never resets a running saga",
    }
}

/// Where a rule is at work: one order, which anything may happen to.
pub fn scenario(rule: Rule, network: Network) -> Scenario {
    let style = match rule {
        Rule::RowDecides
        | Rule::CancelThroughDelivery
        | Rule::DispatchAfterConfirmed
        | Rule::Tombstone
        | Rule::RowsKept
        | Rule::ReleaseForwardOnly
        | Rule::ReplicaByVersion
        | Rule::RequestIdUnique => Coordination::Choreography,
        Rule::CompensateSent
        | Rule::RepliesMatched
        | Rule::FactsRecorded
        | Rule::CancelByReason
        | Rule::CompletionRefusesWish
        | Rule::FailedAnswersCancel
        | Rule::ParkedHears
        | Rule::SagaBeginsOnce => Coordination::Orchestration,
    };
    let client = rule == Rule::RequestIdUnique;
    let replica = rule == Rule::ReplicaByVersion;
    Scenario {
        name: "one order",
        // The second is the one that a click too much makes.
        orders: vec![style; if client { 2 } else { 1 }],
        stocks: vec![0, 1],
        network,
        actors: Actors { client, replica, ..Actors::ALL },
    }
}

/// The least network in which a rule is missed, and how; the first that is not the case in none of them.
pub fn least_network(rule: Rule, threads: usize) -> anyhow::Result<Option<(Network, Verdict)>> {
    for network in Network::ALL {
        let world = World::new(scenario(rule, network), Some(rule))?;
        let verdict = verdict::check(&world, threads);
        if verdict.broken.is_some() {
            return Ok(Some((network, verdict)));
        }
    }
    Ok(None)
}

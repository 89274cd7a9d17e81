//! What the services answered about an order, put together.

use proto::operations::v1::TrailEntry;

use crate::{Causality, merge};

impl Causality {
    /// The tree of an order, from the trail that each service answered, or why it did not.
    pub fn gathered(
        order_id: String,
        answers: impl Iterator<Item = (String, Result<Vec<TrailEntry>, String>)>,
    ) -> Self {
        let mut trails = Vec::new();
        let mut causality = Self::of(order_id);
        for (service, answer) in answers {
            match answer {
                Ok(entries) => {
                    let traces = entries.iter().map(|entry| entry.trace_id.clone());
                    causality.trace_ids.extend(traces.filter(|id| !id.is_empty()));
                    causality.asked.push(service.clone());
                    trails.push((service, entries));
                }
                Err(why) => {
                    causality.not_asked.insert(service, why);
                }
            }
        }
        causality.roots = merge(trails);
        causality
    }
}

//! What the checker can find wrong: one kind for each promise, with the ids that a person needs to look further.

use std::fmt;

use uuid::Uuid;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// An acknowledged order is nowhere.
    Lost {
        /// The order.
        order_id: Uuid,
    },
    /// An order, or what belongs to it, still waits for something.
    Unsettled {
        /// The order.
        order_id: Uuid,
        /// What waits.
        why: String,
    },
    /// One request made two orders.
    PlacedTwice {
        /// The request's id.
        request_id: String,
        /// The orders.
        order_ids: Vec<Uuid>,
    },
    /// Something was decided or done for an order more than once.
    DoubleEffect {
        /// The order.
        order_id: Uuid,
        /// What was done.
        effect: &'static str,
        /// The events that told of it.
        event_ids: Vec<Uuid>,
    },
    /// What is free and what is held are not together what there was.
    StockNotConserved {
        /// The product.
        product_id: String,
        /// What there was.
        initial: i64,
        /// What can be reserved.
        free: i64,
        /// What is reserved.
        held: i64,
    },
    /// orders' copy of a product is not what products has.
    ReplicaDiffers {
        /// The product.
        product_id: String,
        /// What products has, and its version.
        product: (i64, i64),
        /// What orders knows, if anything.
        replica: Option<(i64, i64)>,
    },
    /// The goods of a cancelled order have left.
    ShippedAndCancelled {
        /// The order.
        order_id: Uuid,
    },
    /// Goods have left that nobody has taken from the stock.
    ShippedWithoutStock {
        /// The order.
        order_id: Uuid,
    },
    /// The services' rows of an order do not fit together.
    RowsDisagree {
        /// The order.
        order_id: Uuid,
        /// What they say.
        rows: String,
    },
    /// Two events of a key lie in their topic in another order than they were committed in.
    OutOfOrder {
        /// The topic.
        topic: String,
        /// The key.
        key: String,
        /// Committed first.
        first: Uuid,
        /// Committed later, and in the topic earlier.
        second: Uuid,
    },
    /// A topic tells what no service has done.
    EventWithoutChange {
        /// The topic.
        topic: String,
        /// The key.
        key: String,
        /// The event's type.
        event_type: String,
        /// The event, as its header has it.
        event_id: String,
    },
    /// A service has done what no topic tells.
    ChangeWithoutEvent {
        /// The order or the product.
        key: String,
        /// What was not told.
        untold: String,
    },
    /// Messages are still parked.
    LeftParked {
        /// By whom.
        service: &'static str,
        /// Under which key.
        key: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { order_id } => {
                write!(f, "order {order_id} was acknowledged, and is lost")
            }
            Self::Unsettled { order_id, why } => {
                write!(f, "order {order_id} has not settled: {why}")
            }
            Self::PlacedTwice { request_id, order_ids } => {
                write!(f, "the request {request_id} made the orders {}", list(order_ids))
            }
            Self::DoubleEffect { order_id, effect, event_ids } => {
                write!(f, "{effect} more than once for order {order_id}: {}", list(event_ids))
            }
            Self::StockNotConserved { product_id, initial, free, held } => {
                write!(f, "of {initial} pieces of {product_id} {free} are free and {held} are held")
            }
            Self::ReplicaDiffers { product_id, product, replica } => write!(
                f,
                "of {product_id} products has (stock, version) {product:?}, orders knows {replica:?}"
            ),
            Self::ShippedAndCancelled { order_id } => {
                write!(f, "order {order_id} is cancelled, and its goods have left")
            }
            Self::ShippedWithoutStock { order_id } => {
                write!(f, "the goods of order {order_id} have left without having been reserved")
            }
            Self::RowsDisagree { order_id, rows } => {
                write!(f, "the services disagree about order {order_id}: {rows}")
            }
            Self::OutOfOrder { topic, key, first, second } => write!(
                f,
                "in {topic} {second} comes before {first}, which was committed first; key {key}"
            ),
            Self::EventWithoutChange { topic, key, event_type, event_id } => write!(
                f,
                "{topic} has a {event_type} that nobody has told or that is not so: {event_id}, key {key}"
            ),
            Self::ChangeWithoutEvent { key, untold } => {
                write!(f, "no topic tells of {key}: {untold}")
            }
            Self::LeftParked { service, key } => {
                write!(f, "{service} has messages of {key} parked")
            }
        }
    }
}

fn list(ids: &[Uuid]) -> String {
    ids.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", ")
}

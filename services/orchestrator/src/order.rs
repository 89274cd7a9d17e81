//! The saga of an order: reserve, start the delivery, confirm, let the goods leave, and follow them to the customer. orders
//! decides; nothing is undone before orders has said that the order is cancelled, and then everything that was ever asked
//! for is.

use chassis::{inbox::Inbox, outbox::Outgoing, policy::Refused};
use prost::Name;
use proto::{
    delivery::v1::{
        CancelDelivery, DeliveryCancelRefused, DeliveryCancelled, DeliveryCompleted,
        DeliveryFailed, DeliveryLine, DeliveryReady, DeliveryStarted, ReadyDelivery, StartDelivery,
    },
    event::Event,
    orders::v1::{
        CancelOrder, CancelReason, CompleteOrder, ConfirmOrder, OrderCancelRefused,
        OrderCancelRequested, OrderCancelled, OrderCompleted, OrderConfirmed, OrderPlaced,
        RefuseCancel,
    },
    products::v1::{
        ProductOutOfStock, ReleaseStock, ReserveStock, StockLine, StockReleased, StockReserved,
    },
};

use crate::{
    book::Book,
    definition::{Definition, Does, Rule, Sending, State, Undo},
    patience::Patience,
    policies::{Begin, Hear},
};

/// The verb by which an operator gives an order up.
pub const FORCE_COMPENSATE: &str = "ForceCompensate";

const OUT_OF_STOCK: &str = "OUT_OF_STOCK";
const CUSTOMER: &str = "CUSTOMER";
const DELIVERY_FAILED: &str = "DELIVERY_FAILED";

/// Gives up before the goods can have left; an operator's reason is in the history, the customer is told of a delivery that
/// has failed: the delivery cannot be dispatched before it is READY.
const GIVE_UP: [Rule; 2] = [
    Rule::once(&[DeliveryFailed::NAME], "CANCELLING_ORDER").because(DELIVERY_FAILED),
    Rule::once(&[FORCE_COMPENSATE], "CANCELLING_ORDER").because(DELIVERY_FAILED),
];

/// Gives up where the goods may have left: delivery is asked first.
const ASK_DELIVERY: Rule = Rule::once(&[FORCE_COMPENSATE], "CANCELLING_DELIVERY")
    .unless(&[DeliveryCancelRefused::NAME])
    .because(DELIVERY_FAILED);

/// The first version.
pub const V1: Definition = Definition {
    name: "order",
    version: 1,
    begins: "RESERVING",
    forced_by: FORCE_COMPENSATE,
    resolved: "RESOLVED",
    // orders has decided, whether we asked for it, the customer did, or the deadline has passed.
    always: &[Rule::once(&[OrderCancelled::NAME], "COMPENSATING")],
    facts: &[
        OrderCancelRequested::NAME,
        OrderCancelRefused::NAME,
        OrderCancelled::NAME,
        DeliveryFailed::NAME,
        DeliveryCompleted::NAME,
        DeliveryCancelRefused::NAME,
        FORCE_COMPENSATE,
    ],
    undoes: &[
        Undo { command: ReserveStock::NAME, by: ReleaseStock::NAME, done: &[StockReleased::NAME] },
        Undo {
            command: StartDelivery::NAME,
            by: CancelDelivery::NAME,
            done: &[DeliveryCancelled::NAME, DeliveryFailed::NAME],
        },
    ],
    states: &[
        State {
            name: "RESERVING",
            does: Does::Send(ReserveStock::NAME),
            rules: &[
                Rule::on(StockReserved::NAME, "STARTING_DELIVERY"),
                Rule::on(ProductOutOfStock::NAME, "CANCELLING_ORDER").because(OUT_OF_STOCK),
                Rule::on(StockReleased::NAME, "CANCELLING_ORDER").because(OUT_OF_STOCK),
                GIVE_UP[0],
                GIVE_UP[1],
            ],
        },
        State {
            name: "STARTING_DELIVERY",
            does: Does::Send(StartDelivery::NAME),
            rules: &[
                GIVE_UP[0],
                GIVE_UP[1],
                Rule::on(DeliveryStarted::NAME, "CONFIRMING"),
                Rule::on(DeliveryCancelled::NAME, "CANCELLING_ORDER").because(DELIVERY_FAILED),
            ],
        },
        State {
            name: "CONFIRMING",
            does: Does::Send(ConfirmOrder::NAME),
            rules: &[GIVE_UP[0], GIVE_UP[1], Rule::on(OrderConfirmed::NAME, "READYING")],
        },
        State {
            name: "READYING",
            does: Does::Send(ReadyDelivery::NAME),
            rules: &[
                GIVE_UP[0],
                Rule::on(DeliveryCancelled::NAME, "CANCELLING_ORDER").because(DELIVERY_FAILED),
                ASK_DELIVERY,
                Rule::on(DeliveryReady::NAME, "FULFILLING"),
            ],
        },
        State {
            name: "FULFILLING",
            does: Does::Wait,
            rules: &[
                GIVE_UP[0],
                Rule::once(&[DeliveryCompleted::NAME], "COMPLETING"),
                Rule::once(&[OrderCancelRequested::NAME], "CANCELLING_DELIVERY")
                    .unless(&[OrderCancelRefused::NAME])
                    .because(CUSTOMER),
                ASK_DELIVERY,
            ],
        },
        State {
            name: "CANCELLING_DELIVERY",
            does: Does::Send(CancelDelivery::NAME),
            rules: &[
                Rule::on(DeliveryCancelled::NAME, "CANCELLING_ORDER"),
                Rule::on(DeliveryFailed::NAME, "CANCELLING_ORDER").because(DELIVERY_FAILED),
                Rule::on(DeliveryCancelRefused::NAME, "REFUSING")
                    .and(&[OrderCancelRequested::NAME]),
                Rule::on(DeliveryCancelRefused::NAME, "FULFILLING"),
            ],
        },
        State {
            name: "REFUSING",
            does: Does::Send(RefuseCancel::NAME),
            rules: &[Rule::on(OrderCancelRefused::NAME, "FULFILLING")],
        },
        State {
            name: "COMPLETING",
            does: Does::Send(CompleteOrder::NAME),
            rules: &[Rule::on(OrderCompleted::NAME, "DONE")],
        },
        // OrderCancelled leads out of it, as it does everywhere.
        State { name: "CANCELLING_ORDER", does: Does::Send(CancelOrder::NAME), rules: &[] },
        State { name: "COMPENSATING", does: Does::Undo("CANCELLED"), rules: &[] },
        State { name: "DONE", does: Does::End, rules: &[] },
        State { name: "CANCELLED", does: Does::End, rules: &[] },
        State { name: "RESOLVED", does: Does::End, rules: &[] },
    ],
    write,
};

/// Whenever an order that is pinned to orchestration was placed, begin its saga; whenever anything is told about an order,
/// let its saga weigh it.
pub fn hears(inbox: Inbox<Book>, patience: Patience) -> Inbox<Book> {
    inbox
        .on(Begin::<OrderPlaced>::new(&V1, patience))
        .on(Hear::<OrderConfirmed>::new(patience))
        .on(Hear::<OrderCancelRequested>::new(patience))
        .on(Hear::<OrderCancelRefused>::new(patience))
        .on(Hear::<OrderCancelled>::new(patience))
        .on(Hear::<OrderCompleted>::new(patience))
        .on(Hear::<StockReserved>::new(patience))
        .on(Hear::<ProductOutOfStock>::new(patience))
        .on(Hear::<StockReleased>::new(patience))
        .on(Hear::<DeliveryStarted>::new(patience))
        .on(Hear::<DeliveryReady>::new(patience))
        .on(Hear::<DeliveryCompleted>::new(patience))
        .on(Hear::<DeliveryCancelled>::new(patience))
        .on(Hear::<DeliveryCancelRefused>::new(patience))
        .on(Hear::<DeliveryFailed>::new(patience))
}

/// The commands, from the order as it was placed.
fn write(sending: &Sending<'_>) -> Result<Outgoing, Refused> {
    let order_id = sending.saga_id.to_string();
    match sending.command {
        ReserveStock::NAME => {
            send(sending, &ReserveStock { order_id, lines: stock(&placed(sending)?) })
        }
        ReleaseStock::NAME => send(sending, &ReleaseStock { order_id }),
        StartDelivery::NAME => send(sending, &start(placed(sending)?)),
        ReadyDelivery::NAME => send(sending, &ReadyDelivery { order_id }),
        CancelDelivery::NAME => send(sending, &CancelDelivery { order_id }),
        ConfirmOrder::NAME => send(sending, &ConfirmOrder { order_id }),
        CancelOrder::NAME => {
            send(sending, &CancelOrder { order_id, reason: reason(sending.because).into() })
        }
        RefuseCancel::NAME => send(sending, &RefuseCancel { order_id }),
        CompleteOrder::NAME => send(sending, &CompleteOrder { order_id }),
        other => Err(Refused(format!("{other} is not a command of this saga"))),
    }
}

fn send<C: Event>(sending: &Sending<'_>, command: &C) -> Result<Outgoing, Refused> {
    Ok(sending.cause.emit_as(sending.command_id, command)?)
}

fn placed(sending: &Sending<'_>) -> Result<OrderPlaced, Refused> {
    serde_json::from_value(sending.data.clone())
        .map_err(|error| Refused(format!("the order that the saga began with: {error}")))
}

fn stock(placed: &OrderPlaced) -> Vec<StockLine> {
    let lines = placed.lines.iter();
    lines
        .map(|line| StockLine { product_id: line.product_id.clone(), quantity: line.quantity })
        .collect()
}

fn start(placed: OrderPlaced) -> StartDelivery {
    let customer = placed.customer.unwrap_or_default();
    let lines = placed.lines.into_iter().map(|line| DeliveryLine {
        product_id: line.product_id,
        product_name: line.product_name,
        quantity: line.quantity,
    });
    StartDelivery {
        order_id: placed.order_id,
        lines: lines.collect(),
        customer_id: customer.customer_id,
        customer_name: customer.name,
        delivery_address: customer.address,
    }
}

/// Why the order is to be cancelled, from why the saga's aim was given up.
pub fn reason(because: Option<&str>) -> CancelReason {
    match because {
        Some(OUT_OF_STOCK) => CancelReason::OutOfStock,
        Some(CUSTOMER) => CancelReason::Customer,
        _ => CancelReason::DeliveryFailed,
    }
}

#[cfg(test)]
mod tests;

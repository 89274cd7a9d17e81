//! The one table of every event and command: its type, its topic and its ordering key.

use prost::Name;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    delivery::v1::{
        CancelDelivery, DeliveryCancelRefused, DeliveryCancelled, DeliveryCompleted,
        DeliveryDispatched, DeliveryFailed, DeliveryReady, DeliveryStarted, ReadyDelivery,
        StartDelivery,
    },
    orders::v1::{
        CancelOrder, CompleteOrder, ConfirmOrder, OrderCancelRefused, OrderCancelRequested,
        OrderCancelled, OrderCompleted, OrderConfirmed, OrderPlaced, RefuseCancel,
    },
    products::v1::{
        ProductChanged, ProductOutOfStock, ReleaseStock, ReserveStock, StockReleased, StockReserved,
    },
};

/// What orders tells, keyed by order id.
pub const ORDERS_EVENTS: &str = "shop.orders.events";
/// What products tells about orders, keyed by order id.
pub const PRODUCTS_EVENTS: &str = "shop.products.events";
/// What delivery tells, keyed by order id.
pub const DELIVERY_EVENTS: &str = "shop.delivery.events";
/// The catalogue, keyed by product id, compacted.
pub const PRODUCTS_CATALOG: &str = "shop.products.catalog";

/// What orders is asked to decide, keyed by order id.
pub const ORDERS_COMMANDS: &str = "shop.orders.commands";
/// What products is told to do, keyed by order id.
pub const PRODUCTS_COMMANDS: &str = "shop.products.commands";
/// What delivery is told to do, keyed by order id.
pub const DELIVERY_COMMANDS: &str = "shop.delivery.commands";

/// The partitions of every topic; equal counts keep the events of an order on equal partitions.
pub const PARTITIONS: i32 = 12;

/// A topic that must exist before anything runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name in Kafka.
    pub name: &'static str,
    /// Keep the newest message of every key instead of the newest days.
    pub compacted: bool,
}

/// Every topic; created explicitly, never by auto-create.
pub const TOPICS: [Topic; 7] = [
    Topic { name: ORDERS_EVENTS, compacted: false },
    Topic { name: PRODUCTS_EVENTS, compacted: false },
    Topic { name: DELIVERY_EVENTS, compacted: false },
    Topic { name: PRODUCTS_CATALOG, compacted: true },
    Topic { name: ORDERS_COMMANDS, compacted: false },
    Topic { name: PRODUCTS_COMMANDS, compacted: false },
    Topic { name: DELIVERY_COMMANDS, compacted: false },
];

/// A message that travels through an outbox. Its type is its full protobuf name, as in
/// `shop.orders.v1.OrderPlaced`; its payload is its standard ProtoJSON.
pub trait Event: Name + Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The topic it is published on.
    const TOPIC: &'static str;

    /// Whether it asks for an answer. Whoever repeats it waits for the answer still: it is never passed over as a duplicate.
    const IS_COMMAND: bool = false;

    /// The ordering key: events of one key reach Kafka in the order in which they committed.
    fn key(&self) -> &str;
}

impl Event for OrderPlaced {
    const TOPIC: &'static str = ORDERS_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for OrderConfirmed {
    const TOPIC: &'static str = ORDERS_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for OrderCancelRequested {
    const TOPIC: &'static str = ORDERS_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for OrderCancelRefused {
    const TOPIC: &'static str = ORDERS_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for OrderCancelled {
    const TOPIC: &'static str = ORDERS_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for OrderCompleted {
    const TOPIC: &'static str = ORDERS_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for StockReserved {
    const TOPIC: &'static str = PRODUCTS_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for ProductOutOfStock {
    const TOPIC: &'static str = PRODUCTS_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for StockReleased {
    const TOPIC: &'static str = PRODUCTS_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for ProductChanged {
    const TOPIC: &'static str = PRODUCTS_CATALOG;
    fn key(&self) -> &str {
        &self.product_id
    }
}

impl Event for DeliveryStarted {
    const TOPIC: &'static str = DELIVERY_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for DeliveryReady {
    const TOPIC: &'static str = DELIVERY_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for DeliveryDispatched {
    const TOPIC: &'static str = DELIVERY_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for DeliveryCompleted {
    const TOPIC: &'static str = DELIVERY_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for DeliveryCancelled {
    const TOPIC: &'static str = DELIVERY_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for DeliveryCancelRefused {
    const TOPIC: &'static str = DELIVERY_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for DeliveryFailed {
    const TOPIC: &'static str = DELIVERY_EVENTS;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for ConfirmOrder {
    const TOPIC: &'static str = ORDERS_COMMANDS;
    const IS_COMMAND: bool = true;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for CancelOrder {
    const TOPIC: &'static str = ORDERS_COMMANDS;
    const IS_COMMAND: bool = true;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for RefuseCancel {
    const TOPIC: &'static str = ORDERS_COMMANDS;
    const IS_COMMAND: bool = true;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for CompleteOrder {
    const TOPIC: &'static str = ORDERS_COMMANDS;
    const IS_COMMAND: bool = true;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for ReserveStock {
    const TOPIC: &'static str = PRODUCTS_COMMANDS;
    const IS_COMMAND: bool = true;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for ReleaseStock {
    const TOPIC: &'static str = PRODUCTS_COMMANDS;
    const IS_COMMAND: bool = true;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for StartDelivery {
    const TOPIC: &'static str = DELIVERY_COMMANDS;
    const IS_COMMAND: bool = true;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for ReadyDelivery {
    const TOPIC: &'static str = DELIVERY_COMMANDS;
    const IS_COMMAND: bool = true;
    fn key(&self) -> &str {
        &self.order_id
    }
}

impl Event for CancelDelivery {
    const TOPIC: &'static str = DELIVERY_COMMANDS;
    const IS_COMMAND: bool = true;
    fn key(&self) -> &str {
        &self.order_id
    }
}

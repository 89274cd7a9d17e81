//! What travels between the services, as far as anybody decides by it: the kind, the order, the command it answers, and
//! whether it follows from a rejection by products.

use orders::domain::Reason;
use prost::Name;
use proto::{
    delivery::v1 as delivery, event::Event, orders::v1 as orders_v1, products::v1 as products,
};

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// The order it is about; for a product, none.
    pub order: Option<u8>,
    /// What it says.
    pub body: Body,
    /// The command that caused it, where one did: its causation id.
    pub answers: Option<Body>,
    /// Whether its causal path holds a `ProductOutOfStock` of this order.
    pub follows_rejection: bool,
}

/// What a message says. The names are those of the protobuf types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "proto says what each of them means")]
pub enum Body {
    OrderPlaced,
    OrderConfirmed,
    OrderCancelRequested,
    OrderCancelRefused,
    OrderCancelled,
    OrderCompleted,
    StockReserved,
    ProductOutOfStock,
    StockReleased,
    ProductChanged { version: u8, stock: u8 },
    DeliveryStarted,
    DeliveryReady,
    DeliveryDispatched,
    DeliveryCompleted,
    DeliveryCancelled,
    DeliveryCancelRefused,
    DeliveryFailed,
    // From here on commands.
    ReserveStock,
    ReleaseStock,
    StartDelivery,
    ReadyDelivery,
    CancelDelivery,
    ConfirmOrder,
    CancelOrder(Reason),
    RefuseCancel,
    CompleteOrder,
}

/// What production says about a type of message.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its short name.
    pub name: &'static str,
    /// Its topic.
    pub topic: &'static str,
    /// Writes its full name.
    pub full_name: fn() -> String,
}

fn kind<E: Event>() -> Kind {
    Kind { name: E::NAME, topic: E::TOPIC, full_name: <E as Name>::full_name }
}

impl Body {
    /// One of every type.
    pub const ALL: [Self; 26] = [
        Self::OrderPlaced,
        Self::OrderConfirmed,
        Self::OrderCancelRequested,
        Self::OrderCancelRefused,
        Self::OrderCancelled,
        Self::OrderCompleted,
        Self::StockReserved,
        Self::ProductOutOfStock,
        Self::StockReleased,
        Self::ProductChanged { version: 1, stock: 0 },
        Self::DeliveryStarted,
        Self::DeliveryReady,
        Self::DeliveryDispatched,
        Self::DeliveryCompleted,
        Self::DeliveryCancelled,
        Self::DeliveryCancelRefused,
        Self::DeliveryFailed,
        Self::ReserveStock,
        Self::ReleaseStock,
        Self::StartDelivery,
        Self::ReadyDelivery,
        Self::CancelDelivery,
        Self::ConfirmOrder,
        Self::CancelOrder(Reason::Customer),
        Self::RefuseCancel,
        Self::CompleteOrder,
    ];

    /// What production says about its type.
    pub fn kind(self) -> Kind {
        match self {
            Self::OrderPlaced => kind::<orders_v1::OrderPlaced>(),
            Self::OrderConfirmed => kind::<orders_v1::OrderConfirmed>(),
            Self::OrderCancelRequested => kind::<orders_v1::OrderCancelRequested>(),
            Self::OrderCancelRefused => kind::<orders_v1::OrderCancelRefused>(),
            Self::OrderCancelled => kind::<orders_v1::OrderCancelled>(),
            Self::OrderCompleted => kind::<orders_v1::OrderCompleted>(),
            Self::StockReserved => kind::<products::StockReserved>(),
            Self::ProductOutOfStock => kind::<products::ProductOutOfStock>(),
            Self::StockReleased => kind::<products::StockReleased>(),
            Self::ProductChanged { .. } => kind::<products::ProductChanged>(),
            Self::DeliveryStarted => kind::<delivery::DeliveryStarted>(),
            Self::DeliveryReady => kind::<delivery::DeliveryReady>(),
            Self::DeliveryDispatched => kind::<delivery::DeliveryDispatched>(),
            Self::DeliveryCompleted => kind::<delivery::DeliveryCompleted>(),
            Self::DeliveryCancelled => kind::<delivery::DeliveryCancelled>(),
            Self::DeliveryCancelRefused => kind::<delivery::DeliveryCancelRefused>(),
            Self::DeliveryFailed => kind::<delivery::DeliveryFailed>(),
            Self::ReserveStock => kind::<products::ReserveStock>(),
            Self::ReleaseStock => kind::<products::ReleaseStock>(),
            Self::StartDelivery => kind::<delivery::StartDelivery>(),
            Self::ReadyDelivery => kind::<delivery::ReadyDelivery>(),
            Self::CancelDelivery => kind::<delivery::CancelDelivery>(),
            Self::ConfirmOrder => kind::<orders_v1::ConfirmOrder>(),
            Self::CancelOrder(_) => kind::<orders_v1::CancelOrder>(),
            Self::RefuseCancel => kind::<orders_v1::RefuseCancel>(),
            Self::CompleteOrder => kind::<orders_v1::CompleteOrder>(),
        }
    }

    /// The command of this name; `reason` is for the one that needs one.
    pub fn command(name: &str, reason: Option<Reason>) -> Option<Self> {
        let commands = Self::ALL.into_iter().filter(|body| body.is_command());
        let command = commands.into_iter().find(|command| command.kind().name == name)?;
        match command {
            Self::CancelOrder(_) => reason.map(Self::CancelOrder),
            other => Some(other),
        }
    }

    /// Whether it is the orchestrator's.
    pub fn is_command(self) -> bool {
        self >= Self::ReserveStock
    }
}

impl Message {
    /// The first about an order.
    pub fn about(order: u8, body: Body) -> Self {
        Self { order: Some(order), body, answers: None, follows_rejection: false }
    }

    /// What follows from it.
    #[must_use]
    pub fn then(self, body: Body) -> Self {
        if let Body::ProductChanged { .. } = body {
            return Self { order: None, body, answers: None, follows_rejection: false };
        }
        // Nobody asks how the cancellation of an order came about that commands decide.
        let commanded = self.body.is_command() || body.is_command();
        let rejection = self.follows_rejection || self.body == Body::ProductOutOfStock;
        Self {
            order: self.order,
            body,
            answers: self.body.is_command().then_some(self.body),
            follows_rejection: rejection && !commanded,
        }
    }
}

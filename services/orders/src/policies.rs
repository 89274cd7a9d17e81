//! What orders reacts to: one policy per type of event.

use chassis::{
    cause::Cause,
    policy::{Policy, Reaction, Refused},
};
use proto::{
    delivery::v1::{
        DeliveryCancelRefused, DeliveryCancelled, DeliveryCompleted, DeliveryFailed,
        DeliveryStarted,
    },
    money::Money,
    products::v1::{ProductChanged, ProductOutOfStock, StockReserved},
};

use crate::{
    book::{Book, Wants},
    catalogue::Product,
    domain::Message,
};

/// Whenever stock is reserved, note the fact; with the delivery started too, confirm the order.
#[derive(Debug)]
pub struct NoteStockReserved;

impl Policy<Book> for NoteStockReserved {
    type Event = StockReserved;

    fn wants(&self, event: &StockReserved, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&event.order_id)
    }

    fn react(
        &self,
        event: &StockReserved,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        book.report(&event.order_id, Message::StockReserved, cause)
    }
}

/// Whenever a delivery has started, note the fact; with the stock reserved too, confirm the order.
#[derive(Debug)]
pub struct NoteDeliveryStarted;

impl Policy<Book> for NoteDeliveryStarted {
    type Event = DeliveryStarted;

    fn wants(&self, event: &DeliveryStarted, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&event.order_id)
    }

    fn react(
        &self,
        event: &DeliveryStarted,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        book.report(&event.order_id, Message::DeliveryStarted, cause)
    }
}

/// Whenever a product is out of stock, cancel the order that wanted it.
#[derive(Debug)]
pub struct CancelWhenOutOfStock;

impl Policy<Book> for CancelWhenOutOfStock {
    type Event = ProductOutOfStock;

    fn wants(&self, event: &ProductOutOfStock, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&event.order_id)
    }

    fn react(
        &self,
        event: &ProductOutOfStock,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        book.report(&event.order_id, Message::ProductOutOfStock, cause)
    }
}

/// Whenever a delivery fails, cancel its order.
#[derive(Debug)]
pub struct CancelWhenDeliveryFailed;

impl Policy<Book> for CancelWhenDeliveryFailed {
    type Event = DeliveryFailed;

    fn wants(&self, event: &DeliveryFailed, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&event.order_id)
    }

    fn react(
        &self,
        event: &DeliveryFailed,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        book.report(&event.order_id, Message::DeliveryFailed, cause)
    }
}

/// Whenever a delivery is cancelled at the customer's wish, cancel its order.
#[derive(Debug)]
pub struct CancelWhenDeliveryCancelled;

impl Policy<Book> for CancelWhenDeliveryCancelled {
    type Event = DeliveryCancelled;

    fn wants(&self, event: &DeliveryCancelled, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&event.order_id)
    }

    fn react(
        &self,
        event: &DeliveryCancelled,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        book.report(&event.order_id, Message::DeliveryCancelled, cause)
    }
}

/// Whenever delivery refuses to cancel, refuse the customer's wish.
#[derive(Debug)]
pub struct RefuseCancel;

impl Policy<Book> for RefuseCancel {
    type Event = DeliveryCancelRefused;

    fn wants(&self, event: &DeliveryCancelRefused, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&event.order_id)
    }

    fn react(
        &self,
        event: &DeliveryCancelRefused,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        book.report(&event.order_id, Message::DeliveryCancelRefused, cause)
    }
}

/// Whenever a delivery is completed, complete its order.
#[derive(Debug)]
pub struct CompleteWhenDelivered;

impl Policy<Book> for CompleteWhenDelivered {
    type Event = DeliveryCompleted;

    fn wants(&self, event: &DeliveryCompleted, wants: &mut Wants) -> Result<(), Refused> {
        wants.order(&event.order_id)
    }

    fn react(
        &self,
        event: &DeliveryCompleted,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        book.report(&event.order_id, Message::DeliveryCompleted, cause)
    }
}

/// Whenever a product changes, take it over into the replica, unless a newer version is known.
#[derive(Debug)]
pub struct ReplicateProduct;

impl Policy<Book> for ReplicateProduct {
    type Event = ProductChanged;

    fn wants(&self, _: &ProductChanged, _: &mut Wants) -> Result<(), Refused> {
        Ok(())
    }

    fn react(
        &self,
        event: &ProductChanged,
        book: &mut Book,
        cause: &Cause,
    ) -> Result<Reaction, Refused> {
        if event.product_id.is_empty() || event.version < 1 || event.product_stock < 0 {
            return Err(Refused::because(
                "a product needs an id, a version and a stock that is not negative",
            ));
        }
        let price =
            event.product_price.clone().ok_or_else(|| Refused::because("the price is missing"))?;
        let price =
            Money::try_from(price).map_err(|error| Refused(format!("the price: {error}")))?;
        Ok(book.hear(Product {
            product_id: event.product_id.clone(),
            name: event.product_name.clone(),
            price,
            stock: event.product_stock,
            version: event.version,
            updated_at: cause.now,
        }))
    }
}

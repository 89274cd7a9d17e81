//! The contracts between the services: gRPC calls, events, and money, generated from `shop/`.
//! Services depend on this crate and never on each other.

pub mod event;
pub mod money;

/// The descriptors of everything here, for reflection and tools.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use generated::{
    google,
    shop::{delivery, operations, orchestrator, orders, products},
};

pub use pbjson_types::{Duration, Timestamp};

/// Nested as the packages are, since the generated files refer to each other that way.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::str_to_string,
    clippy::allow_attributes,
    reason = "generated"
)]
mod generated {
    pub mod google {
        pub mod r#type {
            tonic::include_proto!("google.r#type");
            include!(concat!(env!("OUT_DIR"), "/google.r#type.serde.rs"));
        }
    }
    pub mod shop {
        pub mod orders {
            pub mod v1 {
                tonic::include_proto!("shop.orders.v1");
                include!(concat!(env!("OUT_DIR"), "/shop.orders.v1.serde.rs"));
            }
        }
        pub mod products {
            pub mod v1 {
                tonic::include_proto!("shop.products.v1");
                include!(concat!(env!("OUT_DIR"), "/shop.products.v1.serde.rs"));
            }
        }
        pub mod delivery {
            pub mod v1 {
                tonic::include_proto!("shop.delivery.v1");
                include!(concat!(env!("OUT_DIR"), "/shop.delivery.v1.serde.rs"));
            }
        }
        pub mod orchestrator {
            pub mod v1 {
                tonic::include_proto!("shop.orchestrator.v1");
                include!(concat!(env!("OUT_DIR"), "/shop.orchestrator.v1.serde.rs"));
            }
        }
        pub mod operations {
            pub mod v1 {
                tonic::include_proto!("shop.operations.v1");
                include!(concat!(env!("OUT_DIR"), "/shop.operations.v1.serde.rs"));
            }
        }
    }
}

//! Compiles the protocol files in Rust alone: no protoc on the machine.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 11] = [
    "shop/orders/v1/orders.proto",
    "shop/orders/v1/events.proto",
    "shop/orders/v1/commands.proto",
    "shop/products/v1/products.proto",
    "shop/products/v1/events.proto",
    "shop/products/v1/commands.proto",
    "shop/delivery/v1/delivery.proto",
    "shop/delivery/v1/events.proto",
    "shop/delivery/v1/commands.proto",
    "shop/orchestrator/v1/orchestrator.proto",
    "shop/operations/v1/operations.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=shop");
    println!("cargo::rerun-if-changed=third_party");
    let descriptors = protox::compile(FILES, [".", "third_party"])?;
    let bytes = descriptors.encode_to_vec();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), &bytes)?;

    let mut prost = prost_build::Config::new();
    prost.enable_type_names();
    tonic_prost_build::configure()
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_fds_with_config(descriptors, prost)?;
    // What a later version adds to an event must not stop an earlier one.
    pbjson_build::Builder::new()
        .register_descriptors(&bytes)?
        .ignore_unknown_fields()
        .build(&[".shop", ".google.type"])?;
    Ok(())
}

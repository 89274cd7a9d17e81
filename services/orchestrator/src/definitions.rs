//! Every definition that sagas may still run by. An old version stays for as long as sagas that began with it may run.

use crate::{definition::Definition, order};

/// All of them.
pub static ALL: [&Definition; 1] = [&order::V1];

/// The definition of this name and version.
pub fn find(name: &str, version: i32) -> Option<&'static Definition> {
    ALL.into_iter().find(|definition| definition.name == name && definition.version == version)
}

//! Demonstration switches: what a service can be told to do badly, so that people see how the others cope.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// A switch. Its clones are the same one: whoever turns one turns all.
#[derive(Clone, Debug)]
pub struct Switch(watch::Sender<bool>);

impl Switch {
    /// One that stands so.
    pub fn new(on: bool) -> Self {
        Self(watch::Sender::new(on))
    }

    /// Whoever obeys it follows from now on.
    pub fn turn(&self, on: bool) {
        self.0.send_replace(on);
    }

    /// As it stands now.
    pub fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Tells whenever it is turned.
    pub(crate) fn follow(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

/// The switches of a service, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Switches(Arc<Mutex<BTreeMap<&'static str, Switch>>>);

impl Switches {
    /// Adds one, for whoever obeys it.
    pub(crate) fn add(&self, name: &'static str, on: bool) -> Switch {
        let switch = Switch::new(on);
        self.lock().insert(name, switch.clone());
        switch
    }

    /// Turns one. Errors: there is none of this name.
    pub(crate) fn turn(&self, name: &str, on: bool) -> Result<(), Unknown> {
        let switches = self.lock();
        let names = || switches.keys().copied().collect::<Vec<_>>().join(" or ");
        switches.get(name).ok_or_else(|| Unknown(names()))?.turn(on);
        Ok(())
    }

    /// All of them, by name, as they stand.
    pub(crate) fn all(&self) -> Vec<(&'static str, bool)> {
        self.lock().iter().map(|(name, switch)| (*name, switch.is_on())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Switch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No switch has this name; these there are.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}")]
pub(crate) struct Unknown(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_turned_by_its_name_and_others_are_refused() {
        let switches = Switches::default();
        let (consume, refuse) = (switches.add("consume", true), switches.add("refuse", false));
        switches.turn("refuse", true).unwrap();
        assert!(consume.is_on() && refuse.is_on());
        assert_eq!(switches.all(), [("consume", true), ("refuse", true)]);
        let unknown = switches.turn("explode", true).unwrap_err();
        assert_eq!(unknown.to_string(), "must be consume or refuse");
    }
}

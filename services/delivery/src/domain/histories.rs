//! Random histories over a network that reorders and duplicates: delivery's state machine against a model of orders, of
//! products and of the warehouse. What holds must hold in every one of them.

use proptest::prelude::*;

use super::*;

/// What may happen next. Indices choose, modulo what there is, among everything that was ever sent: so messages come
/// late, in any order and again.
#[derive(Clone, Copy, Debug)]
enum Step {
    DeliveryHears(usize),
    OrdersHears(usize),
    ProductsDecides(bool),
    CustomerCancels,
    Dispatch,
    Complete,
    Fail,
}

fn steps(with_warehouse: bool) -> impl Strategy<Value = Vec<Step>> {
    let quiet = prop_oneof![
        6 => any::<usize>().prop_map(Step::DeliveryHears),
        6 => any::<usize>().prop_map(Step::OrdersHears),
        2 => prop::bool::weighted(0.7).prop_map(Step::ProductsDecides),
        1 => Just(Step::CustomerCancels),
    ];
    let warehouse =
        prop_oneof![4 => Just(Step::Dispatch), 2 => Just(Step::Complete), 1 => Just(Step::Fail)];
    let step = if with_warehouse {
        prop_oneof![4 => quiet, 1 => warehouse].boxed()
    } else {
        quiet.boxed()
    };
    prop::collection::vec(step, 0..60)
}

#[derive(Clone, Debug)]
enum Sent {
    Placed,
    Confirmed,
    CancelRequested,
    Cancelled(CausalPath),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pending,
    Confirmed,
    Cancelled,
    Completed,
}

#[derive(Debug)]
struct World {
    carrier: bool,
    row: Option<State>,
    told: Vec<(Told, Uuid)>,
    sent: Vec<Sent>,
    fate: Fate,
    stock: Option<bool>,
    started: bool,
    cancel_requested: bool,
    cancel_asked: bool,
    next_id: u128,
}

impl World {
    fn new(carrier: bool) -> Self {
        Self {
            carrier,
            row: None,
            told: Vec::new(),
            sent: vec![Sent::Placed],
            fate: Fate::Pending,
            stock: None,
            started: false,
            cancel_requested: false,
            cancel_asked: false,
            next_id: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::DeliveryHears(index) => self.delivery_hears(index % self.sent.len()),
            Step::OrdersHears(index) if !self.told.is_empty() => {
                self.orders_hears(index % self.told.len())
            }
            Step::OrdersHears(_) => {}
            Step::ProductsDecides(reserved) => self.products_decides(reserved),
            Step::CustomerCancels => self.customer_cancels(),
            Step::Dispatch => self.warehouse(&Call::Dispatch),
            Step::Complete => self.warehouse(&Call::Complete),
            Step::Fail => self.warehouse(&Call::Fail { reason: "lost".to_owned() }),
        }
    }

    fn id(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_u128(self.next_id)
    }

    fn delivery_hears(&mut self, index: usize) {
        let event_id = self.id();
        let heard = match &self.sent[index] {
            Sent::Placed => Heard::OrderPlaced { carrier: self.carrier },
            Sent::Confirmed => Heard::OrderConfirmed,
            Sent::CancelRequested => Heard::OrderCancelRequested,
            Sent::Cancelled(path) => Heard::OrderCancelled { path },
        };
        // No history of a working system may need a person.
        match react(self.row.as_ref(), heard, event_id).unwrap() {
            Decision::Becomes(state) => self.row = Some(state),
            Decision::Tells(state, told) => {
                self.row = Some(state);
                self.told.push((told, event_id));
            }
            Decision::Nothing(_) => {}
            Decision::Answers(..) => panic!("an event is not answered"),
        }
    }

    fn warehouse(&mut self, call: &Call) {
        let event_id = self.id();
        let decided = self.row.as_ref().map(|state| act(state, call, event_id));
        if let Some(Ok((state, told))) = decided {
            self.row = Some(state);
            self.told.push((told, event_id));
        }
    }

    fn orders_hears(&mut self, index: usize) {
        let (told, event_id) = self.told[index];
        match (told, self.fate) {
            (Told::Started, _) => self.started = true,
            (Told::Failed, Fate::Pending | Fate::Confirmed) => self.orders_cancels(Some(event_id)),
            (Told::Cancelled, Fate::Confirmed) if self.cancel_requested => {
                self.orders_cancels(Some(event_id))
            }
            (Told::CancelRefused, _) => self.cancel_requested = false,
            (Told::Completed, Fate::Confirmed) => self.fate = Fate::Completed,
            _ => {}
        }
        self.confirm_when_all_is_done();
    }

    fn products_decides(&mut self, reserved: bool) {
        if *self.stock.get_or_insert(reserved) {
            self.confirm_when_all_is_done();
        } else if self.fate == Fate::Pending {
            self.orders_cancels(None);
        }
    }

    fn confirm_when_all_is_done(&mut self) {
        if self.fate == Fate::Pending && self.started && self.stock == Some(true) {
            self.fate = Fate::Confirmed;
            self.sent.push(Sent::Confirmed);
        }
    }

    fn customer_cancels(&mut self) {
        match self.fate {
            Fate::Pending => {
                self.cancel_asked = true;
                self.orders_cancels(None);
            }
            Fate::Confirmed if !self.cancel_asked => {
                (self.cancel_asked, self.cancel_requested) = (true, true);
                self.sent.push(Sent::CancelRequested);
            }
            Fate::Confirmed | Fate::Cancelled | Fate::Completed => {}
        }
    }

    fn orders_cancels(&mut self, because: Option<Uuid>) {
        self.fate = Fate::Cancelled;
        let path =
            because.map(|id| CausalPath::default().then("delivery", "DeliveryCancelled", id));
        self.sent.push(Sent::Cancelled(path.unwrap_or_default()));
    }

    /// Everything that was sent arrives, again and again, until nothing changes any more.
    fn settle(&mut self) {
        self.products_decides(true);
        for _ in 0..20 {
            let before = (self.row.clone(), self.told.len(), self.sent.len(), self.fate);
            (0..self.sent.len()).for_each(|index| self.delivery_hears(index));
            (0..self.told.len()).for_each(|index| self.orders_hears(index));
            if before == (self.row.clone(), self.told.len(), self.sent.len(), self.fate) {
                return;
            }
        }
        panic!("it goes on for ever: {self:?}");
    }

    fn times(&self, wanted: Told) -> usize {
        self.told.iter().filter(|(told, _)| *told == wanted).count()
    }

    fn is_safe(&self) {
        for told in [Told::Started, Told::Dispatched, Told::Completed, Told::CancelRefused] {
            assert!(self.times(told) <= 1, "{told:?} was told {} times", self.times(told));
        }
        let ended = self.times(Told::Cancelled) + self.times(Told::Failed);
        assert!(
            ended + self.times(Told::Dispatched) <= 1,
            "shipped and called off, or called off twice: {self:?}"
        );
        if self.fate == Fate::Cancelled {
            assert_eq!(self.times(Told::Dispatched), 0, "a cancelled order was shipped: {self:?}");
        }
    }

    fn agrees(&self) {
        let expected = match &self.row {
            Some(State::Ready | State::Dispatched(_)) => Fate::Confirmed,
            Some(State::Completed(_)) => Fate::Completed,
            Some(State::Cancelled { .. } | State::Failed { .. } | State::Tombstone) => {
                Fate::Cancelled
            }
            None | Some(State::Started) => panic!("it has not settled: {self:?}"),
        };
        assert_eq!(self.fate, expected, "{self:?}");
        assert!(
            !self.cancel_requested || self.fate != Fate::Confirmed,
            "a cancellation was never answered: {self:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_ships_what_is_cancelled_and_all_of_them_settle(
        carrier in prop::bool::weighted(0.9),
        steps in steps(true),
    ) {
        let mut world = World::new(carrier);
        for step in steps {
            world.take(step);
            world.is_safe();
        }
        world.settle();
        world.is_safe();
        world.agrees();
    }

    #[test]
    fn every_order_of_arrival_converges(carrier in prop::bool::weighted(0.9), steps in steps(false)) {
        let mut world = World::new(carrier);
        steps.into_iter().for_each(|step| world.take(step));
        world.settle();
        world.is_safe();
        // What was decided counts, not when it was heard.
        let undone = !carrier || world.stock == Some(false) || world.cancel_asked;
        let called_off = matches!(
            world.row,
            Some(State::Cancelled { .. } | State::Failed { .. } | State::Tombstone)
        );
        assert_eq!(called_off, undone, "{world:?}");
        assert_eq!(world.row == Some(State::Ready), !undone, "{world:?}");
    }

    /// The orchestrator repeats itself and overtakes itself, while the warehouse works.
    #[test]
    fn every_command_is_answered_with_what_stands_and_cancel_and_ship_exclude_each_other(
        carrier in prop::bool::weighted(0.9),
        steps in prop::collection::vec(driven(), 0..30),
    ) {
        let mut world = Driven { carrier, ..Driven::default() };
        for step in steps {
            match step {
                Drive::Command(heard) => world.is_told(heard),
                Drive::Call(call) => world.is_called(&call),
            }
        }
        world.is_told(Heard::CancelDelivery);
        let shipped = matches!(world.row, Some(State::Dispatched(_) | State::Completed(_)));
        prop_assert_eq!(shipped, world.told.contains(&Told::Dispatched));
        prop_assert_eq!(world.told.last() == Some(&Told::CancelRefused), shipped, "{:?}", world);
    }
}

#[derive(Clone, Debug)]
enum Drive {
    Command(Heard<'static>),
    Call(Call),
}

fn driven() -> impl Strategy<Value = Drive> {
    prop_oneof![
        4 => Just(Drive::Command(Heard::StartDelivery { carrier: true })),
        4 => Just(Drive::Command(Heard::ReadyDelivery)),
        1 => Just(Drive::Command(Heard::CancelDelivery)),
        3 => Just(Drive::Call(Call::Dispatch)),
        2 => Just(Drive::Call(Call::Complete)),
        1 => Just(Drive::Call(Call::Fail { reason: "lost".to_owned() })),
    ]
}

/// A delivery that the orchestrator drives.
#[derive(Debug, Default)]
struct Driven {
    carrier: bool,
    row: Option<State>,
    told: Vec<Told>,
}

impl Driven {
    fn is_told(&mut self, command: Heard<'_>) {
        let command = match command {
            Heard::StartDelivery { .. } => Heard::StartDelivery { carrier: self.carrier },
            other => other,
        };
        let Some(answer) = self.answer(command) else { return };
        let row = self.row.clone();
        // Whoever has not got the answer asks again.
        assert_eq!(self.answer(command), Some(answer));
        assert_eq!(self.row, row, "a repeated command has changed the row");
        let stands = match self.row.as_ref().unwrap() {
            State::Started => answer == Told::Started,
            State::Ready => [Told::Started, Told::Ready].contains(&answer),
            State::Dispatched(_) | State::Completed(_) => {
                [Told::Started, Told::Ready, Told::CancelRefused].contains(&answer)
            }
            State::Cancelled { .. } | State::Tombstone => answer == Told::Cancelled,
            State::Failed { .. } => answer == Told::Failed,
        };
        assert!(stands, "{command:?} was answered {answer:?}: {self:?}");
        self.told.push(answer);
    }

    /// None without a row to let leave: for a person.
    fn answer(&mut self, command: Heard<'_>) -> Option<Told> {
        let decided = react(self.row.as_ref(), command, Uuid::nil());
        match decided {
            Ok(Decision::Tells(state, told)) => {
                self.row = Some(state);
                Some(told)
            }
            Ok(Decision::Answers(told, _)) => Some(told),
            Ok(other) => panic!("{command:?} was not answered: {other:?}"),
            Err(contradiction) => {
                assert_eq!((contradiction, &self.row), (Contradiction::NothingToReady, &None));
                None
            }
        }
    }

    fn is_called(&mut self, call: &Call) {
        let decided = self.row.as_ref().map(|state| act(state, call, Uuid::nil()));
        if let Some(Ok((state, told))) = decided {
            self.row = Some(state);
            self.told.push(told);
        }
    }
}

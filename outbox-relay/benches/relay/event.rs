//! The events that everything here ships: as many and as long headers as the services write, and a payload like their
//! ProtoJSON. Made from a number, so that a reader can tell which it has before it.

use uuid::Uuid;

/// A payload holds at least the number and some fields.
pub(crate) const SMALLEST_PAYLOAD: usize = 150;

/// The names of the headers, in the order of [`Event::headers`].
pub(crate) const HEADERS: [&str; 12] = [
    "ce_specversion",
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_subject",
    "ce_time",
    "ce_partitionkey",
    "ce_causationid",
    "ce_causalpath",
    "ce_correlationid",
    "ce_coordination",
    "content-type",
];

/// The number's place in the payload: after `{"number":"`.
const NUMBER: std::ops::Range<usize> = 11..23;
const KEYS: u64 = 10_000;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) key: String,
    pub(crate) headers: [String; HEADERS.len()],
    pub(crate) payload: Vec<u8>,
}

impl Event {
    /// The event of this number, with a payload of so many bytes.
    pub(crate) fn new(number: u64, payload_bytes: usize) -> Self {
        let mut noise = Noise(number);
        let [id, cause, order] = [(); 3].map(|()| noise.uuid());
        let key = Noise(number % KEYS).uuid().to_string();
        let headers = [
            "1.0".to_owned(),
            id.to_string(),
            "shop.orders.v1.OrderPlaced".to_owned(),
            "orders".to_owned(),
            key.clone(),
            format!("2026-11-25T08:00:00.{:06}Z", number % 1_000_000),
            key.clone(),
            cause.to_string(),
            format!("orders/PlaceOrder/{cause}"),
            order.to_string(),
            "choreography".to_owned(),
            "application/json".to_owned(),
        ];
        let payload = payload(number, order, payload_bytes, &mut noise);
        Self { id, key, headers, payload }
    }

    /// The headers as the outbox keeps them.
    pub(crate) fn headers_json(&self) -> String {
        let pairs = HEADERS.iter().zip(&self.headers);
        let object: serde_json::Map<_, _> =
            pairs.map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        serde_json::Value::Object(object).to_string()
    }
}

/// Which event a payload belongs to.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    str::from_utf8(payload.get(NUMBER)?).ok()?.parse().ok()
}

fn payload(number: u64, order: Uuid, bytes: usize, noise: &mut Noise) -> Vec<u8> {
    let mut text = format!(
        r#"{{"number":"{number:012}","orderId":"{order}","total":{{"currencyCode":"KRW","units":"{}"}},"note":""#,
        number % 100_000
    );
    // Letters that repeat about as much as names and addresses do: neither noise nor a gift to the compression.
    while text.len() + 2 < bytes {
        text.push_str(WORDS[noise.below(WORDS.len())]);
    }
    text.truncate(bytes - 2);
    text.push_str(r#""}"#);
    text.into_bytes()
}

const WORDS: [&str; 16] = [
    "kettle ", "lamp ", "table ", "Seoul ", "river ", "north ", "42-7 ", "floor ", "blue ",
    "steel ", "oak ", "gift ", "fragile ", "bell ", "call ", "door ",
];

/// A splitmix64 stream: cheap, and the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn uuid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.next(), self.next())
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or_default()
    }
}

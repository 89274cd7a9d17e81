//! Page tokens: reading one never panics, one that was written is read back, and one that was changed, or belongs to
//! another question, is refused. An input is the kind of position, where to change a token and how, and then a text.

use std::fmt::Debug;

use chassis::{page_token, violations::Violations};
use proto::orders::v1::ListOrdersRequest;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// What must hold.
pub fn check(input: &[u8]) {
    let Some((&[kind, place, change], text)) = input.split_first_chunk() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes());
    let number = i64::from_be_bytes(id.as_u64_pair().0.to_be_bytes());
    let change = Change { place: place.into(), change: change & 0x7f };
    match kind {
        0 => holds(text, &id, &change),
        1 => holds(text, &text.to_owned(), &change),
        2 => holds(text, &number, &change),
        3 => holds(text, &(number, id), &change),
        _ => {}
    }
}

/// Which character becomes another one.
struct Change {
    place: usize,
    change: u8,
}

fn holds<P: Serialize + DeserializeOwned + PartialEq + Debug>(
    text: &str,
    position: &P,
    change: &Change,
) {
    let question = ListOrdersRequest { customer_id: text.to_owned(), ..Default::default() };
    let token = page_token::write(&question, position).unwrap_or_default();
    assert_eq!(read(&question, &token).as_ref(), Ok(position), "{token}");

    // A text that somebody made up is a token only if it could have been written.
    if let Ok(position) = read::<P>(&ListOrdersRequest::default(), text) {
        let again = page_token::write(&ListOrdersRequest::default(), &position);
        let again = read::<P>(&ListOrdersRequest::default(), &again.unwrap_or_default());
        assert_eq!(again, Ok(position), "{text}");
    }

    let changed = change.of(&token);
    if changed != token {
        assert_eq!(read::<P>(&question, &changed), Err(true), "{token} became {changed}");
    }
    let other = ListOrdersRequest { page_size: 1, ..question };
    assert_eq!(read::<P>(&other, &token), Err(true), "{token}");
}

/// The position of a token, or whether there was said why not.
fn read<P: DeserializeOwned>(question: &ListOrdersRequest, token: &str) -> Result<P, bool> {
    let mut violations = Violations::default();
    let position = page_token::read(question, token, &mut violations);
    position.ok_or(!violations.is_empty())
}

impl Change {
    fn of(&self, token: &str) -> String {
        let place = self.place % token.len().max(1);
        let letters = token.bytes().enumerate();
        let changed = |(at, letter)| if at == place { letter ^ self.change } else { letter };
        letters.map(|letter| char::from(changed(letter))).collect()
    }
}

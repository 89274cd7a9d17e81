//! Opaque page tokens: where the next page starts, bound to the question they belong to, so that a token of another
//! question, or one that was changed on its way, is refused instead of answering nonsense.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest as _, Sha256};

use crate::violations::Violations;

#[derive(Serialize, Deserialize)]
struct Token {
    /// The first bytes of the SHA-256 of question and position. Whoever wants can make one: it guards against mistakes only.
    digest: [u8; 8],
    position: Box<RawValue>,
}

/// Writes a token. `question` is the request without page_size and page_token.
pub fn write<P: Serialize>(
    question: &impl Message,
    position: P,
) -> Result<String, serde_json::Error> {
    let position = to_raw_value(&position)?;
    let token = Token { digest: digest(question, &position), position };
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token)?))
}

/// Reads a token; none for an empty one, and a violation of `page_token` for one that is not of this question.
pub fn read<P: DeserializeOwned>(
    question: &impl Message,
    token: &str,
    violations: &mut Violations,
) -> Option<P> {
    if token.is_empty() {
        return None;
    }
    let position = URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok())
        .filter(|token| token.digest == digest(question, &token.position))
        .and_then(|token| serde_json::from_str(token.position.get()).ok());
    if position.is_none() {
        violations.add("page_token", "is not a token of this question; start over without it");
    }
    position
}

fn digest(question: &impl Message, position: &RawValue) -> [u8; 8] {
    let mut hashed = question.encode_length_delimited_to_vec();
    hashed.extend_from_slice(position.get().as_bytes());
    let hash = Sha256::digest(hashed);
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    first
}

#[cfg(test)]
mod tests {
    use proto::orders::v1::ListOrdersRequest;

    use super::*;

    #[test]
    fn a_token_answers_only_its_own_question() {
        let question =
            ListOrdersRequest { customer_id: "1@uengine.org".to_owned(), ..Default::default() };
        let token = write(&question, 42).unwrap();
        let mut violations = Violations::default();
        assert_eq!(read(&question, &token, &mut violations), Some(42));
        assert!(violations.is_empty());
        assert_eq!(read::<i32>(&ListOrdersRequest::default(), &token, &mut violations), None);
        assert!(!violations.is_empty());
    }

    #[test]
    fn a_token_that_was_changed_is_refused() {
        let question = ListOrdersRequest::default();
        let token = write(&question, 42).unwrap();
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
        let changed = URL_SAFE_NO_PAD.encode(text.replace("42", "43"));
        let mut violations = Violations::default();
        assert_eq!(read::<i32>(&question, &changed, &mut violations), None);
        assert!(!violations.is_empty());
    }

    #[test]
    fn nonsense_is_a_violation_and_nothing_is_the_first_page() {
        let mut violations = Violations::default();
        assert_eq!(read::<i32>(&ListOrdersRequest::default(), "", &mut violations), None);
        assert!(violations.is_empty());
        assert_eq!(read::<i32>(&ListOrdersRequest::default(), "%%%", &mut violations), None);
        assert!(!violations.is_empty());
    }
}

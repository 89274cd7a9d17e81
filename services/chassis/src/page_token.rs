//! Opaque page tokens: where the next page starts, bound to the question they belong to, so that a token of another
//! question is refused instead of answering nonsense.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::violations::Violations;

#[derive(Serialize, Deserialize)]
struct Token<P> {
    /// The first bytes of the question's SHA-256.
    question: [u8; 8],
    position: P,
}

/// Writes a token. `question` is the request without page_size and page_token.
pub fn write<P: Serialize>(
    question: &impl Message,
    position: P,
) -> Result<String, serde_json::Error> {
    let token = Token { question: digest(question), position };
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
        .and_then(|bytes| serde_json::from_slice::<Token<P>>(&bytes).ok())
        .filter(|token| token.question == digest(question))
        .map(|token| token.position);
    if position.is_none() {
        violations.add("page_token", "is not a token of this question; start over without it");
    }
    position
}

fn digest(question: &impl Message) -> [u8; 8] {
    let hash = Sha256::digest(question.encode_to_vec());
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
    fn nonsense_is_a_violation_and_nothing_is_the_first_page() {
        let mut violations = Violations::default();
        assert_eq!(read::<i32>(&ListOrdersRequest::default(), "", &mut violations), None);
        assert!(violations.is_empty());
        assert_eq!(read::<i32>(&ListOrdersRequest::default(), "%%%", &mut violations), None);
        assert!(!violations.is_empty());
    }
}

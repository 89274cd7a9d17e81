//! A bearer token in a file that somebody else renews, such as Kubernetes' projected token of a service account. It is
//! a JWT; the relay reads whose it is and when it expires, and leaves its signature to the broker.

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rdkafka::client::OAuthToken;
use serde::Deserialize;

use crate::{Error, secret};

/// Where the token is. It is read anew whenever the client wants one, at four fifths of the last one's life.
#[derive(Debug, Clone)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// Nothing is read yet.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The token as it is now.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(&self) -> Result<OAuthToken, Error> {
        let token = secret::read(&self.0)?;
        let Claims { sub, exp } = claims(&token)
            .ok_or_else(|| secret::invalid(&self.0, "it holds no JWT that says sub and exp"))?;
        Ok(OAuthToken { token, principal_name: sub, lifetime_ms: (exp * 1000.0) as i64 })
    }
}

/// What a client's context answers when it is asked for a token. The client says itself that it has none, and asks again.
///
/// # Errors
/// When there is no file, or no token in it.
pub(crate) fn supply(file: Option<&TokenFile>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    let file = file.ok_or("no token file is configured")?;
    file.read().map_err(|error| error.chain().into())
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// In seconds since 1970, possibly with a fraction.
    exp: f64,
}

fn claims(token: &str) -> Option<Claims> {
    let claims = token.split('.').nth(1)?.trim_end_matches('=');
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OAuthToken, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        TokenFile::new(file.path()).read()
    }

    #[test]
    fn a_token_says_whose_it_is_and_when_it_expires() {
        let claims = BASE64_URL_SAFE_NO_PAD
            .encode(r#"{"sub": "relay", "exp": 1700000000, "aud": ["kafka"]}"#);
        let token = read(&format!("e30.{claims}.c2lnbmF0dXJl\n")).unwrap();
        assert_eq!(token.principal_name, "relay");
        assert_eq!(token.lifetime_ms, 1_700_000_000_000);
        assert!(token.token.ends_with(".c2lnbmF0dXJl"));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        let nobodys = BASE64_URL_SAFE_NO_PAD.encode(r#"{"exp": 1700000000}"#);
        for text in ["s3cret", "s3cret.s3cret.", &format!("s3cret.{nobodys}.")] {
            let Err(error) = read(text) else { panic!("{text} was taken for a token") };
            assert!(error.chain().contains("no JWT") && !error.chain().contains("s3cret"));
        }
    }
}

//! Which language a visitor reads: what he chose, else what his browser asks for.

use axum::http::{HeaderMap, header};

/// A language of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Language {
    #[default]
    English,
    Korean,
}

impl Language {
    /// As HTML and HTTP name it.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Korean => "ko",
        }
    }

    pub(crate) fn of_code(code: &str) -> Option<Self> {
        [Self::English, Self::Korean].into_iter().find(|language| language.code() == code)
    }

    /// The one of ours that the browser likes best.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let wishes = accepted.unwrap_or_default().split(',').filter_map(wish);
        // The first of those that are liked as much.
        let best = wishes.reduce(|best, wish| if wish.1 > best.1 { wish } else { best });
        best.map(|(language, _)| language).unwrap_or_default()
    }
}

/// `ko-KR;q=0.8`, where it is a language of ours that is wanted at all.
fn wish(text: &str) -> Option<(Language, f32)> {
    let mut parts = text.trim().split(';');
    let code = parts.next()?.split('-').next()?.trim().to_lowercase();
    let weight = parts.find_map(|part| part.trim().strip_prefix("q="));
    let weight = weight.map_or(Some(1.0), |weight| weight.parse().ok())?;
    let language = Language::of_code(&code)?;
    (weight > 0.0).then_some((language, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &'static str) -> Language {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, value.parse().unwrap());
        Language::accepted(&headers)
    }

    #[test]
    fn the_best_liked_of_our_languages_is_taken() {
        assert_eq!(accepted("ko-KR,ko;q=0.9,en-US;q=0.8"), Language::Korean);
        assert_eq!(accepted("fr, en;q=0.5, ko;q=0.7"), Language::Korean);
        assert_eq!(accepted("en,ko"), Language::English);
        assert_eq!(accepted("ko;q=0"), Language::English);
        assert_eq!(accepted("fr;q=nonsense"), Language::English);
        assert_eq!(Language::accepted(&HeaderMap::new()), Language::English);
    }
}

//! The files of the pages, built in: a style sheet and a few lines of script of ours, and htmx with its extension for live
//! updates, as published.

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};

struct Asset {
    name: &'static str,
    kind: &'static str,
    /// How long a browser may keep it: what has its version in its name never changes.
    kept: &'static str,
    bytes: &'static [u8],
}

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const BRIEFLY: &str = "public, max-age=60";

const ASSETS: [Asset; 5] = [
    Asset {
        name: "htmx-2.0.11.min.js",
        kind: "text/javascript; charset=utf-8",
        kept: FOR_EVER,
        bytes: include_bytes!("../assets/htmx-2.0.11.min.js"),
    },
    Asset {
        name: "htmx-ext-sse-2.2.4.min.js",
        kind: "text/javascript; charset=utf-8",
        kept: FOR_EVER,
        bytes: include_bytes!("../assets/htmx-ext-sse-2.2.4.min.js"),
    },
    Asset {
        name: "live.js",
        kind: "text/javascript; charset=utf-8",
        kept: BRIEFLY,
        bytes: include_bytes!("../assets/live.js"),
    },
    Asset {
        name: "style.css",
        kind: "text/css; charset=utf-8",
        kept: BRIEFLY,
        bytes: include_bytes!("../assets/style.css"),
    },
    Asset {
        name: "icon.svg",
        kind: "image/svg+xml",
        kept: BRIEFLY,
        bytes: include_bytes!("../assets/icon.svg"),
    },
];

/// One of the files.
pub(crate) async fn file(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => {
            let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, asset.kept)];
            (headers, asset.bytes).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// Of the files as npm has them: htmx.org 2.0.11 dist/htmx.min.js, htmx-ext-sse 2.2.4 dist/sse.min.js.
    const PUBLISHED: [(&str, &str); 2] = [
        ("htmx-2.0.11.min.js", "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"),
        (
            "htmx-ext-sse-2.2.4.min.js",
            "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
        ),
    ];

    #[test]
    fn the_scripts_are_those_that_were_published() {
        for (name, published) in PUBLISHED {
            let asset = ASSETS.iter().find(|asset| asset.name == name).unwrap();
            let hash = Sha256::digest(asset.bytes);
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, published, "{name}");
        }
    }
}

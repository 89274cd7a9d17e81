//! The file that lists databases and maps tables: read once, at the start, except for passwords. Whatever it says wrong is refused by file and
//! line; what it keeps secret is never printed.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use crate::{config::Source, database::Database, mapping::Mapping, table::Table};

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its databases, in its order.
    pub sources: Vec<Source>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    source: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    url: Option<Spanned<String>>,
    url_file: Option<Spanned<PathBuf>>,
    password_file: Option<Spanned<PathBuf>>,
    table: Option<Mapping>,
}

/// What is wrong, and where in the text.
struct Fault {
    at: usize,
    words: String,
}

impl Fault {
    fn at<T>(place: &Spanned<T>, words: impl fmt::Display) -> Self {
        Self { at: place.span().start, words: words.to_string() }
    }
}

impl Manifest {
    /// Reads a file and the files with secrets that it names; their paths are relative to its own.
    ///
    /// # Errors
    /// What is wrong, with file and line and in words.
    pub fn read(path: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let here = Path::new(path).parent().unwrap_or(Path::new(""));
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let place = |at: usize| format!("{path}:{}", line(at));
        let document: Document = toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            format!("{}: {}", place(at), without_secrets(error.message()))
        })?;
        let sources = document.source.into_iter().map(|entry| {
            let place_of_entry = place(entry.span().start);
            let source = entry_source(entry, here);
            let source = source.map_err(|Fault { at, words }| format!("{}: {words}", place(at)))?;
            Ok(Source { place: place_of_entry, ..source })
        });
        Ok(Self { sources: sources.collect::<Result<_, String>>()? })
    }
}

fn entry_source(entry: Spanned<Entry>, here: &Path) -> Result<Source, Fault> {
    let beginning = entry.span().start;
    let Entry { name, url, url_file, password_file, table } = entry.into_inner();
    if name.is_empty() {
        return Err(Fault { at: beginning, words: "a source needs a name".to_owned() });
    }
    let parse =
        |url: &str| url.parse::<Database>().map_err(|error| format!("source {name}: {error}"));
    let database = match (url, url_file) {
        (Some(url), None) => parse(url.get_ref()).map_err(|words| Fault::at(&url, words)),
        (None, Some(file)) => {
            let url = secret(&file, here)?;
            parse(&url).map_err(|words| Fault::at(&file, words))
        }
        (None, None) | (Some(_), Some(_)) => Err(Fault {
            at: beginning,
            words: format!("source {name} needs either url or url_file"),
        }),
    }?;
    let database = match password_file {
        Some(file) => {
            secret(&file, here)?;
            database.with_password_file(here.join(file.get_ref()))
        }
        None => database,
    };
    let table = table.map_or_else(Table::default, Mapping::table);
    Ok(Source { name, database, table, place: String::new() })
}

/// A file's text without the line's end that editors add.
fn secret(file: &Spanned<PathBuf>, here: &Path) -> Result<String, Fault> {
    let path = here.join(file.get_ref());
    let text = fs::read_to_string(&path)
        .map_err(|error| Fault::at(file, format!("{}: {error}", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The parser quotes a value of the wrong type, and that may be a URL with a password in it.
fn without_secrets(message: &str) -> String {
    let message = message.trim_end().replace('\n', "; ");
    match message.split_once(": string \"").zip(message.rsplit_once("\", expected ")) {
        Some(((before, _), (_, expected))) => format!("{before}: a string, expected {expected}"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a file of these lines.
    fn refusal(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("relay.toml");
        fs::write(&file, text).unwrap();
        let refusal = Manifest::read(file.to_str().unwrap()).unwrap_err();
        refusal.replace(directory.path().to_str().unwrap(), "")
    }

    fn example() -> Vec<Source> {
        Manifest::read(concat!(env!("CARGO_MANIFEST_DIR"), "/relay.example.toml")).unwrap().sources
    }

    #[test]
    fn the_example_is_a_file_that_can_be_read() {
        let sources = example();
        let [orders, shop] = sources.as_slice() else { panic!("{sources:?}") };
        assert_eq!((orders.name.as_str(), &orders.table), ("orders", &Table::default()));
        assert_eq!(shop.table, Mapping::default().table(), "it spells the defaults out");
        assert!(shop.place.ends_with("relay.example.toml:11"), "{}", shop.place);
    }

    #[test]
    fn a_table_needs_no_more_than_its_name() {
        let text = "[[source]]\nname = 'a'\nurl = 'postgres://h/a'\n[source.table]\nname = 'public.outboxevent'";
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("relay.toml");
        fs::write(&file, text).unwrap();
        let manifest = Manifest::read(file.to_str().unwrap()).unwrap();
        assert_eq!(manifest.sources[0].table, Mapping::default().table());
    }

    #[test]
    fn secrets_come_from_files_beside_it_and_are_not_printed() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("url", "postgres://u:hidden@h:5433/d\n");
        write("password", "hidden too\n");
        write(
            "relay.toml",
            "[[source]]\nname = 'a'\nurl_file = 'url'\npassword_file = 'password'\n",
        );
        let manifest =
            Manifest::read(directory.path().join("relay.toml").to_str().unwrap()).unwrap();
        assert_eq!(manifest.sources[0].database.address().1, 5433);
        assert!(!format!("{manifest:?}").contains("hidden"));
    }

    #[test]
    fn what_is_wrong_is_said_by_file_and_line() {
        let source = "[[source]]\nname = 'a'\nurl = 'postgres://h/a'\n";
        for (text, said) in [
            (
                "[[source]]\nname = 'a'\nurl = 'postgres://h/a'\ntabel = {}",
                "/relay.toml:4: unknown field `tabel`, expected one of `name`",
            ),
            (
                "[[source]]\nname = 'a'\nurl = 5",
                "/relay.toml:3: invalid type: integer `5`, expected a string",
            ),
            ("[[source]]\nname = 'a'\n", "/relay.toml:1: source a needs either url or url_file"),
            (
                "\n[[source]]\nname = 'a'\nurl = 'x'\nurl_file = 'y'",
                "/relay.toml:2: source a needs either",
            ),
            (
                "[[source]]\nname = 'a'\nurl_file = 'nowhere'",
                "/relay.toml:3: /nowhere: No such file",
            ),
            ("[[source]]\nname = 'a'\nurl = 'not a url'", "/relay.toml:3: source a: "),
            ("[[source]\n", "/relay.toml:1: "),
            ("", "/relay.toml:1: missing field `source`"),
        ] {
            assert!(refusal(text).starts_with(said), "{text:?}: {}", refusal(text));
        }
        for (table, said) in [
            ("key = 'lower(aggregateid)'", "/relay.toml:5: \"lower(aggregateid)\" is not a name"),
            ("name = 'public.x\"; drop table y; --'", "/relay.toml:5: "),
            ("topic = 'a b'", "/relay.toml:5: \"a b\" is not a topic"),
            (
                "remove = 'truncate'",
                "/relay.toml:5: unknown variant `truncate`, expected `keep` or `delete`",
            ),
            ("sequence = 'x'", "/relay.toml:5: unknown field `sequence`"),
            ("headers = { \"a'b\" = 'id' }", "/relay.toml:5: \"a'b\" is not a header's name"),
        ] {
            let refusal = refusal(&format!("{source}[source.table]\n{table}\n"));
            assert!(refusal.starts_with(said), "{table:?}: {refusal}");
        }
    }

    #[test]
    fn a_url_in_the_wrong_place_is_not_repeated() {
        let said = refusal("source = 'a=postgres://u:hidden@h/a'");
        assert!(said.starts_with("/relay.toml:1: ") && !said.contains("hidden"), "{said}");
        let said = refusal("[[source]]\nname = 'a'\nurl = postgres://u:hidden@h/a");
        assert!(said.starts_with("/relay.toml:3: ") && !said.contains("hidden"), "{said}");
    }
}

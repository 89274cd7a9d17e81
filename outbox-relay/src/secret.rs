//! Secrets and keys stand in files. They are read when they are used, so that a new one needs no restart, and what was
//! read is printed nowhere.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use crate::Error;

/// The file's text without the newline that editors leave at its end.
///
/// # Errors
/// When the file cannot be read, or holds nothing.
pub fn read(path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(unusable(path))?;
    match text.strip_suffix('\n').map_or(text.as_str(), |line| line.trim_end_matches('\r')) {
        "" => Err(invalid(path, "it is empty")),
        secret => Ok(secret.to_owned()),
    }
}

/// Refuses a file that cannot be read.
///
/// # Errors
/// What the system says.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    fs::read(path).map(|_| ()).map_err(unusable(path))
}

/// Whether every user of the machine may read it.
pub(crate) fn is_open_to_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}

/// The error for a file whose text is not what it should be.
pub(crate) fn invalid(path: &Path, reason: &str) -> Error {
    unusable(path)(io::Error::new(io::ErrorKind::InvalidData, reason))
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_the_newline_at_the_end_is_not_part_of_a_secret() {
        let of = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            read(file.path()).ok()
        };
        assert_eq!(of("s3cret\n").as_deref(), Some("s3cret"));
        assert_eq!(of("s3cret\r\n").as_deref(), Some("s3cret"));
        assert_eq!(of(" two words ").as_deref(), Some(" two words "));
        assert_eq!(of("two\n\n").as_deref(), Some("two\n"));
        assert_eq!(of("\n"), None);
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let text = check(Path::new("/not/there")).unwrap_err().chain();
        assert!(text.contains("/not/there") && text.contains("No such file"), "{text}");
    }
}

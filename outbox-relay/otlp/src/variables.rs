//! The variables of the OTLP exporter's specification that say how a collector is called. The one for spans goes before the one
//! for everything; an empty one is none.
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>

use std::{str::FromStr, time::Duration};

use percent_encoding::percent_decode_str;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};

use crate::Error;

/// How a collector is called.
#[derive(Debug)]
pub(crate) struct Variables {
    pub(crate) headers: MetadataMap,
    pub(crate) gzip: bool,
    /// Until a request is given up.
    pub(crate) timeout: Duration,
    /// Until spans that do not fill a request are sent.
    pub(crate) delay: Duration,
}

impl Variables {
    pub(crate) fn read(of: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let of = |name: &str| of(name).filter(|value| !value.is_empty());
        let either = |name| {
            [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")]
                .into_iter()
                .find_map(|name| Some((of(&name)?, name)))
        };
        let bsp = "OTEL_BSP_SCHEDULE_DELAY".to_owned();
        Ok(Self {
            headers: read(either("HEADERS"), "key=value, separated by commas", headers)?
                .unwrap_or_default(),
            gzip: read(either("COMPRESSION"), "gzip or none", gzip)?.unwrap_or(false),
            timeout: read(either("TIMEOUT"), "a number of milliseconds", millis)?
                .unwrap_or(Duration::from_secs(10)),
            delay: read(of(&bsp).map(|value| (value, bsp)), "a number of milliseconds", millis)?
                .unwrap_or(Duration::from_secs(1)),
        })
    }
}

fn read<T>(
    found: Option<(String, String)>,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Error> {
    let Some((value, name)) = found else { return Ok(None) };
    match parse(&value) {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(Error::Variable { name, value, expected }),
    }
}

/// As W3C baggage writes them: percent-encoded.
fn headers(value: &str) -> Option<MetadataMap> {
    let mut headers = MetadataMap::new();
    for pair in value.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=')?;
        let key = MetadataKey::<Ascii>::from_str(&key.trim().to_lowercase()).ok()?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        headers.append(key, MetadataValue::from_str(&value).ok()?);
    }
    Some(headers)
}

fn gzip(value: &str) -> Option<bool> {
    match value {
        "gzip" => Some(true),
        "none" => Some(false),
        _ => None,
    }
}

fn millis(value: &str) -> Option<Duration> {
    value.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Variables, Error> {
        Variables::read(|name| {
            let (_, value) = variables.iter().find(|variable| variable.0 == name)?;
            Some((*value).to_owned())
        })
    }

    #[test]
    fn the_variable_for_spans_goes_before_the_general_one() -> Result<(), Error> {
        let variables = read(&[
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=none"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "Authorization=Bearer%20it, tenant = a"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", ""),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ])?;
        assert_eq!(
            variables.headers.get("authorization").map(|it| it.as_bytes()),
            Some(&b"Bearer it"[..])
        );
        assert_eq!(variables.headers.get("tenant").map(|it| it.as_bytes()), Some(&b"a"[..]));
        assert_eq!(variables.timeout, Duration::from_millis(200));
        assert_eq!(variables.delay, Duration::from_millis(50));
        assert!(variables.gzip);
        Ok(())
    }

    #[test]
    fn without_variables_the_defaults_hold() -> Result<(), Error> {
        let variables = read(&[])?;
        assert!(variables.headers.is_empty() && !variables.gzip);
        assert_eq!(variables.timeout, Duration::from_secs(10));
        Ok(())
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_named() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%00"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ] {
            let refused = read(&[(name, value)]).map(|_| ()).unwrap_err().to_string();
            assert!(refused.contains(name) && refused.contains("is not"), "{refused}");
        }
    }
}

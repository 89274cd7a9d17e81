//! What the storefront can be told, by flag or environment variable.

use std::time::Duration;

use chassis::config::duration;
use clap::Parser;
use tonic::transport::Uri;

/// The web page of the shop: place orders, and watch them settle.
#[derive(Clone, Debug, Parser)]
#[command(name = "storefront", version)]
pub struct Config {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the command's own")]
    pub site: chassis::site::Config,

    /// Where orders answers.
    #[arg(long, env = "ORDERS_URL", default_value = "http://127.0.0.1:8081")]
    pub orders_url: Uri,

    /// Where products answers.
    #[arg(long, env = "PRODUCTS_URL", default_value = "http://127.0.0.1:8085")]
    pub products_url: Uri,

    /// Where delivery answers.
    #[arg(long, env = "DELIVERY_URL", default_value = "http://127.0.0.1:8082")]
    pub delivery_url: Uri,

    /// Where the orchestrator answers.
    #[arg(long, env = "ORCHESTRATOR_URL", default_value = "http://127.0.0.1:8083")]
    pub orchestrator_url: Uri,

    /// How long a service may take to answer one call.
    #[arg(long, env = "STOREFRONT_CALL_TIMEOUT", default_value = "3s", value_parser = duration)]
    pub call_timeout: Duration,

    /// Streams of live updates at once; further pages are shown without.
    #[arg(long, env = "STOREFRONT_MAX_STREAMS", default_value_t = 1000)]
    pub max_streams: usize,

    /// The names this site is called by; requests for others are refused, so that no foreign name leads here.
    #[arg(
        long,
        env = "STOREFRONT_HOST_NAMES",
        value_delimiter = ',',
        default_value = "localhost,127.0.0.1,[::1]"
    )]
    pub host_names: Vec<String>,

    /// Signs the tokens of forms, 32 characters or more; the same for all replicas. A random one, if there is none: then forms
    /// that were open at a restart have to be loaded again.
    #[arg(long, env = "STOREFRONT_SECRET", hide_env_values = true, value_parser = secret)]
    pub secret: Option<String>,

    /// Set cookies for HTTPS alone: a proxy in front does TLS.
    #[arg(long, env = "STOREFRONT_SECURE_COOKIES")]
    pub secure_cookies: bool,

    /// Serve the operator's view as well. It has no login: whoever reaches this address can use it.
    #[arg(long, env = "STOREFRONT_OPERATOR")]
    pub operator: bool,

    /// The Jaeger to link to, such as http://127.0.0.1:16686.
    #[arg(long, env = "SETTLE_JAEGER_URL", value_parser = web_address)]
    pub jaeger_url: Option<String>,
}

fn secret(text: &str) -> Result<String, String> {
    match text.len() {
        32.. => Ok(text.to_owned()),
        _ => Err("must have 32 characters or more".to_owned()),
    }
}

/// It becomes a link: nothing but an address of the web.
fn web_address(text: &str) -> Result<String, String> {
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    match text.parse::<Uri>() {
        Ok(_) if is_web => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("must be an address such as http://127.0.0.1:16686".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Config::command().debug_assert();
    }

    #[test]
    fn a_link_leads_to_the_web_and_nowhere_else() {
        assert_eq!(web_address("http://jaeger:16686/"), Ok("http://jaeger:16686".to_owned()));
        assert!(web_address("javascript:alert(1)").is_err() && web_address("jaeger").is_err());
    }

    #[test]
    fn a_short_secret_is_refused() {
        let parse = |secret: &str| Config::try_parse_from(["storefront", "--secret", secret]);
        assert!(parse("short").is_err() && parse(&"x".repeat(32)).is_ok());
    }
}

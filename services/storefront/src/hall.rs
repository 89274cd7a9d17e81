//! What all pages share.

use std::sync::Arc;

use chassis::site::Site;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{config::Config, outlook::Outlooks, shop::Shop, visitor::Signer};

/// Cheap to clone: every page gets one.
#[derive(Clone, Debug)]
pub(crate) struct Hall {
    pub(crate) shop: Shop,
    pub(crate) outlooks: Outlooks,
    pub(crate) signer: Signer,
    pub(crate) host_names: Arc<[String]>,
    pub(crate) secure_cookies: bool,
    /// Whether the operator's view is served.
    pub(crate) operator: bool,
    pub(crate) jaeger_url: Option<Arc<str>>,
    /// Places for live updates.
    pub(crate) seats: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Hall {
    pub(crate) fn new(config: &Config, site: &Site) -> Self {
        let random = || format!("{}{}", Uuid::new_v4(), Uuid::new_v4());
        Self {
            shop: Shop::new(config),
            outlooks: Outlooks::default(),
            signer: Signer::new(&config.secret.clone().unwrap_or_else(random)),
            host_names: config.host_names.clone().into(),
            secure_cookies: config.secure_cookies,
            operator: config.operator,
            jaeger_url: config.jaeger_url.as_deref().map(Arc::from),
            seats: Arc::new(Semaphore::new(config.max_streams)),
            tasks: TaskTracker::new(),
            shutdown: site.shutdown(),
        }
    }
}

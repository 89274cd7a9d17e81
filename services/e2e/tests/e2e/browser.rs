//! A real Chromium without a window, as a visitor of the storefront uses it. Everything waits for what is to be seen.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::json;
use thirtyfour::{
    By, ChromiumLikeCapabilities as _, DesiredCapabilities, WebDriver, WebElement,
    cdp::domains::emulation::{MediaFeature, SetEmulatedMedia},
    error::WebDriverError,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
};

use crate::shop::{Shop, until};

/// What a visitor brings along.
#[derive(Clone, Copy)]
pub(crate) struct Visitor {
    pub(crate) language: &'static str,
    pub(crate) javascript: bool,
    pub(crate) size: (u32, u32),
}

pub(crate) const AT_A_DESK: Visitor =
    Visitor { language: "en", javascript: true, size: (1100, 900) };

/// Chromium makes none narrower; a phone is emulated.
const NARROWEST_WINDOW: u32 = 500;

/// A browser with a profile of its own: a customer of his own.
pub(crate) struct Browser {
    driver: WebDriver,
    base: String,
}

/// Runs a scenario with so many browsers, and closes them whatever comes of it.
pub(crate) async fn with<const N: usize>(
    shop: &Shop,
    visitors: [Visitor; N],
    scenario: impl AsyncFnOnce([&Browser; N]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut chromedriver = Chromedriver::start().await?;
    let mut browsers = Vec::new();
    for visitor in visitors {
        browsers.push(
            Browser::open(&chromedriver.address, visitor, shop.stack.storefront_url()).await?,
        );
    }
    let ended = match <[&Browser; N]>::try_from(browsers.iter().collect::<Vec<_>>()) {
        Ok(browsers) => scenario(browsers).await,
        Err(_) => unreachable!("as many browsers as visitors"),
    };
    for browser in browsers {
        browser.driver.quit().await?;
    }
    chromedriver.process.kill().await?;
    ended
}

/// What drives the browsers. It chooses a port that is free, and says which.
struct Chromedriver {
    process: Child,
    address: String,
    /// Open until it ends, so that it can go on to write.
    _says: BufReader<ChildStdout>,
}

impl Chromedriver {
    async fn start() -> anyhow::Result<Self> {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("chromedriver is missing: deploy/setup chromedriver installs it")?;
        let mut says = BufReader::new(process.stdout.take().context("its output")?);
        loop {
            let mut line = String::new();
            ensure!(says.read_line(&mut line).await? > 0, "chromedriver ended without a port");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                let address = format!("http://127.0.0.1:{}", port.trim().trim_end_matches('.'));
                return Ok(Self { process, address, _says: says });
            }
        }
    }
}

/// Whether an element has gone from the page, or the page with it.
async fn is_gone(element: &WebElement) -> anyhow::Result<bool> {
    Ok(!element.is_present().await?)
}

impl Browser {
    async fn open(chromedriver: &str, visitor: Visitor, base: String) -> anyhow::Result<Self> {
        let mut wanted = DesiredCapabilities::chrome();
        let (width, height) = visitor.size;
        for argument in [
            "--headless=new",
            // The tests may run as root, in a container.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            &format!("--window-size={width},{height}"),
            &format!("--lang={}", visitor.language),
            &format!("--accept-lang={}", visitor.language),
        ] {
            wanted.add_arg(argument)?;
        }
        let scripts = if visitor.javascript { 1 } else { 2 };
        if width < NARROWEST_WINDOW {
            let device = json!({"width": width, "height": height, "pixelRatio": 1});
            let phone = json!({"deviceMetrics": device});
            wanted.add_experimental_option("mobileEmulation", phone)?;
        }
        wanted.add_experimental_option(
            "prefs",
            json!({
                "intl.accept_languages": visitor.language,
                "profile.managed_default_content_settings.javascript": scripts,
            }),
        )?;
        Ok(Self { driver: WebDriver::new(chromedriver, wanted).await?, base })
    }

    pub(crate) async fn go(&self, path: &str) -> anyhow::Result<()> {
        Ok(self.driver.goto(format!("{}{path}", self.base)).await?)
    }

    pub(crate) async fn back(&self) -> anyhow::Result<()> {
        Ok(self.driver.back().await?)
    }

    pub(crate) async fn reload(&self) -> anyhow::Result<()> {
        Ok(self.driver.refresh().await?)
    }

    pub(crate) async fn path(&self) -> anyhow::Result<String> {
        Ok(self.driver.current_url().await?.path().to_owned())
    }

    pub(crate) async fn element(&self, css: &str) -> Result<WebElement, WebDriverError> {
        self.driver.find(By::Css(css)).await
    }

    /// How many there are.
    pub(crate) async fn count(&self, css: &str) -> anyhow::Result<usize> {
        Ok(self.driver.find_all(By::Css(css)).await?.len())
    }

    pub(crate) async fn text(&self, css: &str) -> anyhow::Result<String> {
        Ok(self.element(css).await?.text().await?)
    }

    /// Waits until the text is there.
    pub(crate) async fn until_text(&self, css: &str, wanted: &str) -> anyhow::Result<()> {
        until(&format!("{css} says {wanted:?}"), async || {
            let text = self.text(css).await?;
            ensure!(text.contains(wanted), "it says {text:?}");
            Ok(())
        })
        .await
    }

    /// Waits until there is such an element.
    pub(crate) async fn until_there(&self, css: &str) -> anyhow::Result<()> {
        until(&format!("there is {css}"), async || Ok(self.element(css).await.map(|_| ())?)).await
    }

    pub(crate) async fn fill(&self, css: &str, text: &str) -> anyhow::Result<()> {
        until(&format!("{css} is filled"), async || {
            let element = self.element(css).await?;
            element.clear().await?;
            Ok(element.send_keys(text).await?)
        })
        .await
    }

    /// Presses what leads to another page, and waits for that. What is live may be replaced between finger and button: then
    /// nobody has heard of it, and it is pressed again.
    pub(crate) async fn press(&self, css: &str) -> anyhow::Result<()> {
        until(&format!("{css} leads on"), async || {
            let (page, button) = (self.element("html").await?, self.element(css).await?);
            button.click().await?;
            until(&format!("{css} is done with"), async || {
                ensure!(is_gone(&button).await?, "it is still there");
                Ok(())
            })
            .await?;
            ensure!(is_gone(&page).await?, "it was replaced");
            Ok(())
        })
        .await
    }

    /// Presses what changes this page alone, or nothing.
    pub(crate) async fn touch(&self, css: &str) -> anyhow::Result<()> {
        until(&format!("{css} is touched"), async || Ok(self.element(css).await?.click().await?))
            .await
    }

    /// As somebody sees the pages whose system is dark.
    pub(crate) async fn darken(&self) -> anyhow::Result<()> {
        let (name, value) = ("prefers-color-scheme".to_owned(), "dark".to_owned());
        let features = Some(vec![MediaFeature { name, value }]);
        self.driver.cdp().send(SetEmulatedMedia { media: None, features }).await?;
        Ok(())
    }

    pub(crate) async fn keys(&self, keys: &str) -> anyhow::Result<()> {
        Ok(self.driver.active_element().await?.send_keys(keys).await?)
    }

    /// What a script of ours answers.
    pub(crate) async fn ask(&self, script: &str) -> anyhow::Result<serde_json::Value> {
        Ok(self.driver.execute(script, Vec::new()).await?.json().clone())
    }

    /// Marks the page as it was loaded; a page that is loaded again has no mark.
    pub(crate) async fn mark(&self) -> anyhow::Result<()> {
        self.ask("window.sinceThen = true").await.map(|_| ())
    }

    pub(crate) async fn is_still_the_same_page(&self) -> anyhow::Result<bool> {
        Ok(self.ask("return window.sinceThen === true").await? == true)
    }

    /// The customer that the cookie names.
    pub(crate) async fn customer(&self) -> anyhow::Result<String> {
        Ok(self.driver.get_named_cookie("settle_customer").await?.value)
    }

    pub(crate) async fn picture(&self) -> anyhow::Result<Vec<u8>> {
        Ok(self.driver.screenshot_as_png().await?)
    }

    /// Orders one product by the form; the order's id, from its page.
    pub(crate) async fn order(&self, product_id: &str, quantity: i32) -> anyhow::Result<String> {
        self.order_for(product_id, quantity, "홍길동", "서울시").await
    }

    pub(crate) async fn order_for(
        &self,
        product_id: &str,
        quantity: i32,
        name: &str,
        address: &str,
    ) -> anyhow::Result<String> {
        self.go("/").await?;
        self.fill(&format!("#quantity-{product_id}"), &quantity.to_string()).await?;
        self.fill("#name", name).await?;
        self.fill("#address", address).await?;
        self.press("#place").await?;
        self.ordered().await
    }

    /// The id of the order whose page is shown.
    pub(crate) async fn ordered(&self) -> anyhow::Result<String> {
        until("the order's page is shown", async || {
            let path = self.path().await?;
            let id = path.strip_prefix("/orders/").context(path.clone())?;
            Ok(id.to_owned())
        })
        .await
    }
}

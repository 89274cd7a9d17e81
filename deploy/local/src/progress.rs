//! What a person sees while waiting: a spinner on a terminal, plain lines anywhere else. Always on stderr.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Reports what is going on.
#[derive(Debug, Clone)]
pub struct Progress {
    shown: Shown,
}

#[derive(Debug, Clone)]
enum Shown {
    Spinners(MultiProgress),
    Lines,
    Nothing,
}

impl Progress {
    /// Spinners on a terminal, lines elsewhere.
    pub fn to_stderr() -> Self {
        let terminal = io::stderr().is_terminal();
        Self { shown: if terminal { Shown::Spinners(MultiProgress::new()) } else { Shown::Lines } }
    }

    /// Says nothing; for tests.
    pub fn silent() -> Self {
        Self { shown: Shown::Nothing }
    }

    /// Begins something that takes a while.
    pub(crate) fn step(&self, doing: impl Into<String>) -> Step {
        let doing = doing.into();
        let bar = match &self.shown {
            Shown::Spinners(all) => {
                let bar = all.add(ProgressBar::new_spinner());
                if let Ok(style) =
                    ProgressStyle::with_template("{spinner} {prefix} {wide_msg:.dim}")
                {
                    bar.set_style(style);
                }
                bar.set_prefix(doing.clone());
                bar.enable_steady_tick(Duration::from_millis(100));
                Some(bar)
            }
            Shown::Lines | Shown::Nothing => None,
        };
        Step { progress: self.clone(), doing, bar }
    }

    /// Says one thing.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        // A closed terminal is no reason to stop.
        let _ = match &self.shown {
            Shown::Spinners(all) => all.println(text),
            Shown::Lines => writeln!(io::stderr(), "{text}"),
            Shown::Nothing => Ok(()),
        };
    }
}

/// Something under way; dropped without [`Step::done`], it has failed.
#[derive(Debug)]
pub(crate) struct Step {
    progress: Progress,
    doing: String,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Shows the newest of many details; only on a terminal.
    pub(crate) fn detail(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.trim().to_owned());
        }
    }

    /// Ends the step well; `result` replaces what was being done.
    pub(crate) fn done(mut self, result: impl AsRef<str>) {
        self.clear();
        self.progress.note(format!("  {}", result.as_ref()));
    }

    fn clear(&mut self) -> bool {
        self.bar.take().map(|bar| bar.finish_and_clear()).is_some()
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.clear() {
            self.progress.note(format!("! {}", self.doing));
        }
    }
}

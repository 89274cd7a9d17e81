//! `settle reset`: forgets the data of a stack that does not run.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::datadir::DataDir;
use crate::error::{Error, Result};
use crate::guard;
use crate::progress::Progress;

/// Removes what a stack wrote into the directory, after asking unless `yes`.
pub(crate) async fn run(data: &Path, yes: bool, progress: &Progress) -> Result<ExitCode> {
    if !data.exists() {
        progress.note(format!("There is nothing in {}.", data.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let dir = DataDir::open(data)?;
    if !yes && !confirmed(&dir)? {
        progress.note("Nothing was removed.");
        return Ok(ExitCode::FAILURE);
    }
    guard::end_shown(dir.path(), progress).await?;
    dir.forget()?;
    progress.note(format!("Forgotten: the data in {}.", dir.path().display()));
    Ok(ExitCode::SUCCESS)
}

fn confirmed(dir: &DataDir) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Error::Unfit(
            "to forget the data without being asked, say `settle reset --yes`".to_owned(),
        ));
    }
    let question =
        format!("Forget all orders, products and events in {}? [y/N] ", dir.path().display());
    let ask = || -> io::Result<String> {
        io::stderr().write_all(question.as_bytes())?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(Error::io("ask whether to forget the data"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

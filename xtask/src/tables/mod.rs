//! `cargo xtask tables`: trains every row of the paper's tables at a chosen size and reports which conclusions hold.

mod budget;
mod charts;
mod claims;
mod distances;
mod experiments;
mod facts;
mod layout;
mod occurrences;
mod page;
mod paper;
mod plan;
mod records;
mod request;
mod scatter;
mod timing;
mod word_text;
mod words;
mod work;

use std::{fs, path::Path};

use self::{paper::Paper, records::Records, request::Request, timing::Timings, work::Work};
use crate::{
    failure::{Context, Failure, INTERRUPTED, Result},
    flags,
    runs::{self, Corpus},
    tools, ui,
};

/// Makes what is missing of the tables, and writes their report.
pub(crate) fn run(root: &Path, flags: &flags::Tables) -> Result {
    let request = Request::new(root, flags)?;
    let done = tables(root, &request);
    if runs::interrupted() {
        let message = format!("interrupted; the same command goes on ({})", request.out.display());
        return Err(Failure { message, code: INTERRUPTED });
    }
    done
}

fn tables(root: &Path, request: &Request) -> Result {
    let paper = Paper::read(root)?;
    if request.report {
        return report(request, paper);
    }
    request.corpus.check()?;
    fs::create_dir_all(&request.out).context(|| format!("creating {}", request.out.display()))?;
    let commands = request.keep(command())?;
    runs::handle_interrupts()?;
    let brt = tools::brt(root)?;
    if let Corpus::Named(name) = &request.corpus {
        tools::prepare_corpus(root, &brt, name, request.experiments.file.vocab_size, &request.data())?;
    }
    let mut timings = Timings::read(request)?;
    let failures = timings.complete(&brt, request)?;
    let planned = plan::runs(request, &timings);
    let others = plan::others(request, &planned);
    let (table, sum) = plan::estimate(request, &planned);
    if request.dry_run {
        ui::result(&table.markdown());
        ui::result(&sum);
        return Ok(());
    }
    ui::line(&sum);
    let records = Records::new(request, commands, timings, paper);
    let mut work = Work { brt: &brt, request, records };
    failures.into_iter().for_each(|(row, failure)| work.records.add(&row, &row, Err(failure)));
    work.run(planned, others)
}

/// Writes the report of what is there, and makes nothing.
fn report(request: &Request, paper: Paper) -> Result {
    let commands = request.commands()?;
    let records = Records::new(request, commands, Timings::read(request)?, paper);
    let mut work = Work { brt: Path::new("brt"), request, records };
    work.read(plan::others(request, &[]))?;
    work.show()
}

/// Returns the command that the user gave.
fn command() -> String {
    let arguments = std::env::args().skip(1);
    let quoted = arguments.map(|word| if word.contains([' ', '\'']) { format!("{word:?}") } else { word });
    std::iter::once("cargo xtask".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

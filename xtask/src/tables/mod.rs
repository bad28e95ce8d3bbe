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

use self::{
    experiments::Experiments,
    paper::Paper,
    records::Records,
    request::{Corpus, Request},
    timing::Timings,
    work::Work,
};
use crate::{
    failure::{Context, Failure, INTERRUPTED, Result},
    flags, runs, tools, ui,
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
    fs::create_dir_all(&request.out).context(|| format!("creating {}", request.out.display()))?;
    request.keep()?;
    runs::handle_interrupts()?;
    let brt = tools::brt(root)?;
    if let Corpus::Named(name) = &request.corpus {
        tools::prepare_corpus(root, &brt, name, request.experiments.file.vocab_size, &request.data())?;
    }
    let mut timings = Timings::read(request)?;
    let failures = timings.complete(&brt, request, &rows_to_time(request))?;
    let planned = plan::runs(request, &timings);
    let others = plan::others(request, &timings, &planned);
    let (table, sum) = plan::estimate(request, &planned);
    if request.dry_run {
        ui::result(&table.markdown());
        ui::result(&sum);
        return Ok(());
    }
    ui::line(&sum);
    let records = Records::new(request, timings, paper);
    let mut work = Work { brt: &brt, request, records };
    failures.into_iter().for_each(|(row, failure)| work.records.add(&row, &row, Err(failure)));
    work.run(planned, others)
}

/// Writes the report of what is there, and makes nothing.
fn report(request: &Request, paper: Paper) -> Result {
    request.check_kept()?;
    let timings = Timings::read(request)?;
    let finished = plan::others(request, &timings, &[]);
    let records = Records::new(request, timings, paper);
    let mut work = Work { brt: Path::new("brt"), request, records };
    work.read(finished)?;
    work.show()
}

/// Returns the baseline, without which nothing can be timed, and the rows of the wanted tables.
fn rows_to_time(request: &Request) -> Vec<&str> {
    let baseline = request.experiments.file.baseline.as_str();
    let others = Experiments::row_names(request.tables()).into_iter().filter(|row| *row != baseline);
    std::iter::once(baseline).chain(others).collect()
}

//! `cargo xtask compare`: trains the contestants on the same text and reports which one predicts better.

mod charts;
#[cfg(test)]
mod fixture;
mod html;
mod markdown;
mod plan;
mod prepare;
mod report;
mod request;
mod run;
mod statistics;
mod tables;
mod verdict;

use std::{
    fs,
    path::{Path, PathBuf},
};

use brt_report::{read_json, write_json};

use crate::{
    failure::{Context, Failure, INTERRUPTED, Result, fail},
    flags,
    runs::{self, Corpus},
    tools, ui,
};
use plan::Plan;
pub(crate) use report::Report;
use request::Request;
use run::Runner;

/// Runs a comparison, or resumes it, and writes its report.
pub(crate) fn run(root: &Path, flags: &flags::Compare) -> Result {
    let done = compare(root, flags);
    match (done, runs::interrupted()) {
        (Err(_), true) => {
            Err(Failure { message: "interrupted; the same command resumes it".into(), code: INTERRUPTED })
        }
        (done, _) => done,
    }
}

fn compare(root: &Path, flags: &flags::Compare) -> Result {
    let request = Request::new(root, flags)?;
    let out = out_folder(root, flags, &request)?;
    // Before anything takes time: other flags than those of the plan are an error, and a text that is not there.
    let planned = read_plan(&out, &request)?;
    if planned.is_none() {
        request.source.check()?;
    }
    fs::create_dir_all(&out).context(|| format!("creating {}", out.display()))?;
    runs::handle_interrupts()?;
    let brt = tools::brt(root)?;
    let data = request.source.folder(&out);
    let plan = match planned {
        Some(plan) => plan,
        None => {
            if let Corpus::Named(name) = &request.source {
                tools::prepare_corpus(root, &brt, name, None, &data)?;
            }
            let timing = prepare::timing(&brt, &request, &data, &out)?;
            let plan = Plan::new(request, tools::num_cpus(), timing)?;
            write_json(&out.join("plan.json"), &plan)?;
            plan
        }
    };
    announce(&plan);
    let outcomes = Runner { brt: &brt, data: &data, out: &out, plan: &plan }.run_all()?;
    if runs::interrupted() {
        let message = format!("interrupted; the same command resumes it ({})", out.display());
        return Err(Failure { message, code: INTERRUPTED });
    }
    finish(&Report::new(plan, outcomes), &out)
}

fn finish(report: &Report, out: &Path) -> Result {
    report.write(out)?;
    ui::result(&tables::contestants(report).markdown());
    ui::result(&format!("{}.", report.statistics.verdict));
    for note in &report.statistics.notes {
        ui::result(&format!("note: {note}"));
    }
    let path = |extension| out.join(format!("report.{extension}")).display().to_string();
    ui::result(&format!("\n{}\n{}\n{}", path("html"), path("md"), path("json")));
    let failed = report.outcomes.iter().filter(|outcome| outcome.result.is_none()).count();
    if failed > 0 {
        return fail(format!(
            "{failed} of {} runs failed; the same command tries them again",
            report.outcomes.len()
        ));
    }
    Ok(())
}

fn out_folder(root: &Path, flags: &flags::Compare, request: &Request) -> Result<PathBuf> {
    let budget = request.minutes.map_or(String::new(), |minutes| format!("-{minutes}min"));
    let name = format!("runs/compare-{}{budget}", request.corpus_name);
    let out = flags.out.clone().unwrap_or_else(|| root.join(name));
    std::path::absolute(&out).context(|| format!("--out {}", out.display()))
}

/// Returns the plan of an earlier start of the same comparison.
fn read_plan(out: &Path, request: &Request) -> Result<Option<Plan>> {
    let path = out.join("plan.json");
    if !path.exists() {
        return Ok(None);
    }
    let mut plan: Plan = read_json(&path, "the plan of a comparison")
        .or_else(|why| fail(format!("{why}: choose another --out, or delete {}", out.display())))?;
    let differences = plan.request.differences(request);
    if !differences.is_empty() {
        return fail(format!(
            "{} holds a comparison with another {}: choose another --out, or delete that folder",
            out.display(),
            differences.join(", ")
        ));
    }
    // What a plan does not hold, or did not always.
    plan.request.configs.clone_from(&request.configs);
    plan.request.corpus_name.clone_from(&request.corpus_name);
    plan.request.source.clone_from(&request.source);
    Ok(Some(plan))
}

fn announce(plan: &Plan) {
    let steps = match plan.num_steps {
        Some(steps) => format!("{steps} steps each"),
        None => "as many steps as the configurations say".into(),
    };
    let minutes = plan.expected_minutes();
    ui::line(&format!(
        "{} runs, {} at a time, {steps}, about {minutes:.0} minutes in all",
        plan.runs.len(),
        plan.jobs
    ));
}

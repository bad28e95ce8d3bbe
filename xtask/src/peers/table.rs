//! The table of a measurement.

use brt_report::median;

use super::{Measured, PeersResult};

/// Returns a page of Markdown.
pub(super) fn markdown(name: &str, result: &PeersResult) -> String {
    let mut text = format!(
        "## Configuration {name}\n\n\
         | contestant | kind | parameters | processor s/step | wall s/step | against brt | peak MB | tokens/s | loss |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for one in &result.contestants {
        text += &row(one, result);
    }
    for (one, documented) in result.contestants.iter().filter_map(|one| Some((one, one.documented.as_ref()?)))
    {
        let rate = documented.num_tokens as f64 / documented.wall_secs;
        text += &format!(
            "\n{} {}, as documented: {rate:.2} tokens/s ({} tokens, once; {}).\n",
            one.kind, one.precision, documented.num_tokens, documented.way
        );
    }
    let rounds = result.contestants.first().map_or(0, |one| one.steps.len());
    let [before, after] = result.load_averages;
    text += &format!(
        "\nMedians of {rounds} rounds in turn, after one step that is not counted; {} thread(s), {}; load average \
         {before:.2} before, {after:.2} after. {}, {}. Against brt: the median over rounds of the ratio of processor times (on a GPU wall times) at \
         the same precision. Peak: resident memory of the process during training. Tokens/s: one text, prompt included. Loss: \
         nats per token in the last step; the models start from other weights.\n",
        result.num_threads, result.device, result.machine.cpu, result.machine.os
    );
    for one in result.contestants.iter().filter(|one| one.precision == "f32") {
        let way = one.generations.first().map_or("", |generation| &generation.way);
        text += &format!("\n* {}: {}. Generation: {way}.", one.kind, one.ready.version);
    }
    text + "\n"
}

fn row(one: &Measured, result: &PeersResult) -> String {
    let medians = |of: fn(&super::Stepped) -> f64| median(one.steps.iter().map(of).collect());
    let rates = one.generations.iter().map(|g| g.num_tokens as f64 / g.wall_secs).collect::<Vec<_>>();
    let rate = if rates.is_empty() { String::new() } else { format!("{:.1}", median(rates)) };
    let memory = one.peak_device_bytes.unwrap_or(one.training_peak_bytes) as f64 / 1e6;
    let loss = one.steps.last().map_or(f64::NAN, |step| step.loss);
    format!(
        "| {} | {} | {} | {:.3} | {:.3} | {:.2} | {memory:.0} | {rate} | {loss:.3} |\n",
        one.kind,
        one.precision,
        one.ready.num_parameters,
        medians(|step| step.cpu_secs),
        medians(|step| step.wall_secs),
        against_brt(one, result),
    )
}

/// Returns the median over rounds of the time relative to brt's at the same precision.
fn against_brt(one: &Measured, result: &PeersResult) -> f64 {
    let brt = result.contestants.iter().find(|other| other.kind == "brt" && other.precision == one.precision);
    let pairs = brt.into_iter().flat_map(|brt| one.steps.iter().zip(&brt.steps));
    // What a GPU does takes no processor time.
    let secs = |step: &super::Stepped| if result.device == "cpu" { step.cpu_secs } else { step.wall_secs };
    median(pairs.map(|(a, b)| secs(a) / secs(b)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::{contestant::Generation, contestant::Ready, contestant::Stepped};

    fn measured(kind: &str, cpu_secs: &[f64]) -> Measured {
        let step = |&cpu_secs: &f64| Stepped { wall_secs: cpu_secs, cpu_secs, loss: 2. };
        let ready = Ready { name: kind.into(), num_parameters: 7, version: "v".into(), machine: None };
        let generation = Generation { wall_secs: 2., cpu_secs: 2., num_tokens: 10, way: "so".into() };
        Measured {
            kind: kind.into(),
            precision: "f32".into(),
            ready,
            steps: cpu_secs.iter().map(step).collect(),
            generations: vec![generation],
            documented: None,
            training_peak_bytes: 3_000_000,
            peak_device_bytes: None,
        }
    }

    #[test]
    fn rows_pair_rounds() {
        let result = PeersResult {
            config: String::new(),
            num_threads: 1,
            device: "cpu".into(),
            load_averages: [0., 0.],
            machine: brt_report::MachineFacts::default(),
            // In each round the peer takes two, two and four times as long.
            contestants: vec![measured("brt", &[1., 3., 1.]), measured("port", &[2., 6., 4.])],
        };
        let text = markdown("a", &result);
        assert!(text.contains("| brt | f32 | 7 | 1.000 | 1.000 | 1.00 | 3 | 5.0 | 2.000 |"), "{text}");
        assert!(text.contains("| port | f32 | 7 | 4.000 | 4.000 | 2.00 | 3 | 5.0 | 2.000 |"), "{text}");
    }
}

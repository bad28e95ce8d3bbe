//! Two hosts for real, as network namespaces with a cable between them: they train together, the cable is cut or becomes
//! slow, every process says so in time, and the run goes on. Needs the right to make network namespaces (root,
//! Linux), and is left out without it, unless `BRT_TEST_HOSTS` is set.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Place, stderr};

/// Seconds after which the processes give up.
const LIMIT: u64 = 4;

/// Two network namespaces with a pair of virtual cards, 10.77.0.1 and 10.77.0.2. They go with the value.
struct Hosts {
    names: [String; 2],
}

impl Hosts {
    /// Returns the hosts, `None` where this user may not make any.
    fn new() -> Option<Self> {
        let names = [0, 1].map(|idx| format!("brt-{}-{idx}", std::process::id()));
        if !ip(&["netns", "add", &names[0]]) {
            return None;
        }
        let hosts = Self { names };
        assert!(ip(&["netns", "add", &hosts.names[1]]));
        let [a, b] = &hosts.names;
        assert!(ip(&["-n", a, "link", "add", "eth", "type", "veth", "peer", "name", "eth", "netns", b]));
        for (name, address) in [(a, "10.77.0.1/24"), (b, "10.77.0.2/24")] {
            assert!(ip(&["-n", name, "address", "add", address, "dev", "eth"]));
            assert!(
                ip(&["-n", name, "link", "set", "eth", "up"]) && ip(&["-n", name, "link", "set", "lo", "up"])
            );
        }
        Some(hosts)
    }

    /// Pulls the cable, or plugs it in.
    fn set_cable(&self, is_plugged: bool) {
        assert!(ip(&["-n", &self.names[1], "link", "set", "eth", if is_plugged { "up" } else { "down" }]));
    }

    /// Lets so many bits a second through the cable from the second host, or as many as it can.
    fn set_rate(&self, rate: Option<&str>) {
        let shaping: &[&str] = match rate {
            Some(rate) => {
                &["add", "dev", "eth", "root", "tbf", "rate", rate, "burst", "1600", "limit", "100000"]
            }
            None => &["del", "dev", "eth", "root"],
        };
        let mut tc = Command::new("ip");
        tc.args(["netns", "exec", &self.names[1], "tc", "qdisc"]).args(shaping);
        assert!(tc.status().unwrap().success());
    }

    /// Starts two processes on each host, which train one model.
    fn train(&self, place: &Place, out: &str, steps: &str) -> Vec<Child> {
        let start = |rank: usize| {
            let (config, data, out) = (place.text("tiny.toml"), place.text("corpus"), place.text(out));
            let limit = LIMIT.to_string();
            let arguments = ["train", &config, "--data", &data, "--out", &out, "--threads", "1", "--resume"];
            let own =
                place.command(&[&arguments[..], &["--group-timeout", &limit, "--steps", steps]].concat());
            let mut command = Command::new("ip");
            command
                .args(["netns", "exec", &self.names[rank / 2]])
                .arg(own.get_program())
                .args(own.get_args());
            command.envs([("RANK", rank.to_string()), ("LOCAL_RANK", (rank % 2).to_string())]);
            command.envs([
                ("WORLD_SIZE", "4"),
                ("LOCAL_WORLD_SIZE", "2"),
                ("MASTER_ADDR", "10.77.0.1"),
                ("MASTER_PORT", "29500"),
            ]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        (0..4).map(start).collect()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "delete", name]);
        }
    }
}

/// Runs `ip` and returns whether it could.
fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Checks that all processes end, the last one not long after the limit, and each with one line about the network.
fn assert_missed(processes: Vec<Child>) {
    let start = Instant::now();
    for (rank, process) in processes.into_iter().enumerate() {
        let output = process.wait_with_output().unwrap();
        let said = stderr(&output);
        let last = said.lines().last().unwrap_or_default();
        assert!(!output.status.success(), "{said}");
        assert!(last.starts_with(&format!("error: rank {rank} of 4 on ")), "{said}");
        assert!(last.contains("the time limit is over") || last.contains("has ended"), "{said}");
    }
    assert!(start.elapsed() < Duration::from_secs(4 * LIMIT), "{:?}", start.elapsed());
}

#[test]
fn hosts_train_together_and_survive_their_network() {
    let Some(hosts) = Hosts::new() else {
        assert!(
            std::env::var_os("BRT_TEST_HOSTS").is_none(),
            "expected the right to make network namespaces (root)"
        );
        println!("not run: this user may not make network namespaces");
        return;
    };
    let place = Place::new();
    let path = place.path("tiny.toml");
    let config = fs::read_to_string(&path).unwrap().replace("[data]\nbatch = 2", "[data]\nbatch = 4");
    fs::write(path, config).unwrap();
    let well = |processes: Vec<Child>| {
        for process in processes {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
        }
    };
    let wait_for = |out: &str, step: u64| {
        let start = Instant::now();
        while place.last_step(out) < step {
            assert!(start.elapsed() < Duration::from_secs(60), "{out}: step {step} does not come");
            thread::sleep(Duration::from_millis(5));
        }
    };
    well(hosts.train(&place, "calm", "400"));

    let processes = hosts.train(&place, "cut", "400");
    wait_for("cut", 10);
    hosts.set_cable(false);
    assert_missed(processes);
    hosts.set_cable(true);
    well(hosts.train(&place, "cut", "400"));
    assert_eq!(place.losses("cut"), place.losses("calm"));

    // Slow is no error, until a step takes longer than the limit.
    let processes = hosts.train(&place, "slow", "400");
    wait_for("slow", 10);
    hosts.set_rate(Some("20mbit"));
    wait_for("slow", 20);
    hosts.set_rate(None);
    hosts.set_rate(Some("1kbit"));
    assert_missed(processes);
    hosts.set_rate(None);
    well(hosts.train(&place, "slow", "400"));
    assert_eq!(place.losses("slow"), place.losses("calm"));
}

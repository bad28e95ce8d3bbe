//! `cargo xtask clients`: `brt serve` under clients that others wrote.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use crate::{
    failure::{Context, Result, fail},
    flags, tools, ui,
};

/// The key that the server asks for; it serves on loopback, and only meanwhile.
const API_KEY: &str = "a-key-for-this-machine-alone";
/// How the line ends with which the server tells its address.
const LISTENING: &str = "listening on ";

/// A server that ends with this value.
struct Server {
    process: Child,
    /// `http://127.0.0.1:PORT/v1`
    base_url: String,
}

/// Serves a run and lets each client check it; what they print is written into files, too.
pub(crate) fn run(root: &Path, flags: &flags::Clients) -> Result {
    if !flags.model.join("config.toml").is_file() {
        return fail(format!("--model {}: expected the folder of a run, got none", flags.model.display()));
    }
    if !flags.text.is_file() {
        return fail(format!("--text {}: expected a file, got none", flags.text.display()));
    }
    let tokenizer = tokenizer(&flags.model)?;
    let out = flags.out.clone().unwrap_or_else(|| root.join("runs/clients"));
    fs::create_dir_all(&out).context(|| format!("making {}", out.display()))?;
    let brt = tools::brt(root)?;
    let python = match &flags.python {
        Some(python) => python.clone(),
        None => tools::python(root, "clients", "installing the clients (1 GB, once)")?,
    };
    let server = Server::start(&brt, flags)?;
    let script = |name: &str| root.join("benchmarks/clients").join(name);
    let client = |name: &str| {
        let mut command = Command::new(&python);
        command.arg(script(name)).arg(&server.base_url).args(["--api-key", API_KEY]);
        command
    };

    ui::headline("openai");
    let checks = client("openai_client.py");
    write(&out.join("openai.txt"), "openai_client.py", checks)?;
    ui::headline("lm-eval");
    let mut scores = client("lm_eval_client.py");
    scores.arg(&flags.text).arg("--tokenizer").arg(tokenizer);
    scores.args(["--documents", &flags.documents.unwrap_or(20).to_string()]);
    write(&out.join("lm-eval.json"), "lm_eval_client.py", scores)?;
    ui::line(&format!("what they printed: {}", out.display()));
    Ok(())
}

/// Returns the file of a run's tokenizer.
fn tokenizer(run: &Path) -> Result<PathBuf> {
    let names = ["tokenizer.json", "tokenizer.bytes"];
    match names.iter().map(|name| run.join(name)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => fail(format!(
            "--model {}: expected a tokenizer that lm-eval can read ({}), got another",
            run.display(),
            names.join(", ")
        )),
    }
}

/// Runs a client, shows what it prints and writes it to a file.
fn write(path: &Path, name: &str, mut command: Command) -> Result {
    let output = command.stderr(Stdio::inherit()).output().context(|| format!("starting {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ui::result(text.trim_end());
    fs::write(path, text.as_bytes()).context(|| format!("writing {}", path.display()))?;
    if output.status.success() {
        Ok(())
    } else {
        fail(format!("{name} failed ({}); see above", output.status))
    }
}

impl Server {
    fn start(brt: &Path, flags: &flags::Clients) -> Result<Self> {
        ui::headline("starting the server");
        let mut command = Command::new(brt);
        command.arg("serve").arg(&flags.model).args(["--listen", "127.0.0.1:0"]).env("BRT_API_KEY", API_KEY);
        if let Some(threads) = flags.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        let mut process = command.stderr(Stdio::piped()).spawn().context(|| "starting brt serve".into())?;
        let Some(stderr) = process.stderr.take() else { return fail("brt serve: expected a pipe, got none") };
        let mut server = Self { process, base_url: String::new() };
        let mut lines = BufReader::new(stderr).lines().map_while(std::result::Result::ok);
        for line in lines.by_ref() {
            ui::line(&line);
            if let Some((_, address)) = line.split_once(LISTENING) {
                server.base_url = format!("{}/v1", address.trim());
                break;
            }
        }
        if server.base_url.is_empty() {
            return fail("brt serve ended; its message is above");
        }
        thread::spawn(move || lines.for_each(|line| ui::line(&line)));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

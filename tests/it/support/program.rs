//! The program itself, as a process: what it says, how it ends, what it takes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::engine_support::within;

/// A running `falgate serve`. Dropping it ends it.
pub(crate) struct Program {
    child: Child,
    said: watch::Receiver<String>,
    folder: tempfile::TempDir,
}

impl Program {
    /// Starts `falgate serve` on a free port, with this configuration and these variables alone.
    pub(crate) fn start(text: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1:0", text, variables)
    }

    /// Starts `falgate serve` at an address.
    pub(crate) fn start_at(listen: &str, text: &str, variables: &[(&str, &str)]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_falgate"));
        Self::spawn(command, listen, (text, env!("CARGO_MANIFEST_DIR").as_ref()), variables)
    }

    /// Starts `falgate serve` in a folder, where it keeps its state.
    pub(crate) fn start_in(folder: &Path, text: &str, variables: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_falgate")), "127.0.0.1:0", (text, folder), variables)
    }

    fn spawn(mut command: Command, listen: &str, (text, home): (&str, &Path), variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("falgate.toml");
        std::fs::write(&file, text).unwrap();
        command.args(["serve", "--listen", listen, "--config"]).arg(file);
        command.env_clear().envs(variables.iter().copied()).current_dir(home);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (tell, said) = watch::channel(String::new());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                tell.send_modify(|said| said.push_str(&format!("{line}\n")));
            }
        });
        Self { child, said, folder }
    }

    /// Puts another text into its configuration file. It reads it when it is told to.
    pub(crate) fn rewrite(&self, text: &str) {
        std::fs::write(self.folder.path().join("falgate.toml"), text).unwrap();
    }

    /// Waits until it has said this, and gives the line.
    pub(crate) async fn says(&mut self, part: &str) -> String {
        let hear = self.said.wait_for(|said| said.contains(part));
        let said = match within(hear).await {
            Ok(said) => said.clone(),
            Err(_) => panic!("it ended without `{part}`"),
        };
        said.lines().find(|line| line.contains(part)).unwrap_or_default().to_owned()
    }

    /// All that it said so far.
    pub(crate) fn said(&self) -> String {
        self.said.borrow().clone()
    }

    /// Waits until it says something more.
    pub(crate) async fn says_more(&mut self) {
        within(self.said.changed()).await.unwrap();
    }

    /// Where it listens.
    pub(crate) async fn address(&mut self) -> SocketAddr {
        let line = self.says("listening on http://").await;
        let (_, rest) = line.split_once("http://").unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        let id = self.child.id().expect("the program runs");
        Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
    }

    /// Waits for its end: the exit code, and all that it said.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let status = within(self.child.wait()).await.unwrap();
        // The sender goes with the last line.
        within(async { while self.said.changed().await.is_ok() {} }).await;
        let said = self.said.borrow().clone();
        (status.code(), said)
    }

    /// What `/proc` says of its memory, in KiB: `RssAnon` is what it holds now.
    pub(crate) fn memory_kib(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

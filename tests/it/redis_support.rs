//! A real `redis-server`, one for each test, on a free port of loopback.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use falgate::guard::{LimitSettings, Limits, RedisStore};
use serde_json::{Value, json};
use tempfile::TempDir;

const HASH_KEY: &str = "an example of 32 bytes, or more of them";

/// The server. It is killed when dropped.
pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
    folder: TempDir,
    arguments: Vec<String>,
}

/// Whether the program is there; said aloud where it is not and need not be.
fn is_there() -> bool {
    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok() {
        return true;
    }
    let how = "redis-server is missing: install Debian's package redis-server (apt-get install redis-server)";
    let required = std::env::var("FALGATE_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word.trim() == "redis"), "{how}");
    println!("skipped: {how}");
    false
}

impl Redis {
    /// A server with these arguments beyond those for every one; `None` where there is no program.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self::start_in(folder, arguments)
    }

    /// As [`Redis::start`], in a folder that has what the arguments name.
    pub(crate) fn start_in(folder: TempDir, arguments: Vec<String>) -> Option<Self> {
        if !is_there() {
            return None;
        }
        for _ in 0..20 {
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            // Somebody else may take the port before the server does.
            if let Some(child) = run(&folder, &arguments, port) {
                return Some(Self { child, port, folder, arguments });
            }
        }
        panic!("redis-server did not start");
    }

    /// Kills the server without a chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, on the same port and with what it had written.
    pub(crate) fn start_again(&mut self) {
        self.child = run(&self.folder, &self.arguments, self.port).expect("its port is still free");
    }

    /// Stops the process (`STOP`) or lets it go on (`CONT`).
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Limits of a gate with these tables, in this server.
    pub(crate) async fn limits(&self, tables: Value) -> Limits {
        open(&self.url(), tables).await.unwrap()
    }
}

/// Limits in the server at `url`.
pub(crate) async fn open(url: &str, tables: Value) -> Result<Limits, falgate::guard::LimitError> {
    let settings = settings(&tables);
    let url = url.to_owned();
    let look_up = move |name: &str| Some(if name == "URL" { url.clone() } else { HASH_KEY.to_owned() });
    let store = RedisStore::connect(&settings, look_up).await?.expect("the settings want one");
    Limits::open_shared(&settings, store)
}

fn settings(tables: &Value) -> LimitSettings {
    let mut all = json!({"store": "redis", "redis": {"url_env": "URL", "hash_key_env": "KEY", "timeout_ms": 5000}});
    for (name, value) in tables.as_object().unwrap() {
        match all[name].as_object_mut() {
            Some(table) => table.extend(value.as_object().unwrap().clone()),
            None => all[name] = value.clone(),
        }
    }
    serde_json::from_value(all).unwrap()
}

fn run(folder: &TempDir, arguments: &[String], port: u16) -> Option<Child> {
    let port_argument =
        if arguments.iter().any(|argument| argument == "--tls-cert-file") { "--tls-port" } else { "--port" };
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]);
    if port_argument == "--tls-port" {
        command.args(["--port", "0"]);
    }
    command.args([port_argument, &port.to_string()]).args(arguments).current_dir(folder.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Ready to accept connections"));
    // Whoever writes into a closed pipe ends.
    std::thread::spawn(move || lines.for_each(drop));
    if is_ready {
        return Some(child);
    }
    child.wait().unwrap();
    None
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Awaits within a time that no healthy machine needs.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it takes too long")
}

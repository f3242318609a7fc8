//! The sample role as a process of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything a test waits for may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running sample role. Killed when dropped.
pub(crate) struct Sample {
    child: Child,
    logged: Receiver<String>,
    /// Every line seen so far.
    pub(crate) lines: Vec<Value>,
}

/// The program with `arguments`, and none of this process' settings.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idempo-sample-role"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("IDEMPO_") || text.starts_with("OTEL_") || text.starts_with("RUST_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

impl Sample {
    /// Starts the role with the admin listener on a free port.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::spawn(&mut program(&[]), settings)
    }

    pub(crate) fn spawn(command: &mut Command, settings: &[&str]) -> Self {
        command.args(["--admin-listen", "127.0.0.1:0"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (lines, logged) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).all(|line| lines.send(line).is_ok()));
        Self { child, logged, lines: Vec::new() }
    }

    /// Waits for a log line, which may have been seen before.
    pub(crate) fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.lines.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.logged.recv_timeout(left) else { panic!("not logged in time; seen: {:#?}", self.lines) };
            self.lines.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
        }
    }

    /// Waits for a line with this message.
    pub(crate) fn message(&mut self, message: &str) -> Value {
        self.line(|line| line["message"] == message)
    }

    /// The address bound for `name`.
    pub(crate) fn address(&mut self, name: &str) -> SocketAddr {
        let line = self.line(|line| line["message"] == "listening" && line["name"] == name);
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// A connection to the role.
    pub(crate) fn connect(&mut self) -> Connection {
        let stream = TcpStream::connect(self.address("lines")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection { stream }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Resident memory now, in bytes.
    pub(crate) fn resident_bytes(&mut self) -> f64 {
        let (_, metrics) = get(self.address("admin"), "/metrics").unwrap();
        let line = metrics.lines().find(|line| line.starts_with("process_resident_memory_bytes")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits for the process to end; its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        // Standard output ends with the process.
        while let Ok(line) = self.logged.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.lines.push(serde_json::from_str(&line).unwrap());
        }
        assert!(Instant::now() < deadline, "still running; seen: {:#?}", self.lines);
        self.child.wait().unwrap().code()
    }

    /// Log lines of level WARN and above.
    pub(crate) fn complaints(&self) -> Vec<&Value> {
        self.lines.iter().filter(|line| line["level"] == "WARN" || line["level"] == "ERROR").collect()
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to the sample role.
pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// The answer's line.
    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(&self.stream).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.send(&format!("{command}\n"));
        self.answer()
    }
}

/// GET over HTTP/1.1: status and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, body.to_owned()))
}

//! The platform's own binaries as child processes.

mod lives;
mod operated;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::operators::Operators;
use crate::ports::Ports;
use crate::process::{Launch, Process};
use crate::servers::Servers;
use crate::surroundings::Surroundings;

/// How long a binary may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long one question to it may take.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// The pause between two questions, in milliseconds.
const PROBE_PAUSE_MS: u64 = 20;
/// How long it may take to end after SIGTERM: its own grace period, and a second.
const STOP_LIMIT: Duration = Duration::from_secs(11);

/// The variable with a process's name in its consumer group.
const INSTANCE: &str = "IDEMPO_CONSUMER__INSTANCE_ID";

/// What a process of the platform is told about its surroundings.
enum Wiring {
    /// A database, as a role; and the brokers and the event store behind them, where it reads events.
    Database { database: &'static str, role: &'static str, events_of: Option<&'static str> },
    /// Every outbox.
    Outboxes,
    /// The dead letters of all consumers: the groups, by how their names begin, and the process that has them, which stands before in the table.
    DeadLetters { consumers: &'static [(&'static str, &'static str)] },
}

/// A process of the platform.
struct Role {
    name: &'static str,
    binary: &'static str,
    wiring: Wiring,
    /// The port in `up` where it serves gRPC.
    grpc_port: u16,
    /// The port in `up` of its admin listener.
    admin_port: u16,
}

const ROLES: [Role; 6] = [
    Role {
        name: "wallet",
        binary: "idempo-wallet",
        wiring: Wiring::Database { database: "wallet_db", role: "idempo_wallet", events_of: None },
        grpc_port: 7001,
        admin_port: 7101,
    },
    Role {
        name: "inventory",
        binary: "idempo-inventory",
        wiring: Wiring::Database { database: "inventory_db", role: "idempo_inventory", events_of: None },
        grpc_port: 7002,
        admin_port: 7102,
    },
    Role {
        name: "inventory-projector",
        binary: "idempo-inventory-projector",
        wiring: Wiring::Database { database: "inventory_view_db", role: "idempo_inventory_projector", events_of: Some("inventory_db") },
        grpc_port: 7003,
        admin_port: 7103,
    },
    Role { name: "relay-1", binary: "idempo-outbox-relay", wiring: Wiring::Outboxes, grpc_port: 7004, admin_port: 7104 },
    Role { name: "relay-2", binary: "idempo-outbox-relay", wiring: Wiring::Outboxes, grpc_port: 7005, admin_port: 7105 },
    Role {
        name: "dlq-admin",
        binary: "idempo-dlq-admin",
        wiring: Wiring::DeadLetters { consumers: &[("idempo.inventory", "inventory-projector")] },
        grpc_port: 7006,
        admin_port: 7106,
    },
];

/// How often consumers are asked what became of their open dead letters: sooner than in production, for nobody here waits for long.
const CONSUMER_CHECK_INTERVAL_MS: &str = "2000";

/// The role that reads events for a generation that is built anew.
const REBUILDER: &str = "idempo_rebuilder";

/// The databases that have an outbox, by the name their relay knows them by.
const OUTBOXES: [(&str, &str); 2] = [("wallet", "wallet_db"), ("inventory", "inventory_db")];

/// The running platform. Every process is killed when this is dropped; [`Platform::stop`] drains them.
#[derive(Debug)]
pub struct Platform {
    services: BTreeMap<&'static str, Service>,
    operators: Operators,
}

/// One process of the platform.
#[derive(Debug)]
pub struct Service {
    grpc: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
    launch: Launch,
    process: Option<Process>,
}

impl Service {
    /// Where it serves gRPC.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where it serves `/livez`, `/readyz` and `/metrics`.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The file its log lines are in, of this and of earlier starts.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Runs one of the platform's binaries by itself: on free ports, told about its surroundings by these variables alone. Waits until it is
    /// ready. It is killed when this is dropped.
    ///
    /// # Errors
    /// When the binary is missing, ends, or is not ready in time; the message has the end of its log.
    pub async fn run(name: &str, binary: &str, variables: Vec<(String, String)>, log: PathBuf) -> Result<Self> {
        let folder = binaries()?;
        let program = program(&folder, binary)?;
        if let Some(logs) = log.parent() {
            std::fs::create_dir_all(logs).with_context(|| format!("making {}", logs.display()))?;
        }
        let (grpc, admin) = (local(Ports::Free.pick(0)?), local(Ports::Free.pick(0)?));
        let mut launch = Launch { log: Some(log.clone()), variables: addresses(grpc, admin), ..Launch::new(name, program, folder) };
        launch.variables.extend(variables);
        let mut service = Self { grpc, admin, log, launch, process: None };
        service.start_again().await?;
        Ok(service)
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self) -> Result<()> {
        self.running()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// Starts it after it was killed or stopped, on the addresses it had, and waits until it is ready.
    ///
    /// # Errors
    /// When it is running, or is not ready in time.
    pub async fn start_again(&mut self) -> Result<()> {
        self.start()?;
        self.wait_ready().await
    }

    /// Asks it to drain and end, by SIGTERM.
    ///
    /// # Errors
    /// When it did not end in time or not with exit code 0. It is gone then too.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().with_context(|| format!("{} is not running", self.launch.name))?;
        process.signal(Signal::TERM)?;
        let status = process.wait(STOP_LIMIT).await?;
        anyhow::ensure!(
            status.is_some_and(|status| status.success()),
            "{} did not drain and end with 0 ({status:?}){}",
            self.launch.name,
            process.log_tail()
        );
        Ok(())
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("{} is not running", self.launch.name))
    }

    fn start(&mut self) -> Result<()> {
        anyhow::ensure!(self.process.is_none(), "{} is running", self.launch.name);
        self.process = Some(self.launch.spawn()?);
        Ok(())
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        let admin = self.admin;
        let name = self.launch.name.clone();
        let process = self.running()?;
        loop {
            if tokio::time::timeout(PROBE_LIMIT, status(admin, "/readyz"))
                .await
                .is_ok_and(|status| status.is_ok_and(|status| status == 200))
            {
                return Ok(());
            }
            if let Some(status) = process.ended()? {
                bail!("{name} ended while starting ({status}){}", process.log_tail());
            }
            if began.elapsed() > READY_LIMIT {
                bail!("{name} is not ready after {} s{}", READY_LIMIT.as_secs(), process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(PROBE_PAUSE_MS)).await;
        }
    }
}

impl Platform {
    /// Starts every binary of the platform on prepared servers, all at once, and waits until each says that it is ready.
    ///
    /// The binaries are taken from the folder of the running program: one `cargo build --workspace` makes all of them.
    ///
    /// # Errors
    /// When a binary is missing, ends, or is not ready in time; the message has the end of its log.
    pub async fn start(servers: &Servers) -> Result<Self> {
        Self::start_in(servers, &Surroundings::default()).await
    }

    /// As [`Platform::start`], with processes that reach the servers by other ways or have settings of their own.
    ///
    /// # Errors
    /// As [`Platform::start`].
    pub async fn start_in(servers: &Servers, surroundings: &Surroundings) -> Result<Self> {
        let began = Instant::now();
        let folder = binaries()?;
        let logs = servers.log_folder()?;
        let cluster = servers.cluster()?;
        let operators = Operators::make(&servers.operators_folder())?;
        let place = Place { folder: &folder, logs: &logs, operators: &operators };
        let mut services = BTreeMap::new();
        for role in &ROLES {
            let service = role.service(servers, &cluster, surroundings, &place, &services)?;
            services.insert(role.name, service);
        }
        let mut platform = Self { services, operators };
        for service in platform.services.values_mut() {
            service.start()?;
        }
        for service in platform.services.values_mut() {
            service.wait_ready().await?;
        }
        let names: Vec<&str> = platform.services.keys().copied().collect();
        servers.options().progress.tell(&format!("{} are ready ({:.1} s)", names.join(", "), began.elapsed().as_secs_f64()));
        Ok(platform)
    }

    /// Each process by its name: `dlq-admin`, `inventory`, `inventory-projector`, `relay-1`, `relay-2`, `wallet`.
    pub fn services(&self) -> impl Iterator<Item = (&'static str, &Service)> {
        self.services.iter().map(|(name, service)| (*name, service))
    }

    /// The process with this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn service(&self, name: &str) -> Result<&Service> {
        self.services.get(name).with_context(|| format!("the platform has no process {name}"))
    }

    fn service_mut(&mut self, name: &str) -> Result<&mut Service> {
        self.services.get_mut(name).with_context(|| format!("the platform has no process {name}"))
    }

    /// Kills a process with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When there is none with this name, or it is not running.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        self.service_mut(name)?.kill()
    }

    /// Stops a process where it is, as a frozen machine would.
    ///
    /// # Errors
    /// As [`Platform::kill`].
    pub fn freeze(&mut self, name: &str) -> Result<()> {
        self.service_mut(name)?.running()?.signal(Signal::STOP)
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// As [`Platform::kill`].
    pub fn thaw(&mut self, name: &str) -> Result<()> {
        self.service_mut(name)?.running()?.signal(Signal::CONT)
    }

    /// Starts another replica of a process, on addresses of its own and with variables beside those of the first, and waits until it is ready.
    /// From then on it is a process of the platform called `name`.
    ///
    /// # Errors
    /// When there is no process `of`, there is one called `name`, or the replica is not ready in time.
    pub async fn start_replica(&mut self, of: &str, name: &'static str, variables: &[(&str, &str)]) -> Result<()> {
        anyhow::ensure!(!self.services.contains_key(name), "there is a process {name}");
        let first = self.service(of)?;
        let grpc = local(Ports::Free.pick(0)?);
        let admin = local(Ports::Free.pick(0)?);
        let log = first.log.with_file_name(format!("{name}.log"));
        let mut launch = Launch { name: name.to_owned(), log: Some(log.clone()), ..first.launch.clone() };
        launch.variables.extend(addresses(grpc, admin));
        if launch.variables.iter().any(|(variable, _)| variable == INSTANCE) {
            launch.variables.push(instance(name));
        }
        launch.variables.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.services.insert(name, Service { grpc, admin, log, launch, process: None });
        self.start_again(name).await
    }

    /// Starts a process that was killed, on the addresses it had, and waits until it is ready.
    ///
    /// # Errors
    /// When it is running, or is not ready in time.
    pub async fn start_again(&mut self, name: &str) -> Result<()> {
        self.service_mut(name)?.start_again().await
    }

    /// The name of a process that ended by itself, and the end of its log; `None` while all run that were not killed on purpose.
    ///
    /// # Errors
    /// When a process can't be looked after.
    pub fn fallen(&mut self) -> Result<Option<String>> {
        for (name, service) in &mut self.services {
            if let Some(process) = &mut service.process
                && let Some(status) = process.ended()?
            {
                return Ok(Some(format!("{name} ended ({status}){}", process.log_tail())));
            }
        }
        Ok(None)
    }

    /// Asks every process to drain and end, by SIGTERM.
    ///
    /// # Errors
    /// When one did not end in time or not with exit code 0. All are gone then too.
    pub async fn stop(mut self) -> Result<()> {
        let mut running: Vec<(&str, Process)> =
            self.services.iter_mut().filter_map(|(name, service)| Some((*name, service.process.take()?))).collect();
        for (_, process) in &mut running {
            process.signal(Signal::TERM)?;
        }
        let mut wrong = String::new();
        for (name, mut process) in running {
            match process.wait(STOP_LIMIT).await? {
                Some(status) if status.success() => {}
                Some(status) => write!(wrong, "\n{name} ended with {status}{}", process.log_tail())?,
                None => write!(wrong, "\n{name} did not end within {} s{}", STOP_LIMIT.as_secs(), process.log_tail())?,
            }
        }
        anyhow::ensure!(wrong.is_empty(), "not every process drained and ended with 0:{wrong}");
        Ok(())
    }
}

/// Where a platform is on this machine.
struct Place<'a> {
    folder: &'a Path,
    logs: &'a Path,
    operators: &'a Operators,
}

impl Role {
    fn service(
        &self,
        servers: &Servers,
        cluster: &Cluster,
        surroundings: &Surroundings,
        place: &Place<'_>,
        others: &BTreeMap<&'static str, Service>,
    ) -> Result<Service> {
        let program = program(place.folder, self.binary)?;
        let ports = servers.options().ports;
        let grpc = local(ports.pick(self.grpc_port)?);
        let admin = local(ports.pick(self.admin_port)?);
        let log = place.logs.join(format!("{}.log", self.name));
        let mut variables = addresses(grpc, admin);
        variables.push(("IDEMPO_PLATFORM__LOG__FORMAT".to_owned(), "json".to_owned()));
        let brokers = ("IDEMPO_KAFKA__BROKERS".to_owned(), surroundings.kafka().unwrap_or(servers.kafka_brokers()).to_owned());
        let cluster = surroundings.postgres(self.name).map_or_else(|| cluster.clone(), |address| cluster.clone().at(address));
        match self.wiring {
            Wiring::Database { database, role, events_of } => {
                variables.push(("IDEMPO_DATABASE__URL".to_owned(), cluster.role_url(database, role)));
                if let Some(event_store) = events_of {
                    variables.push(("IDEMPO_EVENT_STORE__URL".to_owned(), cluster.role_url(event_store, REBUILDER)));
                    variables.extend([brokers, instance(self.name), place.operators.variable()]);
                }
            }
            Wiring::Outboxes => {
                let outboxes: Vec<String> = OUTBOXES
                    .iter()
                    .map(|(name, database)| {
                        format!(r#"{{name = "{name}", database = {{url = "{}"}}}}"#, cluster.role_url(database, "idempo_relay"))
                    })
                    .collect();
                variables.push(("IDEMPO_OUTBOXES".to_owned(), format!("[{}]", outboxes.join(", "))));
                variables.push(("IDEMPO_TOPICS__COPIES".to_owned(), servers.options().brokers.copies_setting().to_owned()));
                variables.extend([brokers, place.operators.variable()]);
            }
            Wiring::DeadLetters { consumers } => {
                variables.push(("IDEMPO_DATABASE__URL".to_owned(), cluster.role_url("ops_db", "idempo_dlq_admin")));
                variables.push(("IDEMPO_TOPICS__COPIES".to_owned(), servers.options().brokers.copies_setting().to_owned()));
                variables.push(("IDEMPO_CONSUMERS".to_owned(), endpoints(consumers, others)?));
                variables.push(("IDEMPO_CONSUMER_CHECK_INTERVAL_MS".to_owned(), CONSUMER_CHECK_INTERVAL_MS.to_owned()));
                variables.extend([brokers, instance(self.name), place.operators.variable(), place.operators.service_variable()]);
            }
        }
        variables.extend(surroundings.variables(self.name));
        let launch = Launch { log: Some(log.clone()), variables, ..Launch::new(self.name, program, place.folder.to_owned()) };
        Ok(Service { grpc, admin, log, launch, process: None })
    }
}

/// A binary of the platform, which must be built.
fn program(folder: &Path, binary: &str) -> Result<PathBuf> {
    let program = folder.join(binary);
    anyhow::ensure!(program.is_file(), "{} is not built: `cargo build --workspace` makes it", program.display());
    Ok(program)
}

/// Where the consumers of some groups are, as a setting.
fn endpoints(consumers: &[(&str, &str)], others: &BTreeMap<&'static str, Service>) -> Result<String> {
    let endpoint = |(group, process): &(&str, &str)| {
        let service = others.get(process).with_context(|| format!("{process} stands behind those that need its address"))?;
        Ok(format!(r#"{{group_prefix = "{group}", endpoint = "http://{}"}}"#, service.grpc))
    };
    let endpoints = consumers.iter().map(endpoint).collect::<Result<Vec<_>>>()?;
    Ok(format!("[{}]", endpoints.join(", ")))
}

/// What names a process in its consumer group, so that it gets its partitions back at once when it starts again after a kill.
fn instance(name: &str) -> (String, String) {
    (INSTANCE.to_owned(), name.to_owned())
}

/// What tells a process where to listen.
fn addresses(grpc: SocketAddr, admin: SocketAddr) -> Vec<(String, String)> {
    vec![("IDEMPO_PLATFORM__ADMIN_LISTEN".to_owned(), admin.to_string()), ("IDEMPO_GRPC__LISTEN".to_owned(), grpc.to_string())]
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Where the platform's binaries are: the folder of the running program, or, for a test, which is in `deps`, the one above it.
///
/// # Errors
/// When the system does not tell where the running program is.
pub fn binaries() -> Result<PathBuf> {
    let program = std::env::current_exe().context("where is the running program?")?;
    let folder = program.parent().context("a program is in a folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

/// The status code of a GET.
async fn status(address: SocketAddr, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    let start = std::str::from_utf8(&start)?;
    start.strip_prefix("HTTP/1.1 ").context("not HTTP")?.parse().context("not a status code")
}

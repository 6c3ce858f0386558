//! The clients' programs, as scripts/client-tests.sh has put them into target/clients.

use crate::{
    bouncer::HANG,
    stage::{Route, Stage},
};
use std::{
    fmt,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A client in the hands of the specification of its language.
pub(crate) struct Program {
    language: Language,
    client: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Python,
    Node,
    Go,
    Java,
    Ruby,
}

/// What a program said.
pub(crate) struct Answer {
    pub(crate) text: String,
    success: bool,
}

impl Answer {
    /// Whether all checks passed, and there were some.
    pub(crate) fn passed(&self) -> bool {
        self.success && self.text.contains("ok ") && !self.text.contains("FAILED")
    }

    pub(crate) fn summary(&self) -> &str {
        self.text.lines().rfind(|line| line.contains(" passed, ")).unwrap_or("it said nothing")
    }
}

const PYTHON: [&str; 4] = ["psycopg", "sqlalchemy-psycopg", "sqlalchemy-asyncpg", "django"];
const NODE: [&str; 8] = ["pg", "postgresjs", "drizzle-pg", "drizzle-postgresjs", "knex", "kysely", "typeorm", "prisma"];

/// Python's and Node's clients, and of the other languages those whose program is there.
pub(crate) fn installed() -> Vec<Program> {
    let python = PYTHON.iter().map(|client| Program::python(client));
    let node = NODE.iter().map(|client| Program::node(client));
    let others = [(Language::Go, "pgx"), (Language::Java, "jdbc"), (Language::Ruby, "activerecord")];
    let others = others.into_iter().map(|(language, client)| Program { language, client });
    python.chain(node).chain(others).filter(|program| program.command().1.exists()).collect()
}

impl Program {
    pub(crate) fn python(client: &'static str) -> Self {
        Self { language: Language::Python, client }
    }

    pub(crate) fn node(client: &'static str) -> Self {
        Self { language: Language::Node, client }
    }

    /// The JDBC driver knows no sockets of a file system, and the private server listens on nothing else.
    pub(crate) fn can(&self, route: Route) -> bool {
        route == Route::Pooler || self.language != Language::Java
    }

    /// The command, and the file that shows that it is installed.
    fn command(&self) -> (tokio::process::Command, PathBuf) {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients"));
        let (program, arguments) = match self.language {
            Language::Python => (root.join("python/venv/bin/python"), vec![root.join("python/spec.py")]),
            Language::Node => ("node".into(), vec![root.join("node/build/src/spec.js")]),
            Language::Go => (root.join("go/spec"), vec![]),
            Language::Java => {
                let classes = format!("{0}/java:{0}/java/*", root.display());
                ("java".into(), vec!["-cp".into(), classes.into(), "Spec".into()])
            }
            Language::Ruby => ("ruby".into(), vec![root.join("ruby/spec.rb")]),
        };
        let shown = match self.language {
            Language::Java => root.join("java/Spec.class"),
            _ => arguments.last().unwrap_or(&program).clone(),
        };
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).current_dir(root).kill_on_drop(true);
        (command, shown)
    }

    pub(crate) async fn run(&self, stage: &Stage, alternations: usize) -> Answer {
        let mut command = self.command().0;
        let output = with_login(&mut command, stage)
            .arg(self.client)
            .env("CGK_CLIENT_ADMIN", stage.admin_url())
            .env("CGK_CLIENT_ALTERNATIONS", alternations.to_string())
            .env("CGK_CLIENT_POOLED", if stage.route == Route::Pooler { "1" } else { "0" })
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap_or_else(|error| panic!("{self:?} cannot be started: run scripts/client-tests.sh ({error})"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Answer { text: text.trim_end().to_owned(), success: output.status.success() }
    }
}

/// A project of the documentation, listening.
pub(crate) struct Server {
    port: u16,
    _process: tokio::process::Child,
}

impl Server {
    pub(crate) async fn start(project: &str, stage: &Stage) -> Self {
        // A port that is free now may be somebody else's by the time that the project listens: then another.
        for _ in 0..5 {
            if let Some(server) = Self::listen(project, stage).await {
                return server;
            }
        }
        panic!("{project} does not listen");
    }

    /// One that listens, or none if it ended.
    async fn listen(project: &str, stage: &Stage) -> Option<Self> {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients"));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = match project {
            "django" => {
                let mut command = tokio::process::Command::new(root.join("python/venv/bin/python"));
                command
                    .current_dir(root.join("python"))
                    .args(["shop.py", "runserver", "--noreload"])
                    .arg(port.to_string());
                command
            }
            _ => {
                let mut command = tokio::process::Command::new("node");
                command.current_dir(root.join("prisma_project")).arg("build/server.js").env("PORT", port.to_string());
                command
            }
        };
        let mut process = with_login(&mut command, stage)
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{project} cannot be started: run scripts/client-tests.sh ({error})"));
        let started = Instant::now();
        loop {
            let listens = TcpStream::connect(("127.0.0.1", port)).is_ok();
            if process.try_wait().unwrap().is_some() {
                return None;
            }
            if listens {
                return Some(Self { port, _process: process });
            }
            assert!(started.elapsed() < HANG, "{project} does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The whole answer to a request for that host.
    pub(crate) async fn get(&self, path: &str, host: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn with_login<'a>(command: &'a mut tokio::process::Command, stage: &Stage) -> &'a mut tokio::process::Command {
    let (host, port) = stage.address();
    command
        .env("PGHOST", host)
        .env("PGPORT", port.to_string())
        .env("PGUSER", &stage.login)
        .env("PGPASSWORD", &stage.password)
        .env("PGDATABASE", stage.database())
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.client)
    }
}

#[expect(clippy::print_stdout, reason = "shown with --nocapture")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

//! `cgk events:relay`

use anyhow::Result;
use cgk::platform::{EventSink, Relay, RelayOptions, RelayReport, Webhook, WebhookSecret};
use clap::Args;
use serde::Serialize;
use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::{Duration, Instant},
};

use crate::cli::{
    exit::Exit,
    number,
    session::Session,
    ui::{
        report::Refusal,
        style::{BAD, COMMAND, GOOD, WARNING, paint},
        time,
    },
};

/// The variable with the secret. It is not on the command line, which other users of the machine can see.
const SECRET: &str = "CGK_WEBHOOK_SECRET";

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk events:relay --webhook https://hooks.example.com/cgk --watch
  cgk events:relay --webhook http://localhost:8080/hooks    what is due now

Delivers domain events as CloudEvents 1.0, at least once, in order within each organization. Several processes can run \
             at once. CGK_WEBHOOK_SECRET holds the secret (whsec_…) that the requests are signed with, as Standard \
             Webhooks says; while it is replaced, two with a blank between them. The first signal ends it after the \
             deliveries in progress, the second one at once. `cgk events:list` shows what has failed.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Send each event to this URL by POST
    #[arg(long, value_name = "URL")]
    webhook: String,
    /// Wait for further events until Ctrl-C or SIGTERM
    #[arg(long)]
    watch: bool,
    /// Number of attempts before an event is given up
    #[arg(long, value_name = "N", default_value = "20", value_parser = number::at_least_one)]
    attempts: NonZeroUsize,
    /// Number of organizations that are delivered from at once
    #[arg(long, value_name = "N", default_value = "4", value_parser = number::at_least_one)]
    workers: NonZeroUsize,
    /// Look for events every N seconds, also without a notice
    #[arg(long, value_name = "SECONDS", default_value = "5", requires = "watch", value_parser = number::seconds)]
    poll: NonZeroU32,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    delivered: u64,
    failed: u64,
    dead: u64,
    ms: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let sink = webhook(&arguments.webhook)?;
    let mut options = RelayOptions::default();
    options.attempts_max = u32::try_from(arguments.attempts.get()).unwrap_or(u32::MAX);
    options.workers = arguments.workers;
    options.poll_interval = Duration::from_secs(arguments.poll.get().into());
    let relay = Relay::new(&session.connect().await?, sink, options);
    deliver(session, arguments, &relay).await
}

fn webhook(url: &str) -> Result<Webhook> {
    let refused = |message: String, hint: &str| Refusal { message, hint: hint.into(), exit: Exit::Usage };
    let text = std::env::var(SECRET).unwrap_or_default();
    let secrets: Result<Vec<WebhookSecret>, _> = text.split_whitespace().map(str::parse).collect();
    let hint = "Set CGK_WEBHOOK_SECRET to whsec_ and 24 to 64 random bytes in base64: \
                `echo whsec_$(head -c 32 /dev/urandom | base64)`.";
    let secrets = secrets.map_err(|error| refused(format!("{SECRET} cannot be used: {error}"), hint))?;
    if secrets.is_empty() {
        return Err(refused(format!("{SECRET} is not set"), hint).into());
    }
    let hint = "Write https://host/path; http:// is for receivers on the same machine or a trusted network.";
    Webhook::new(url, &secrets).map_err(|error| refused(format!("--webhook cannot be used: {error}"), hint).into())
}

async fn deliver<S: EventSink>(session: &Session<'_>, arguments: &Arguments, relay: &Relay<S>) -> Result<Exit> {
    let printer = session.printer;
    let began = Instant::now();
    let report = match arguments.watch {
        true => relay.run(&session.shutdown.interrupt).await?,
        false => relay.deliver_due().await?,
    };
    let exit = match (arguments.watch, report) {
        (true, _) | (false, RelayReport { failed: 0, dead: 0, .. }) => Exit::Done,
        (false, _) => Exit::Partial,
    };
    printer.record(&Summary {
        event: "summary",
        delivered: report.delivered,
        failed: report.failed,
        dead: report.dead,
        ms: time::milliseconds(began.elapsed()),
        exit,
    });
    let counts = [
        (report.delivered, paint(GOOD, "delivered")),
        (report.failed, paint(WARNING, "failed and tried again later")),
        (report.dead, paint(BAD, "given up")),
    ];
    let parts: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let text = match (parts.is_empty(), arguments.watch) {
        (false, _) => format!("Events: {}.", parts.join(", ")),
        (true, true) => "Stopped. No event was delivered.".into(),
        (true, false) => "No event was due.".into(),
    };
    printer.output(text);
    if report.failed + report.dead > 0 {
        printer.info(format!("Next: {} shows what has failed.", paint(COMMAND, "cgk events:list")));
    }
    Ok(exit)
}

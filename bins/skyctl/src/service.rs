//! `skyctl service …`.

use clap::Subcommand;
use skyclaw_config::clock;
use skyclaw_proto::record::{Assignment, Service};
use skyclaw_proto::response::ServicesBody;
use skyclaw_proto::{AssignmentStatus, Timestamp};

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::host::listed;
use crate::lookup;
use crate::output::{Table, age, command_line};

/// What can be done with services. (`deploy-service` deploys one.)
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// List all services, oldest first
    List,
    /// Show one service and where it runs
    Get {
        /// Its id or name, or the beginning of its id
        id: String,
    },
}

pub(crate) async fn run(command: ServiceCommand, context: &Context<'_>) -> Result<Exit, Error> {
    let services = context.client()?.services().await?;
    match command {
        ServiceCommand::List => {
            let body = ServicesBody { services };
            context.out.show(&body, || table(&body.services, clock::now()))?;
        }
        ServiceCommand::Get { id } => {
            let service = lookup::service(services, &id)?;
            context.out.show(&service, || details(&service))?;
        }
    }
    Ok(Exit::Success)
}

fn line(service: &Service) -> String {
    command_line(std::iter::once(&service.command).chain(&service.args).map(String::as_str))
}

fn running(service: &Service) -> usize {
    service.assignments.iter().filter(|a| a.status == AssignmentStatus::Running).count()
}

fn table(services: &[Service], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "NAME", "STATUS", "RUNNING", "AGE", "COMMAND"]);
    for service in services {
        table.row(vec![
            service.id.to_string(),
            service.name.clone(),
            service.status.to_string(),
            format!("{}/{}", running(service), service.replicas),
            age(now.since(service.created_at)),
            line(service),
        ]);
    }
    table
}

fn details(service: &Service) -> Table {
    let mut fields = vec![
        ("id", Some(service.id.to_string())),
        ("name", Some(service.name.clone())),
        ("status", Some(service.status.to_string())),
        ("command", Some(line(service))),
        ("requires", Some(listed(&service.required_capabilities))),
        ("running", Some(format!("{}/{}", running(service), service.replicas))),
        ("created", Some(service.created_at.to_string())),
        ("updated", Some(service.updated_at.to_string())),
    ];
    fields.extend(service.assignments.iter().map(|assignment| ("on", Some(place(assignment)))));
    Table::of_fields(fields)
}

fn place(assignment: &Assignment) -> String {
    let mut text = format!("{} {}", assignment.host_id, assignment.status);
    for more in [&assignment.endpoint, &assignment.error].into_iter().flatten() {
        text.push_str(&format!(" {more}"));
    }
    text
}

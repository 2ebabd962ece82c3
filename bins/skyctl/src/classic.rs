//! The commands of the reference mesh, with its bodies and its output: an id and a newline, or the
//! services as JSON. With `-o json` or `yaml` a submission prints the whole record instead.

use clap::Subcommand;
use skyclaw_proto::record::Service;
use skyclaw_proto::request::{DeployServiceBody, EnqueueJobBody, PayloadBody, RequirementBody};
use skyclaw_proto::response::ServicesBody;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::job::show_submitted;
use crate::output::{self, Format, Table, json};

/// The commands of the reference mesh.
#[derive(Debug, Subcommand)]
pub(crate) enum ClassicCommand {
    /// Submit a command that needs the capability shell; prints the id of the job
    ///
    /// Example: skyctl enqueue-shell bash -lc "echo hello"
    EnqueueShell {
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Submit a run of the hosts' OpenClaw; prints the id of the job
    ///
    /// Example: skyctl enqueue-openclaw run
    EnqueueOpenclaw {
        /// Arguments of OpenClaw
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Deploy a service with one replica; prints its id
    ///
    /// Example: skyctl deploy-service my-api node dist/server.js
    DeployService {
        /// The name gateways route by
        name: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Print all services as JSON
    ListServices,
}

pub(crate) async fn run(command: ClassicCommand, context: &Context<'_>) -> Result<Exit, Error> {
    let client = context.client()?;
    match command {
        ClassicCommand::EnqueueShell { command } => {
            show_submitted(&client.enqueue(&shell(command), None).await?, context)?;
        }
        ClassicCommand::EnqueueOpenclaw { args } => {
            show_submitted(&client.enqueue(&openclaw(args), None).await?, context)?;
        }
        ClassicCommand::DeployService { name, command } => {
            show_deployed(&client.deploy_service(&service(name, command), None).await?, context)?;
        }
        ClassicCommand::ListServices => {
            let body = ServicesBody { services: client.services().await? };
            match context.out.format {
                Format::Yaml => context.out.show(&body, Table::default)?,
                Format::Table | Format::Json => output::print(json(&body)?.as_bytes())?,
            }
        }
    }
    Ok(Exit::Success)
}

fn show_deployed(service: &Service, context: &Context<'_>) -> Result<(), Error> {
    match context.out.format {
        Format::Table => output::print(format!("{}\n", service.id).as_bytes()),
        Format::Json | Format::Yaml => context.out.show(service, Table::default),
    }
}

fn job(payload: PayloadBody, capability: &str) -> EnqueueJobBody {
    let required_capabilities = Some(vec![capability.to_owned()]);
    EnqueueJobBody {
        payload: Some(payload),
        requirement: Some(RequirementBody { required_capabilities }),
        ..EnqueueJobBody::default()
    }
}

fn shell(command: Vec<String>) -> EnqueueJobBody {
    let mut words = command.into_iter();
    let payload = PayloadBody {
        kind: Some("shell".to_owned()),
        command: words.next(),
        args: Some(words.collect()),
        ..PayloadBody::default()
    };
    job(payload, "shell")
}

fn openclaw(args: Vec<String>) -> EnqueueJobBody {
    let kind = Some("openclaw-run".to_owned());
    job(PayloadBody { kind, args: Some(args), ..PayloadBody::default() }, "openclaw")
}

fn service(name: String, command: Vec<String>) -> DeployServiceBody {
    let mut words = command.into_iter();
    DeployServiceBody {
        name: Some(name),
        command: words.next(),
        args: Some(words.collect()),
        required_capabilities: Some(vec!["service-host".to_owned()]),
        replicas: Some(1),
        ..DeployServiceBody::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use serde_json::json;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn value(body: &impl Serialize) -> serde_json::Value {
        serde_json::to_value(body).expect("json")
    }

    #[test]
    fn the_bodies_are_those_of_the_reference() {
        assert_eq!(
            value(&shell(words("bash -l x"))),
            json!({"payload": {"kind": "shell", "command": "bash", "args": ["-l", "x"]},
                   "requirement": {"requiredCapabilities": ["shell"]}})
        );
        assert_eq!(
            value(&openclaw(vec![])),
            json!({"payload": {"kind": "openclaw-run", "args": []},
                   "requirement": {"requiredCapabilities": ["openclaw"]}})
        );
        assert_eq!(
            value(&service("api".into(), words("node server.js"))),
            json!({"name": "api", "command": "node", "args": ["server.js"],
                   "requiredCapabilities": ["service-host"], "replicas": 1})
        );
    }
}

//! NodeService: what the other nodes of the shop ask of this one.

use shopstream_command_handlers::{CommandEnvelope, CommandError, Commands, Reply};
use shopstream_proto::node::v1::node_service_server::NodeService;
use shopstream_proto::node::v1::outcome::Outcome as Kind;
use shopstream_proto::node::v1::{
    CarryOutRequest, CarryOutResponse, Done, GetConfirmedRequest, GetConfirmedResponse, Outcome,
};
use tonic::{Request, Response, Status};

use crate::failure::Failure;
use crate::positions::partition;

/// The service.
pub(crate) struct Node {
    pub(crate) commands: Commands,
}

#[tonic::async_trait]
impl NodeService for Node {
    async fn carry_out(
        &self,
        request: Request<CarryOutRequest>,
    ) -> Result<Response<CarryOutResponse>, Status> {
        let commands = request.into_inner().commands_json;
        let commands: Result<Vec<_>, _> = commands.iter().enumerate().map(command).collect();
        let answers = self.commands.carry_out(commands?).await;
        let outcomes = answers.into_iter().map(outcome).collect::<Result<_, _>>()?;
        Ok(Response::new(CarryOutResponse { outcomes }))
    }

    async fn get_confirmed(
        &self,
        request: Request<GetConfirmedRequest>,
    ) -> Result<Response<GetConfirmedResponse>, Status> {
        let wanted = request.into_inner().partition;
        let wanted = partition(wanted, self.commands.partitions(), || "partition".to_owned())?;
        let response = match self.commands.confirmed_here(wanted).await {
            Ok(position) => GetConfirmedResponse {
                offset: position.map(|position| position.offset),
                ..GetConfirmedResponse::default()
            },
            Err(error) => GetConfirmedResponse { offset: None, error_json: json(&error)?.into() },
        };
        Ok(Response::new(response))
    }
}

fn command((index, bytes): (usize, &prost::bytes::Bytes)) -> Result<CommandEnvelope, Failure> {
    let field = || format!("commands_json[{index}]");
    let envelope: CommandEnvelope =
        serde_json::from_slice(bytes).map_err(|error| Failure::invalid(field(), error.to_string()))?;
    // The shard takes it for granted.
    if envelope.command.kind() != envelope.stream.kind() {
        return Err(Failure::invalid(field(), "the command is for another kind of stream"));
    }
    Ok(envelope)
}

fn outcome(answer: Result<Reply, CommandError>) -> Result<Outcome, Failure> {
    let kind = match answer {
        Ok(Reply { version, position, outcome, repeated }) => Kind::Done(Done {
            version,
            partition: position.partition.into(),
            offset: position.offset,
            event_type: outcome.map(str::to_owned),
            repeated_before: repeated,
        }),
        Err(error) => Kind::ErrorJson(json(&error)?.into()),
    };
    Ok(Outcome { outcome: Some(kind) })
}

fn json(error: &CommandError) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(error).map_err(|error| Failure::Internal(error.to_string()))
}

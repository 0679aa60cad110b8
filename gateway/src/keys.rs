//! One key, one operation: a client's idempotency key is claimed for what it is about before anything is done under it.
//!
//! The key's stream says which stream its operation is about; whether that operation has come to something only that
//! stream knows, and its shard recognises every repeat by the command's id and the hash of what was meant. So a key is
//! free for something else exactly where its first command was never carried out; before it is passed on, that command's
//! id is used up, lest a late copy of it be carried out after all. An order that the client left unnamed needs no claim:
//! it has the root of the key's stream, and its shard looks at both.

use shopstream_command_handlers::{CommandEnvelope, CommandError, Commands, Key, Reply, Request, body_hash};
use shopstream_domain::requests::ClaimCommand;
use shopstream_domain::{StreamId, StreamKind, model};
use shopstream_eventlog::CommandId;

use crate::command::command_id;

/// How often a key is looked at again that somebody else has claimed meanwhile.
const TRIES: u32 = 4;

/// Carries out a client's command, and claims its key before where that is needed.
pub(crate) async fn carry_out(commands: &Commands, envelope: CommandEnvelope) -> Result<Reply, CommandError> {
    if !is_unnamed_order(&envelope) {
        return commands.submit(claimed(commands, envelope).await?).await;
    }
    match commands.submit(envelope.clone()).await {
        Err(CommandError::RequestReused { stream }) if stream != envelope.stream => {
            let Some(key) = key(&envelope) else { return Err(CommandError::RequestReused { stream }) };
            take_over(commands, &envelope, key, stream).await?;
            commands.submit(envelope).await
        }
        answer => answer,
    }
}

/// The same command, whose key stands for what it is about.
pub(crate) async fn claimed(
    commands: &Commands,
    mut envelope: CommandEnvelope,
) -> Result<CommandEnvelope, CommandError> {
    let Some(key) = key(&envelope) else { return Ok(envelope) };
    match commands.submit(claim(&envelope, key, None)).await {
        Ok(_) => {}
        Err(CommandError::RequestReused { stream }) => take_over(commands, &envelope, key, stream).await?,
        Err(error) => return Err(error),
    }
    if let Some(request) = &mut envelope.request {
        request.key = None;
    }
    Ok(envelope)
}

/// As [`claimed`], of many at once.
pub(crate) async fn all_claimed(
    commands: &Commands,
    envelopes: Vec<CommandEnvelope>,
) -> Vec<Result<CommandEnvelope, CommandError>> {
    let needs = |envelope: &&CommandEnvelope| !is_unnamed_order(envelope) && key(envelope).is_some();
    let claims =
        envelopes.iter().filter(needs).filter_map(|envelope| Some(claim(envelope, key(envelope)?, None)));
    let mut answers = commands.submit_all(claims.collect()).await.into_iter();
    let mut all = Vec::with_capacity(envelopes.len());
    for mut envelope in envelopes {
        let answer = if needs(&&envelope) { answers.next() } else { None };
        all.push(match answer {
            None => Ok(envelope),
            Some(Ok(_)) => {
                if let Some(request) = &mut envelope.request {
                    request.key = None;
                }
                Ok(envelope)
            }
            // The slow way, which looks whether the key is still free.
            Some(Err(CommandError::RequestReused { .. })) => claimed(commands, envelope).await,
            Some(Err(error)) => Err(error),
        });
    }
    all
}

/// The first answer to what `recall` asks for; `None` where it was never carried out and its key is free.
///
/// # Errors
/// [`CommandError::RequestReused`] where the key was used for something else.
pub(crate) async fn recall(
    commands: &Commands,
    mut recall: CommandEnvelope,
) -> Result<Option<Reply>, CommandError> {
    let key = recall.request.as_mut().and_then(|request| request.key.take());
    let target = recall.stream.clone();
    let reply = commands.submit(recall.clone()).await?;
    if reply.repeated {
        return Ok(Some(reply));
    }
    let Some(key) = key else { return Ok(None) };
    let check = ClaimCommand::Check { target: target.clone() };
    let mut check = on_key(&recall, &key, &target, check);
    check.command_id = CommandId::derive(&["check", target.as_str(), &key.id]);
    if target == order_of(&key) {
        // It was looked at already.
        check.request = None;
    }
    let Err(error) = commands.submit(check).await else { return Ok(None) };
    let CommandError::RequestReused { stream: other } = &error else { return Err(error) };
    let there = on_other(&recall, &key, other, model::Command::Recall(other.kind()));
    match commands.submit(there).await {
        // It was never carried out, or its id was used up.
        Ok(_) => Ok(None),
        Err(CommandError::RequestReused { .. }) => Err(error),
        Err(other) => Err(other),
    }
}

/// Lets the key stand for what `envelope` is about instead of `holder`, if it has come to nothing there.
async fn take_over(
    commands: &Commands,
    envelope: &CommandEnvelope,
    key: &Key,
    mut holder: StreamId,
) -> Result<(), CommandError> {
    for _ in 0..TRIES {
        let void = on_other(envelope, key, &holder, model::Command::Void(holder.kind()));
        commands.submit(void).await?;
        match commands.submit(claim(envelope, key, Some(&holder))).await {
            Ok(_) => return Ok(()),
            Err(CommandError::RequestReused { stream }) if stream != holder => holder = stream,
            Err(error) => return Err(error),
        }
    }
    Err(CommandError::RequestReused { stream: holder })
}

fn claim(envelope: &CommandEnvelope, key: &Key, instead_of: Option<&StreamId>) -> CommandEnvelope {
    let target = envelope.stream.clone();
    let claim = ClaimCommand::Claim { target: target.clone(), instead_of: instead_of.cloned() };
    let mut claim = on_key(envelope, key, &target, claim);
    let order = order_of(key);
    if target == order || instead_of == Some(&order) {
        // It is known what the order says of the key.
        claim.request = None;
    }
    claim
}

/// A command on the stream of a key, for an operation on `target`.
fn on_key(
    envelope: &CommandEnvelope,
    key: &Key,
    target: &StreamId,
    command: ClaimCommand,
) -> CommandEnvelope {
    let body_hash = body_hash(target.as_str().as_bytes());
    let order = Key { id: key.id.clone(), stream: order_of(key) };
    CommandEnvelope {
        stream: key.stream.clone(),
        command_id: CommandId::derive(&["claim", target.as_str(), &key.id]),
        body_hash,
        expected_version: None,
        effective_at: None,
        origin: envelope.origin.clone(),
        command: command.into(),
        request: Some(Request { old_body_hash: body_hash, key: Some(order) }),
    }
}

/// The key's first command on another stream, with a body that no request has.
fn on_other(
    envelope: &CommandEnvelope,
    key: &Key,
    stream: &StreamId,
    command: model::Command,
) -> CommandEnvelope {
    let body_hash = body_hash(b"used up");
    CommandEnvelope {
        stream: stream.clone(),
        command_id: command_id(stream, &key.id, 0),
        body_hash,
        expected_version: None,
        effective_at: None,
        origin: envelope.origin.clone(),
        command,
        request: Some(Request { old_body_hash: body_hash, key: None }),
    }
}

fn key(envelope: &CommandEnvelope) -> Option<&Key> {
    envelope.request.as_ref()?.key.as_ref()
}

/// Whether it is for the order that its key alone names.
fn is_unnamed_order(envelope: &CommandEnvelope) -> bool {
    key(envelope).is_some_and(|key| {
        envelope.stream.kind() == StreamKind::Order && key.stream.shares_root(&envelope.stream)
    })
}

/// The order that a key names where the client does not.
fn order_of(key: &Key) -> StreamId {
    let root = key.stream.id().trim_start_matches("req_");
    let order = StreamId::new(&key.stream.tenant(), StreamKind::Order, &format!("ord_{root}"));
    order.expect("the root of a stream is one of an order")
}

//! A connection that only listens: to be told of a change sooner than one would look.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::{AsyncMessage, Config, NoTls};
use tracing::{debug, warn};

use super::explain;

/// Between two tries to connect.
const RETRY: Duration = Duration::from_secs(1);

/// Counts the notifications on `channel`, and each new connection, before which some may have been missed. It ends
/// with its last receiver. Within a tokio runtime.
pub(super) fn listen(config: Config, channel: &'static str) -> watch::Receiver<u64> {
    let (heard, receiver) = watch::channel(0);
    tokio::spawn(async move {
        tokio::select! {
            () = keep_listening(&config, channel, &heard) => {}
            () = heard.closed() => {}
        }
    });
    receiver
}

async fn keep_listening(config: &Config, channel: &str, heard: &watch::Sender<u64>) {
    let mut in_vain = 0;
    loop {
        let before = *heard.borrow();
        let listened = listen_once(config, channel, heard).await;
        in_vain = if *heard.borrow() == before { in_vain + 1 } else { 0 };
        match listened {
            Ok(()) => debug!("the connection that listens on {channel} was closed"),
            // A server that stops ends the connection, and mostly so does this process. What is worth a word is that it
            // cannot be had again.
            Err(error) if in_vain < 2 => debug!("nothing is heard on {channel}: {}", explain(&error)),
            Err(error) => warn!("nothing is heard on {channel}: {}", explain(&error)),
        }
        sleep(RETRY).await;
    }
}

async fn listen_once(
    config: &Config,
    channel: &str,
    heard: &watch::Sender<u64>,
) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    let statement = format!("LISTEN {channel}");
    let mut begun = std::pin::pin!(client.batch_execute(&statement));
    let mut listening = false;
    loop {
        tokio::select! {
            begun = &mut begun, if !listening => {
                begun?;
                listening = true;
                heard.send_modify(|heard| *heard += 1);
            }
            message = messages.next() => match message.transpose()? {
                Some(AsyncMessage::Notification(_)) => heard.send_modify(|heard| *heard += 1),
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

//! What operators and developers ask of a shop. Each verb is a client of the public API: of the node that runs, or of
//! one that is started for the length of the verb (`rulings.md` 34).

pub mod attention;
pub mod demo;
pub mod events;
pub mod import;
pub mod log;
pub mod parked;
pub mod topics;
pub mod verify;

use tonic::transport::Endpoint;

use crate::client::Client;
use crate::config::Config;
use crate::node::Node;

/// A client, and the node that was started for it, if any.
pub struct Connected {
    /// The way to the node.
    pub client: Client,
    node: Option<Node>,
}

impl Connected {
    /// Connects to the node of this configuration; where none runs, starts one on its data for this verb alone.
    ///
    /// # Errors
    /// No node runs and none can be started.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let url = config.url();
        if Endpoint::from_shared(url.clone())?.connect().await.is_ok() {
            return Ok(Self { client: Client::connect(&url).await?, node: None });
        }
        eprintln!("no node answers at {url}: starting one for this verb on {}", config.data.display());
        let node = Node::start(config.clone().on_free_ports()).await?;
        Ok(Self { client: Client::connect(&node.url()).await?, node: Some(node) })
    }

    /// Stops the node, if it was started for this.
    ///
    /// # Errors
    /// It did not stop in order.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.node {
            Some(node) => node.stop().await,
            None => Ok(()),
        }
    }
}

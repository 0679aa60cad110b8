//! What operators and developers ask of a shop. Each verb is a client of the public API: of the node that runs, or of
//! one that is started for the length of the verb.

pub mod attention;
pub mod demo;
pub mod events;
pub mod import;
pub mod log;
pub mod parked;
pub mod topics;
pub mod verify;

use anyhow::{anyhow, ensure};
use shopstream_proto::admin::v1::{DescribeNodeRequest, DescribeNodeResponse};
use tonic::Code;
use tonic::transport::Endpoint;

use crate::client::{Client, describe};
use crate::config::{Config, LogUrl};
use crate::node::{self, Node};
use crate::output::hint;

/// A client, and the node that was started for it, if any.
pub struct Connected {
    /// The way to the node.
    pub client: Client,
    /// Where the node has its payment provider.
    pub provider_url: Option<String>,
    node: Option<Node>,
}

impl Connected {
    /// Connects to the node of this configuration; where none runs, starts one on its data for this verb alone.
    ///
    /// # Errors
    /// No node runs and none can be started, there is no shop, or the node is another shop's than the one that was
    /// named.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        Self::find(config, false).await
    }

    /// The same, for a verb that may begin a shop.
    ///
    /// # Errors
    /// As [`Connected::open`], but that there is no shop.
    pub async fn open_or_make(config: &Config) -> anyhow::Result<Self> {
        Self::find(config, true).await
    }

    async fn find(config: &Config, may_make: bool) -> anyhow::Result<Self> {
        let url = config.url();
        let answers = Endpoint::from_shared(url.clone())?.connect().await.is_ok();
        let node = if answers { None } else { Some(Self::start(config, &url, may_make).await?) };
        let client = Client::connect(&node.as_ref().map_or_else(|| url.clone(), Node::url)).await?;
        let described = describe_node(&client).await?;
        let provider_url = described.as_ref().map(|it| it.provider_url.clone()).filter(|it| !it.is_empty());
        if let (None, true, Some(found)) = (&node, config.data_is_named, described) {
            ensure!(
                node::identity(&config.data).is_some_and(|named| named == found.data_identity),
                "the node at {url} serves the data folder {}, not {}: name the address of the one you mean with \
                 --listen, or leave --data out",
                found.data,
                config.data.display()
            );
        }
        Ok(Self { client, provider_url, node })
    }

    async fn start(config: &Config, url: &str, may_make: bool) -> anyhow::Result<Node> {
        let folder = config.data.display();
        // A typing error in an address or a folder must not make a shop.
        let is_there = config.log != LogUrl::Local || node::has_shop(&config.data);
        ensure!(
            may_make || is_there,
            "there is no shop in {folder}, and no node answers at {url}: start one with `shopstream serve`, or name \
             the folder with --data or the address with --listen"
        );
        hint!("no node answers at {url}: starting one for this verb on {folder}");
        Node::start(config.clone().on_free_ports()).await
    }

    /// Stops the node, if it was started for this.
    ///
    /// # Errors
    /// It did not stop in order.
    pub async fn close(self) -> anyhow::Result<()> {
        // Before the node: it would wait for our connections.
        drop(self.client);
        match self.node {
            Some(node) => node.stop().await,
            None => Ok(()),
        }
    }
}

/// What the node says of itself; `None` from a node of an earlier version, which does not know the question.
async fn describe_node(client: &Client) -> anyhow::Result<Option<DescribeNodeResponse>> {
    match client.shop().admin.describe_node(DescribeNodeRequest {}).await {
        Ok(described) => Ok(Some(described.into_inner())),
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => Err(anyhow!(describe(&status))),
    }
}

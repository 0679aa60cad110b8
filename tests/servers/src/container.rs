//! The last way: a container.
//!
//! Untried, for want of an engine where this was written: everything after the question whether one answers. The
//! settings are those that the images document. A container stays for the next run, under a name that says whose it is
//! (`docker rm -f NAME` ends it): a test process has no end at which it could remove it for certain.

use std::fmt;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use testcontainers::core::{ContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt, ReuseDirective, TestcontainersError};

/// Where an engine listens unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// How long a server may take to start, its image already there.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server as an image.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) tag: &'static str,
    /// Where it listens, inside.
    pub(crate) port: u16,
    /// What it says when it does.
    pub(crate) ready: Ready,
    /// What it runs with; `{port}` stands for the port outside.
    pub(crate) variables: &'static [(&'static str, &'static str)],
}

/// The line that ends the waiting, and where it is written.
#[derive(Debug)]
pub(crate) enum Ready {
    Out(&'static str),
    Err(&'static str),
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

/// Where the server of this image listens, as `host:port`; takes up the container of an earlier run.
///
/// # Errors
/// No engine answers, or it cannot run the image.
pub(crate) fn start(image: &Image) -> Result<String, String> {
    find_engine()?;
    // A thread of its own, for the caller may stand in a runtime already.
    let started = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime
                    .map_err(|error| error.to_string())?
                    .block_on(run(image))
                    .map_err(|error| error.to_string())
            })
            .join()
    });
    started.unwrap_or_else(|_| Err("the client of the engine panicked".into()))
}

fn find_engine() -> Result<(), String> {
    if std::env::var_os("DOCKER_HOST").is_some() {
        return Ok(());
    }
    match UnixStream::connect(SOCKET) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("none answers at {SOCKET}: {error}")),
    }
}

async fn run(image: &Image) -> Result<String, TestcontainersError> {
    let outside = free_port()?;
    let inside = ContainerPort::Tcp(image.port);
    let ready = match image.ready {
        Ready::Out(line) => WaitFor::message_on_stdout(line),
        Ready::Err(line) => WaitFor::message_on_stderr(line),
    };
    let mut request = GenericImage::new(image.name, image.tag)
        .with_exposed_port(inside)
        .with_wait_for(ready)
        .with_mapped_port(outside, inside)
        .with_startup_timeout(PATIENCE)
        .with_container_name(format!("shopstream-test-{}", image.name.replace('/', "-")))
        .with_reuse(ReuseDirective::Always);
    for (variable, value) in image.variables {
        request = request.with_env_var(*variable, value.replace("{port}", &outside.to_string()));
    }
    let container = request.start().await?;
    Ok(format!("{}:{}", container.get_host().await?, container.get_host_port_ipv4(inside).await?))
}

/// A port that nobody uses: what a broker tells its clients must be known before it starts.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

//! `dinomaly serve`: a site on this machine.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;

use crate::site::serve::{DEFAULT_HOST, DEFAULT_PORT, Server};
use crate::site::sharing::Origin;
use crate::system::interrupt::Interrupt;

/// Arguments of `dinomaly serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of the site
    #[arg(value_name = "DIR")]
    site: PathBuf,
    /// Folder of the page's files, such as web in a checkout: they are read at each request, in the place of the site's own, and
    /// nothing is kept for visits without a server
    #[arg(long, value_name = "DIR")]
    page: Option<PathBuf>,
    /// Address to listen on; other machines can connect to 0.0.0.0
    ///
    /// Browsers give WebGPU and the cache for visits without a server to https and to this machine only.
    #[arg(long, default_value_t = DEFAULT_HOST, value_name = "ADDRESS")]
    host: IpAddr,
    /// Port; 0 takes any free port
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Origin whose pages may read the site's models, such as https://example.org; `*` for all, several with the option repeated
    ///
    /// Without it browsers give the models to pages of this server alone.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<Origin>,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// If the folder is no site or the port is taken.
pub fn run(args: &Args) -> Result<()> {
    let server = Server::bind_at(&args.site, args.page.as_deref(), args.host, args.port, &args.allow_origin)?;
    if !args.host.is_loopback() {
        eprintln!(
            "dinomaly: every machine that reaches {} can open this page; without https their browsers compute on the processor and \
             keep nothing",
            args.host
        );
    }
    run_server(server)
}

/// Says where the page is and serves it.
pub(super) fn run_server(server: Server) -> Result<()> {
    println!("open {} in a browser; Ctrl-C stops", server.url());
    server.run(&Interrupt::listen("closing the server")?);
    Ok(())
}

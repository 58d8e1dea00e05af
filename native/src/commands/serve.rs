//! `dinomaly serve`: a site on this machine.

use std::path::PathBuf;

use anyhow::Result;

use crate::site::serve::Server;

/// Arguments of `dinomaly serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The site's folder
    #[arg(value_name = "DIR")]
    site: PathBuf,
    /// Port on 127.0.0.1; 0 takes any that is free
    #[arg(long, default_value_t = crate::site::serve::DEFAULT_PORT)]
    port: u16,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// If the folder is no site or the port is taken.
pub fn run(args: &Args) -> Result<()> {
    run_server(Server::bind(&args.site, args.port)?)
}

/// Says where the page is and serves it.
pub(super) fn run_server(server: Server) -> Result<()> {
    println!("open {} in a browser; Ctrl-C stops", server.url());
    server.run()
}

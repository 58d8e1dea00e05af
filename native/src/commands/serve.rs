//! `dinomaly serve`: a site on this machine.

use std::path::PathBuf;

use anyhow::Result;

use crate::site::serve::Server;

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
    /// Port on 127.0.0.1; 0 takes any free port
    #[arg(long, default_value_t = crate::site::serve::DEFAULT_PORT)]
    port: u16,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// If the folder is no site or the port is taken.
pub fn run(args: &Args) -> Result<()> {
    run_server(Server::bind(&args.site, args.page.as_deref(), args.port)?)
}

/// Says where the page is and serves it.
pub(super) fn run_server(server: Server) -> Result<()> {
    println!("open {} in a browser; Ctrl-C stops", server.url());
    server.run()
}

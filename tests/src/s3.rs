//! A server that speaks S3's protocol, by s3s. Its buckets are the folders of a folder.

use std::path::Path;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Key of who may do everything; the secret is the same word.
pub const OWNER: &str = "owner";

/// Key of who may not write, likewise.
pub const READER: &str = "reader";

/// A server on this machine.
pub struct Server {
    /// Its URL.
    pub url: String,
    gate: Arc<Semaphore>,
}

impl Server {
    /// Lets so many more files be read. Those that ask for others wait.
    pub fn let_read(&self, files: usize) {
        self.gate.add_permits(files);
    }
}

struct Access {
    gate: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = cx.s3_op().name();
        if operation == "GetObject" {
            self.gate.acquire().await.map_err(|_| s3_error!(InternalError))?.forget();
        }
        let writes = operation.starts_with("Put");
        match cx.credentials().map(|credentials| credentials.access_key.as_str()) {
            Some(OWNER) => Ok(()),
            Some(READER) if !writes => Ok(()),
            _ => Err(s3_error!(AccessDenied, "not for you")),
        }
    }
}

/// Serves a folder at an address of this machine, such as `127.0.0.1:0`, until the process ends. No file can be read before
/// [`Server::let_read`].
///
/// # Panics
/// If there is no such folder, or the address is taken.
pub fn serve(folder: &Path, address: &str) -> Server {
    let gate = Arc::new(Semaphore::new(0));
    let mut service = S3ServiceBuilder::new(FileSystem::new(folder).unwrap());
    let mut keys = SimpleAuth::new();
    for key in [OWNER, READER] {
        keys.register(key.into(), key.into());
    }
    service.set_auth(keys);
    service.set_access(Access { gate: gate.clone() });
    let service = service.build();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        runtime.block_on(async {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                // A client that hangs up early is its own business.
                tokio::spawn(
                    async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await },
                );
            }
        });
    });
    Server { url, gate }
}

//! `dinomaly backbone`: against a server on this machine that speaks the hub's protocol, well and badly.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use dinomaly::encoders::backbone::{self, Backbone};
use dinomaly_core::model::config::EncoderConfig;
use dinomaly_core::model::weights::encoder_shapes;
use dinomaly_core::tensor::named::Weights;
use dinomaly_core::tensor::{Data, HostTensor};
use half::f16;
use sha2::{Digest, Sha256};

use crate::workshop::Workshop;

const FILE: &str = "/timm/deit_tiny_patch16_224.fb_in1k/resolve/main/model.safetensors";

/// How the server behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Well,
    /// Ends the first answer in its middle.
    Breaks,
    /// Has nothing.
    Empty,
    /// Asks for the token "open".
    Gated,
    /// One byte is another than its checksum says.
    Damages,
    /// Knows no ranges: sends the whole file each time, and breaks off once.
    Whole,
    /// Sends to another host, as a mirror of some files does.
    Elsewhere,
}

/// A hub with one file. It stops with the test's process.
struct Server {
    endpoint: String,
    /// Path and range of each request.
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(manner: Manner, content: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = log.clone();
        std::thread::spawn(move || {
            let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
            let mut broken = false;
            for stream in listener.incoming() {
                // A client that hangs up early is its own business.
                let _ = answer(stream.unwrap(), manner, &content, &digest, &mut broken, &seen);
            }
        });
        Self { endpoint, log }
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    manner: Manner,
    content: &[u8],
    digest: &str,
    broken: &mut bool,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    let header = |name: &str| headers.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    let range = header("range: bytes=");
    log.lock().unwrap().push(format!("{request} {range}"));
    let refuse = match manner {
        Manner::Empty => Some("404 Not Found"),
        Manner::Gated if header("authorization: ") != "bearer open" => Some("401 Unauthorized"),
        _ if !request.contains(FILE) => Some("404 Not Found"),
        _ => None,
    };
    if let Some(status) = refuse {
        return write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if manner == Manner::Elsewhere {
        let location = format!("http://localhost:1{FILE}");
        return write!(
            stream,
            "HTTP/1.1 308 Permanent Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let range = if manner == Manner::Whole { String::new() } else { range };
    let (first, last) = range.split_once('-').unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap_or(0);
    if first >= content.len() {
        return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let end = last.parse::<usize>().map_or(content.len(), |last| last + 1);
    let mut body = content[first..end].to_vec();
    if manner == Manner::Damages && body.len() > 1 {
        let middle = body.len() / 2;
        body[middle] ^= 1;
    }
    let status = if manner == Manner::Whole { "200 OK" } else { "206 Partial Content" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nETag: \"{digest}\"\r\nX-Linked-ETag: \"{digest}\"\r\nX-Repo-Commit: c0ffee\r\n\
         Content-Range: bytes {first}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        end - 1,
        content.len(),
        body.len()
    )?;
    if request.starts_with("HEAD ") {
        return Ok(());
    }
    if matches!(manner, Manner::Breaks | Manner::Whole) && !*broken {
        *broken = true;
        body.truncate(body.len() / 2);
    }
    stream.write_all(&body)
}

/// A file with the shape of DeiT-Ti, but for its width.
fn deit(shop: &Workshop, width: usize) -> Vec<u8> {
    let config = EncoderConfig::vit(width, 3, 16, 14);
    let tensor = |shape: Vec<usize>| {
        let values = vec![f16::from_f32(0.01); shape.iter().product()];
        HostTensor { shape, data: Data::F16(values) }
    };
    let shapes = encoder_shapes(&config, 12).unwrap().into_iter();
    let weights = Weights(shapes.map(|(name, shape)| (name, tensor(shape))).collect());
    let path = shop.path("published.safetensors");
    backbone::write(&path, &Backbone { config, weights, mean: [0.5; 3], std: [0.25; 3] }).unwrap();
    fs::read(path).unwrap()
}

/// The command in this environment alone.
fn at(shop: &Workshop, server: &Server, arguments: &str) -> Command {
    let mut command = shop.command(arguments);
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", &server.endpoint).env("HF_HOME", shop.path("home"));
    command
}

#[test]
fn a_backbone_is_fetched_once_and_found_again_without_a_network() {
    let shop = Workshop::new();
    let content = deit(&shop, 192);
    let server = Server::new(Manner::Well, content.clone());
    let error = shop.refuse(at(&shop, &server, "train @data --backbone deit-tiny --out @model"));
    assert!(error.contains("deit-tiny has not been fetched: run `dinomaly backbone fetch deit-tiny`"), "{error}");
    let mut offline = at(&shop, &server, "backbone fetch deit-tiny");
    offline.env("HF_HUB_OFFLINE", "1");
    let error = shop.refuse(offline);
    assert!(error.contains("HF_HUB_OFFLINE forbids downloads"), "{error}");
    assert!(server.log().is_empty(), "{:?}", server.log());

    let said = shop.succeed(at(&shop, &server, "backbone fetch deit-tiny --out @copy.safetensors"));
    assert!(said.contains("deit-tiny") && said.contains("copy.safetensors"), "{said}");
    assert_eq!(fs::read(shop.path("copy.safetensors")).unwrap(), content);
    let requests = server.log().len();
    let mut offline = at(&shop, &server, "backbone fetch deit-tiny");
    offline.env("HF_HUB_OFFLINE", "true");
    assert!(shop.succeed(offline).contains("models--timm--deit_tiny"));
    let usual = "--resize 32 --crop 32 --batch 2 --iterations 2";
    shop.succeed(at(&shop, &server, &format!("train @data --backbone deit-tiny --out @model {usual}")));
    assert!(shop.succeed(shop.command("inspect @model")).contains("Dinomaly on deit-tiny"));
    // The card of a model on it names its repository and licence.
    let card = shop.succeed(at(&shop, &server, "publish @model hf:acme/parts --dry-run"));
    let source = "license: \"apache-2.0\"\nbase_model: \"timm/deit_tiny_patch16_224.fb_in1k\"\n";
    assert!(card.contains(source), "{card}");
    assert_eq!(server.log().len(), requests);
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let shop = Workshop::new();
    let content = deit(&shop, 192);
    let server = Server::new(Manner::Breaks, content.clone());
    shop.succeed(at(&shop, &server, "backbone fetch deit-tiny --out @copy.safetensors"));
    assert_eq!(fs::read(shop.path("copy.safetensors")).unwrap(), content);
    let log = server.log();
    assert!(log.iter().any(|request| request.ends_with(&format!(" {}-", content.len() / 2))), "{log:?}");
}

#[test]
fn a_mirror_without_ranges_sends_everything_again() {
    let shop = Workshop::new();
    let content = deit(&shop, 192);
    let server = Server::new(Manner::Whole, content.clone());
    shop.succeed(at(&shop, &server, "backbone fetch deit-tiny --out @copy.safetensors"));
    assert_eq!(fs::read(shop.path("copy.safetensors")).unwrap(), content);
}

#[test]
fn a_mirror_that_sends_elsewhere_is_named() {
    let shop = Workshop::new();
    let server = Server::new(Manner::Elsewhere, Vec::new());
    let error = shop.refuse(at(&shop, &server, "backbone fetch deit-tiny"));
    assert!(error.contains("sends to another host, localhost:1") && error.contains("set HF_ENDPOINT"), "{error}");
}

#[test]
fn the_cache_lies_where_other_clients_have_it() {
    let shop = Workshop::new();
    let server = Server::new(Manner::Well, deit(&shop, 192));
    let mut named = at(&shop, &server, "backbone fetch deit-tiny");
    named.env_remove("HF_HOME").env("XDG_CACHE_HOME", shop.path("xdg"));
    shop.succeed(named);
    assert!(shop.path("xdg/huggingface/hub/models--timm--deit_tiny_patch16_224.fb_in1k/refs/main").is_file());
    let mut home = at(&shop, &server, "backbone fetch deit-tiny");
    home.env("HOME", shop.path("me")).env("HF_HUB_CACHE", "~/hf");
    shop.succeed(home);
    assert!(shop.path("me/hf").is_dir());
}

#[test]
fn a_download_that_was_killed_at_its_last_byte_is_finished() {
    let shop = Workshop::new();
    let content = deit(&shop, 192);
    let server = Server::new(Manner::Well, content.clone());
    shop.succeed(at(&shop, &server, "backbone fetch deit-tiny"));
    let repo = shop.path("home/hub/models--timm--deit_tiny_patch16_224.fb_in1k");
    let blob = fs::read_dir(repo.join("blobs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_none());
    let blob = blob.unwrap();
    for extra in [&b""[..], b"more than there is"] {
        fs::remove_dir_all(repo.join("snapshots")).unwrap();
        fs::write(blob.with_extension("part"), [&content, extra].concat()).unwrap();
        fs::remove_file(&blob).unwrap();
        shop.succeed(at(&shop, &server, "backbone fetch deit-tiny --out @copy.safetensors"));
        assert_eq!(fs::read(shop.path("copy.safetensors")).unwrap(), content);
        assert!(!blob.with_extension("part").exists());
    }
}

#[test]
fn what_the_hub_refuses_is_explained() {
    let shop = Workshop::new();
    let empty = Server::new(Manner::Empty, Vec::new());
    let error = shop.refuse(at(&shop, &empty, "backbone fetch deit-tiny"));
    assert!(error.contains("has no file model.safetensors in timm/deit_tiny_patch16_224.fb_in1k"), "{error}");

    let gated = Server::new(Manner::Gated, deit(&shop, 192));
    let error = shop.refuse(at(&shop, &gated, "backbone fetch deit-tiny"));
    assert!(error.contains("accepted its licence") && error.contains("HF_TOKEN"), "{error}");
    let mut closed = at(&shop, &gated, "backbone fetch deit-tiny");
    closed.env("HF_TOKEN", "closed");
    let error = shop.refuse(closed);
    assert!(error.contains("to this token"), "{error}");
    let mut open = at(&shop, &gated, "backbone fetch deit-tiny");
    open.env("HF_TOKEN", "open");
    shop.succeed(open);

    let error = shop.refuse(shop.command("backbone fetch mocov3-small"));
    assert!(error.contains("vit-s-300ep.pth.tar") && error.contains("--heads 12"), "{error}");
    let error = shop.refuse(shop.command("backbone fetch dinov9"));
    assert!(error.contains("there is no backbone dinov9"), "{error}");
    let list = shop.succeed(shop.command("backbone list"));
    assert!(list.contains("dinov2-reg-base") && list.contains("CC-BY-NC-4.0"), "{list}");
}

#[test]
fn a_file_that_is_wrong_is_not_kept() {
    let shop = Workshop::new();
    let content = deit(&shop, 192);
    let damaged = Server::new(Manner::Damages, content.clone());
    let error = shop.refuse(at(&shop, &damaged, "backbone fetch deit-tiny --out @copy.safetensors"));
    assert!(error.contains("SHA-256") && error.contains("the download is damaged"), "{error}");
    let narrow = Server::new(Manner::Well, deit(&shop, 96));
    let error = shop.refuse(at(&shop, &narrow, "backbone fetch deit-tiny --out @copy.safetensors"));
    assert!(error.contains("is not deit-tiny: expected width 192") && error.contains("found width 96"), "{error}");
    let text = Server::new(Manner::Well, b"<html>sign in</html>".to_vec());
    let error = shop.refuse(at(&shop, &text, "backbone fetch deit-tiny --out @copy.safetensors"));
    assert!(error.contains("not a complete safetensors file"), "{error}");
    assert!(!shop.path("copy.safetensors").exists());
    let well = Server::new(Manner::Well, content);
    shop.succeed(at(&shop, &well, "backbone fetch deit-tiny --out @copy.safetensors"));
}
